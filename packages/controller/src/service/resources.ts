// Calls about what instances are made from and run on: flavors, disk pools, hosts.

import { randomUUID } from 'node:crypto'
import type { EventKind, VpeEvent } from '@vpe/bus'
import { type DiskPoolHost, endOperation, type HostRecord, VpeError } from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type Host,
  HostState,
} from '@vpe/proto'
import type { Agents } from '../agents.ts'
import { endDrainOperation } from '../host-drainer.ts'
import { commitOfDeparted } from '../pool-departures.ts'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import { factsFromWire, flavorToWire } from '../wire.ts'
import { describeAgentAt } from './agent-call.ts'
import { commitOfRemovedMember } from './members.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertBetween, assertName, assertNameFree, getOr404, listByName } from './references.ts'

type ResourceMethods = Pick<
  ControllerServiceImplementation,
  | `${'create' | 'get' | 'delete'}${'Flavor' | 'Host'}`
  | 'listFlavors'
  | 'listHosts'
  | 'cordonHost'
  | 'uncordonHost'
>

export interface ResourceServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly agents: Agents
  readonly showHost: (host: HostRecord) => Host
  readonly now: () => number
}

export function resourceMethods(deps: ResourceServiceDeps): ResourceMethods {
  const { store, mutations, agents, showHost, now } = deps
  const { methods } = ControllerServiceDefinition

  /** An operation that has succeeded by the very commit that records it. */
  const doneOperation = (kind: string, uuid: string) =>
    endOperation(startOperation(kind, uuid, now()), 'succeeded', now())

  /** Already so is as good: the operation has succeeded, and nothing happened. */
  function setSchedulable(uuid: string, schedulable: boolean) {
    const host = getOr404(store.hosts, 'host', uuid)
    const [kind, what] = schedulable ? ['host.uncordon', 'uncordoned'] : ['host.cordon', 'cordoned']
    const operation = doneOperation(kind, uuid)
    const next = { ...host, schedulable, drain: schedulable ? null : host.drain }
    const isNews = host.schedulable !== schedulable
    const calledOff = schedulable
      ? endDrainOperation(store, host, 'cancelled', now(), 'the host was uncordoned')
      : []
    return {
      changes: [...(isNews ? [change.host(next)] : []), ...calledOff, change.operation(operation)],
      events: isNews ? [resourceEvent('host', next, what)] : [],
      response: { host: showHost(next), operationUuid: operation.uuid },
    }
  }

  function assertNoDisks(what: string, uuid: string): void {
    const disks = store.diskIndex.countAt(uuid)
    if (disks > 0) throw new VpeError('IN_USE', `${what} has ${disks} data disk(s); delete them first`)
  }

  return {
    createFlavor: mutations.method(methods.createFlavor, (request) => {
      assertName('name', request.name)
      assertBetween('vcpus', request.vcpus, 1, 4_096)
      assertBetween('memory_mib', request.memoryMib, 1, 64 * 1024 ** 2)
      assertBetween('disk_gib', request.diskGib, 0, 1024 ** 2)
      assertNameFree(store.flavors, 'flavor', request.name)
      const flavor = { uuid: randomUUID(), ...request, createdAtMs: now() }
      const operation = doneOperation('flavor.create', flavor.uuid)
      return {
        changes: [change.flavor(flavor), change.operation(operation)],
        events: [resourceEvent('flavor', flavor, 'created')],
        response: { flavor: flavorToWire(flavor), operationUuid: operation.uuid },
      }
    }),
    deleteFlavor: mutations.method(methods.deleteFlavor, ({ uuid }) => {
      const flavor = getOr404(store.flavors, 'flavor', uuid)
      assertUnused(store, 'flavor', flavor)
      const operation = doneOperation('flavor.delete', uuid)
      return {
        changes: [change.remove('flavors', uuid), change.operation(operation)],
        events: [resourceEvent('flavor', flavor, 'deleted')],
        response: { flavor: flavorToWire(flavor), operationUuid: operation.uuid },
      }
    }),
    async getFlavor({ uuid }) {
      await store.durable()
      return { flavor: flavorToWire(getOr404(store.flavors, 'flavor', uuid)) }
    },
    async listFlavors({ name }) {
      await store.durable()
      return { flavors: listByName(store.flavors, name).map(flavorToWire) }
    },

    createHost: mutations.method(methods.createHost, async (request) => {
      assertName('name', request.name)
      assertNameFree(store.hosts, 'host', request.name)
      const described = await describeAgentAt(agents, request.address)
      const host: HostRecord = {
        uuid: described.hostId,
        name: request.name,
        address: request.address,
        state: 'up',
        stateSinceMs: now(),
        schedulable: true,
        drain: null,
        facts: factsFromWire(described.facts),
        conditions: [],
        createdAtMs: now(),
      }
      return () => {
        const known = store.hosts.get(host.uuid)
        if (known) {
          throw new VpeError(
            'CONFLICT',
            `the agent at ${host.address} is host ${host.uuid}, which is registered as ${known.name}`,
          )
        }
        assertNameFree(store.hosts, 'host', host.name)
        const operation = doneOperation('host.create', host.uuid)
        const { changes, events } = hostRegistration(store, host)
        return {
          changes: [...changes, change.operation(operation)],
          events,
          response: { host: showHost(host), operationUuid: operation.uuid },
        }
      }
    }),
    deleteHost: mutations.method(methods.deleteHost, ({ uuid }) => {
      const host = getOr404(store.hosts, 'host', uuid)
      assertNoInstances(store, host)
      for (const image of store.images.values()) {
        if (image.hostId !== uuid) continue
        if (image.status === 'uploading' || image.status === 'importing') {
          const how = image.status === 'uploading' ? 'uploaded' : 'brought in'
          const cure = 'wait until it is active, or delete it'
          throw new VpeError(
            'IN_USE',
            `image ${image.name} is being ${how} through host ${host.name}; ${cure}`,
          )
        }
        if (!store.diskPools.get(image.diskPoolUuid)?.shared)
          throw new VpeError('IN_USE', `host ${host.name} alone has image ${image.name}; delete it first`)
      }
      assertNoDisks(`host ${host.name}`, uuid)
      const operation = doneOperation('host.delete', uuid)
      const changes: Change[] = [
        change.remove('hosts', uuid),
        ...commitOfRemovedMember(store, `agent/${uuid}`, now()),
        ...endDrainOperation(store, host, 'succeeded', now()),
        change.operation(operation),
      ]
      const events = [resourceEvent('host', host, 'deleted')]
      for (const pool of store.diskPools.values()) {
        if (!pool.hosts.some(({ hostId }) => hostId === uuid)) continue
        const departed = commitOfDeparted(store, pool, new Set([uuid]), now())
        changes.push(...departed.changes)
        events.push(...departed.events)
      }
      agents.forget(uuid)
      return {
        changes,
        events,
        response: { host: showHost(host), operationUuid: operation.uuid },
      }
    }),
    cordonHost: mutations.method(methods.cordonHost, ({ uuid }) => setSchedulable(uuid, false)),
    uncordonHost: mutations.method(methods.uncordonHost, ({ uuid }) => setSchedulable(uuid, true)),
    async getHost({ uuid }) {
      await store.durable()
      return { host: showHost(getOr404(store.hosts, 'host', uuid)) }
    },
    async listHosts({ name, state }) {
      await store.durable()
      const hosts = listByName(store.hosts, name).filter(
        (host) => state === HostState.UNSPECIFIED || (host.state === 'up') === (state === HostState.UP),
      )
      return { hosts: hosts.map(showHost) }
    },
  }
}

/** What registers a host: its row, and its place in the pools that every host has. */
export function hostRegistration(
  store: Store,
  host: HostRecord,
): { readonly changes: readonly Change[]; readonly events: readonly VpeEvent[] } {
  const joined = [...store.diskPools.values()].filter(
    ({ everyHost, deletionUuid }) => everyHost && deletionUuid === null,
  )
  return {
    changes: [
      change.host(host),
      ...joined.map((pool) => change.diskPool({ ...pool, hosts: [...pool.hosts, pendingOn(host.uuid)] })),
    ],
    events: [resourceEvent('host', host, 'created')],
  }
}

/** @throws VpeError IN_USE */
export function assertUnused(
  store: Store,
  kind: string,
  { uuid, name }: { uuid: string; name: string },
): void {
  const users = store.usage.references(uuid)
  if (users > 0)
    throw new VpeError('IN_USE', `${kind} ${name} is used by ${users} instance(s); delete them first`)
}

/** @throws VpeError IN_USE while instances are on a host, or may be */
function assertNoInstances(store: Store, { uuid, name }: HostRecord): void {
  const here = [...store.usage.instancesOfHost(uuid)].flatMap((each) => store.instances.get(each) ?? [])
  const leaving = here.filter(({ leavingHostId }) => leavingHostId === uuid).length
  if (here.length > leaving) {
    throw new VpeError(
      'IN_USE',
      `host ${name} has ${here.length - leaving} instance(s): drain it first (POST /hosts/${uuid}/drain), or delete them`,
    )
  }
  if (leaving > 0) {
    throw new VpeError(
      'IN_USE',
      `${leaving} instance(s) are moving away from host ${name}, which may still run them: wait until it has let go of them`,
    )
  }
}

/** A pool on a host that has not been asked to make it ready yet. */
export function pendingOn(hostId: string): DiskPoolHost {
  return {
    ...{ hostId, state: 'pending', leavingBy: null, fault: '', marker: '' },
    ...{ capacityBytes: 0, availableBytes: 0 },
  }
}

export function resourceEvent(
  kind: EventKind,
  resource: { uuid: string; name: string },
  what: string,
): VpeEvent {
  return { kind, id: resource.uuid, what, data: { uuid: resource.uuid, name: resource.name } }
}
