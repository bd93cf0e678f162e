// Who is at the other end of a connection: a role, and which one of that role. A certificate of the cluster
// carries it as a URI among its alternative names: vpe://controller, vpe://agent/<host id>, vpe://api/<name>, vpe://nats.
// Who may call what is one table here, and the server middleware in rpc.ts holds every call to it.

/** What NATS has a certificate for is to be called by the others; it calls nobody. */
export const ROLES = ['controller', 'agent', 'api', 'nats'] as const

export type Role = (typeof ROLES)[number]

export interface Peer {
  readonly role: Role
  /** An agent's host id, an API node's name; empty for the controller and for NATS. */
  readonly name: string
}

/** What a caller expects at the other end; without a name, anyone of the role. */
export interface ExpectedPeer {
  readonly role: Role
  readonly name?: string
}

/**
 * Which roles may call a service. "anyone" also has those without a certificate. A service that is not
 * here answers nobody but callers on loopback.
 */
const CALLERS: Readonly<Record<string, readonly Role[] | 'anyone'>> = {
  'vpe.v1.AgentService': ['controller'],
  'vpe.v1.ControllerService': ['api', 'controller'],
  'vpe.v1.CertificateService': ['agent', 'api'],
  'vpe.v1.EnrolmentService': 'anyone',
}

/** What a connection tells of its other end: this process's machine, a certificate, or nothing. */
export type Caller = 'loopback' | 'stranger' | Peer

const URI = /^vpe:\/\/(controller|nats|(?:agent|api)\/[A-Za-z0-9][A-Za-z0-9._-]{0,63})$/

export function peerUri({ role, name }: Peer): string {
  return name === '' ? `vpe://${role}` : `vpe://${role}/${name}`
}

/** Who a URI names; null when it names nobody. */
export function parsePeerUri(uri: string): Peer | null {
  const path = URI.exec(uri)?.[1]
  if (path === undefined) return null
  const [role, name = ''] = path.split('/')
  return { role: role as Role, name }
}

/** Who a certificate speaks for, by its alternative names as Node writes them; null unless it is exactly one. */
export function peerOfAltNames(altNames: string | undefined): Peer | null {
  const uris = (altNames ?? '')
    .split(', ')
    .filter((name) => name.startsWith('URI:'))
    .map((name) => name.slice('URI:'.length))
  return uris.length === 1 ? parsePeerUri(uris[0] ?? '') : null
}

/** Why a caller may not call a method ("/vpe.v1.Service/Method"); null when it may. */
export function refuseCaller(caller: Caller, methodPath: string): string | null {
  if (caller === 'loopback') return null
  const service = methodPath.split('/')[1] ?? ''
  const allowed = CALLERS[service] ?? []
  if (allowed === 'anyone') return null
  if (caller !== 'stranger' && allowed.includes(caller.role)) return null
  const who = caller === 'stranger' ? 'no certificate of a role' : `a certificate of ${peerUri(caller)}`
  return `${service} needs role ${allowed.join(' or ') || 'none'}; this call comes with ${who}`
}

/** Why the other end is not the one that was meant; null when it is. */
export function refusePeer(peer: Peer | null, expected: ExpectedPeer): string | null {
  if (peer?.role === expected.role && (expected.name === undefined || peer.name === expected.name))
    return null
  const isNamed = expected.role === 'agent' || expected.role === 'api'
  const meant = peerUri({ role: expected.role, name: expected.name ?? (isNamed ? '<any>' : '') })
  return `the certificate there is of ${peer ? peerUri(peer) : 'no role of vpe'}, the call is meant for ${meant}`
}
