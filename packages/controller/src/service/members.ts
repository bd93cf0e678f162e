// Calls about who belongs to the cluster by a certificate, and the end of that.

import { endOperation, type MemberRecord, revocationOf, VpeError } from '@vpe/core'
import {
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  JoinTokenRole,
  type Member,
} from '@vpe/proto'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import { type Mutations, startOperation } from './mutation.ts'

export interface MemberServiceDeps {
  readonly store: Store
  readonly mutations: Mutations
  readonly now: () => number
}

/** Why a key counts no more; null where it does. One that has joined again with it is a member. */
export function whyRevoked(store: Store, keySha256: string): string | null {
  const id = store.revocations.get(keySha256)?.memberId
  const member = store.members.get(id ?? '')
  if (id === undefined || member?.keySha256 === keySha256) return null
  return `${id} ${member ? 'has joined again with another key' : 'is no member any more'}`
}

/** What removes a member, if it is one: its certificate and its place on NATS count no more. */
export function commitOfRemovedMember(store: Store, id: string, nowMs: number): Change[] {
  const member = store.members.get(id)
  if (!member) return []
  const before = store.revocations.get(member.keySha256)
  return [change.remove('members', id), change.revocation(revocationOf(member, before, nowMs))]
}

export function memberMethods({
  store,
  mutations,
  now,
}: MemberServiceDeps): Pick<ControllerServiceImplementation, 'listMembers' | 'deleteMember'> {
  function toWire({ id, joinedAtMs }: Pick<MemberRecord, 'id' | 'joinedAtMs'>): Member {
    const [role, name = ''] = id.split('/')
    const isAgent = role === 'agent'
    return {
      id,
      role: isAgent ? JoinTokenRole.AGENT : JoinTokenRole.API,
      name: isAgent ? (store.hosts.get(name)?.name ?? '') : name,
      hostId: isAgent ? name : '',
      joinedAtMs,
    }
  }

  function remove({ id }: { readonly id: string }) {
    const member = store.members.get(id)
    const [role, hostId = ''] = id.split('/')
    const host = role === 'agent' ? store.hosts.get(hostId) : undefined
    if (host) {
      throw new VpeError(
        'CONFLICT',
        `${id} is the agent of host ${host.name}: remove the host (DELETE /hosts/${hostId}), which removes it, too`,
      )
    }
    const wasOne = [...store.revocations.values()].some(({ memberId }) => memberId === id)
    if (!member && !wasOne)
      throw new VpeError('NOT_FOUND', `there is no member ${JSON.stringify(id.slice(0, 100))}`)
    const operation = endOperation(startOperation('member.delete', id, now()), 'succeeded', now())
    return {
      changes: [...commitOfRemovedMember(store, id, now()), change.operation(operation)],
      events: [],
      response: { operationUuid: operation.uuid },
    }
  }

  return {
    async listMembers() {
      await store.durable()
      const members = [...store.members.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
      return { members: members.map(toWire) }
    },
    deleteMember: mutations.method(ControllerServiceDefinition.methods.deleteMember, remove),
  }
}
