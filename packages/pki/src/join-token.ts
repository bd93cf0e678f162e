// A join token: one word that holds all a new member needs: where to ask, whom to believe there (the
// fingerprint of the CA's certificate), and which token it is with the secret that proves it.

import { VpeError } from '@vpe/core'
import { z } from 'zod'

const PREFIX = 'vpe1.'

export interface JoinToken {
  /** host:port of enrolment listeners. */
  readonly addresses: readonly string[]
  /** SHA-256 of the CA's certificate. */
  readonly fingerprint: Buffer
  readonly uuid: string
  readonly secret: string
}

const base64url = z.string().regex(/^[\w-]+$/)

const contents = z.tuple([
  z.array(z.string().regex(/^\S+:\d{1,5}$/)).min(1),
  base64url.length(43),
  z.uuid(),
  base64url,
])

export function encodeJoinToken({ addresses, fingerprint, uuid, secret }: JoinToken): string {
  const text = JSON.stringify([addresses, fingerprint.toString('base64url'), uuid, secret])
  return `${PREFIX}${Buffer.from(text).toString('base64url')}`
}

/** @throws VpeError INVALID_ARGUMENT when the word is no token, or not all of one */
export function decodeJoinToken(word: string): JoinToken {
  const text = word.trim()
  try {
    if (!text.startsWith(PREFIX)) throw new Error(`it does not begin with ${PREFIX}`)
    const json: unknown = JSON.parse(Buffer.from(text.slice(PREFIX.length), 'base64url').toString())
    const [addresses, fingerprint, uuid, secret] = contents.parse(json)
    return { addresses, fingerprint: Buffer.from(fingerprint, 'base64url'), uuid, secret }
  } catch (cause) {
    throw new VpeError(
      'INVALID_ARGUMENT',
      'this is no join token, or not the whole of one; copy the "token" that POST /join_tokens answered, from first to last character',
      { cause },
    )
  }
}
