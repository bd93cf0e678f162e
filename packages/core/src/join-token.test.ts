import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type JoinTokenRecord, useJoinToken } from './join-token.ts'

const TOKEN: JoinTokenRecord = {
  uuid: 't',
  role: 'agent',
  name: '',
  uses: 1,
  usedBy: [],
  expiresAtMs: 1_000,
  createdAtMs: 0,
}
const USE = { memberId: 'agent/a', keySha256: 'k1' }

describe('a join token', () => {
  test('lets one member in, and the same one with the same key again', () => {
    const first = useJoinToken(TOKEN, 'agent', USE, undefined, 10)
    expect(first).toEqual({ used: { ...TOKEN, usedBy: [USE] } })
    const token = { ...TOKEN, usedBy: [USE] }
    expect(useJoinToken(token, 'agent', USE, USE, 11)).toEqual({ used: token })
  })

  test.each([
    ['another member', { ...USE, memberId: 'agent/b' }],
    ['the same with another key', { ...USE, keySha256: 'k2' }],
  ])('refuses %s once it is used', (_who, use) => {
    expect(useJoinToken({ ...TOKEN, usedBy: [USE] }, 'agent', use, undefined, 10)).toEqual({
      refused: 'the token has been used already, by agent/a',
    })
  })

  test('refuses everyone from the moment that it expires', () => {
    expect(useJoinToken(TOKEN, 'agent', USE, undefined, 999)).toHaveProperty('used')
    expect(useJoinToken(TOKEN, 'agent', USE, undefined, 1_000)).toEqual({
      refused: 'the token has expired at 1970-01-01T00:00:01.000Z',
    })
  })

  test('is for its role only', () => {
    expect(useJoinToken(TOKEN, 'api', USE, undefined, 10)).toEqual({
      refused: 'the token is for role agent, not for api',
    })
  })

  test('lets in as many as it says, whoever comes however often', () => {
    const comers = fc.array(
      fc.record({ memberId: fc.stringMatching(/^[a-d]$/), keySha256: fc.constantFrom('1', '2') }),
    )
    fc.assert(
      fc.property(comers, fc.integer({ min: 1, max: 5 }), (uses, max) => {
        let token: JoinTokenRecord = { ...TOKEN, uses: max }
        const seen = new Set<string>()
        const keys = new Map<string, string>()
        for (const use of uses) {
          const id = `${use.memberId} ${use.keySha256}`
          const keySha256 = keys.get(use.memberId)
          const member = keySha256 === undefined ? undefined : { keySha256 }
          const verdict = useJoinToken(token, 'agent', use, member, 10)
          // Once another key has the place, the first one's use is no use any more.
          const mayAgain = seen.has(id) ? keySha256 === use.keySha256 : seen.size < max
          expect('used' in verdict).toBe(mayAgain)
          if (!('used' in verdict)) continue
          token = verdict.used
          seen.add(id)
          keys.set(use.memberId, use.keySha256)
        }
        expect(token.usedBy.length).toBe(Math.min(seen.size, max))
      }),
    )
  })
})
