// Tries all that fences a host, on one that has nothing to lose: its lease is renewed, another host sees that, a pill that
// ends nothing is read and answered by way of the pool, its watchdog is armed, and its power can be asked. What was never tried is what fails
// when it is needed.

import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DiskPoolRecord, HostRecord } from '@vpe/core'
import { HA_PROFILES, type PoolClass } from '@vpe/core/ha'
import { fromClientError, LeaseSight, PillScope, type SightLeaseResponse } from '@vpe/proto'
import type { Agents } from '../agents.ts'
import { hostsThatReach } from '../pool-reach.ts'
import type { Store } from '../store/store.ts'
import type { HaPoolKeeper } from './ha-pools.ts'
import type { DrillResult, DrillStep } from './records.ts'

const CALL_MS = 10_000
const AGAIN_MS = 500
/** Beyond the renewals that an answer takes. */
const PATIENCE_MS = 15_000

export interface DrillDeps {
  readonly store: Store
  readonly agents: Agents
  readonly haPools: HaPoolKeeper
  readonly now: () => number
}

interface GuardedPool {
  readonly pool: DiskPoolRecord
  readonly poolClass: PoolClass
}

/** Why a drill of a host makes no sense; null where it does. */
export function whyNoDrill({ store, haPools }: DrillDeps, host: HostRecord): string | null {
  const instances = store.usage.instancesOfHost(host.uuid).size
  if (instances > 0)
    return `host ${host.name} has ${instances} instance(s): a drill is for an empty host; drain it first (POST /hosts/${host.uuid}/drain)`
  if (host.state !== 'up') return `host ${host.name} is down`
  if (guardedPoolsOf({ store, haPools }, host).length > 0) return null
  const whys = haPools.poolsOfHost(host.uuid).map(({ pool }) => {
    const name = store.diskPools.get(pool)?.name ?? pool
    return `${name}: ${haPools.classOf(pool).why}`
  })
  return `host ${host.name} has no disk pool that is protected: ${whys.join('; ') || 'it has no shared one'}`
}

/** Never throws: what does not work is a step that says so. */
export async function drill(deps: DrillDeps, host: HostRecord): Promise<DrillResult> {
  const { report, fault } = await deps.haPools.look(host, true)
  const pools = guardedPoolsOf(deps, host)
  const steps: DrillStep[] = []
  const ofHost = (what: DrillStep['what'], why: string | null, message: string) =>
    steps.push({ what, diskPoolUuid: null, isOk: why === null, message: why ?? message })
  const guardFault = report ? report.guardFault : fault
  if (guardFault !== '') ofHost('lease', `its guard: ${guardFault}`, '')
  const ofPools = await Promise.all(
    pools.map(async (guarded) => {
      const lease = report?.leases.find(({ poolUuid }) => poolUuid === guarded.pool.uuid)
      return [leaseStep(guarded, lease ? !lease.isLost : null), ...(await stepsOfPeer(deps, host, guarded))]
    }),
  )
  steps.push(...ofPools.flat())
  if (pools.some(({ poolClass }) => poolClass === 'T'))
    ofHost('watchdog', report?.hasWatchdog ? null : 'no watchdog is armed', 'its watchdog is armed')
  const power = deps.store.hostFencing.get(host.uuid)?.power
  if (power) {
    const { status, why } = await deps.haPools.fenceAgents.status(power, AbortSignal.timeout(CALL_MS))
    ofHost(
      'power',
      status === 'on' ? null : `its power reads as ${status} ${why}`.trim(),
      'its power reads as on',
    )
  }
  return { atMs: deps.now(), isOk: steps.every(({ isOk }) => isOk), steps }
}

function guardedPoolsOf(
  { store, haPools }: Pick<DrillDeps, 'store' | 'haPools'>,
  host: HostRecord,
): GuardedPool[] {
  return haPools.poolsOfHost(host.uuid).flatMap(({ pool: uuid, poolClass }) => {
    const pool = store.diskPools.get(uuid)
    return pool && poolClass !== 'N' ? [{ pool, poolClass }] : []
  })
}

function leaseStep({ pool }: GuardedPool, isRenewed: boolean | null): DrillStep {
  const message = {
    true: `its lease in ${pool.name} is renewed`,
    false: `its lease in ${pool.name} is lost`,
    null: `it has no lease in ${pool.name}`,
  }[`${isRenewed}`]
  return { what: 'lease', diskPoolUuid: pool.uuid, isOk: isRenewed === true, message }
}

/** What another host of the pool sees of it, and can tell it through the pool. */
async function stepsOfPeer(
  { store, agents, haPools }: DrillDeps,
  host: HostRecord,
  { pool }: GuardedPool,
): Promise<DrillStep[]> {
  const step = (what: DrillStep['what'], isOk: boolean, message: string): DrillStep => ({
    ...{ what, diskPoolUuid: pool.uuid, isOk, message },
  })
  const peer = hostsThatReach(store, pool, null).find(({ uuid }) => uuid !== host.uuid)
  if (!peer) return [step('sighting', false, `no other host that reaches ${pool.name} is up`)]
  const client = agents.client(peer)
  const sight = () =>
    client.sightLease({ poolUuid: pool.uuid, hostUuid: host.uuid }, { signal: AbortSignal.timeout(CALL_MS) })
  const steps: DrillStep[] = []
  let what: DrillStep['what'] = 'sighting'
  try {
    const seen = await sight()
    if (seen.sight !== LeaseSight.ALIVE)
      return [
        step(what, false, `${peer.name} does not see its lease in ${pool.name} as alive: ${tell(seen)}`),
      ]
    steps.push(step(what, true, `${peer.name} sees its lease in ${pool.name}`))
    what = 'pill'
    const pill = { epoch: store.epoch, nonce: randomInt(1, 2 ** 47) }
    const { failure } = await client.sendPill(
      {
        ...{ poolUuid: pool.uuid, slot: haPools.slotOf(pool.uuid, host.uuid) ?? -1, pill },
        ...{ targetIncarnation: seen.incarnation, instances: [], scope: PillScope.NONE },
      },
      { signal: AbortSignal.timeout(CALL_MS) },
    )
    if (failure !== '') return [...steps, step(what, false, `${peer.name} could not write it: ${failure}`)]
    const isAnswered = await within(answerMs(haPools), async () => {
      const { ack } = await sight()
      return ack?.epoch === pill.epoch && ack.nonce === pill.nonce
    })
    const message = isAnswered
      ? `it has answered a pill of ${peer.name} in ${pool.name}`
      : `it has not answered a pill that ${peer.name} wrote in ${pool.name}`
    return [...steps, step(what, isAnswered, message)]
  } catch (error) {
    return [...steps, step(what, false, `${peer.name}: ${fromClientError(error).message}`)]
  }
}

function tell({ sight, staleForMs, why }: SightLeaseResponse): string {
  return sight === LeaseSight.STALE ? `it has not changed for ${staleForMs} ms` : why
}

/** It is read with a renewal, answered with another, and seen at the next read. */
function answerMs({ profile }: HaPoolKeeper): number {
  const { writeMs, readMs } = HA_PROFILES[profile]
  return 3 * writeMs + 2 * readMs + PATIENCE_MS
}

async function within(ms: number, isTrue: () => Promise<boolean>): Promise<boolean> {
  const deadline = performance.now() + ms
  while (performance.now() < deadline) {
    if (await isTrue()) return true
    await sleep(AGAIN_MS)
  }
  return false
}
