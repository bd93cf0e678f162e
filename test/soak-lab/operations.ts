// The operations that a soak chooses from: each a request to the API that makes sense now and then, or not at all, for
// refusals are part of it.

import type { Random } from './random.ts'
import type { DiskSeen, HostSeen, InstanceSeen, PoolSeen, World } from './world.ts'

export interface Request {
  readonly method: 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  readonly body?: object
  /** In the words of the history: names, not uuids. */
  readonly about: string
}

interface Operation {
  readonly name: string
  readonly weight: number
  /** Null where there is nothing to do it to. */
  readonly choose: (world: World, random: Random) => Request | null
}

export const FLAVOR = { name: 'soak-96', vcpus: 1, memory_mib: 96, disk_gib: 0 }
export const INSTANCES_MAX = 8
const DISKS_MAX = 8

/** With so few instances, there is little to do: more are made first. */
const INSTANCES_MIN = 4

export function chooseOperation(world: World, random: Random): { name: string; request: Request } {
  // Where no host takes any, nothing is left after a while but creations that are refused.
  if (!world.hosts.some(({ schedulable }) => schedulable)) {
    const request = uncordon(world, random)
    if (request) return { name: 'uncordon', request }
  }
  if (world.instances.length < INSTANCES_MIN) {
    const request = create(world, random)
    if (request) return { name: 'create', request }
  }
  for (;;) {
    const operation = random.weighted(operations)
    const request = operation?.choose(world, random)
    if (operation && request) return { name: operation.name, request }
  }
}

const uncordon = onHost('uncordon', ({ schedulable }) => !schedulable)

const operations: readonly Operation[] = [
  { name: 'create', weight: 16, choose: create },
  { name: 'delete', weight: 8, choose: onInstance('DELETE', '') },
  { name: 'start', weight: 10, choose: onInstance('POST', '/start') },
  { name: 'stop', weight: 8, choose: onInstance('POST', '/stop') },
  {
    name: 'reboot',
    weight: 3,
    choose: onInstance('POST', '/reboot', (random) => ({
      reboot: { type: random.chance(0.7) ? 'hard' : 'soft' },
    })),
  },
  { name: 'pause', weight: 3, choose: onInstance('POST', '/pause') },
  { name: 'resume', weight: 5, choose: onInstance('POST', '/resume') },
  { name: 'migrate', weight: 16, choose: migrate },
  { name: 'cancel migration', weight: 2, choose: onInstance('DELETE', '/migrate') },
  {
    name: 'update',
    weight: 2,
    choose: onInstance('PUT', '', (random) => ({ instance: { ha: random.chance(0.5) } })),
  },
  { name: 'lock', weight: 1, choose: onInstance('POST', '/lock') },
  { name: 'unlock', weight: 3, choose: onInstance('POST', '/unlock') },
  { name: 'rebuild', weight: 2, choose: onInstance('POST', '/rebuild') },
  {
    name: 'snapshot',
    weight: 3,
    choose: onInstance('POST', '/snapshots', (random) => ({ snapshot: { name: `s-${random.below(1e9)}` } })),
  },
  { name: 'create disk', weight: 6, choose: createDisk },
  { name: 'delete disk', weight: 3, choose: onDisk('DELETE') },
  {
    name: 'grow disk',
    weight: 2,
    choose: onDisk('PUT', (disk) => ({ disk: { size_gib: disk.size_bytes / 1024 ** 3 + 1 } })),
  },
  { name: 'attach', weight: 10, choose: attach },
  { name: 'detach', weight: 6, choose: detach },
  { name: 'drain', weight: 4, choose: onHost('drain', ({ schedulable }) => schedulable) },
  { name: 'rebalance', weight: 3, choose: rebalance },
  { name: 'uncordon', weight: 8, choose: uncordon },
]

function create({ instances, pools, disks, hosts }: World, random: Random): Request | null {
  const pool = choosePool(pools, random)
  if (instances.length >= INSTANCES_MAX || !pool) return null
  const name = `soak-${random.below(1e9)}`
  const free = disks.filter(({ status }) => status === 'available')
  const disk = random.chance(0.25) ? random.pick(free) : undefined
  const instance = {
    name,
    flavor_uuid: FLAVOR.name,
    image_uuid: 'demo',
    disk_pool: pool.uuid,
    ha: random.chance(0.3),
    disks: disk ? [disk.uuid] : [],
    ...(random.chance(0.3) && { user_data: '#!/bin/sh\necho soaked\n' }),
  }
  const about = `${name} in ${pool.name}${disk ? ` with ${disk.name}` : ''}; ${hosts.filter(({ schedulable }) => schedulable).length} hosts take`
  return { method: 'POST', path: '/instances', body: { instance }, about }
}

function migrate(world: World, random: Random): Request | null {
  const instance = pickInstance(world, random)
  const host = random.chance(0.5) ? random.pick(world.hosts) : undefined
  if (!instance) return null
  const order = {
    mode: random.pick(['auto', 'auto', 'live', 'cold'] as const),
    ...(host && { host_uuid: host.uuid }),
    ...(random.chance(0.2) && { bandwidth_mib_s: 8 }),
  }
  return {
    method: 'POST',
    path: `/instances/${instance.uuid}/migrate`,
    body: { migrate: order },
    about: `${instance.name} ${order.mode}${host ? ` to ${host.name}` : ''}`,
  }
}

function createDisk({ disks, pools }: World, random: Random): Request | null {
  const pool = choosePool(pools, random)
  if (disks.length >= DISKS_MAX || !pool) return null
  const name = `soak-disk-${random.below(1e9)}`
  const disk = { name, size_gib: 1, disk_pool: pool.uuid }
  return { method: 'POST', path: '/disks', body: { disk }, about: `${name} in ${pool.name}` }
}

function attach(world: World, random: Random): Request | null {
  const instance = pickInstance(world, random)
  const disk = random.pick(world.disks)
  if (!instance || !disk) return null
  return {
    method: 'POST',
    path: `/instances/${instance.uuid}/disks`,
    body: { disk: { uuid: disk.uuid } },
    about: `${disk.name} to ${instance.name}`,
  }
}

function detach({ disks }: World, random: Random): Request | null {
  const disk = random.pick(disks.filter(({ instance_uuid }) => instance_uuid !== null))
  if (!disk) return null
  return { method: 'DELETE', path: `/instances/${disk.instance_uuid}/disks/${disk.uuid}`, about: disk.name }
}

function onInstance(method: Request['method'], path: string, body?: (random: Random) => object) {
  return (world: World, random: Random): Request | null => {
    const instance = pickInstance(world, random)
    if (!instance) return null
    return {
      method,
      path: `/instances/${instance.uuid}${path}`,
      ...(body && { body: body(random) }),
      about: instance.name,
    }
  }
}

/** Mostly one that is at rest: the others refuse most of what they are asked. */
function pickInstance({ instances }: World, random: Random): InstanceSeen | undefined {
  const idle = instances.filter(({ task }) => task === null)
  return random.pick(idle.length > 0 && random.chance(0.85) ? idle : instances)
}

function onDisk(method: Request['method'], body?: (disk: DiskSeen) => object) {
  return ({ disks }: World, random: Random): Request | null => {
    const disk = random.pick(disks)
    if (!disk) return null
    return { method, path: `/disks/${disk.uuid}`, ...(body && { body: body(disk) }), about: disk.name }
  }
}

function onHost(verb: string, applies: (host: HostSeen) => boolean) {
  return ({ hosts }: World, random: Random): Request | null => {
    const host = random.pick(hosts.filter(applies))
    return host ? { method: 'POST', path: `/hosts/${host.uuid}/${verb}`, about: host.name } : null
  }
}

function rebalance(_world: World, random: Random): Request {
  const wish = { bound_percent: 1 + random.below(10), max_moves: 1 + random.below(4) }
  const about = `to ${wish.bound_percent} % in ${wish.max_moves} moves`
  return { method: 'POST', path: '/hosts/rebalance', body: { rebalance: wish }, about }
}

/** Mostly one that all hosts share. */
function choosePool(pools: World['pools'], random: Random): PoolSeen | undefined {
  const isShared = random.chance(0.75)
  return random.pick(pools.filter(({ shared }) => shared === isShared))
}
