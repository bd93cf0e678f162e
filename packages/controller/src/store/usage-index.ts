// What the instances add up to, by host, pool, flavor, image and name, kept current with each change so
// that a placement or a uniqueness check costs no scan.

import { hostsOf, type InstanceRecord } from '@vpe/core'

export interface HostUsage {
  readonly vcpus: number
  readonly memoryMib: number
  readonly instances: number
  /** Instances with a task. */
  readonly tasks: number
  /** Instances that are kept highly available. */
  readonly ha: number
  /** What those of them take that are to run. */
  readonly haVcpus: number
  readonly haMemoryMib: number
}

const NO_USAGE: HostUsage = {
  vcpus: 0,
  memoryMib: 0,
  instances: 0,
  tasks: 0,
  ha: 0,
  haVcpus: 0,
  haMemoryMib: 0,
}

export class UsageIndex {
  readonly #hosts = new Map<string, HostUsage>()
  readonly #instancesOfHost = new Map<string, Set<string>>()
  readonly #diskBytes = new Map<string, number>()
  /** Bytes that the snapshots of an instance may hold back beside its disk, by instance. */
  readonly #heldBytes = new Map<string, number>()
  readonly #references = new Map<string, number>()
  readonly #statuses = new Map<InstanceRecord['status'], number>()
  readonly #names = new Map<string, string>()
  readonly #generatedNames = new Map<string, string>()

  /** Takes one record out and puts another in. */
  replace(before: InstanceRecord | null, after: InstanceRecord | null): void {
    if (before) this.#count(before, -1)
    if (after) this.#count(after, 1)
  }

  /** The snapshots of an instance may hold back so many bytes more. @param instance null when it is gone */
  holdBack(instanceUuid: string, bytes: number, instance: InstanceRecord | null): void {
    addTo(this.#heldBytes, instanceUuid, bytes)
    if (instance) this.#countDisk(instance, bytes)
  }

  ofHost(hostId: string): HostUsage {
    return this.#hosts.get(hostId) ?? NO_USAGE
  }

  instancesOfHost(hostId: string): ReadonlySet<string> {
    return this.#instancesOfHost.get(hostId) ?? new Set()
  }

  /** Bytes that system disks in a local pool of a host, or in a shared pool, may grow to with their snapshots. */
  reservedBytes(diskPoolUuid: string, hostId: string, shared: boolean): number {
    return this.#diskBytes.get(shared ? diskPoolUuid : `${diskPoolUuid}/${hostId}`) ?? 0
  }

  /** How many instances use a flavor, image or disk pool. */
  references(resourceUuid: string): number {
    return this.#references.get(resourceUuid) ?? 0
  }

  /** How many instances have a status. */
  ofStatus(status: InstanceRecord['status']): number {
    return this.#statuses.get(status) ?? 0
  }

  findByName(namespace: string, name: string): string | null {
    return this.#names.get(nameKey(namespace, name)) ?? null
  }

  findByGeneratedName(generatedName: string): string | null {
    return this.#generatedNames.get(generatedName) ?? null
  }

  #count(instance: InstanceRecord, sign: 1 | -1): void {
    // One that moves has its place on both hosts until the old one has let go of it.
    for (const hostId of hostsOf(instance)) this.#countOn(hostId, instance, sign)
    this.#countDisk(instance, sign * (instance.diskBytes + (this.#heldBytes.get(instance.uuid) ?? 0)))
    for (const uuid of [instance.flavorUuid, instance.imageUuid, instance.diskPoolUuid]) {
      addTo(this.#references, uuid, sign)
    }
    addTo(this.#statuses, instance.status, sign)
    const name = nameKey(instance.namespace, instance.name)
    if (sign === 1) {
      this.#names.set(name, instance.uuid)
      this.#generatedNames.set(instance.generatedName, instance.uuid)
    } else {
      this.#names.delete(name)
      this.#generatedNames.delete(instance.generatedName)
    }
  }

  #countOn(hostId: string, instance: InstanceRecord, sign: 1 | -1): void {
    const usage = this.ofHost(hostId)
    const haSign = instance.ha && instance.power !== 'off' ? sign : 0
    this.#hosts.set(hostId, {
      vcpus: usage.vcpus + sign * instance.vcpus,
      memoryMib: usage.memoryMib + sign * instance.memoryMib,
      instances: usage.instances + sign,
      tasks: usage.tasks + (instance.task === null ? 0 : sign),
      ha: usage.ha + (instance.ha ? sign : 0),
      haVcpus: usage.haVcpus + haSign * instance.vcpus,
      haMemoryMib: usage.haMemoryMib + haSign * instance.memoryMib,
    })
    const onHost = this.#instancesOfHost.get(hostId) ?? new Set()
    if (sign === 1) this.#instancesOfHost.set(hostId, onHost.add(instance.uuid))
    else onHost.delete(instance.uuid)
  }

  #countDisk(instance: InstanceRecord, bytes: number): void {
    addTo(this.#diskBytes, instance.diskPoolUuid, bytes)
    for (const hostId of hostsOf(instance))
      addTo(this.#diskBytes, `${instance.diskPoolUuid}/${hostId}`, bytes)
  }
}

function addTo<Key extends string>(map: Map<Key, number>, key: Key, amount: number): void {
  const sum = (map.get(key) ?? 0) + amount
  if (sum === 0) map.delete(key)
  else map.set(key, sum)
}

/** One key of two texts, whatever separators they hold. */
function nameKey(namespace: string, name: string): string {
  return JSON.stringify([namespace, name])
}
