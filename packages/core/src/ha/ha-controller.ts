// The controller's part as one machine: what is believed of the hosts, and what is done for the instances. Whatever it decides is
// written down before anything is done about it; a controller that cannot write, because another has taken over, does nothing.

import { type Disarms, NO_DISARMS } from './disarm.ts'
import {
  admitHost,
  type HostRecord,
  type HostWatchAction,
  type HostWatchEvent,
  type HostWatchState,
  isHostNews,
  recordOfHost,
  startHostWatch,
  stepHostWatch,
} from './host-watch.ts'
import type { Placer } from './placer.ts'
import {
  type HaInstance,
  ownersOf,
  type RecoveryAction,
  type RecoveryEvent,
  type RecoveryState,
  startRecovery,
  stepRecovery,
} from './recovery.ts'
import type { HaContext, Step } from './rules.ts'

export interface HaControllerState {
  readonly watch: HostWatchState
  readonly recovery: RecoveryState
}

/** All that a controller leaves to the next. */
export interface HaRecord {
  readonly hosts: readonly HostRecord[]
  readonly instances: readonly HaInstance[]
  /** On the clock of whoever reads this: a store keeps times of day. */
  readonly disarms: Disarms
}

export type HaControllerEvent =
  | Exclude<HostWatchEvent, { kind: 'tick' }>
  | Exclude<RecoveryEvent, { kind: 'tick' }>
  | { readonly kind: 'tick'; readonly placer: Placer; readonly jitter: number }

export type HaControllerAction =
  /** Comes first. Refused where the epoch in the store is higher: then nothing that follows is done, and the controller ends. */
  | { readonly kind: 'commit'; readonly epoch: number; readonly record: HaRecord }
  | HostWatchAction
  | Exclude<RecoveryAction, { kind: 'admit-host' }>

/** What the first controller of a cluster finds. */
export const NO_HA_RECORD: HaRecord = Object.freeze({ hosts: [], instances: [], disarms: NO_DISARMS })

/** `epoch` is higher than that of any controller before. */
export function startHaController(
  epoch: number,
  record: HaRecord,
  nowMs: number,
  context: HaContext,
): HaControllerState {
  return {
    watch: { ...startHostWatch(record.hosts, nowMs, context), disarms: record.disarms },
    recovery: startRecovery(epoch, record.instances, nowMs),
  }
}

export function stepHaController(
  before: HaControllerState,
  event: HaControllerEvent,
  nowMs: number,
  context: HaContext,
): Step<HaControllerState, HaControllerAction> {
  const actions: HaControllerAction[] = []
  let { watch, recovery } = before
  if (isOfInstance(event)) {
    const step = stepRecovery(recovery, watch, event, nowMs, context)
    recovery = step.state
    actions.push(...step.actions.filter((action) => action.kind !== 'admit-host'))
  } else {
    const watched = event.kind === 'tick' ? ({ kind: 'tick', owners: ownersOf(recovery) } as const) : event
    const step = stepHostWatch(watch, watched, nowMs, context)
    watch = step.state
    actions.push(...step.actions)
    if (event.kind === 'tick') {
      const recovered = stepRecovery(recovery, watch, event, nowMs, context)
      recovery = recovered.state
      for (const action of recovered.actions) {
        if (action.kind !== 'admit-host') {
          actions.push(action)
          continue
        }
        const admitted = admitHost(watch, action.hostId, nowMs)
        watch = admitted.state
        actions.push(...admitted.actions)
      }
    }
  }
  const state = { watch, recovery }
  if (!isChanged(before, state)) return { state, actions }
  const record = recordOf(state)
  return { state, actions: [{ kind: 'commit', epoch: recovery.epoch, record }, ...actions] }
}

type OfInstance = Exclude<RecoveryEvent, { kind: 'tick' }>

const OF_INSTANCE: ReadonlySet<string> = new Set<OfInstance['kind']>([
  'add',
  'want',
  'strand',
  'start-failed',
  'migrate',
  'cancel-migration',
  'moved',
  'gone',
])

function isOfInstance(event: HaControllerEvent): event is OfInstance {
  return OF_INSTANCE.has(event.kind)
}

function isChanged(before: HaControllerState, after: HaControllerState): boolean {
  if (before.recovery.instances !== after.recovery.instances) return true
  if (before.watch.disarms !== after.watch.disarms) return true
  if (before.watch.hosts === after.watch.hosts) return false
  if (before.watch.hosts.size !== after.watch.hosts.size) return true
  for (const [hostId, host] of after.watch.hosts)
    if (isHostNews(before.watch.hosts.get(hostId), host)) return true
  return false
}

function recordOf({ watch, recovery }: HaControllerState): HaRecord {
  return {
    hosts: [...watch.hosts.values()].map(recordOfHost),
    instances: [...recovery.instances.values()],
    disarms: watch.disarms,
  }
}
