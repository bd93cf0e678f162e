// Letting members in: join tokens, enrolment by one of them, and the renewal of certificates. An enrolment is
// decided and committed in one turn, from memory, so that of two that come with the last use of a token one
// wins; the certificate is signed after that is durable, and again for one that asks again.

import { randomUUID } from 'node:crypto'
import type { VpeEvent } from '@vpe/bus'
import {
  endOperation,
  type HostRecord,
  type JoinRole,
  type JoinTokenRecord,
  type MemberRecord,
  revocationOf,
  useJoinToken,
  VpeError,
  withNatsUser,
} from '@vpe/core'
import { encodeJoinToken, type RequestedKey, readRequest } from '@vpe/pki'
import {
  type CertificateServiceImplementation,
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  type Credentials,
  callerOf,
  type EnrolmentServiceImplementation,
  type EnrolRequest,
  JoinTokenRole,
  type Peer,
  peerUri,
} from '@vpe/proto'
import type { ClusterSecurity } from '../security/cluster-security.ts'
import type { RequestRate } from '../security/request-rate.ts'
import type { Store } from '../store/store.ts'
import { type Change, change } from '../store/tables.ts'
import { joinTokenToWire } from '../wire.ts'
import { type Mutations, startOperation } from './mutation.ts'
import { assertBetween, assertName, assertNameFree, getOr404, invalid } from './references.ts'
import { hostRegistration } from './resources.ts'

const EXPIRES_IN_S = 3_600
const EXPIRES_IN_S_MAX = 30 * 86_400
const USES_MAX = 1_000

/** What members need to know to find the rest of the cluster. */
export interface ClusterAddresses {
  /** Of the enrolment listener; empty when there is none. */
  readonly enrolment: readonly string[]
  readonly controller: string
  readonly nats: string
}

export interface EnrolmentDeps {
  readonly store: Store
  readonly mutations: Mutations
  /** Null for a controller without TLS: it lets nobody in. */
  readonly security: ClusterSecurity | null
  readonly addresses: ClusterAddresses
  readonly now: () => number
}

type JoinTokenMethods = Pick<
  ControllerServiceImplementation,
  'createJoinToken' | 'listJoinTokens' | 'deleteJoinToken'
>

export function joinTokenMethods({
  store,
  mutations,
  security,
  addresses,
  now,
}: EnrolmentDeps): JoinTokenMethods {
  const { methods } = ControllerServiceDefinition
  const create = mutations.method(methods.createJoinToken, (request) => {
    const role = roleOf(request.role)
    if (request.name !== '') assertMemberName(role, request.name)
    const expiresInS = request.expiresInS ?? EXPIRES_IN_S
    assertBetween('expires_in_s', expiresInS, 1, EXPIRES_IN_S_MAX)
    const uses = request.uses ?? 1
    assertBetween('uses', uses, 1, USES_MAX)
    if (request.name !== '' && uses > 1) throw invalid('uses', 'a token with a name is for one member')
    const token: JoinTokenRecord = {
      uuid: randomUUID(),
      role,
      name: request.name,
      uses,
      usedBy: [],
      expiresAtMs: now() + expiresInS * 1_000,
      createdAtMs: now(),
    }
    const operation = endOperation(startOperation('join_token.create', token.uuid, now()), 'succeeded', now())
    return {
      changes: [change.joinToken(token), change.operation(operation)],
      events: [],
      response: { joinToken: joinTokenToWire(token), operationUuid: operation.uuid, token: '' },
    }
  })
  return {
    async createJoinToken(request, context) {
      if (!security || addresses.enrolment.length === 0) {
        throw new VpeError(
          'CONFLICT',
          'this controller lets nobody in: start it with VPE_CONTROLLER_TLS=on and VPE_ENROLMENT_LISTEN',
        )
      }
      const response = await create(request, context)
      const uuid = response.joinToken?.uuid ?? ''
      // Added here, behind what is kept for the idempotency key: the word itself is kept nowhere.
      const token = encodeJoinToken({
        addresses: addresses.enrolment,
        fingerprint: security.fingerprint,
        uuid,
        secret: security.tokenSecret(uuid),
      })
      return { ...response, token }
    },
    async listJoinTokens() {
      await store.durable()
      const tokens = [...store.joinTokens.values()].sort(
        (a, b) => a.createdAtMs - b.createdAtMs || (a.uuid < b.uuid ? -1 : 1),
      )
      return { joinTokens: tokens.map(joinTokenToWire) }
    },
    deleteJoinToken: mutations.method(methods.deleteJoinToken, ({ uuid }) => {
      const token = getOr404(store.joinTokens, 'join token', uuid)
      const operation = endOperation(startOperation('join_token.delete', uuid, now()), 'succeeded', now())
      return {
        changes: [change.remove('joinTokens', uuid), change.operation(operation)],
        events: [],
        response: { joinToken: joinTokenToWire(token), operationUuid: operation.uuid },
      }
    }),
  }
}

export function enrolmentService(
  { store, security, addresses, now }: EnrolmentDeps & { readonly security: ClusterSecurity },
  rate: RequestRate,
): EnrolmentServiceImplementation {
  return {
    async enrol(request, context) {
      if (!rate.allows(hostPart(context.peer), now()))
        throw new VpeError('UNAVAILABLE', 'too many enrolments from this address; try again in a minute')
      const token = store.joinTokens.get(request.tokenUuid)
      if (!security.isTokenSecret(request.tokenUuid, request.tokenSecret) || !token) {
        throw refused(
          'the token is not known: it is of another cluster, has been revoked, or expired long ago',
        )
      }
      const key = await readRequest(request.certificateRequest)
      const { peer, name, changes, events } = admit(store, token.uuid, request, key, now())
      await store.commit(changes, events)
      return {
        name,
        credentials: await credentialsFor(store, security, peer, key, now()),
        controllerAddress: addresses.controller,
        natsUrl: addresses.nats,
      }
    },
  }
}

export function certificateService({
  store,
  security,
  now,
}: EnrolmentDeps & { readonly security: ClusterSecurity }): CertificateServiceImplementation {
  return {
    async renewCertificate({ certificateRequest }, context) {
      const peer = callerOf(context)
      if (peer === 'loopback' || peer === 'stranger')
        throw new VpeError('PERMISSION_DENIED', 'only a member with a certificate can renew it')
      const key = await readRequest(certificateRequest)
      const member = store.members.get(memberId(peer))
      if (member?.keySha256 !== key.sha256) {
        const why = member ? 'has joined again with another key' : 'is no member any more'
        throw new VpeError('PERMISSION_DENIED', `${peerUri(peer)} ${why}; join with a new token`)
      }
      return { credentials: await credentialsFor(store, security, peer, key, now()) }
    },
  }
}

/** What a member is given, once it is known what of that is to be taken away should it be removed. */
async function credentialsFor(
  store: Store,
  security: ClusterSecurity,
  peer: Peer,
  key: RequestedKey,
  nowMs: number,
): Promise<Credentials> {
  const { credentials, natsUser } = await security.credentialsFor(peer, namesOf(store, peer), key, nowMs)
  const member = store.members.get(memberId(peer))
  if (member?.keySha256 !== key.sha256)
    throw new VpeError('PERMISSION_DENIED', `${peerUri(peer)} was removed meanwhile; join with a new token`)
  if (natsUser !== null) await store.commit([change.member(withNatsUser(member, natsUser))])
  return credentials
}

function refused(why: string): VpeError {
  return new VpeError('JOIN_TOKEN_REFUSED', `${why}; make a new token with POST /join_tokens`)
}

interface Admission {
  readonly peer: Peer
  readonly name: string
  readonly changes: readonly Change[]
  readonly events: readonly VpeEvent[]
}

/** Decides on an enrolment: who it is from now on, and what that changes. */
function admit(
  store: Store,
  tokenUuid: string,
  request: EnrolRequest,
  key: RequestedKey,
  nowMs: number,
): Admission {
  const token = store.joinTokens.get(tokenUuid)
  if (!token) throw refused('the token has been revoked')
  const { role } = token
  const known = role === 'agent' ? store.hosts.get(request.hostId) : undefined
  const name = token.name || known?.name || request.name
  assertMemberName(role, name)
  const peer: Peer = { role, name: role === 'agent' ? request.hostId : name }
  const use = { memberId: memberId(peer), keySha256: key.sha256 }
  const before = store.members.get(use.memberId)
  if (known && before && before.keySha256 !== key.sha256 && token.name !== known.name) {
    throw refused(
      `host ${known.name} has joined with another key: to give its place to this machine, make a token with its name`,
    )
  }
  const verdict = useJoinToken(token, request.hostId === '' ? 'api' : 'agent', use, before, nowMs)
  if ('refused' in verdict) throw refused(verdict.refused)

  const isSame = before?.keySha256 === key.sha256
  const natsUsers = isSame ? before.natsUsers : []
  const member: MemberRecord = {
    ...{ id: use.memberId, keySha256: key.sha256, joinedAtMs: nowMs, natsUsers },
  }
  const revoked =
    before && !isSame
      ? [change.revocation(revocationOf(before, store.revocations.get(before.keySha256), nowMs))]
      : []
  const host = role === 'agent' ? hostOf(request, name, known, nowMs) : null
  if (host && host.name !== known?.name) assertNameFree(store.hosts, 'host', host.name)
  const { changes, events } =
    host === null
      ? { changes: [], events: [] }
      : known
        ? { changes: [change.host(host)], events: [rejoined(host)] }
        : hostRegistration(store, host)
  return {
    ...{ peer, name, events },
    changes: [change.joinToken(verdict.used), change.member(member), ...revoked, ...changes],
  }
}

/** The host that enrols: what is known of it, at the address it now has; or a new one, down until it is heard. */
function hostOf(
  { hostId, address, hostname, cpus, memoryMib, arch }: EnrolRequest,
  name: string,
  known: HostRecord | undefined,
  nowMs: number,
): HostRecord {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(hostId))
    throw invalid('host_id', 'host_id must be a UUID')
  if (!ADDRESS.test(address))
    throw invalid('address', `address must be host:port, not ${JSON.stringify(address.slice(0, 100))}`)
  if (known) return { ...known, name, address }
  assertBetween('cpus', cpus, 1, 1_000_000)
  assertBetween('memory_mib', memoryMib, 1, 1024 ** 3)
  const facts = {
    ...UNKNOWN_FACTS,
    hostname: hostname.slice(0, 255),
    cpus,
    memoryMib,
    arch: arch.slice(0, 32),
  }
  const since = { schedulable: true, drain: null, stateSinceMs: nowMs, createdAtMs: nowMs }
  return { uuid: hostId, name, address, state: 'down', facts, conditions: [], ...since }
}

/** What its agent says once it runs. */
const UNKNOWN_FACTS = {
  cpuModel: '',
  cpuFeatures: [],
  domainType: '',
  libvirtVersion: '',
  hypervisorVersion: '',
  agentVersion: '',
  kernel: '',
  bridges: [],
  bootId: '',
}

const ADDRESS = /^(\[[0-9a-fA-F:]{2,39}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,252})):\d{1,5}$/

export function memberId({ role, name }: Peer): string {
  return `${role}/${name}`
}

/** The names and addresses that go into a member's certificate. */
function namesOf(store: Store, { role, name }: Peer): string[] {
  const host = role === 'agent' ? store.hosts.get(name) : undefined
  return host ? [hostPart(host.address)] : []
}

function hostPart(address: string): string {
  return address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
}

/** An API node's name is in its certificate, so it is a plain word. */
function assertMemberName(role: JoinRole, name: string): void {
  assertName('name', name)
  if (role === 'api' && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name))
    throw invalid(
      'name',
      'the name of an API node must be 1 to 64 letters, digits, dots, dashes or underscores',
    )
}

function roleOf(role: JoinTokenRole): JoinRole {
  switch (role) {
    case JoinTokenRole.AGENT:
      return 'agent'
    case JoinTokenRole.API:
      return 'api'
    default:
      throw invalid('role', 'role must be agent or api')
  }
}

function rejoined({ uuid, name, address }: HostRecord): VpeEvent {
  return { kind: 'host', id: uuid, what: 'rejoined', data: { uuid, name, address } }
}
