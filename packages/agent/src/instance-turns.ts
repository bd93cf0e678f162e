// One piece of work at a time for each instance, as many instances at once as there are. What comes
// while another is under way joins it, takes over from it, or is turned away; the rules are one pure
// function, `admit`.

import { VpeError } from '@vpe/core'
import { Progress, type Running } from './progress.ts'

export type Job =
  | {
      readonly kind: 'apply' | 'remove' | 'release' | 'migrate' | 'end-migration' | 'receive' | 'sweep'
      readonly generation: number
    }
  /** This host's own: bringing a guest back, or writing down that it stays off. */
  | { readonly kind: 'upkeep' }
  /** Its disk is being read, or a snapshot of it comes or goes: the guest neither starts nor stops meanwhile. */
  | { readonly kind: 'capture' | 'snapshot' }

export type Admission = 'start' | 'join' | 'take-over' | 'skip' | { readonly refused: string }

/** What becomes of a job that comes while another is under way. */
export function admit(current: Job | null, next: Job): Admission {
  if (!current) return 'start'
  if (next.kind === 'upkeep') return 'skip'
  if (!('generation' in next)) return { refused: 'somebody is at work on it' }
  if (!('generation' in current)) return 'take-over'
  if (next.generation > current.generation) return 'take-over'
  if (next.generation === current.generation && next.kind === current.kind) return 'join'
  // Between an apply and a remove of one generation the remove wins, whichever came first.
  if (next.generation === current.generation && next.kind === 'remove') return 'take-over'
  return {
    refused: `generation ${next.generation} is too late: it is ${DOING[current.kind]} (generation ${current.generation})`,
  }
}

const DOING = {
  apply: 'made to match a newer one',
  remove: 'being removed',
  release: 'leaving this host',
  migrate: 'migrating to another host',
  'end-migration': 'kept from migrating',
  receive: 'made ready to come to this host',
  sweep: 'cleared away here',
} as const

interface Turn {
  readonly job: Job
  readonly abort: AbortController
  readonly running: Running<unknown>
}

export class InstanceTurns {
  readonly #turns = new Map<string, Turn>()
  readonly #onRest: (uuid: string) => void
  #stopped: VpeError | null = null

  /** @param onRest told when nobody is at work on an instance any more */
  constructor(onRest: (uuid: string) => void = () => {}) {
    this.#onRest = onRest
  }

  /**
   * Runs `work`, or joins the same work under way. Null when the job is skipped.
   * @throws VpeError STALE_GENERATION
   */
  run<T>(
    uuid: string,
    job: Job,
    work: (signal: AbortSignal, progress: Progress) => Promise<T>,
  ): Running<T> | null {
    if (this.#stopped) throw this.#stopped
    const current = this.#turns.get(uuid)
    const admission = admit(current?.job ?? null, job)
    if (typeof admission === 'object') {
      const code = 'generation' in job ? 'STALE_GENERATION' : 'UNAVAILABLE'
      throw new VpeError(code, `instance ${uuid}: ${admission.refused}`)
    }
    switch (admission) {
      case 'skip':
        return null
      case 'join':
        // The same kind of job yields the same kind of result.
        return current?.running as Running<T>
      case 'start':
      case 'take-over':
        current?.abort.abort(superseded(uuid, job))
        return this.#start(uuid, job, current?.running.result ?? Promise.resolve(), work)
      default:
        throw new Error(`no such admission: ${admission satisfies never}`)
    }
  }

  /** Somebody is at work on it. */
  isBusy(uuid: string): boolean {
    return this.#turns.has(uuid)
  }

  /** Aborts everything, takes nothing new, and waits until all is at rest. */
  async stop(): Promise<void> {
    this.#stopped = new VpeError('UNAVAILABLE', 'the agent is stopping')
    const turns = [...this.#turns.values()]
    for (const turn of turns) turn.abort.abort(this.#stopped)
    await Promise.allSettled(turns.map((turn) => turn.running.result))
  }

  #start<T>(
    uuid: string,
    job: Job,
    before: Promise<unknown>,
    work: (signal: AbortSignal, progress: Progress) => Promise<T>,
  ): Running<T> {
    const abort = new AbortController()
    const progress = new Progress()
    const carryOut = async () => {
      // The one before ends at its next safe point; only then is the instance at rest.
      await before.catch(() => {})
      abort.signal.throwIfAborted()
      return work(abort.signal, progress)
    }
    const result = carryOut().finally(() => {
      if (this.#turns.get(uuid) !== turn) return
      this.#turns.delete(uuid)
      this.#onRest(uuid)
    })
    // Everybody who asked may have left by the time it fails.
    result.catch(() => {})
    const running = { result, progress }
    const turn: Turn = { job, abort, running }
    this.#turns.set(uuid, turn)
    return running
  }
}

function superseded(uuid: string, by: Job): VpeError {
  const what = 'generation' in by ? `${by.kind} of generation ${by.generation}` : by.kind
  return new VpeError('SUPERSEDED', `instance ${uuid}: ${what} took over`)
}
