import { describe, expect, test } from 'vitest'
import { type ConsoleGrant, ConsoleTokens, TOKEN_VALID_MS } from './console-tokens.ts'

const SCREEN: ConsoleGrant = { uuid: 'a', kind: 'vnc' }

function issued(grant = SCREEN): ConsoleTokens {
  const tokens = new ConsoleTokens()
  tokens.issue(grant, 't', 1_000)
  return tokens
}

function redeemed(tokens: ConsoleTokens, token: string, grant: ConsoleGrant, nowMs: number): string {
  try {
    tokens.redeem(token, grant, nowMs)
    return 'taken'
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONSOLE_TOKEN_REFUSED' })
    return (error as Error).message
  }
}

describe('a token', () => {
  test('opens its console once', () => {
    const tokens = issued()
    expect(redeemed(tokens, 't', SCREEN, 1_001)).toBe('taken')
    expect(redeemed(tokens, 't', SCREEN, 1_002)).toContain('has been used')
  })

  test('may wait for a minute, to the millisecond', () => {
    expect(redeemed(issued(), 't', SCREEN, 1_000 + TOKEN_VALID_MS)).toBe('taken')
    expect(redeemed(issued(), 't', SCREEN, 1_001 + TOKEN_VALID_MS)).toContain('more than 60 s old')
  })

  test('that nobody issued opens nothing', () => {
    expect(redeemed(issued(), 'u', SCREEN, 1_001)).toContain('unknown')
    expect(redeemed(issued(), '', SCREEN, 1_001)).toContain('unknown')
  })

  test.each<ConsoleGrant>([
    { uuid: 'b', kind: 'vnc' },
    { uuid: 'a', kind: 'serial' },
  ])('is void once it was tried on another console: %j', (other) => {
    const tokens = issued()
    expect(redeemed(tokens, 't', other, 1_001)).toContain('another console')
    expect(redeemed(tokens, 't', SCREEN, 1_002)).toContain('has been used')
  })

  test('is forgotten in the end', () => {
    const tokens = issued()
    tokens.issue(SCREEN, 'later', 10_000_000)
    expect(redeemed(tokens, 't', SCREEN, 10_000_000)).toContain('unknown')
    expect(redeemed(tokens, 'later', SCREEN, 10_000_000)).toBe('taken')
  })
})

test('ten thousand wait at most: the oldest go first', () => {
  const tokens = issued()
  for (let index = 0; index < 10_000; index++) tokens.issue(SCREEN, `t${index}`, 1_000)
  expect(redeemed(tokens, 't', SCREEN, 1_001)).toContain('unknown')
  expect(redeemed(tokens, 't0', SCREEN, 1_001)).toBe('taken')
  expect(redeemed(tokens, 't9999', SCREEN, 1_001)).toBe('taken')
})
