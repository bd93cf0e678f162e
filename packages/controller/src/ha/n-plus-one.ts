// Whether the cluster survives the loss of any one host, looked at again when something has changed. A look asks placement
// once for each highly available instance: it is made in short slices, and rests many times as long as it took.

import type { VpeEvent } from '@vpe/bus'
import type { HostId } from '@vpe/core'
import { type HostAtRisk, judgeNPlusOne, type NPlusOneVerdict, type WhatIfFate } from '@vpe/core/ha'
import type { Logger } from 'pino'
import type { Store } from '../store/store.ts'

export interface NPlusOneDeps {
  readonly store: Store
  readonly fatesOnLossOf: (hostId: HostId) => readonly WhatIfFate[]
  readonly now: () => number
  readonly log: Logger
  /** Told of a defect: the process must end. */
  readonly onFatal: (error: unknown) => void
}

export interface NPlusOneState extends NPlusOneVerdict {
  readonly why: string
  readonly atMs: number
}

const EVERY_MS = 2_000
/** Of the controller's one thread, before others have their turn. */
const SLICE_MS = 10
/** So many times as long as a look took is rested after it. */
const REST = 20
/** Instances that an event names. */
const NAMED_MAX = 20

export class NPlusOne {
  readonly #deps: NPlusOneDeps
  #latest: NPlusOneState | null = null
  /** What the latest event said; good is what is taken for granted. */
  #told = true
  #isChanged = true
  #isLooking = false
  #isClosed = false
  #restUntilMs = 0
  #timer: NodeJS.Timeout | null = null

  constructor(deps: NPlusOneDeps) {
    this.#deps = deps
    const note = () => {
      this.#isChanged = true
    }
    deps.store.listen({ onHost: note, onInstance: note, onDiskPool: note, onDisk: note })
  }

  /** As the latest look found it; null before the first. */
  get latest(): NPlusOneState | null {
    return this.#latest
  }

  start(): void {
    const { onFatal } = this.#deps
    this.#timer = setInterval(() => {
      if (!this.#isChanged || this.#isLooking || performance.now() < this.#restUntilMs) return
      this.look().catch(onFatal)
    }, EVERY_MS)
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer) clearInterval(this.#timer)
    this.#timer = null
  }

  /** Looks at every host that is up, and tells of a verdict that has turned. */
  async look(): Promise<void> {
    const { store, now } = this.#deps
    this.#isChanged = false
    this.#isLooking = true
    let tookMs = 0
    let sliceMs = performance.now()
    const hosts: HostAtRisk[] = []
    let unmoved = 0
    for (const { uuid, state } of [...store.hosts.values()]) {
      if (state !== 'up' || store.usage.ofHost(uuid).ha === 0) continue
      const fates = this.#deps.fatesOnLossOf(uuid)
      unmoved += fates.filter(({ outcome }) => outcome === 'stays' || outcome === 'by-hand').length
      const left = fates.filter(({ outcome }) => outcome === 'no-room')
      if (left.length > 0) hosts.push({ hostId: uuid, left })
      if (performance.now() - sliceMs < SLICE_MS) continue
      tookMs += performance.now() - sliceMs
      await new Promise((resolve) => setImmediate(resolve))
      if (this.#isClosed) return
      sliceMs = performance.now()
    }
    tookMs += performance.now() - sliceMs
    this.#restUntilMs = performance.now() + REST * tookMs
    this.#isLooking = false
    const verdict = judgeNPlusOne(hosts)
    this.#turn({ ...verdict, why: this.#explain(verdict, unmoved), atMs: now() })
  }

  #turn(next: NPlusOneState): void {
    const { store, log } = this.#deps
    this.#latest = next
    // One host alone is no news: there was never anything to fail over to.
    if (next.survives === this.#told || (!next.survives && store.hosts.size < 2)) return
    this.#told = next.survives
    log.warn({ survives: next.survives, worst: next.worst?.hostId }, next.why)
    void store.commit([], [this.#event(next)])
  }

  /** @param unmoved how many no room would help */
  #explain({ worst, hostsAtRisk }: NPlusOneVerdict, unmoved: number): string {
    if (worst === null) {
      const room = 'whatever host is lost, all that is highly available has room elsewhere'
      if (unmoved === 0) return room
      return `${room}; but ${unmoved} such instance(s) would not be moved by themselves: see their unprotected`
    }
    const name = this.#deps.store.hosts.get(worst.hostId)?.name ?? worst.hostId
    const others = hostsAtRisk > 1 ? `; there are ${hostsAtRisk} hosts of which that is true` : ''
    const [first] = worst.left
    return `without host ${name}, ${worst.left.length} highly available instance(s) would have no room (${first?.name}: ${first?.why})${others}`
  }

  #event({ survives, worst, hostsAtRisk, why }: NPlusOneState): VpeEvent {
    const { store } = this.#deps
    const left = worst?.left ?? []
    return {
      ...{ kind: 'ha', id: store.storeId, what: survives ? 'n_plus_one_regained' : 'n_plus_one_lost' },
      data: {
        why,
        hosts_at_risk: hostsAtRisk,
        host_uuid: worst?.hostId ?? null,
        host: worst ? (store.hosts.get(worst.hostId)?.name ?? null) : null,
        left_total: left.length,
        left: left.slice(0, NAMED_MAX).map(({ uuid, name, priority }) => ({ uuid, name, priority })),
      },
    }
  }
}
