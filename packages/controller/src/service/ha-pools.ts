// Calls about what protects disk pools and fences hosts: what operators know of storage and power, and drills of it.

import { type DiskPoolRecord, endOperation, type HostRecord, VpeError } from '@vpe/core'
import {
  LEASE_SLOTS,
  LEASE_SLOTS_MAX,
  LOST_LOCKS,
  type ProtectionSettings,
  WANTED_CLASSES,
} from '@vpe/core/ha'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type Host,
  type PoolProtectionSettings,
} from '@vpe/proto'
import { type DrillDeps, drill, whyNoDrill } from '../ha/drill.ts'
import { powerFault } from '../ha/fence-agents.ts'
import { noFencing } from '../ha/ha-pools.ts'
import { newPoolLeases } from '../ha/lease-blocks.ts'
import type { PoolLeasesRecord, PowerSettings } from '../ha/records.ts'
import { hostEvent } from '../host-event.ts'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import { diskPoolToWire, powerToWire } from '../wire.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertBetween, getOr404, invalid } from './references.ts'
import { resourceEvent } from './resources.ts'

type HaPoolMethods = Pick<ControllerServiceImplementation, 'updateDiskPool' | 'setHostPower' | 'drillHost'>

export interface HaPoolServiceDeps extends DrillDeps {
  readonly mutations: Mutations
  readonly showHost: (host: HostRecord) => Host
}

export function haPoolMethods(deps: HaPoolServiceDeps): HaPoolMethods {
  const { store, mutations, haPools, showHost, now } = deps
  const { methods } = ControllerServiceDefinition

  const done = (kind: string, uuid: string) =>
    endOperation(startOperation(kind, uuid, now()), 'succeeded', now())

  /** @throws VpeError CONFLICT for a block of a host that is there: that one is asked, not a person */
  function withoutReleased(leases: PoolLeasesRecord, hostIds: readonly string[]) {
    for (const hostId of hostIds) {
      const slot = leases.taken.find((each) => each.hostId === hostId)
      if (!slot)
        throw invalid(
          'release_slots_of',
          `host ${JSON.stringify(hostId.slice(0, 64))} has no block in the pool`,
        )
      if (slot.state !== 'unconfirmed' || store.hosts.has(hostId))
        throw new VpeError(
          'CONFLICT',
          `host ${hostId} is registered, and gives up its block itself when the pool is taken from it`,
        )
    }
    return leases.taken.filter(({ hostId }) => !hostIds.includes(hostId))
  }

  return {
    updateDiskPool: mutations.method(methods.updateDiskPool, ({ uuid, protection, releaseSlotsOf }) => {
      const pool = getOr404(store.diskPools, 'disk pool', uuid)
      const leases = leasesOf(store, pool)
      const settings = settingsFromWire(protection, leases.settings)
      const next = { ...leases, settings, taken: withoutReleased(leases, releaseSlotsOf) }
      const operation = done('disk_pool.update', uuid)
      const isSame = JSON.stringify(next) === JSON.stringify(leases)
      return {
        changes: [...(isSame ? [] : [change.poolLeases(next)]), change.operation(operation)],
        events: isSame ? [] : [updatedEvent(pool, settings)],
        response: {
          diskPool: diskPoolToWire(pool, next, haPools.canRevoke(uuid)),
          operationUuid: operation.uuid,
        },
      }
    }),
    setHostPower: mutations.method(methods.setHostPower, ({ uuid, power }) => {
      const host = getOr404(store.hosts, 'host', uuid)
      const settings: PowerSettings | null = power ? { ...power } : null
      const fault = settings && powerFault(settings)
      if (fault) throw invalid(fault.field, fault.message)
      const fencing = { ...(store.hostFencing.get(uuid) ?? noFencing(uuid)), power: settings }
      const operation = done('host.set_power', uuid)
      const event = hostEvent(host, 'power_set', { agent: settings?.agent ?? null })
      // What is shown is read from the store, which has it by the end of this turn alone.
      const shown = { ...showHost(host), power: powerToWire(settings) }
      return {
        changes: [change.hostFencing(fencing), change.operation(operation)],
        events: [event],
        response: { host: shown, operationUuid: operation.uuid },
      }
    }),
    async drillHost({ uuid }) {
      const host = getOr404(store.hosts, 'host', uuid)
      const refusal = whyNoDrill(deps, host)
      if (refusal !== null) throw new VpeError('CONFLICT', refusal)
      const result = await drill(deps, host)
      // It may have been removed meanwhile.
      const after = getOr404(store.hosts, 'host', uuid)
      const fencing = { ...(store.hostFencing.get(uuid) ?? noFencing(uuid)), drill: result }
      const faults = result.steps.filter(({ isOk }) => !isOk).map(({ message }) => message)
      const event = hostEvent(after, 'drilled', { ok: result.isOk, faults })
      await store.commit([change.hostFencing(fencing)], [event])
      haPools.lookAtHost(uuid)
      return { host: showHost(after) }
    },
  }
}

/** A shared pool's record of leases, as it is before anything was set. @throws VpeError INVALID_ARGUMENT for a pool that has none */
function leasesOf(store: Store, pool: DiskPoolRecord): PoolLeasesRecord {
  const leases = store.poolLeases.get(pool.uuid)
  if (!leases)
    throw invalid('protection', `disk pool ${pool.name} has no leases: it is local, or of kind ${pool.kind}`)
  return leases
}

/**
 * What a new pool's storage is said to be; null for one that has no leases.
 * @throws VpeError INVALID_ARGUMENT
 */
export function leasesOfNew(
  pool: Pick<DiskPoolRecord, 'uuid' | 'kind' | 'shared'>,
  protection: PoolProtectionSettings | undefined,
  slots: number,
): PoolLeasesRecord | null {
  const leases = newPoolLeases(pool.uuid)
  const settings = settingsFromWire(protection, leases.settings)
  if (slots !== 0) assertBetween('slots', slots, 2, LEASE_SLOTS_MAX)
  if (pool.shared && pool.kind !== 'rbd') return { ...leases, settings, slots: slots || LEASE_SLOTS }
  if (slots !== 0 || settings !== leases.settings)
    throw invalid('protection', 'only a shared disk pool of kind dir or nfs has leases')
  return null
}

function settingsFromWire(
  given: PoolProtectionSettings | undefined,
  before: ProtectionSettings,
): ProtectionSettings {
  const { wantedClass, lostLocks, isLinearizable } = given ?? {}
  if (wantedClass === undefined && lostLocks === undefined && isLinearizable === undefined) return before
  return {
    wantedClass: oneOf('wanted_class', WANTED_CLASSES, wantedClass ?? before.wantedClass),
    lostLocks: oneOf('lost_locks', LOST_LOCKS, lostLocks ?? before.lostLocks),
    isLinearizable: isLinearizable ?? before.isLinearizable,
  }
}

function oneOf<Word extends string>(field: string, words: readonly Word[], given: string): Word {
  const word = words.find((each) => each === given)
  if (word !== undefined) return word
  throw invalid(field, `${field} must be ${words.join(', ')}, not ${JSON.stringify(given.slice(0, 64))}`)
}

function updatedEvent(pool: DiskPoolRecord, settings: ProtectionSettings) {
  const event = resourceEvent('disk_pool', pool, 'updated')
  const { wantedClass, lostLocks, isLinearizable } = settings
  const data = { ha_class: wantedClass, lost_locks: lostLocks, linearizable: isLinearizable }
  return { ...event, data: { ...event.data, ...data } }
}
