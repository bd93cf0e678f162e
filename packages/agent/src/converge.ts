// Makes libvirt match what is wanted of one instance: look, plan, carry out, look again, until nothing is
// left to do. All decisions are core's; this is the loop around them.

import {
  type DesiredInstance,
  type HostPlan,
  type HostStep,
  type HostStepKind,
  type InstanceRelease,
  type InstanceReport,
  isUp,
  type ObservedDomain,
  type ObservedInstance,
  planConvergence,
  planRelease,
  planRemoval,
  reportOf,
  VpeError,
} from '@vpe/core'
import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import type { HostSettings } from './definition.ts'
import type { DiskPools } from './disk-pools.ts'
import { describeStep, execute, type StepContext } from './executors.ts'
import type { HaAgent } from './ha/ha-agent.ts'
import type { Hints } from './hints.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import type { InstanceTurns } from './instance-turns.ts'
import type { Inventory } from './inventory.ts'
import { liveDisks } from './live-disks.ts'
import { endCopying } from './migration.ts'
import type { PoolFiles, PoolRef } from './pool/pool-workers.ts'
import type { Progress } from './progress.ts'
import type { Slots } from './slots.ts'
import { whileOff } from './while-off.ts'

/** A convergence that is still not done after so many plans goes round in circles. */
const ROUNDS_MAX = 6

/** What all work on this host shares. */
export interface HostParts {
  readonly hostId: string
  readonly bootId: string
  readonly hypervisor: Hypervisor
  readonly diskPools: DiskPools
  readonly files: PoolFiles
  readonly inventory: Inventory
  readonly turns: InstanceTurns
  readonly settings: HostSettings
  readonly ha: HaAgent
  readonly hints: Hints
  readonly slots: Slots
  /** See AgentDeps. */
  readonly postCopyFault: () => Promise<string | null>
  readonly clock: Clock
  readonly log: Logger
}

/** Steps that mostly wait, for a guest or for another machine: they hold no slot. */
const WAITING: ReadonlySet<HostStepKind> = new Set([
  'ensure-disk-pool',
  'ensure-image',
  'detach-disk',
  'copy-system-disk',
  // The start within is counted where it is made.
  'own',
  'let-go',
  'shutdown',
])

/**
 * Makes one instance match.
 * @throws VpeError with a reason when it cannot, or the signal's own when somebody took over
 */
export async function converge(
  desired: DesiredInstance,
  host: HostParts,
  signal: AbortSignal,
  progress: Progress,
): Promise<InstanceReport> {
  host.ha.assertCanOwn(desired)
  const context = stepContext(desired.uuid, desired.diskPool, desired, host, signal, progress)
  await endCopying(desired.uuid, host, signal)
  let isGraceSpent = false
  let last: HostStep | undefined
  for (let round = 0; round < ROUNDS_MAX; round++) {
    signal.throwIfAborted()
    const observed = await observe(desired, isGraceSpent, host)
    const steps = stepsOf(desired.uuid, planConvergence(desired, observed))
    if (steps.length === 0) return report(observed, desired, host)
    for (const step of steps) {
      await carryOut(step, context, host)
      if (step.kind === 'shutdown') isGraceSpent = true
      last = step
    }
  }
  const what = last ? `; last: ${describeStep(last)}` : ''
  throw new VpeError(
    'HYPERVISOR_FAILED',
    `instance ${desired.uuid} does not come to rest after ${ROUNDS_MAX} rounds${what}`,
  )
}

/** Leaves nothing of an instance. */
export async function removeInstance(
  removal: { readonly uuid: string; readonly generation: number; readonly diskPool: PoolRef },
  host: HostParts,
  signal: AbortSignal,
  progress: Progress,
): Promise<void> {
  const { uuid, generation } = removal
  await endCopying(uuid, host, signal)
  const domain = await host.inventory.look(uuid)
  // The mark knows where the disk is; without a domain only the caller does.
  const pool =
    !domain || domain.mark.diskPoolUuid === removal.diskPool.uuid ? removal.diskPool : poolOf(domain)
  const context = stepContext(uuid, pool, null, host, signal, progress)
  for (const step of stepsOf(uuid, planRemoval(generation, domain))) await carryOut(step, context, host)
  await host.inventory.look(uuid)
  await host.ha.letGo(uuid, domain?.mark ?? null, signal)
}

/** Stops an instance that moves to another host, and forgets it here. */
export async function releaseInstance(
  release: InstanceRelease,
  host: HostParts,
  signal: AbortSignal,
  progress: Progress,
): Promise<void> {
  const { uuid } = release
  await endCopying(uuid, host, signal)
  let isGraceSpent = false
  let last: ObservedDomain | null = null
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const domain = await host.inventory.look(uuid)
    if (!domain) return host.ha.letGo(uuid, last?.mark ?? null, signal)
    last = domain
    const context = stepContext(uuid, poolOf(domain), null, host, signal, progress)
    for (const step of stepsOf(uuid, planRelease(release, { domain, isGraceSpent }))) {
      await carryOut(step, context, host)
      if (step.kind === 'shutdown') isGraceSpent = true
    }
  }
  throw new VpeError('HYPERVISOR_FAILED', `instance ${uuid} is still there after ${ROUNDS_MAX} rounds`)
}

function poolOf({ mark }: ObservedDomain): PoolRef {
  return { uuid: mark.diskPoolUuid, path: mark.diskPoolPath }
}

async function carryOut(step: HostStep, context: StepContext, host: HostParts): Promise<void> {
  context.signal.throwIfAborted()
  const { clock, log, slots } = host
  const words = describeStep(step)
  context.say(words)
  const startMs = clock.nowMs()
  const work = () => execute(step, context)
  await (WAITING.has(step.kind) ? work() : slots.run(work))
  const ms = Math.round(clock.nowMs() - startMs)
  log.info({ instance: context.uuid, step: step.kind, why: step.why, ms }, 'step done')
}

async function observe(
  desired: DesiredInstance,
  isGraceSpent: boolean,
  host: HostParts,
): Promise<ObservedInstance> {
  const { hostId, bootId, hypervisor, inventory, files, diskPools, ha } = host
  const domain = await inventory.look(desired.uuid)
  const ownership = ha.held(desired.uuid, domain)
  if (domain) {
    const live = domain.guest.power === 'off' ? [] : await liveDisks(hypervisor, desired.uuid)
    return { hostId, bootId, domain, systemDisk: null, liveDisks: live, isGraceSpent, ownership }
  }
  // Nobody can say whether the disk is there before the pool is.
  await diskPools.ensure(desired.diskPool)
  const disk = await files.request(desired.diskPool, 'find-system-disk', { instanceUuid: desired.uuid })
  return {
    hostId,
    bootId,
    domain,
    systemDisk: disk.isFound ? { imageUuid: disk.imageUuid } : null,
    liveDisks: [],
    isGraceSpent,
    ownership,
  }
}

function report(observed: ObservedInstance, desired: DesiredInstance, host: HostParts): InstanceReport {
  if (!observed.domain) throw new Error(`instance ${desired.uuid} was planned to rest without a domain`)
  return reportOf(observed.domain, host.bootId, false)
}

function stepsOf(uuid: string, plan: HostPlan): readonly HostStep[] {
  if ('refused' in plan) throw new VpeError(plan.code, `instance ${uuid}: ${plan.refused}`)
  return plan.steps
}

function stepContext(
  uuid: string,
  pool: PoolRef,
  desired: DesiredInstance | null,
  host: HostParts,
  signal: AbortSignal,
  progress: Progress,
): StepContext {
  const { hypervisor, diskPools, files, settings, clock, inventory, hints, ha } = host
  return {
    ha,
    hypervisor,
    diskPools,
    files,
    settings,
    clock,
    uuid,
    pool,
    desired,
    signal,
    say: (step) => progress.say(step),
    isOn: async () => {
      const domain = await inventory.look(uuid)
      return domain !== null && isUp(domain.guest)
    },
    whileOff: (other, work) => whileOff(host, other, signal, work),
    nextHint: (either) => hints.next(uuid, either),
  }
}
