// Who was heard, and what they have to say: heartbeats only say whether the report of before still holds. All that was heard
// since the last look is taken at once, since there may be thousands.

import type { HostId, HostRecord } from '@vpe/core'
import type { HostReport } from '@vpe/core/ha'
import { fromClientError } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from '../agents.ts'
import { Slots } from '../slots.ts'
import type { Store } from '../store/store.ts'
import { reportFromWire } from './ha-wire.ts'

const READ_TIMEOUT_MS = 2_000
/** One whose heartbeats say nothing of it, or whose report could not be read, is asked again after so long. */
const READ_AGAIN_MS = 5_000
const READS_AT_ONCE = 256

interface Heard {
  /** As of the report that was read last; null before. */
  bootId: string | null
  digest: string | null
  isReading: boolean
  readMs: number
}

export class HostReports {
  readonly #store: Store
  readonly #agents: Agents
  readonly #clock: () => number
  readonly #log: Logger
  readonly #hosts = new Map<HostId, Heard>()
  readonly #slots = new Slots(READS_AT_ONCE)
  #heard = new Map<HostId, number>()
  #reports = new Map<HostId, HostReport>()

  /** @param clock monotonic */
  constructor(store: Store, agents: Agents, clock: () => number, log: Logger) {
    this.#store = store
    this.#agents = agents
    this.#clock = clock
    this.#log = log
  }

  /** A heartbeat. Without a digest, its agent has nothing that guards. */
  note(hostId: HostId, bootId: string, digest: string | undefined): void {
    const heard = this.#of(hostId)
    const isSameBoot = heard.bootId === null || heard.bootId === bootId
    // What an earlier boot has said does not hold.
    if (isSameBoot) this.#heard.set(hostId, this.#clock())
    if (heard.isReading || (isSameBoot && heard.digest !== null && heard.digest === digest)) return
    const isDue = this.#clock() - heard.readMs >= READ_AGAIN_MS
    const isNews = digest !== undefined && (!isSameBoot || heard.digest !== null)
    if (isNews || isDue) void this.#read(hostId, heard)
  }

  /** Asks a host; false where it does not answer in time. What it says is among what `take` gives. */
  async dial(hostId: HostId): Promise<boolean> {
    return this.#read(hostId, this.#of(hostId))
  }

  /** What was heard since this was last called, and when. */
  take(): { readonly heard: ReadonlyMap<HostId, number>; readonly reports: readonly HostReport[] } {
    const taken = { heard: this.#heard, reports: [...this.#reports.values()] }
    this.#heard = new Map()
    this.#reports = new Map()
    return taken
  }

  forget(hostId: HostId): void {
    this.#hosts.delete(hostId)
  }

  async #read(hostId: HostId, heard: Heard): Promise<boolean> {
    const host = this.#store.hosts.get(hostId)
    if (!host) return false
    heard.isReading = true
    heard.readMs = this.#clock()
    try {
      return await this.#slots.run(() => this.#ask(host, heard))
    } finally {
      heard.isReading = false
    }
  }

  async #ask(host: HostRecord, heard: Heard): Promise<boolean> {
    try {
      const signal = AbortSignal.timeout(READ_TIMEOUT_MS)
      const message = await this.#agents.client(host).getHaReport({}, { signal })
      const report = reportFromWire(host.uuid, message)
      heard.bootId = report.bootId
      heard.digest = message.digest
      this.#reports.set(host.uuid, report)
      return true
    } catch (error) {
      heard.digest = null
      this.#log.debug({ host: host.uuid, err: fromClientError(error) }, 'no HA report')
      return false
    }
  }

  #of(hostId: HostId): Heard {
    let heard = this.#hosts.get(hostId)
    if (!heard) {
      heard = { bootId: null, digest: null, isReading: false, readMs: Number.NEGATIVE_INFINITY }
      this.#hosts.set(hostId, heard)
    }
    return heard
  }
}
