// Calls about one host that there is: its name and address, and whether it is fit.

import { endOperation, type HostRecord, VpeError } from '@vpe/core'
import { ControllerServiceDefinition, type ControllerServiceImplementation, type Host } from '@vpe/proto'
import type { Agents } from '../agents.ts'
import type { HaPoolKeeper } from '../ha/ha-pools.ts'
import type { HostMonitor } from '../host-monitor.ts'
import type { PeerProber } from '../peer-prober.ts'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import { describeAgentAt } from './agent-call.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertName, assertNameFree, getOr404 } from './references.ts'

type HostMethods = Pick<ControllerServiceImplementation, 'updateHost' | 'preflightHost'>

export interface HostServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly agents: Agents
  readonly monitor: HostMonitor
  readonly peers: PeerProber
  readonly haPools: HaPoolKeeper
  readonly showHost: (host: HostRecord) => Host
  readonly now: () => number
}

export function hostMethods(deps: HostServiceDeps): HostMethods {
  const { store, mutations, agents, monitor, peers, haPools, showHost, now } = deps
  const { methods } = ControllerServiceDefinition

  return {
    updateHost: mutations.method(methods.updateHost, async ({ uuid, name, address }) => {
      getOr404(store.hosts, 'host', uuid)
      if (name !== undefined) assertName('name', name)
      const described = address === undefined ? null : await describeAgentAt(agents, address)
      return () => {
        const host = getOr404(store.hosts, 'host', uuid)
        if (name !== undefined && name !== host.name) assertNameFree(store.hosts, 'host', name)
        if (described && described.hostId !== uuid) {
          const other = store.hosts.get(described.hostId)
          throw new VpeError(
            'CONFLICT',
            `the agent at ${address} is ${other ? `host ${other.name}` : `another host, ${described.hostId}`}, not ${host.name}`,
          )
        }
        const next = { ...host, name: name ?? host.name, address: address ?? host.address }
        const operation = endOperation(startOperation('host.update', uuid, now()), 'succeeded', now())
        const isSame = next.name === host.name && next.address === host.address
        const data = { uuid, name: next.name, address: next.address }
        if (next.address !== host.address) setImmediate(() => monitor.lookAt(uuid))
        return {
          changes: [...(isSame ? [] : [change.host(next)]), change.operation(operation)],
          events: isSame ? [] : [{ kind: 'host', id: uuid, what: 'updated', data }],
          response: { host: showHost(next), operationUuid: operation.uuid },
        }
      }
    }),

    async preflightHost({ uuid }) {
      const host = getOr404(store.hosts, 'host', uuid)
      await Promise.all([monitor.descriptions.look(host), peers.look(host), haPools.look(host, true)])
      await store.durable()
      return { host: showHost(getOr404(store.hosts, 'host', uuid)) }
    },
  }
}
