// How long everything takes. Safety of class T pools rests on one inequality between these times and on nothing else:
// whoever may not write any more has been reset before anyone takes its place. Class E needs none of it for safety.
//
// A holder counts from before its last write, on its own clock; an observer from after it has read that write, on
// its own. Nobody compares clocks, but clocks run at slightly different rates.

export interface HaTimings {
  /** Between two renewals of a host's lease. */
  readonly writeMs: number
  /** Between two reads of all leases. */
  readonly readMs: number
  /** Between two looks of the guard. */
  readonly guardMs: number
  /** Silence that makes the controller suspect a host. */
  readonly suspectMs: number
  /** Age of a lease from which proofs are sought and guests count as stalled. */
  readonly tryMs: number
  /**
   * For how long a host must have tried in vain to renew its lease before it says itself that it has lost the pool. Above `tryMs`, for a
   * host that is heard is alive: a short stall of its storage is to pass, not to move its guests.
   */
  readonly lossMs: number
  /** Age of its lease at which a host ends its own guests (class T). */
  readonly selfMs: number
  /** The watchdog's own time: a host that has not been petted for so long is reset. */
  readonly watchdogMs: number
  /** How long a packet of a host that was reset may still be executed by the storage. */
  readonly flightMs: number
  /** By how much a watchdog may be late. */
  readonly watchdogLateMs: number
  /** Age of a lease at which its host is taken for dead (class T). */
  readonly deadMs: number
  /** How long a controller only listens after it has started, or was deaf itself. */
  readonly settleMs: number
}

/** How far a clock may run fast or slow: 500 ppm of slewing, and the crystal. */
export const CLOCK_RATE_ERROR = 0.001

type Chosen = Omit<HaTimings, 'readMs' | 'guardMs' | 'watchdogLateMs' | 'settleMs'> & Partial<HaTimings>

const profile = (timings: Chosen): HaTimings =>
  Object.freeze({
    readMs: 1_000,
    guardMs: 500,
    watchdogLateMs: 1_000,
    settleMs: Math.max(timings.deadMs, 60_000),
    ...timings,
  })

export const HA_PROFILES = Object.freeze({
  fast: profile({
    writeMs: 1_000,
    // Both the last renewal and its age are seen up to one read late.
    readMs: 500,
    suspectMs: 5_000,
    tryMs: 5_000,
    lossMs: 6_000,
    selfMs: 12_000,
    watchdogMs: 10_000,
    flightMs: 3_000,
    deadMs: 27_000,
  }),
  default: profile({
    writeMs: 2_000,
    suspectMs: 10_000,
    tryMs: 10_000,
    lossMs: 10_000,
    selfMs: 30_000,
    watchdogMs: 15_000,
    flightMs: 5_000,
    deadMs: 55_000,
  }),
  'slow-filer': profile({
    writeMs: 5_000,
    suspectMs: 15_000,
    tryMs: 20_000,
    lossMs: 20_000,
    selfMs: 80_000,
    watchdogMs: 60_000,
    flightMs: 10_000,
    deadMs: 160_000,
  }),
})

export type HaProfile = keyof typeof HA_PROFILES

/** What these timings are called; null where they are nobody's profile. */
export function profileOf(timings: HaTimings): HaProfile | null {
  const names = Object.keys(HA_PROFILES) as HaProfile[]
  const asText = JSON.stringify(Object.entries(timings).sort())
  return names.find((name) => JSON.stringify(Object.entries(HA_PROFILES[name]).sort()) === asText) ?? null
}

/** The least age of a lease that proves its host dead, whatever the two clocks do. */
export function leastDeadMs(
  timings: Pick<HaTimings, 'selfMs' | 'watchdogMs' | 'flightMs' | 'watchdogLateMs'>,
): number {
  const { selfMs, watchdogMs, flightMs, watchdogLateMs } = timings
  const holderMs = (1 + CLOCK_RATE_ERROR) * (selfMs + watchdogMs) + flightMs + watchdogLateMs
  return Math.ceil(holderMs / (1 - CLOCK_RATE_ERROR))
}

/** Time that the guard has to end guests and drain their writes before the watchdog would be too late to stop. */
export function fenceMs({ watchdogMs }: Pick<HaTimings, 'watchdogMs'>): number {
  return watchdogMs - 2_000
}

/** From the last renewal until a class T host is taken for dead: two polls and a read beyond the age itself. */
export function worstDetectionMs({ deadMs, readMs }: Pick<HaTimings, 'deadMs' | 'readMs'>): number {
  return deadMs + 3 * readMs
}

/** Why these timings must not be used, in words with the figures; null when they are safe. */
export function refuseTimings(timings: HaTimings): string | null {
  for (const [name, value] of Object.entries(timings))
    if (!Number.isFinite(value) || value <= 0) return `${name} is ${value}: it must be a time above 0`
  const { writeMs, guardMs, tryMs, lossMs, selfMs, watchdogMs, deadMs, settleMs, readMs } = timings
  const least = leastDeadMs(timings)
  if (deadMs < least)
    return `deadMs is ${deadMs}, but a host may write for ${least} ms after its last renewal (selfMs + watchdogMs, at a clock that is ${CLOCK_RATE_ERROR * 100} % slow, + flightMs + watchdogLateMs)`
  if (watchdogMs < 2 * 2 * guardMs + 5_000)
    return `watchdogMs is ${watchdogMs}: two pets (each second) and 5000 ms must fit, which makes ${4 * guardMs + 5_000}`
  if (selfMs < 3 * writeMs)
    return `selfMs is ${selfMs}: a single lost renewal must not end guests; it must be at least three times writeMs`
  if (tryMs < 3 * writeMs + readMs)
    return `tryMs is ${tryMs}: below ${3 * writeMs + readMs} (three writes and a read) a healthy host looks stale`
  if (lossMs < tryMs)
    return `lossMs is ${lossMs}: a host that says that it has lost a pool before others see so (tryMs, ${tryMs}) is not believed`
  if (settleMs < deadMs)
    return `settleMs is ${settleMs}: a controller must listen at least as long as deadMs, ${deadMs}`
  return null
}
