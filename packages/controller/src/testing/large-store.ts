// A database as a controller of many hosts leaves it, made without any of them: for measuring what a start takes.

import { randomUUID } from 'node:crypto'
import type { DiskPoolRecord, HostRecord } from '@vpe/core'
import { anInstance } from '@vpe/core/testing'
import { generateName } from '../service/generated-name.ts'
import { SqliteBackend } from '../store/sqlite-backend.ts'
import { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'

const GIB = 1024 ** 3
/** Nobody listens there. */
const ADDRESS = '127.0.0.1:9'
const CHANGES_AT_ONCE = 10_000

/** Writes a store with so many hosts, a pool that all of them have, and so many running instances spread over them. */
export async function writeLargeStore(file: string, hosts: number, instances: number): Promise<void> {
  const fail = (error: unknown) => {
    throw error
  }
  const store = await Store.open(new SqliteBackend(file), Date.now, fail)
  const ids = Array.from({ length: hosts }, () => randomUUID())
  const flavor = { uuid: randomUUID(), name: 'tiny', vcpus: 1, memoryMib: 256, diskGib: 1, createdAtMs: 1 }
  const pool = poolOf(ids)
  const changes: Change[] = [change.flavor(flavor), change.diskPool(pool)]
  for (const [index, uuid] of ids.entries()) changes.push(change.host(hostOf(uuid, `host-${index}`)))
  for (let index = 0; index < instances; index++) {
    const instance = anInstance({
      uuid: randomUUID(),
      name: `vm-${index}`,
      generatedName: generateName(Date.now()),
      hostId: ids[index % hosts] ?? '',
      flavorUuid: flavor.uuid,
      imageUuid: flavor.uuid,
      diskPoolUuid: pool.uuid,
      createdAtMs: index,
    })
    changes.push(change.instance(instance))
  }
  while (changes.length > 0) await store.commit(changes.splice(0, CHANGES_AT_ONCE))
  await store.close()
}

function hostOf(uuid: string, name: string): HostRecord {
  return {
    uuid,
    name,
    address: ADDRESS,
    state: 'up',
    stateSinceMs: 1,
    conditions: [],
    schedulable: true,
    drain: null,
    facts: {
      hostname: name,
      cpus: 64,
      memoryMib: 262_144,
      cpuModel: 'EPYC',
      cpuFeatures: ['aes', 'avx2', 'sse4.2'],
      arch: 'x86_64',
      domainType: 'kvm',
      libvirtVersion: '9.0.0',
      hypervisorVersion: '7.2.0',
      agentVersion: '0.1.0',
      kernel: '6.1.0',
      bridges: ['br0'],
      bootId: uuid,
    },
    createdAtMs: 1,
  }
}

function poolOf(hostIds: readonly string[]): DiskPoolRecord {
  return {
    uuid: randomUUID(),
    name: 'local',
    kind: 'dir',
    path: '/pool',
    nfs: null,
    rbd: null,
    marker: '',
    orphans: [],
    shared: false,
    systemDisks: 'overlay',
    everyHost: true,
    deletionUuid: null,
    hosts: hostIds.map((hostId) => ({
      hostId,
      state: 'ready',
      fault: '',
      capacityBytes: 1_000 * GIB,
      availableBytes: 900 * GIB,
      marker: hostId,
      leavingBy: null,
    })),
    createdAtMs: 1,
  }
}
