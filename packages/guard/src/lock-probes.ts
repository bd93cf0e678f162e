// The guard's side of trying the locks of pools: a process for each pool that is tried, since any of its calls may hang. It is
// ended a minute after its last step, and its lock with it. No lease is needed: what a pool's locks are worth is found out before.

import type { FromChild, LockStep } from './child-protocol.ts'
import type { PoolIo } from './guard.ts'
import type { PoolPlace } from './pool-objects.ts'

const STEP_MS = 10_000
const HOLD_MS = 60_000

export interface LockTried {
  readonly isGranted: boolean
  /** Why it could not be tried; empty when it was. */
  readonly fault: string
}

interface Probe {
  readonly child: PoolIo
  readonly ready: Promise<void>
  readonly waiting: Map<number, (tried: LockTried) => void>
  end: NodeJS.Timeout
}

export class LockProbes {
  readonly #start: (place: PoolPlace, onMessage: (message: FromChild) => void) => PoolIo
  readonly #probes = new Map<string, Probe>()
  #nextId = 0

  /** @param start starts a process that tries locks in a pool */
  constructor(start: (place: PoolPlace, onMessage: (message: FromChild) => void) => PoolIo) {
    this.#start = start
  }

  /** Carries one step out. Never waits longer than some seconds. */
  async tryLock(place: PoolPlace, step: LockStep): Promise<LockTried> {
    const key = `${place.clusterId} ${place.path}`
    const probe = this.#probes.get(key) ?? this.#open(key, place)
    clearTimeout(probe.end)
    probe.end = this.#endLater(key)
    const id = this.#nextId++
    const { promise, resolve } = Promise.withResolvers<LockTried>()
    const fault = `${place.path} does not answer`
    const timer = setTimeout(() => resolve({ isGranted: false, fault }), STEP_MS)
    probe.waiting.set(id, resolve)
    void probe.ready.then(() => probe.child.send({ kind: 'try-lock', id, step }))
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      probe.waiting.delete(id)
    }
  }

  close(): void {
    for (const key of this.#probes.keys()) this.#end(key)
  }

  #open(key: string, place: PoolPlace): Probe {
    const { promise: ready, resolve } = Promise.withResolvers<void>()
    const waiting: Probe['waiting'] = new Map()
    const child = this.#start(place, (message) => {
      if (message.kind === 'ready') resolve()
      if (message.kind !== 'lock-tried') return
      const { isGranted, fault } = message
      waiting.get(message.id)?.({ isGranted, fault })
    })
    const probe = { child, ready, waiting, end: this.#endLater(key) }
    this.#probes.set(key, probe)
    return probe
  }

  #endLater(key: string): NodeJS.Timeout {
    return setTimeout(() => this.#end(key), HOLD_MS).unref()
  }

  #end(key: string): void {
    const probe = this.#probes.get(key)
    if (!probe) return
    clearTimeout(probe.end)
    probe.child.close()
    this.#probes.delete(key)
  }
}
