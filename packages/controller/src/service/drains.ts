// The call that empties a host; the HostDrainer does it.

import { DRAIN_PARALLEL, DRAIN_PARALLEL_MAX, type HostRecord, VpeError } from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type DrainHostRequest,
  type Host,
} from '@vpe/proto'
import { isRunning } from '../host-drainer.ts'
import { hostEvent } from '../host-event.ts'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertBetween, getOr404 } from './references.ts'

export interface DrainServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly showHost: (host: HostRecord) => Host
  readonly now: () => number
}

export function drainMethods(deps: DrainServiceDeps): Pick<ControllerServiceImplementation, 'drainHost'> {
  const { store, mutations, showHost, now } = deps

  /** While one goes on, asking again changes at most how much moves at once, and adds disks of its own to it. */
  function drain({ uuid, parallel, copyDisks }: DrainHostRequest) {
    const host = getOr404(store.hosts, 'host', uuid)
    assertBetween('parallel', parallel, 0, DRAIN_PARALLEL_MAX)
    if (isRunning(host.drain)) {
      const asked = {
        parallel: parallel || host.drain.parallel,
        copyDisks: copyDisks || host.drain.copyDisks,
      }
      const next = { ...host, drain: { ...host.drain, ...asked } }
      const isSame = asked.parallel === host.drain.parallel && asked.copyDisks === host.drain.copyDisks
      const changes = isSame ? [] : [change.host(next)]
      return {
        changes,
        events: [],
        response: { host: showHost(next), operationUuid: host.drain.operationUuid },
      }
    }
    if (host.state === 'down') {
      throw new VpeError(
        'CONFLICT',
        `host ${host.name} is down, so nothing is known of its guests, and nothing can leave it: bring it back first`,
      )
    }
    const operation = startOperation('host.drain', uuid, now())
    const total = store.usage.instancesOfHost(uuid).size
    const next: HostRecord = {
      ...host,
      schedulable: false,
      drain: {
        operationUuid: operation.uuid,
        parallel: parallel || DRAIN_PARALLEL,
        copyDisks,
        startedAtMs: now(),
        endedAtMs: null,
        total,
        stuck: [],
      },
    }
    const data = {
      operation_uuid: operation.uuid,
      total,
      parallel: next.drain?.parallel,
      copy_disks: copyDisks,
    }
    return {
      changes: [change.host(next), change.operation(operation)],
      events: [
        ...(host.schedulable ? [hostEvent(next, 'cordoned', {})] : []),
        hostEvent(next, 'drain_started', data),
      ],
      response: { host: showHost(next), operationUuid: operation.uuid },
    }
  }

  return { drainHost: mutations.method(ControllerServiceDefinition.methods.drainHost, drain) }
}
