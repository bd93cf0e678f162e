// Whether a host is ready to have highly available instances, which is a condition of it: what its guard says, how it stands
// with its leases, and what the last drill found. Red keeps instances off it that rely on it; it ends nothing.

import type { Finding } from '../host-conditions.ts'
import type { PoolClass } from './pool-class.ts'

export const HA_READY_FINDING = 'HaReady'

/** A shared pool of the host. */
export interface ReadinessPool {
  readonly name: string
  readonly poolClass: PoolClass
  readonly why: string
  /** It has no block in the pool's files: others have them all. */
  readonly isWithoutSlot: boolean
  /** Null where it has none, or says nothing of it. */
  readonly lease: 'renewed' | 'lost' | null
}

export interface ReadinessFacts {
  /** At least one: a host without any has no such condition. */
  readonly pools: readonly ReadinessPool[]
  /** No other host has any of these pools. */
  readonly isAlone: boolean
  /** What the host says of itself; null where it said nothing, for the reason beside it. */
  readonly report: {
    readonly guardFault: string
    readonly profile: string
    readonly hasWatchdog: boolean
  } | null
  readonly reportFault: string
  /** What the controller keeps to. */
  readonly profile: string
  /** Why the last drill failed; null where it did not, or there was none. */
  readonly drillFault: string | null
}

/** What HaReady says of a host. */
export function judgeReadiness(facts: ReadinessFacts): Finding {
  if (facts.isAlone)
    return {
      ...finding('warning', 'no other host has its pools: there is nothing to fail over to'),
      cure: 'give its shared disk pool to a second host',
    }
  const fault = faultOf(facts)
  if (fault) return { ...finding('failed', fault.message), cure: fault.cure }
  const guarded = facts.pools.filter(({ poolClass }) => poolClass !== 'N')
  return finding(
    'ok',
    `leases in ${guarded.map(({ name, poolClass }) => `${name} (${poolClass})`).join(', ')}`,
  )
}

function faultOf(facts: ReadinessFacts): Pick<Finding, 'message' | 'cure'> | null {
  const { pools, report, profile } = facts
  if (!report)
    return { message: `it does not say: ${facts.reportFault}`, cure: 'start vpe-guard and vpe-agent on it' }
  if (report.guardFault !== '')
    return { message: `it can guard nothing: ${report.guardFault}`, cure: 'start vpe-guard on it' }
  if (report.profile !== profile)
    return {
      message: `its guard keeps to the times "${report.profile}", and the controller to "${profile}"`,
      cure: `set VPE_HA_PROFILE=${profile} on it, and restart vpe-guard`,
    }
  const full = pools.find(({ isWithoutSlot }) => isWithoutSlot)
  if (full)
    return {
      message: `all blocks of leases in ${full.name} are taken by other hosts`,
      cure: 'take the pool from hosts that do not need it',
    }
  const guarded = pools.filter(({ poolClass }) => poolClass !== 'N')
  if (guarded.length === 0)
    return {
      message: `none of its pools is protected: ${pools.map(({ name, why }) => `${name}: ${why}`).join('; ')}`,
      cure: 'see docs/ha.md, classes of pools',
    }
  if (!report.hasWatchdog && guarded.some(({ poolClass }) => poolClass === 'T'))
    return { message: 'it has no watchdog, and a pool of class T', cure: 'load a watchdog, such as softdog' }
  const lost = guarded.find(({ lease }) => lease !== 'renewed')
  if (lost)
    return {
      message: `its lease in ${lost.name} ${lost.lease === 'lost' ? 'is lost' : 'has not begun yet'}`,
      cure: 'see whether the pool works on it (condition PoolWorks)',
    }
  if (facts.drillFault !== null)
    return {
      message: `the last drill failed: ${facts.drillFault}`,
      cure: 'mend that, then repeat it (POST /hosts/{uuid}/drill)',
    }
  return null
}

function finding(status: Finding['status'], message: string): Finding {
  return { type: HA_READY_FINDING, status, message, cure: '', latencyMs: null }
}
