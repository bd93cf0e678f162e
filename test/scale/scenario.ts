// What a cluster of some size is put through, step by step. Each step ends when the cluster has come to rest,
// and gives what was measured on the way.

import { setTimeout as sleep } from 'node:timers/promises'
import type { NatsConnection } from '@nats-io/transport-node'
import {
  CreateInstanceRequest,
  DiskPoolHostState,
  fromClientError,
  ImageStatus,
  Instance,
  InstanceStatus,
  InstanceTask,
} from '@vpe/proto'
import { type Distribution, distribution } from '../bench/figures.ts'
import { until } from '../e2e/cluster.ts'
import { EventWatch } from './event-watch.ts'
import type { ScaleCluster, Usage } from './scale-cluster.ts'

/** Far beyond what anything takes: whoever waits so long waits for something that does not come. */
const SETTLE_MS = 3_600_000

/** Whoever registers hosts does so many at a time. */
const REGISTRATIONS = 64

/** How many are created right before the controller is killed. */
const UNDER_WAY = 100

export interface Size {
  readonly hosts: number
  readonly instances: number
  /** How many are created before: processes that have just started compile their code as they go. */
  readonly warmUp: number
  /** How many creations are asked for at a time. */
  readonly callers: number
  /** The part of the instances that is made through REST. */
  readonly restShare: number
  /** Over how many processes the hosts are spread. */
  readonly processes: number
}

/** Told how far a step has got. */
export type Progress = (what: string, done: number, of: number) => void

export interface Registered {
  readonly hostsPerSecond: number
  /** From the first registration until the pool was usable on every host. */
  readonly readySeconds: number
  readonly usage: Usage
}

export interface Created {
  /** How many ran already when the last was accepted. */
  readonly running: number
  readonly acceptedPerSecond: number
  readonly acceptMs: Distribution
  /** From the request to the event that says that it runs. */
  readonly activeMs: Distribution
  readonly activePerSecond: number
  /** While they were accepted, and from then until all of them ran. */
  readonly usage: Usage
  readonly usageAfter: Usage
  readonly inventories: number
}

export interface Restarted {
  /** From the start of the process. */
  readonly answersMs: number
  readonly heardMs: number
  readonly settledMs: number
  readonly usage: Usage
}

export interface Vanished {
  /** From the moment when they vanished until the last of them was known to be down. */
  readonly downMs: number
  readonly usageAway: Usage
  /** From the moment when the last was back until all were up, and had told what they run. */
  readonly upMs: number
  readonly usageBack: Usage
}

export interface Difference {
  /** Instances without a domain where they should have one. */
  readonly missing: readonly string[]
  /** Domains that no instance accounts for, or that are there twice. */
  readonly surplus: readonly string[]
  /** Instances that are not active and at rest. */
  readonly unsettled: readonly string[]
}

export class Scenario {
  readonly #cluster: ScaleCluster
  readonly #size: Size
  readonly #progress: Progress
  readonly #watch: EventWatch
  readonly #startedMs: ReadonlyMap<string, number>
  readonly #askedMs = new Map<string, number>()
  #names = 0

  constructor(cluster: ScaleCluster, bus: NatsConnection, size: Size, progress: Progress) {
    this.#cluster = cluster
    this.#size = size
    this.#progress = progress
    this.#watch = new EventWatch(bus)
    this.#startedMs = this.#watch.firstMs('instance', 'started')
  }

  /** Starts the hosts and registers them, with a flavor, an image, and a pool that belongs to every host. */
  async register(): Promise<Registered> {
    const { client } = this.#cluster
    const { hosts: count, processes } = this.#size
    const instances = this.#size.warmUp + this.#size.instances
    // Room for half as many again, so that placement has a choice and nothing fails for want of it.
    const each = Math.ceil((1.5 * instances) / count) + 8
    const size = { cpus: Math.ceil(each / 4), memoryMib: each * 256 + 1024 }
    const addresses: string[] = []
    for (let part = 0; part < processes; part++) {
      const share = Math.floor(((part + 1) * count) / processes) - Math.floor((part * count) / processes)
      addresses.push(...(await this.#cluster.addHosts(share, size)).map(({ address }) => address))
      this.#progress('hosts started', addresses.length, count)
    }
    const meter = await this.#cluster.meter()
    const fromMs = performance.now()
    const [first = '', ...others] = addresses
    await client.createHost({ name: 'host-0', address: first })
    await client.createFlavor({ name: 'tiny', vcpus: 1, memoryMib: 256, diskGib: 1 })
    await client.createDiskPool({ name: 'local', kind: 'dir', path: '/pool' })
    await client.createImage({ name: 'demo', url: 'file:///demo.qcow2' })
    let done = 1
    await atATime(REGISTRATIONS, others, async (address, index) => {
      const name = `host-${index + 1}`
      await insist<unknown>(
        () => client.createHost({ name, address }),
        () => client.listHosts({ name }),
      )
      this.#progress('hosts registered', ++done, count)
    })
    const hostsPerSecond = (count / (performance.now() - fromMs)) * 1_000
    const usage = await meter()
    await slowly(async () => {
      const [{ images }, { diskPools }] = [await client.listImages({}), await client.listDiskPools({})]
      const onHosts = diskPools.flatMap((pool) => pool.hosts)
      const ready = onHosts.filter(({ state }) => state === DiskPoolHostState.READY)
      this.#progress('hosts with the pool', ready.length, count)
      return ready.length === count && images.every(({ status }) => status === ImageStatus.ACTIVE)
    }, 'the image is there, and the pool on every host')
    return { hostsPerSecond, readySeconds: (performance.now() - fromMs) / 1_000, usage }
  }

  /** Creates instances, and waits until the last of them runs. */
  async create(count: number): Promise<Created> {
    const { client } = this.#cluster
    const { callers, restShare } = this.#size
    const inventoriesBefore = await this.#inventories()
    const acceptMs: number[] = []
    const uuids: string[] = []
    const meter = await this.#cluster.meter()
    const fromMs = performance.now()
    await atATime(callers, Array.from({ length: count }), async () => {
      const name = `vm-${this.#names++}`
      const askedMs = performance.now()
      // Spread evenly: whenever its share has grown by one.
      const isRest = Math.floor(this.#names * restShare) > Math.floor((this.#names - 1) * restShare)
      const uuid = isRest ? await this.#createByRest(name) : await this.#createByRpc(name)
      acceptMs.push(performance.now() - askedMs)
      this.#askedMs.set(uuid, askedMs)
      uuids.push(uuid)
      this.#progress('instances accepted', uuids.length, count)
    })
    const acceptedSeconds = (performance.now() - fromMs) / 1_000
    const usage = await meter()
    const running = uuids.filter((uuid) => this.#startedMs.has(uuid)).length
    const meterAfter = await this.#cluster.meter()
    await this.#allRun(uuids)
    const activeSeconds = (performance.now() - fromMs) / 1_000
    const usageAfter = await meterAfter()
    const { instances } = await client.listInstances({ limit: 1 })
    if (instances.length === 0) throw new Error('the instances that were created are not listed')
    return {
      running,
      acceptedPerSecond: count / acceptedSeconds,
      acceptMs: distribution(acceptMs),
      activeMs: distribution(uuids.map((uuid) => this.#activeMs(uuid))),
      activePerSecond: count / activeSeconds,
      usage,
      usageAfter,
      inventories: (await this.#inventories()) - inventoriesBefore,
    }
  }

  /** What a cluster takes that is left alone. */
  async rest(seconds: number): Promise<Usage> {
    const meter = await this.#cluster.meter()
    await sleep(seconds * 1_000)
    return meter()
  }

  /** Kills the controller while creations are under way, and starts it again. */
  async restart(): Promise<Restarted> {
    const uuids: string[] = []
    const create = async () => void uuids.push(await this.#createByRpc(`vm-${this.#names++}`))
    await Promise.all(Array.from({ length: UNDER_WAY }, create))
    await this.#cluster.killController()
    await Promise.all(this.#cluster.hosts.map((hosts) => hosts.resetInventoriesRead()))
    const fromMs = performance.now()
    const sinceMs = () => performance.now() - fromMs
    await this.#cluster.startController()
    const answersMs = sinceMs()
    const meter = await this.#cluster.meter()
    await slowly(async () => {
      const read = await Promise.all(this.#cluster.hosts.map((hosts) => hosts.inventoriesRead()))
      const heard = read.reduce((sum, { hosts }) => sum + hosts, 0)
      this.#progress('inventories read', heard, this.#size.hosts)
      return heard === this.#size.hosts
    }, 'every host has been asked what it runs')
    const heardMs = sinceMs()
    await this.#allRun(uuids)
    return { answersMs, heardMs, settledMs: sinceMs(), usage: await meter() }
  }

  /** Some hosts lose their power at once, are away for a while, and come back. */
  async vanish(awaySeconds: number): Promise<Vanished> {
    // All those of the first process, so that nobody else is held up by what they go through.
    const [hosts] = this.#cluster.hosts
    if (!hosts) throw new Error('there are no hosts')
    const count = Math.max(1, Math.min(Math.floor(this.#size.hosts / 10), this.#size.hosts))
    const down = this.#watch.firstMs('host', 'down')
    const up = this.#watch.firstMs('host', 'up')
    const meterAway = await this.#cluster.meter()
    const fromMs = performance.now()
    await hosts.vanish(count)
    await slowly(() => {
      this.#progress('hosts known to be down', down.size, count)
      return down.size === count
    }, 'every host that vanished is down')
    const downMs = performance.now() - fromMs
    await sleep(awaySeconds * 1_000)
    const usageAway = await meterAway()
    const meterBack = await this.#cluster.meter()
    await hosts.comeBack()
    const backMs = performance.now()
    await slowly(() => {
      this.#progress('hosts back', up.size, count)
      return up.size === count
    }, 'every host that came back is up')
    return { downMs, usageAway, upMs: performance.now() - backMs, usageBack: await meterBack() }
  }

  /** Deletes every instance, and waits until none is left. */
  async deleteAll(): Promise<void> {
    const { client } = this.#cluster
    const uuids = [...(await this.#instances()).keys()]
    let done = 0
    await atATime(this.#size.callers, uuids, async (uuid) => {
      const gone = async () => ({})
      await insist<unknown>(() => client.deleteInstance({ uuid }), gone)
      this.#progress('deletions accepted', ++done, uuids.length)
    })
    await slowly(async () => {
      const left = (await this.#instances()).size
      this.#progress('instances gone', uuids.length - left, uuids.length)
      return left === 0
    }, 'every instance is gone')
  }

  /** Compares what the controller says with what the hosts have. Nothing, when all is well. */
  async compare(): Promise<Difference> {
    const wanted = await this.#instances()
    const found = new Map<string, string>()
    const surplus: string[] = []
    for (const hosts of this.#cluster.hosts) {
      for (const [hostId, uuids] of Object.entries(await hosts.domains())) {
        for (const uuid of uuids) {
          if (wanted.get(uuid)?.hostId !== hostId || found.has(uuid)) surplus.push(`${uuid} on ${hostId}`)
          found.set(uuid, hostId)
        }
      }
    }
    const unsettled = [...wanted.values()].filter(
      ({ status, task }) => status !== InstanceStatus.ACTIVE || task !== InstanceTask.UNSPECIFIED,
    )
    return {
      missing: [...wanted.keys()].filter((uuid) => !found.has(uuid)),
      surplus,
      unsettled: unsettled.map(({ uuid, status, task, fault }) => `${uuid} ${status} ${task} ${fault}`),
    }
  }

  async #createByRpc(name: string): Promise<string> {
    const { client, lean } = this.#cluster
    const request = CreateInstanceRequest.fromPartial({ name, flavor: 'tiny', image: 'demo' })
    const answer = await lean.createInstance(request)
    const { instance } =
      answer ??
      (await insist(
        () => client.createInstance(request),
        () => client.findInstance({ called: { name, namespace: '' } }),
        true,
      ))
    return instance?.uuid ?? ''
  }

  async #createByRest(name: string): Promise<string> {
    const content = { instance: { name, flavor_uuid: 'tiny', image_uuid: 'demo' } }
    for (;;) {
      // Made again with its key, as any client does, when nobody has answered.
      const answer = await this.#cluster.post('/instances', content, name)
      if (answer) return (answer as { instance: { uuid: string } }).instance.uuid
      await sleep(RETRY_MS)
    }
  }

  async #allRun(uuids: readonly string[]): Promise<void> {
    let left = uuids
    await slowly(() => {
      left = left.filter((uuid) => !this.#startedMs.has(uuid))
      this.#progress('instances active', uuids.length - left.length, uuids.length)
      return left.length === 0
    }, 'every instance runs')
  }

  #activeMs(uuid: string): number {
    return (this.#startedMs.get(uuid) ?? Number.NaN) - (this.#askedMs.get(uuid) ?? Number.NaN)
  }

  async #inventories(): Promise<number> {
    const read = await Promise.all(this.#cluster.hosts.map((hosts) => hosts.inventoriesRead()))
    return read.reduce((sum, { total }) => sum + total, 0)
  }

  async #instances(): Promise<Map<string, Instance>> {
    const found = new Map<string, Instance>()
    let marker = ''
    do {
      const page = await this.#cluster.client.listInstances({ marker })
      for (const { instance } of page.instances) {
        if (!instance) continue
        const decoded = Instance.decode(instance)
        found.set(decoded.uuid, decoded)
      }
      marker = page.nextMarker
    } while (marker !== '')
    return found
  }
}

/** Waits for a condition that is not cheap to ask for: a looker must not be what it sees. */
async function slowly(isTrue: () => boolean | Promise<boolean>, what: string): Promise<void> {
  await until(
    what,
    async () => {
      const fromMs = performance.now()
      if (await isTrue()) return true
      await sleep(4 * (performance.now() - fromMs))
      return false
    },
    SETTLE_MS,
  )
}

const RETRY_MS = 500

/**
 * Asks again when nobody answers, as any client does.
 * @param find what the call is about, when it turns out that an unanswered one was carried out
 * @param wasAsked an unanswered one went before
 */
async function insist<Answer>(
  call: () => Promise<Answer>,
  find: () => Promise<Answer>,
  wasAsked = false,
): Promise<Answer> {
  for (let isRepeated = wasAsked; ; isRepeated = true) {
    try {
      return await call()
    } catch (cause) {
      const { code } = fromClientError(cause)
      if (isRepeated && DONE_ALREADY.has(code)) return find()
      if (code !== 'UNAVAILABLE' && code !== 'HOST_UNREACHABLE') throw cause
    }
    await sleep(RETRY_MS)
  }
}

const DONE_ALREADY: ReadonlySet<string> = new Set(['NAME_TAKEN', 'CONFLICT', 'NOT_FOUND'])

/** Does a piece of work for each item, so many at a time. */
async function atATime<Item>(
  count: number,
  items: readonly Item[],
  work: (item: Item, index: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const index = next++
      await work(items[index] as Item, index)
    }
  }
  await Promise.all(Array.from({ length: Math.min(count, items.length) }, worker))
}
