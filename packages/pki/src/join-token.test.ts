import { randomBytes, randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { decodeJoinToken, encodeJoinToken } from './join-token.ts'

const TOKEN = {
  addresses: ['10.0.0.1:7703', '[fd00::1]:7703'],
  fingerprint: randomBytes(32),
  uuid: randomUUID(),
  secret: randomBytes(32).toString('base64url'),
}

test('a token is one printable word, and holds what was put in', () => {
  const word = encodeJoinToken(TOKEN)
  expect(word).toMatch(/^[\w.-]+$/)
  expect(decodeJoinToken(` ${word}\n`)).toEqual(TOKEN)
})

test('a word that is cut short, or none of ours, is said to be so', () => {
  const word = encodeJoinToken(TOKEN)
  const broken = ['', 'vpe1.', 'vpe2.W10', 'vpe1.W10', word.slice(1), word.slice(0, -4), word.slice(0, 40)]
  for (const text of broken)
    expect(() => decodeJoinToken(text), text).toThrow(/no join token, or not the whole of one/)
})
