import { describe, expect, test } from 'vitest'
import {
  afterAttempt,
  DEFAULT_WEBHOOK_POLICY,
  delayAfterFailures,
  isEventWanted,
  parseEventFilter,
  type WebhookRecord,
  webhookSecretFault,
  webhookUrlFault,
} from './webhook.ts'

const webhook: WebhookRecord = {
  uuid: 'w',
  url: 'http://localhost/',
  secret: 'whsec_',
  events: ['*'],
  enabled: true,
  position: '1-5',
  failures: 2,
  lastSuccessAtMs: 10,
  lastError: 'answered 500',
  lastGap: '',
  createdAtMs: 0,
}

describe('filters', () => {
  test.each([
    [['*'], 'instance', 'started', true],
    [['*.*'], 'instance', 'started', true],
    [['instance.*'], 'instance', 'started', true],
    [['instance.*'], 'host', 'down', false],
    [['*.failed'], 'image', 'failed', true],
    [['*.failed'], 'image', 'imported', false],
    [['host.down', 'disk_pool.failed'], 'disk_pool', 'failed', true],
    [['host.down', 'disk_pool.failed'], 'host', 'up', false],
    [[], 'host', 'up', false],
  ])('%j, %s.%s: %j', (filters, kind, what, isWanted) => {
    expect(isEventWanted(filters, kind, what)).toBe(isWanted)
  })

  test.each([
    '',
    'instance',
    'instance.',
    '.started',
    'instance.started.now',
    'Instance.*',
    '**',
    'a.b c',
    '>',
  ])('%j is no filter', (filter) => {
    expect(parseEventFilter(filter)).toBeNull()
  })
})

test.each([
  ['http://127.0.0.1:9000/vpe', null],
  ['https://example.org/', null],
  ['ftp://example.org/', /http/],
  ['file:///etc/passwd', /http/],
  ['https://user:pw@example.org/', /password/],
  ['https://example.org/ x', /http/],
  ['https://example.org/\n', /http/],
  ['example.org', /http/],
  ['', /http/],
  [`https://example.org/${'x'.repeat(2048)}`, /characters/],
])('the address %j: %s', (url, fault) => {
  const found = webhookUrlFault(url)
  if (fault) expect(found).toMatch(fault)
  else expect(found).toBeNull()
})

test.each([
  [24, true],
  [32, true],
  [64, true],
  [23, false],
  [65, false],
  [0, false],
])('a secret of %i bytes: %s', (bytes, isGood) => {
  expect(webhookSecretFault(`whsec_${Buffer.alloc(bytes, 7).toString('base64')}`) === null).toBe(isGood)
})

test.each([
  '',
  'whsec_',
  'secret',
  `${'A'.repeat(32)}`,
  `whsec_${'A'.repeat(33)}`,
  `whsec_${'-'.repeat(32)}`,
])('the secret %j is none', (secret) => {
  expect(webhookSecretFault(secret)).not.toBeNull()
})

describe('after an attempt', () => {
  test('that was taken, all is well', () => {
    expect(afterAttempt(webhook, { kind: 'delivered' }, 99)).toEqual({
      ...webhook,
      failures: 0,
      lastError: '',
      lastSuccessAtMs: 99,
    })
  })

  test('that failed, it says why, and goes on', () => {
    expect(afterAttempt(webhook, { kind: 'failed', error: 'no answer' }, 99)).toEqual({
      ...webhook,
      failures: 3,
      lastError: 'no answer',
    })
  })

  test('that met 410 Gone, it is disabled', () => {
    expect(afterAttempt(webhook, { kind: 'gone' }, 99)).toMatchObject({
      enabled: false,
      lastError: expect.stringContaining('410'),
      lastSuccessAtMs: 10,
    })
  })
})

test('waits double, up to a minute, and never are two of them sure to be the same', () => {
  const waits = [1, 2, 3, 7, 8, 500].map((failures) => [
    delayAfterFailures(failures, DEFAULT_WEBHOOK_POLICY, 0),
    delayAfterFailures(failures, DEFAULT_WEBHOOK_POLICY, 1),
  ])
  expect(waits).toEqual([
    [500, 1_000],
    [1_000, 2_000],
    [2_000, 4_000],
    [30_000, 60_000],
    [30_000, 60_000],
    [30_000, 60_000],
  ])
})
