// The books of a cluster at rest: what the controller has on record, what the agents report, what each libvirt has and
// what lies in the disk pools must agree exactly. Each disagreement is a sentence.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { HostMachine } from '@vpe/deploy/lab/host-machine'
import {
  AgentServiceDefinition,
  createRpcChannel,
  createRpcClientFactory,
  meantForHost,
  Power,
  TlsFolder,
} from '@vpe/proto'
import type { LabCluster } from '../e2e/lab-cluster.ts'
import {
  type HostSeen,
  type InstanceSeen,
  look,
  type PoolSeen,
  runningOperations,
  type World,
} from './world.ts'

/** What libvirt says of the domain of an instance, by what vpe says of the instance. */
const STATES: Readonly<Record<string, string>> = { active: 'running', shutoff: 'shut off', paused: 'paused' }
const POWERS: Readonly<Record<string, Power>> = {
  active: Power.ON,
  shutoff: Power.OFF,
  paused: Power.PAUSED,
}

/** Why the cluster is not at rest yet; empty when it is. */
export async function unrest(cluster: LabCluster): Promise<string[]> {
  const { instances, disks, hosts } = await look(cluster)
  const operations = await runningOperations(cluster)
  const snapshots = await Promise.all(instances.map(({ uuid }) => snapshotsOf(cluster, uuid)))
  return [
    ...operations.map(({ kind, step, resource_uuid }) => `operation ${kind} of ${resource_uuid}: ${step}`),
    ...instances.filter(({ task }) => task !== null).map(({ name, task }) => `instance ${name}: ${task}`),
    ...disks
      .filter(({ status }) => !['available', 'in-use', 'error'].includes(status))
      .map(({ name, status }) => `disk ${name}: ${status}`),
    ...snapshots
      .flat()
      .filter(({ status }) => ['creating', 'deleting'].includes(status))
      .map(({ name, status }) => `snapshot ${name}: ${status}`),
    ...hosts.filter(({ state }) => state !== 'up').map(({ name, state }) => `host ${name}: ${state}`),
  ]
}

/** Everything that is wrong with a cluster at rest. */
export async function faultsOf(cluster: LabCluster): Promise<string[]> {
  const world = await look(cluster)
  const faults = await Promise.all([
    states(world),
    ...cluster.lab.hosts.map((machine) => hostFaults(cluster, world, machine)),
    ...world.pools.map((pool) => poolFaults(cluster, world, pool)),
  ])
  return faults.flat()
}

export async function snapshotsOf(
  cluster: LabCluster,
  uuid: string,
): Promise<{ uuid: string; name: string; status: string }[]> {
  return (await cluster.ok('GET', `/instances/${uuid}/snapshots`)).body.snapshots
}

function states({ instances, disks }: World): string[] {
  return [
    ...instances
      .filter(({ status, fault }) => status === 'error' || fault !== null)
      .map(({ name, status, fault }) => `instance ${name} is ${status}: ${fault}`),
    ...disks
      .filter(({ status, fault }) => status === 'error' || fault !== null)
      .map(({ name, status, fault }) => `disk ${name} is ${status}: ${fault}`),
    ...instances
      .filter(({ host_uuid }) => host_uuid === null)
      .map(({ name }) => `instance ${name} has no host`),
  ]
}

async function hostFaults(cluster: LabCluster, world: World, machine: HostMachine): Promise<string[]> {
  const host = world.hosts.find(({ name }) => name === machine.name)
  if (!host) return [`host ${machine.name} is not on record`]
  const own = world.instances.filter(({ host_uuid }) => host_uuid === host.uuid)

  const reported = (await inventoryOf(cluster, host)).map(
    ({ uuid, power, fault }) => `${uuid} ${power} ${fault}`,
  )
  const recorded = own.map(({ uuid, status }) => `${uuid} ${POWERS[status]} `)

  const list = await machine.virsh(['list', '--all', '--uuid'], 60_000)
  if (list === undefined) return [`libvirt of ${machine.name} does not answer`]
  const domains: string[] = []
  for (const uuid of list.split(/\s+/).filter(Boolean))
    domains.push(`${uuid} ${(await machine.virsh(['domstate', uuid], 60_000)) ?? 'unknown'}`)

  const sum = (value: (flavor: World['flavors'][number]) => number) =>
    own.reduce((total, { flavor_uuid }) => {
      const flavor = world.flavors.find(({ uuid }) => uuid === flavor_uuid)
      return total + (flavor ? value(flavor) : 0)
    }, 0)
  const used = {
    vcpus: sum(({ vcpus }) => vcpus),
    memory_mib: sum(({ memory_mib }) => memory_mib),
    instances: own.length,
    tasks: 0,
  }
  const consoles = readdirSync(machine.own('agent/console')).filter(
    (file) => !own.some(({ uuid }) => file.startsWith(uuid)),
  )
  return [
    ...difference(`what the agent of ${host.name} reports`, reported, recorded),
    ...difference(
      `the domains of ${host.name}`,
      domains,
      own.map((each) => `${each.uuid} ${STATES[each.status]}`),
    ),
    ...Object.entries(used)
      .filter(([key, value]) => host.used[key as keyof typeof used] !== value)
      .map(
        ([key, value]) =>
          `${host.name} shows ${key} ${host.used[key as keyof typeof used]}, and has ${value}`,
      ),
    ...consoles.map((file) => `${host.name} has the console of none: ${file}`),
  ]
}

/** As the controller asks for it, with the controller's certificate. */
async function inventoryOf(cluster: LabCluster, { address, uuid }: HostSeen) {
  const folder = new TlsFolder(join(cluster.lab.path, 'controller/tls'))
  const channel = createRpcChannel(address, { folder, expected: { role: 'agent', name: uuid } })
  try {
    const options = { '*': meantForHost(uuid) }
    const agent = createRpcClientFactory().create(AgentServiceDefinition, channel, options)
    return (await agent.getInventory({})).instances
  } finally {
    channel.close()
  }
}

async function poolFaults(cluster: LabCluster, world: World, pool: PoolSeen): Promise<string[]> {
  const { body } = await cluster.ok('GET', `/disk_pools/${pool.uuid}/orphans`)
  const images = (await cluster.ok('GET', '/images')).body.images as { uuid: string }[]
  const folders = pool.shared
    ? [{ host: null, folder: cluster.lab.sharedFolder }]
    : pool.hosts.map(({ host_uuid }) => {
        const name = world.hosts.find(({ uuid }) => uuid === host_uuid)?.name ?? ''
        return { host: host_uuid, folder: cluster.lab.host(name).own('disks') }
      })
  const lies = (owner: { disk_pool_uuid: string; host_uuid: string | null }, host: string | null) =>
    owner.disk_pool_uuid === pool.uuid && (host === null || owner.host_uuid === host)
  const files = folders.flatMap(({ host, folder }) => {
    const actual = readdirSync(folder).filter((file) => !file.startsWith('.'))
    const wanted = [
      ...world.instances.filter((each) => lies(each, host)).flatMap(systemFiles),
      ...world.disks.filter((each) => lies(each, host)).map(({ uuid }) => `disk-${uuid}.raw`),
    ]
    // A copy of an image stays for the next instance, so it may be there or not.
    const isCopy = (file: string) =>
      images.some(({ uuid }) => file.startsWith(`image-${uuid}.`) && !file.endsWith('.tmp'))
    return difference(
      `the files of ${pool.name}`,
      actual.filter((file) => !isCopy(file)),
      wanted,
    )
  })
  return [
    ...files,
    ...body.orphans.map(({ file }: { file: string }) => `${pool.name} has an orphan: ${file}`),
    ...body.silent_hosts.map((host: unknown) => `${pool.name}: silent ${JSON.stringify(host)}`),
  ]
}

function systemFiles({ uuid, user_data_sha256 }: InstanceSeen): string[] {
  return [`instance-${uuid}.qcow2`, ...(user_data_sha256 === null ? [] : [`instance-${uuid}.seed.iso`])]
}

/** Each thing that is in one list only, or twice. */
function difference(what: string, actual: readonly string[], wanted: readonly string[]): string[] {
  const extra = [...actual]
  const missing = wanted.filter((each) => {
    const index = extra.indexOf(each)
    if (index >= 0) extra.splice(index, 1)
    return index < 0
  })
  return [
    ...extra.map((each) => `${what}: ${each} too many`),
    ...missing.map((each) => `${what}: ${each} is missing`),
  ]
}
