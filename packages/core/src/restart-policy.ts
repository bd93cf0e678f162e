// What a host does about a guest that is off although it is wanted on. A guest that is not highly
// available stays off, and that becomes the wanted state. A highly available one is started again: at
// once, then with growing pauses, and not more often than a guest that only had bad luck needs; one
// that keeps going down is left off, with a fault that says so. The count starts afresh when the guest
// has run for a whole window.
//
// One that stands still since a pool of its disks is full keeps its memory, and is let go on when there is room: QEMU then writes
// again what found none. That is tried now and again, for nobody says when there is.
//
// The host decides alone, also with the controller and NATS gone. One thing it never does alone is to
// start a guest after a reboot of the host: by then it may run elsewhere (ha.md 7.10).

import { holdUpOf, type InstanceMark, isUp, type ObservedDomain, stopCauseOf } from './host-convergence.ts'
import type { StopCause } from './instance.ts'

export const RESTART_POLICY = {
  /** Pause before the first, second … restart; the last one goes on. */
  pausesMs: [0, 5_000, 10_000, 20_000, 40_000],
  restartsMax: 3,
  windowMs: 10 * 60_000,
} as const

/** How often a guest that waits for room is let go on, and after how long it shows whether there was any. */
export const ROOM = { everyMs: 20_000, showsMs: 1_000 } as const

/** What a host remembers of a guest that is off. Times are of one monotonic clock. */
export interface RestartHistory {
  /** When it was first seen off. */
  readonly offSinceMs: number
  /** Starts that the host undertook by itself, oldest first, whether they succeeded or not. */
  readonly restartsAtMs: readonly number[]
}

export type RestartVerdict = { readonly why: string } & (
  | { readonly kind: 'restart' }
  | { readonly kind: 'wait'; readonly untilMs: number }
  | { readonly kind: 'give-up' }
)

/** Whether a highly available guest that is off is started again now, later, or no more. */
export function decideRestart(history: RestartHistory, nowMs: number): RestartVerdict {
  const { pausesMs, restartsMax, windowMs } = RESTART_POLICY
  const recent = recentRestarts(history.restartsAtMs, nowMs)
  if (recent.length >= restartsMax) {
    const minutes = windowMs / 60_000
    return {
      kind: 'give-up',
      why: `it went off again after ${recent.length} restarts within ${minutes} minutes`,
    }
  }
  const pauseMs = pausesMs[Math.min(recent.length, pausesMs.length - 1)] ?? 0
  const untilMs = history.offSinceMs + pauseMs
  const which = `restart ${recent.length + 1} of ${restartsMax}`
  if (nowMs < untilMs)
    return { kind: 'wait', untilMs, why: `${which} follows a pause of ${pauseMs / 1000} s` }
  return { kind: 'restart', why: which }
}

/** The restarts that still count. */
export function recentRestarts(restartsAtMs: readonly number[], nowMs: number): readonly number[] {
  return restartsAtMs.filter((atMs) => atMs > nowMs - RESTART_POLICY.windowMs)
}

export type Upkeep =
  /** All is as it is wanted, or it is not for the host to decide. */
  | { readonly kind: 'none' }
  /** It stays off as far as the host is concerned: that, and the cause, are written down. */
  | { readonly kind: 'settle'; readonly mark: InstanceMark; readonly why: string }
  /** It is kept on: decideRestart says when. */
  | { readonly kind: 'keep-on'; readonly why: string }
  /** It stands still, and is let go on, as there may be room now. */
  | { readonly kind: 'let-go-on' }

/** What is to be done about a domain that nobody is converging now. */
export function planUpkeep(domain: ObservedDomain, bootId: string): Upkeep {
  const { mark, guest } = domain
  if (holdUpOf(domain) === 'full-pool') return { kind: 'let-go-on' }
  // One that was paused and went off is not brought back: what was to be kept is gone.
  if (isUp(guest) || mark.power !== 'on' || mark.fault !== '') return { kind: 'none' }
  // After a reboot, or when it was settled before: the controller's affair.
  if (mark.bootId !== bootId) return { kind: 'none' }
  // What is owned is brought back by way of its claims (ha/agent-ha.ts).
  if (mark.ha && mark.ownership > 0) return { kind: 'none' }
  const stopCause = stopCauseOf(domain, bootId)
  const why = describeCause(stopCause)
  if (mark.ha) return { kind: 'keep-on', why }
  // Nobody asked for it, and the guest did not do it: it stays wanted on, and the controller starts it.
  // Without a boot in its mark its cause stays unknown, whatever libvirt says of it later.
  if (stopCause === null) return { kind: 'settle', mark: { ...mark, bootId: '' }, why }
  return { kind: 'settle', mark: { ...mark, power: 'off', stopCause }, why }
}

function describeCause(stopCause: StopCause | null): string {
  switch (stopCause) {
    case 'guest':
      return 'its guest powered itself off'
    case 'crash':
      return 'its guest crashed or its process died'
    default:
      return 'it was stopped from outside, or for no cause that is known'
  }
}
