// Calls about high availability: what it shows, and what people tell it. The keeper believes and decides; what is told it
// is an operation and an event, with who did it.

import type { VpeEvent } from '@vpe/bus'
import { endOperation, type HostId, type InstanceId, VpeError } from '@vpe/core'
import {
  type FailoverPolicy,
  HA_INSTANCE_STATES,
  type HaTimings,
  HOST_PHASES,
  profileOf,
  type WhatIfFate,
} from '@vpe/core/ha'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type HaScope,
  type NPlusOne as NPlusOneMessage,
  type WhatIfInstance,
} from '@vpe/proto'
import { countBy, type HaMetrics } from '../ha/ha-metrics.ts'
import type { NPlusOne } from '../ha/n-plus-one.ts'
import type { DisarmScope, HaView } from '../ha/ports.ts'
import type { HaShow } from '../ha/show.ts'
import { hostEvent } from '../host-event.ts'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertBetween, assertName, getOr404, invalid } from './references.ts'

export interface HaServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly view: HaView
  readonly show: HaShow
  readonly nPlusOne: NPlusOne
  readonly metrics: HaMetrics
  readonly fatesOnLossOf: (hostId: HostId) => readonly WhatIfFate[]
  readonly policy: FailoverPolicy
  readonly timings: HaTimings
  readonly now: () => number
}

type HaMethods = Pick<
  ControllerServiceImplementation,
  | 'confirmFenced'
  | 'disarmHa'
  | 'armHa'
  | 'getHa'
  | 'listFailovers'
  | 'whatIfHostLost'
  | 'getControllerMetrics'
>

/** A day: whoever needs longer says so again. */
const DISARM_MINUTES_MAX = 1_440
const FAILOVERS_DEFAULT = 100
const FAILOVERS_MAX = 1_000

export function haMethods(deps: HaServiceDeps): HaMethods {
  const { store, mutations, view, show, nPlusOne, metrics, fatesOnLossOf, policy, timings, now } = deps
  const { methods } = ControllerServiceDefinition

  const done = (kind: string, uuid: string) =>
    endOperation(startOperation(kind, uuid, now()), 'succeeded', now())

  function scopeOf({ hostId, instanceUuid }: HaScope = { hostId: '', instanceUuid: '' }): DisarmScope {
    if (hostId !== '' && instanceUuid !== '')
      throw invalid('scope', 'scope: either a host or an instance can be meant, not both')
    if (hostId !== '') return { kind: 'host', hostId: getOr404(store.hosts, 'host', hostId).uuid }
    if (instanceUuid !== '')
      return { kind: 'instance', uuid: getOr404(store.instances, 'instance', instanceUuid).uuid }
    return { kind: 'cluster' }
  }

  /** The id of what a scope names: of the cluster, that of its store. */
  function idOf(scope: DisarmScope): string {
    if (scope.kind === 'host') return scope.hostId
    return scope.kind === 'instance' ? scope.uuid : store.storeId
  }

  function eventOf(scope: DisarmScope, what: string, data: Record<string, unknown>): VpeEvent {
    const id = idOf(scope)
    if (scope.kind === 'cluster') return { kind: 'ha', id, what, data }
    const { name } = scope.kind === 'host' ? getOr404(store.hosts, 'host', id) : instanceOf(id)
    return { kind: scope.kind, id, what: `ha_${what}`, data: { uuid: id, name, ...data } }
  }

  function instanceOf(uuid: InstanceId) {
    return getOr404(store.instances, 'instance', uuid)
  }

  function nPlusOneToWire(): NPlusOneMessage {
    const { latest } = nPlusOne
    const worst = latest?.worst
    return {
      known: latest !== null,
      survives: latest?.survives ?? false,
      why: latest?.why ?? '',
      worstHostId: worst?.hostId ?? '',
      worstHostName: show.hostName(worst?.hostId ?? ''),
      left: (worst?.left ?? []).map(fateToWire),
      hostsAtRisk: latest?.hostsAtRisk ?? 0,
      atMs: latest?.atMs ?? 0,
    }
  }

  function fateToWire({ poolClass, hostId, expectedMs, ...fate }: WhatIfFate): WhatIfInstance {
    return {
      ...fate,
      poolClass: poolClass ?? '',
      hostId: hostId ?? '',
      hostName: show.hostName(hostId ?? ''),
      ...(expectedMs !== null && { expectedMs }),
    }
  }

  return {
    // The keeper is told first: what it has been told twice is the same, and an audit of what it refused would be wrong.
    confirmFenced: mutations.method(methods.confirmFenced, async ({ uuid, who }) => {
      const host = getOr404(store.hosts, 'host', uuid)
      assertName('who', who)
      await view.confirmFenced(uuid, who)
      return () => {
        const operation = done('host.confirm_fenced', uuid)
        return {
          changes: [change.operation(operation)],
          events: [hostEvent(host, 'fence_confirmed', { who, operation_uuid: operation.uuid })],
          response: { operationUuid: operation.uuid },
        }
      }
    }),

    disarmHa: mutations.method(methods.disarmHa, async ({ scope: wanted, minutes, who, why }) => {
      const scope = scopeOf(wanted)
      assertBetween('minutes', minutes, 1, DISARM_MINUTES_MAX)
      assertName('who', who)
      assertName('why', why)
      const disarm = { scope, untilMs: now() + minutes * 60_000, who, why }
      await view.disarm(disarm)
      return () => {
        metrics.countDisarm(scope.kind)
        const operation = done('ha.disarm', idOf(scope))
        const until = new Date(disarm.untilMs).toISOString()
        const data = { who, why, minutes, until, operation_uuid: operation.uuid }
        return {
          changes: [change.operation(operation)],
          events: [eventOf(scope, 'disarmed', data)],
          response: { disarm: show.disarm(disarm), operationUuid: operation.uuid },
        }
      }
    }),

    armHa: mutations.method(methods.armHa, async ({ scope: wanted, who }) => {
      const scope = scopeOf(wanted)
      assertName('who', who)
      const isNews = show.disarmedUntilMs(scope) > 0
      await view.arm(scope)
      return () => {
        const operation = done('ha.arm', idOf(scope))
        return {
          changes: [change.operation(operation)],
          events: isNews ? [eventOf(scope, 'armed', { who, operation_uuid: operation.uuid })] : [],
          response: { operationUuid: operation.uuid },
        }
      }
    }),

    async getHa() {
      await store.durable()
      const hosts = countBy(view.hosts(), ({ phase }) => phase)
      const instances = countBy(view.instances(), ({ state }) => state)
      const counts = (words: readonly string[], of: ReadonlyMap<string, number>) =>
        words.map((word) => ({ word, count: of.get(word) ?? 0 }))
      return {
        armed: show.disarmedUntilMs({ kind: 'cluster' }) === 0,
        whyNoVerdicts: view.whyNoVerdicts() ?? '',
        profile: profileOf(timings) ?? '',
        disarms: show.disarms().map((each) => show.disarm(each)),
        hosts: counts(HOST_PHASES, hosts),
        instances: counts(HA_INSTANCE_STATES, instances),
        nPlusOne: nPlusOneToWire(),
        reservedHosts: policy.hosts,
        enforced: policy.mode === 'enforce',
      }
    },

    async listFailovers({ instanceUuid, limit }) {
      await store.durable()
      assertBetween('limit', limit, 0, FAILOVERS_MAX)
      const all = view.failovers()
      const some = instanceUuid === '' ? all : all.filter(({ uuid }) => uuid === instanceUuid)
      // Those of an instance that is gone are still shown; of one that never was, there is nothing to be shown.
      if (some.length === 0 && instanceUuid !== '') instanceOf(instanceUuid)
      return { failovers: some.slice(0, limit || FAILOVERS_DEFAULT).map((each) => show.failover(each)) }
    },

    async whatIfHostLost({ uuid }) {
      await store.durable()
      const host = getOr404(store.hosts, 'host', uuid)
      if (host.state === 'down')
        throw new VpeError(
          'CONFLICT',
          `host ${host.name} is down already: GET /ha/failovers shows what becomes of its instances`,
        )
      const fates = fatesOnLossOf(uuid)
      return {
        hostId: uuid,
        hostName: host.name,
        instances: fates.map(fateToWire),
        survives: fates.every(({ outcome }) => outcome === 'starts'),
      }
    },

    async getControllerMetrics() {
      return { text: await metrics.text() }
    },
  }
}
