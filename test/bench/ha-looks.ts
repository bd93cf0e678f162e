// How long one look of the HA machine takes, with 10,000 hosts that have ten highly available instances each: at rest, which is once a
// second for ever, and from the silence of a host until its instances are given to others, which is five times a second. The event loop of
// the controller stands still for it.

import type { HostId, InstanceId } from '@vpe/core'
import {
  HA_PROFILES,
  HA_RULES,
  type HaContext,
  type HaControllerEvent,
  type HaInstance,
  type HostLease,
  type HostPool,
  memoryPlacer,
  NO_HA_RECORD,
  newHaInstance,
  startHaController,
  stepHaController,
} from '@vpe/core/ha'
import { type Distribution, distribution } from './figures.ts'

export interface HaLookFigures {
  readonly restMs: Distribution
  readonly lossMs: Distribution
}

/** So many hosts share a pool. */
const POOL_HOSTS = 64
const LEASE: Omit<HostLease, 'hostId'> = {
  ...{ kind: 'lease', incarnation: 'first', bootId: 'boot', seq: 1, selfMs: 12_000, watchdogMs: 10_000 },
  ...{ isWatchdogArmed: false, isManagementOk: true, isGuestNetworkOk: true, pillAck: null },
}
const context: HaContext = { timings: HA_PROFILES.fast, rules: { ...HA_RULES, settlesFirst: false } }

/** @param looks at rest */
export function measureHaLooks(hosts: number, instancesOfHost: number, looks: number): HaLookFigures {
  const hostIds = Array.from({ length: hosts }, (_, index) => `host-${index}` as HostId)
  const poolsOf = (index: number): readonly HostPool[] => [
    { pool: `pool-${Math.floor(index / POOL_HOSTS)}`, poolClass: 'E', canUnmount: false, canRevoke: true },
  ]
  const instances = hostIds.flatMap((hostId, index) =>
    Array.from({ length: instancesOfHost }, (_, n): HaInstance => {
      const uuid = `${hostId}-${n}` as InstanceId
      const wanted = { uuid, pools: poolsOf(index), priority: 'medium', memoryMib: 512 } as const
      return { ...newHaInstance({ ...wanted, isolation: 'leave' }, hostId, 'boot'), state: 'running' }
    }),
  )
  let nowMs = 0
  let state = startHaController(1, { ...NO_HA_RECORD, instances }, nowMs, context)
  const step = (event: HaControllerEvent) => {
    const { state: next, actions } = stepHaController(state, event, nowMs, context)
    state = next
    return actions
  }
  step({
    kind: 'hosts',
    hosts: hostIds.map((hostId, index) => ({
      ...{ hostId, bootId: 'boot', pools: poolsOf(index), canPowerOff: false },
    })),
  })
  const reports = hostIds.map((hostId, index) => {
    const own = instances.slice(index * instancesOfHost, (index + 1) * instancesOfHost)
    const shown = own.map(
      ({ uuid, generation }) => ({ uuid, generation, phase: 'running', why: '' }) as const,
    )
    return { hostId, bootId: 'boot', lostPools: [], instances: shown }
  })
  step({ kind: 'reports', heard: new Map(), reports })
  const room = new Map(hostIds.map((hostId) => [hostId, 64 * 1024]))
  const placer = memoryPlacer(room, state.recovery.instances.values())
  /** As the keeper does it: what was heard, then the look. */
  const look = (silent: ReadonlySet<HostId>) => {
    const heard = new Map(hostIds.flatMap((hostId) => (silent.has(hostId) ? [] : [[hostId, nowMs] as const])))
    const fromMs = performance.now()
    step({ kind: 'reports', heard, reports: [] })
    const actions = step({ kind: 'tick', placer, jitter: 0.5 })
    return { tookMs: performance.now() - fromMs, actions }
  }

  const restMs: number[] = []
  for (let n = 0; n < looks; n++) {
    nowMs += 1_000
    restMs.push(look(new Set()).tookMs)
  }

  const [lost = '' as HostId] = hostIds
  const lease: HostLease = { ...LEASE, hostId: lost }
  const lossMs: number[] = []
  const fromMs = nowMs
  const left = () => [...state.recovery.instances.values()].some(({ hostId }) => hostId === lost)
  while (left()) {
    if (nowMs - fromMs > 120_000) throw new Error('it was not all given to others within two minutes')
    nowMs += 200
    const { tookMs, actions } = look(new Set([lost]))
    lossMs.push(tookMs)
    for (const action of actions) {
      if (action.kind === 'dial') step({ kind: 'dialled', hostId: action.hostId, isOk: false })
      if (action.kind === 'revoke') step({ ...action, kind: 'revoked', isOk: true })
      if (action.kind === 'ask-lease') {
        const { observer, hostId, pool } = action
        const staleForMs = nowMs - fromMs
        step({
          ...{ kind: 'sighting', observer, hostId, pool },
          sighting: { kind: 'stale', staleForMs, lease, isPoolHealthy: true },
        })
      }
    }
  }
  return { restMs: distribution(restMs), lossMs: distribution(lossMs) }
}
