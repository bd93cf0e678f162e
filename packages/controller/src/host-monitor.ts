// What the controller knows of its hosts: whether they answer, and what they run. Heartbeats and
// `changed` messages only say "look again"; what is believed comes from the inventory that is then
// asked for, which repairs whatever was missed. With NATS away, gRPC probes take the heartbeats' place.

import type { NatsConnection, Subscription } from '@nats-io/nats-core'
import {
  CHANGED_SUBJECTS,
  decodeHeartbeat,
  HEARTBEAT_SUBJECTS,
  type Heartbeat,
  hostOfSubject,
} from '@vpe/bus'
import {
  decideAddresses,
  decideReport,
  type HostRecord,
  hostOfGuest,
  hostsOf,
  type InstanceReport,
  judgeHost,
  SUSPECT_AFTER_MS,
  VpeError,
} from '@vpe/core'
import { fromClientError } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import type { Ownerships } from './ha/ownerships.ts'
import type { HostDescriptions } from './host-descriptions.ts'
import { hostEvent } from './host-event.ts'
import { commitDecision } from './instance-commit.ts'
import { Slots } from './slots.ts'
import type { Store } from './store/store.ts'
import { change } from './store/tables.ts'
import { type Callers, Turnstile } from './turnstile.ts'
import { type HostSight, reportFromWire } from './wire.ts'

const TICK_MS = 1_000
const PROBE_TIMEOUT_MS = 2_000
const INVENTORY_TIMEOUT_MS = 30_000
/** An inventory is asked for at least this often, in case every hint was lost. */
const INVENTORY_INTERVAL_MS = 60_000
/**
 * So many hosts are asked at once what they run, and so many whether they live: enough that those that hang hold
 * nobody up for long, and few enough that thousands that come at once leave time for everything else.
 */
const INVENTORIES_AT_ONCE = 256
const PROBES_AT_ONCE = 256
/** A host that is down is asked ever less often, down to this; its first heartbeat needs no asking. */
const PROBE_INTERVAL_MAX_MS = 8_000

interface Watch {
  lastHeardMs: number
  /** Digest of the inventory last read, and of the last heartbeat: they differ when there is news. */
  readDigest: string | null
  heardDigest: string | null
  lastInventoryMs: number
  isReading: boolean
  isStale: boolean
  isProbing: boolean
  /** How often in a row it has not answered, and when it is asked again. */
  silentProbes: number
  nextProbeMs: number
  /** The text of the last heartbeat: one that says the same needs no reading. */
  heartbeat: string
  latest: Heartbeat | null
  heardBootId: string
  heardHostDigest: Heartbeat['hostDigest']
  unknownInstances: readonly string[]
  /** Those of them that run, and were told of. */
  readonly told: Set<string>
}

export interface HostMonitorDeps {
  readonly store: Store
  readonly agents: Agents
  readonly descriptions: HostDescriptions
  /** Those that inventories wait behind. */
  readonly callers: Callers
  /** Who has what is highly available. */
  readonly ownerships: Ownerships
  readonly now: () => number
  readonly log: Logger
  /** Told of each heartbeat. */
  readonly onHeard: (heartbeat: Heartbeat) => void
  /** Told when a host answers that did not, and for each host after a start. */
  readonly onReachable: (hostId: string) => void
}

export class HostMonitor {
  readonly #store: Store
  readonly #agents: Agents
  readonly #now: () => number
  readonly #log: Logger
  readonly #onReachable: (hostId: string) => void
  readonly #onHeard: (heartbeat: Heartbeat) => void
  readonly #ownerships: Ownerships
  readonly descriptions: HostDescriptions
  readonly #watches = new Map<string, Watch>()
  readonly #subscriptions: Subscription[] = []
  readonly #inventorySlots = new Slots(INVENTORIES_AT_ONCE)
  /** What hosts have to tell waits while there is more to be done: what each says meanwhile is read at once. */
  readonly #inventoryTurnstile: Turnstile
  readonly #probeSlots = new Slots(PROBES_AT_ONCE)
  #timer: NodeJS.Timeout | null = null

  constructor(deps: HostMonitorDeps) {
    const { store, callers } = deps
    this.#store = store
    this.#agents = deps.agents
    this.descriptions = deps.descriptions
    this.#ownerships = deps.ownerships
    this.#now = deps.now
    this.#log = deps.log
    this.#onHeard = deps.onHeard
    this.#onReachable = deps.onReachable
    this.#inventoryTurnstile = new Turnstile(callers)
    store.listen({
      onHost: (before, after) => {
        if (after && !before) this.lookAt(after.uuid)
        if (before && !after) {
          this.#watches.delete(before.uuid)
          this.descriptions.forget(before.uuid)
        }
      },
    })
  }

  start(): void {
    for (const host of this.#store.hosts.values()) this.lookAt(host.uuid)
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  /** Listens to the agents, once NATS is there. */
  attach(connection: NatsConnection): void {
    this.#subscriptions.push(
      connection.subscribe(HEARTBEAT_SUBJECTS, {
        callback: (error, message) => {
          if (error) this.#log.warn({ err: error }, 'heartbeat subscription')
          else this.#heard(message.subject, message.string())
        },
      }),
      connection.subscribe(CHANGED_SUBJECTS, {
        callback: (error, message) => {
          const hostId = hostOfSubject(message.subject)
          if (!error && hostId && this.#store.hosts.has(hostId)) this.lookAt(hostId)
        },
      }),
    )
  }

  /** Reads the inventory of a host again: soon, once however often this is called meanwhile. */
  lookAt(hostId: string): void {
    const watch = this.#watchOf(hostId)
    watch.isStale = true
    if (!watch.isReading) void this.#readInventory(hostId, watch)
  }

  /** What is known of a host beside its record. */
  sightOf(host: HostRecord): HostSight {
    const watch = this.#watches.get(host.uuid)
    return {
      lastHeartbeatMs: watch?.lastHeardMs ?? 0,
      // Domains with its mark that no record has there. They are reported, never touched.
      unknownInstances: watch?.unknownInstances ?? [],
      conditions: this.descriptions.conditionsOf(host),
    }
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer)
    this.#inventoryTurnstile.close()
    for (const subscription of this.#subscriptions) subscription.unsubscribe()
  }

  #watchOf(hostId: string): Watch {
    let watch = this.#watches.get(hostId)
    if (!watch) {
      // A host that was never heard since the start of this process gets the whole time to be heard.
      watch = {
        lastHeardMs: this.#now(),
        readDigest: null,
        heardDigest: null,
        lastInventoryMs: 0,
        isReading: false,
        isStale: false,
        isProbing: false,
        silentProbes: 0,
        nextProbeMs: 0,
        heartbeat: '',
        latest: null,
        heardBootId: '',
        heardHostDigest: undefined,
        unknownInstances: [],
        told: new Set(),
      }
      this.#watches.set(hostId, watch)
    }
    return watch
  }

  #heard(subject: string, text: string): void {
    const hostId = hostOfSubject(subject)
    const host = this.#store.hosts.get(hostId ?? '')
    if (!host) return
    const watch = this.#watchOf(host.uuid)
    // Most say what the one before said, and thousands come each second.
    if (watch.heartbeat !== text) {
      const decoded = decodeHeartbeat(text)
      if ('refused' in decoded || decoded.heartbeat.hostId !== hostId) {
        const why = 'refused' in decoded ? decoded.refused : 'host id differs'
        this.#log.warn({ subject, why }, 'heartbeat refused')
        return
      }
      watch.heartbeat = text
      watch.latest = decoded.heartbeat
      watch.heardDigest = decoded.heartbeat.digest
      watch.heardBootId = decoded.heartbeat.bootId
      watch.heardHostDigest = decoded.heartbeat.hostDigest
    }
    watch.lastHeardMs = this.#now()
    watch.silentProbes = 0
    if (watch.latest) this.#onHeard(watch.latest)
    if (host.state === 'down') this.#setState(host, 'up', 'it is heard again')
    this.descriptions.heard(host, watch.heardHostDigest)
    if (watch.heardDigest !== watch.readDigest || watch.heardBootId !== host.facts.bootId)
      this.lookAt(host.uuid)
  }

  #tick(): void {
    const now = this.#now()
    for (const host of this.#store.hosts.values()) {
      const watch = this.#watchOf(host.uuid)
      if (now - watch.lastInventoryMs > INVENTORY_INTERVAL_MS && host.state === 'up') this.lookAt(host.uuid)
      if (watch.isProbing || watch.nextProbeMs > now) continue
      if (judgeHost(watch.lastHeardMs, now, null) === 'probe') {
        watch.isProbing = true
        void this.#probeSlots.run(() => this.#probe(host, watch))
      }
    }
  }

  async #probe(host: HostRecord, watch: Watch): Promise<void> {
    const askedAtMs = this.#now()
    const answered = await this.#agents
      .client(host)
      .describeHost({}, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) })
      .then((answer) => {
        if (answer.hostId !== host.uuid) return false
        this.descriptions.note(host.uuid, answer, askedAtMs)
        return true
      })
      .catch((error: unknown) => {
        this.#log.debug({ host: host.uuid, err: error }, 'probe failed')
        return false
      })
    watch.isProbing = false
    const now = this.#store.hosts.get(host.uuid)
    if (!now) return
    const verdict = judgeHost(watch.lastHeardMs, this.#now(), answered)
    if (answered) {
      // Silent on NATS but alive: the probe stands for the heartbeats, and nothing hints at changes.
      watch.lastHeardMs = this.#now()
      watch.silentProbes = 0
      this.lookAt(host.uuid)
    } else {
      watch.nextProbeMs = this.#now() + Math.min(PROBE_INTERVAL_MAX_MS, TICK_MS * 2 ** watch.silentProbes++)
      // Left alone, a connection is tried again each second, for as long as the host is away.
      this.#agents.forget(host.uuid)
    }
    if (verdict === 'up' && now.state === 'down') this.#setState(now, 'up', 'it answers on gRPC')
    if (verdict === 'down' && now.state === 'up') {
      this.#setState(now, 'down', `no heartbeat for ${SUSPECT_AFTER_MS / 1000} s and no answer on gRPC`)
    }
  }

  #setState(host: HostRecord, state: HostRecord['state'], why: string): void {
    const conditions =
      state === 'down' ? this.descriptions.withoutAnswer(host, why) : this.descriptions.withAnswer(host, why)
    const next = { ...host, state, stateSinceMs: this.#now(), conditions }
    void this.#store.commit([change.host(next)], [hostEvent(next, state, { state, why })])
    this.#log.info({ host: host.uuid, state, why }, 'host moved')
    if (state === 'up') this.#onReachable(host.uuid)
  }

  async #readInventory(hostId: string, watch: Watch): Promise<void> {
    watch.isReading = true
    try {
      while (watch.isStale) {
        await this.#inventoryTurnstile.pass()
        await this.#inventorySlots.run(() => this.#readOnce(hostId, watch))
      }
    } catch (error) {
      // The next heartbeat or tick asks again; whether the host is down is judged elsewhere.
      watch.readDigest = null
      this.#log.debug({ host: hostId, err: fromClientError(error) }, 'no inventory')
    } finally {
      watch.isReading = false
    }
  }

  async #readOnce(hostId: string, watch: Watch): Promise<void> {
    // Whatever hinted at changes while it waited for its turn is seen now.
    watch.isStale = false
    const host = this.#store.hosts.get(hostId)
    if (!host) return
    const first = watch.lastInventoryMs === 0
    // Records that change while the question is on its way are judged by the next inventory: this one
    // may have been taken before the change.
    const here = new Set(this.#store.usage.instancesOfHost(host.uuid))
    const asked = new Map(
      [...here]
        .map((uuid) => this.#store.instances.get(uuid))
        // What it says of one that leaves it says nothing of where that is going.
        .filter((record) => record?.hostId === host.uuid)
        .map((record) => [record?.uuid ?? '', record]),
    )
    const client = this.#agents.client(host)
    const inventory = await client.getInventory({}, { signal: AbortSignal.timeout(INVENTORY_TIMEOUT_MS) })
    // Somebody else's word at this address says nothing of this host.
    if (inventory.hostId !== host.uuid) {
      throw new VpeError('WRONG_HOST', `${host.address} is host ${inventory.hostId}, not ${host.uuid}`)
    }
    watch.lastHeardMs = this.#now()
    watch.lastInventoryMs = this.#now()
    watch.readDigest = inventory.digest
    const reports = new Map(inventory.instances.map((report) => [report.uuid, reportFromWire(report)]))
    for (const [uuid, record] of asked) {
      const now = this.#store.instances.get(uuid)
      if (!now) continue
      const report = reports.get(uuid) ?? null
      if (now === record) this.#repair(uuid, report)
      // Where it says just what the changed record says, too, nothing is left to find out.
      else if (!report || report.converging || decideReport(now, report)) watch.readDigest = null
    }
    const addresses = new Map(inventory.addresses.map((each) => [each.uuid, each.addresses]))
    for (const uuid of reports.keys()) this.#noteAddresses(uuid, host.uuid, addresses.get(uuid) ?? [])
    this.#noteUnknown(host, watch, reports, here)
    const known = this.#store.hosts.get(host.uuid)
    if (known?.state === 'down') this.#setState(known, 'up', 'it answers on gRPC')
    else if (first) this.#onReachable(host.uuid)
    const isDescribed = this.descriptions.isKnown(host.uuid) && inventory.bootId === known?.facts.bootId
    if (known && !isDescribed) this.descriptions.askSoon(known)
  }

  /**
   * What it has beside the instances that were its own when it was asked, or are by now. A guest that runs there is
   * told once, when it is still there at the next look: one whose way here has just ended is gone by then.
   */
  #noteUnknown(
    host: HostRecord,
    watch: Watch,
    reports: ReadonlyMap<string, InstanceReport>,
    before: ReadonlySet<string>,
  ): void {
    const now = this.#store.usage.instancesOfHost(host.uuid)
    const unknown = [...reports.keys()].filter((uuid) => !before.has(uuid) && !now.has(uuid))
    const tell = unknown.filter(
      (uuid) =>
        reports.get(uuid)?.power !== 'off' && watch.unknownInstances.includes(uuid) && !watch.told.has(uuid),
    )
    for (const uuid of tell) {
      watch.told.add(uuid)
      const record = this.#store.instances.get(uuid)
      const hosts = record ? hostsOf(record) : []
      this.#log.error(
        { host: host.uuid, instance: uuid, hosts },
        'a guest runs on a host that is not its own',
      )
      void this.#store.commit([], [hostEvent(host, 'stray_guest', { instance_uuid: uuid, hosts })])
    }
    for (const uuid of watch.told) if (!unknown.includes(uuid)) watch.told.delete(uuid)
    watch.unknownInstances = unknown
  }

  #repair(uuid: string, report: InstanceReport | null): void {
    const instance = this.#store.instances.get(uuid)
    const decision = instance && decideReport(instance, report)
    if (decision && this.#ownerships.isBelieved(instance, decision))
      commitDecision(this.#store, instance, decision, this.#now(), this.#log)
  }

  /** They change nothing that is done, so they count whenever the instance still belongs to the host. */
  #noteAddresses(uuid: string, hostId: string, addresses: readonly string[]): void {
    const instance = this.#store.instances.get(uuid)
    if (!instance || hostOfGuest(instance) !== hostId) return
    const decision = decideAddresses(instance, addresses)
    if (decision) commitDecision(this.#store, instance, decision, this.#now(), this.#log)
  }
}
