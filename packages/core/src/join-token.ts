// Join tokens: a token lets so many machines of one role into the cluster, until its time is over. Who used
// one is kept with it, so that a machine that never got its answer may ask again.

export type JoinRole = 'agent' | 'api'

export interface JoinTokenRecord {
  readonly uuid: string
  readonly role: JoinRole
  /** What the new member will be called; empty leaves it to the member. */
  readonly name: string
  /** How many members it lets in. */
  readonly uses: number
  readonly usedBy: readonly JoinTokenUse[]
  readonly expiresAtMs: number
  readonly createdAtMs: number
}

export interface JoinTokenUse {
  /** A member's id. */
  readonly memberId: string
  readonly keySha256: string
}

/** One who was let in, and by which key it is known: only that key renews its certificate. */
export interface MemberRecord {
  /** "agent/<host id>" or "api/<name>". */
  readonly id: string
  readonly keySha256: string
  readonly joinedAtMs: number
  /** What it is known by on NATS, the latest last: each certificate comes with a user of its own. */
  readonly natsUsers: readonly string[]
}

/** What a member had that counts no more; kept for as long as a certificate lasts. */
export interface RevocationRecord {
  readonly keySha256: string
  readonly memberId: string
  readonly natsUsers: readonly string[]
  readonly revokedAtMs: number
}

/** Certificates are renewed at two thirds of their time: of those before, only the last can still be good. */
const NATS_USERS_KEPT = 4

export function withNatsUser(member: MemberRecord, user: string): MemberRecord {
  return { ...member, natsUsers: [...member.natsUsers, user].slice(-NATS_USERS_KEPT) }
}

/** @param before of the same key, if there was one */
export function revocationOf(
  { id, keySha256, natsUsers }: MemberRecord,
  before: RevocationRecord | undefined,
  nowMs: number,
): RevocationRecord {
  const users = [...new Set([...(before?.natsUsers ?? []), ...natsUsers])]
  return { keySha256, memberId: id, natsUsers: users, revokedAtMs: nowMs }
}

/**
 * What a token says to one who comes with it: a sentence why not, or the token as it is after that use.
 * The same member with the same key uses it up once, however often it asks, for as long as it is one.
 * @param member what is known of who asks, if it is a member
 */
export function useJoinToken(
  token: JoinTokenRecord,
  role: JoinRole,
  use: JoinTokenUse,
  member: Pick<MemberRecord, 'keySha256'> | undefined,
  nowMs: number,
): { readonly refused: string } | { readonly used: JoinTokenRecord } {
  if (token.role !== role) return { refused: `the token is for role ${token.role}, not for ${role}` }
  const isAgain = token.usedBy.some(
    ({ memberId, keySha256 }) => memberId === use.memberId && keySha256 === use.keySha256,
  )
  if (nowMs >= token.expiresAtMs)
    return { refused: `the token has expired at ${new Date(token.expiresAtMs).toISOString()}` }
  if (isAgain) {
    if (member?.keySha256 === use.keySha256) return { used: token }
    return {
      refused: `the token has been used already, by ${use.memberId}, which has left or has another key since`,
    }
  }
  if (token.usedBy.length >= token.uses) {
    const by = token.usedBy.map(({ memberId }) => memberId).join(', ')
    return { refused: `the token has been used already, by ${by}` }
  }
  return { used: { ...token, usedBy: [...token.usedBy, use] } }
}
