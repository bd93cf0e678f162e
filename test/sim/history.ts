// One history: a cluster by chance, faults by chance for a minute or two, and then the end of all faults, after which everything must
// be well again. The seed is all that it depends on.

import { type HaRules, type HaTimings, leastDeadMs } from '@vpe/core/ha'
import { Violation } from './checks.ts'
import { type FaultName, scheduleFaults } from './faults.ts'
import { Random } from './random.ts'
import type { LockServer } from './sim-pool.ts'
import { World, type WorldSettings } from './world.ts'

export interface History {
  readonly seed: number
  readonly violation: Violation | null
  readonly virtualMs: number
  readonly writes: number
  readonly failovers: number
  readonly kills: number
  readonly classes: string
  readonly log: readonly string[]
}

/** Short ones, so that a history holds many of them; the least that the inequality allows, so that nothing rests on slack. */
function tight(selfMs: number, watchdogMs: number, flightMs: number): HaTimings {
  const watchdogLateMs = 400
  const deadMs = leastDeadMs({ selfMs, watchdogMs, flightMs, watchdogLateMs })
  return {
    writeMs: 1_000,
    readMs: 1_000,
    guardMs: 500,
    suspectMs: 3_000,
    tryMs: 4_500,
    lossMs: 4_500,
    selfMs,
    watchdogMs,
    flightMs,
    watchdogLateMs,
    deadMs,
    settleMs: deadMs + 2_000,
  }
}

const timings: readonly HaTimings[] = [tight(6_000, 7_000, 1_500), tight(8_000, 8_000, 3_000)]
const servers: readonly LockServer[] = ['nfs4', 'nfs4', 'nfs3-sticky', 'nfs3-broken-test', 'no-locks']

/** Where it is quickest to see: kinds of faults that are certain to come, and quick looks, so that no slack hides what is wrong. */
export interface Focus {
  readonly faults: readonly FaultName[]
  readonly lockServers: readonly LockServer[]
  readonly isolation?: 'restart'
}

/** How long faults go on, and how long recovery may take then. */
const FAULTS_MS = 60_000
const PATIENCE_MS = 30 * 60_000

export function settingsOf(
  seed: number,
  rules: Partial<HaRules>,
  isTraced: boolean,
  focus: Focus | null = null,
): WorldSettings {
  const random = new Random(seed ^ 0x5bd1e995)
  const poolCount = random.chance(0.25) ? 2 : 1
  const pools = Array.from({ length: poolCount }, (_, index) => ({
    name: `p${index + 1}`,
    lockServer: random.pick(focus?.lockServers ?? servers),
    leaseMs: random.pick([3_000, 8_000, 20_000]),
    canRevoke: random.chance(0.4),
    canUnmount: random.chance(0.7),
  }))
  const names = pools.map(({ name }) => name)
  // Without revocation by lock there is nothing that could be revoked.
  const fair = pools.map((pool) => (pool.lockServer === 'nfs4' ? pool : { ...pool, canRevoke: false }))
  const hosts = Array.from({ length: random.whole(2, 5) }, (_, index) => ({
    name: `h${index + 1}`,
    pools: names,
    memoryMib: random.pick([4_096, 8_192]),
    canPowerOff: random.chance(0.25),
  }))
  const instances = Array.from({ length: random.whole(1, 4) }, (_, index) => ({
    name: `i${index + 1}`,
    pools: poolCount === 2 && random.chance(0.4) ? names : [random.pick(names)],
    host: random.pick(hosts).name,
    priority: random.pick(['system', 'high', 'medium', 'low'] as const),
    isolation: focus?.isolation || random.chance(0.4) ? ('restart' as const) : ('leave' as const),
  }))
  const chosen = random.pick(timings)
  const quick = { ...chosen, readMs: 200, guardMs: 100 }
  return {
    seed,
    timings: focus ? quick : chosen,
    controllerTickMs: focus ? 200 : 1_000,
    rules,
    pools: fair,
    hosts,
    instances,
    isTraced,
  }
}

/** Plays one seed. What goes wrong is in the result; only a fault of the simulator itself is thrown. */
export function playHistory(
  seed: number,
  rules: Partial<HaRules> = {},
  isTraced = false,
  focus: Focus | null = null,
): History {
  const world = new World(settingsOf(seed, rules, isTraced, focus))
  let violation: Violation | null = null
  try {
    world.timeline.runUntil(9_000)
    const unwell = world.whyUnwell()
    if (unwell !== null) world.violate('I13', `before any fault: ${unwell}`)
    const endFaults = scheduleFaults(world, FAULTS_MS, focus?.faults ?? null)
    world.timeline.runUntil(9_000 + FAULTS_MS)
    endFaults()
    const endMs = world.nowMs + PATIENCE_MS
    let why: string | null = 'it has not been looked'
    while (why !== null && world.nowMs < endMs) {
      world.timeline.runUntil(world.nowMs + 1_000)
      why = world.whyUnwell()
    }
    if (why !== null) world.violate('I13', `half an hour after the last fault: ${why}`)
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    violation = error
    world.note(`VIOLATION ${error.message}`)
  }
  return {
    seed,
    violation,
    virtualMs: world.nowMs,
    writes: world.oracle.writes,
    failovers: world.failovers,
    kills: world.kills,
    classes: world.pools.map(({ poolClass }) => poolClass).join(''),
    log: world.log,
  }
}
