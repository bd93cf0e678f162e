// A graceful stop: the power button, pressed again now and then, since a guest that is still booting
// hears the first press not at all. Waits for the guest's end by events, and looks now and then, since
// events are hints.

import type { Clock } from './clock.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'

/** The button is pressed at the start and after these parts of the grace time. */
const PRESSES_AT = [0, 1 / 3, 2 / 3]
const LOOK_EVERY_MS = 1_000

export interface GuestWatch {
  readonly clock: Clock
  /** A fresh look: the guest runs, or stands still with its state kept. */
  readonly isOn: () => Promise<boolean>
  /** Resolves at the next sign that something about the instance changed; rejects when aborted. */
  readonly nextHint: (signal: AbortSignal) => Promise<void>
}

export interface ShutDownContext extends GuestWatch {
  readonly hypervisor: Pick<Hypervisor, 'shutdownDomain'>
  readonly uuid: string
  readonly signal: AbortSignal
}

/** Resolves when the guest is off or its time is over. */
export async function shutDown(graceMs: number, context: ShutDownContext): Promise<void> {
  const { clock, hypervisor, uuid, signal } = context
  const startMs = clock.nowMs()
  let presses = 0
  while (await context.isOn()) {
    const passedMs = clock.nowMs() - startMs
    if (passedMs >= graceMs) return
    if (passedMs >= graceMs * (PRESSES_AT[presses] ?? 1)) {
      await hypervisor.shutdownDomain(uuid)
      presses++
      continue
    }
    const nextMs = graceMs * (PRESSES_AT[presses] ?? 1) - passedMs
    await hintOrPause(context, Math.min(nextMs, LOOK_EVERY_MS), signal)
  }
}

async function hintOrPause(
  { clock, nextHint }: GuestWatch,
  pauseMs: number,
  signal: AbortSignal,
): Promise<void> {
  const over = new AbortController()
  const either = AbortSignal.any([signal, over.signal])
  const waits = [nextHint(either), clock.sleep(Math.max(1, pauseMs), either)]
  try {
    await Promise.race(waits)
  } finally {
    over.abort()
    await Promise.allSettled(waits)
  }
}
