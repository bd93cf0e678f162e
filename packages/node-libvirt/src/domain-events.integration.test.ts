// Every kind of event, by calling its native callback as libvirt would. The hypervisor at hand raises few of them.

import koffi from 'koffi'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type DomainEventName, domainEventCallbacks } from './domain-events.ts'
import { domainIdentity } from './identity.ts'
import { callLocal } from './library.ts'
import { newStringArray, readPointer } from './memory.ts'
import type { Pointer } from './native-functions.ts'
import { callNative } from './native-threads.ts'
import { withTypedParameters } from './typed-parameters.ts'

const opaque = 7n
const delivered: [bigint, string, unknown][] = []
const callbacks = domainEventCallbacks((...event) => delivered.push(event))
let connection: Pointer
let domain: Pointer

beforeAll(async () => {
  connection = await callNative('virConnectOpen', 'test:///default')
  domain = await callNative('virDomainLookupByName', connection, 'test')
})

afterAll(async () => {
  callLocal('virDomainFree', domain)
  await callNative('virConnectClose', connection)
})

test.each<[DomainEventName, (string | number | null)[], object]>([
  ['lifecycle', [2, 0], { event: 'started', detail: 'booted' }],
  ['lifecycle', [5, 2], { event: 'stopped', detail: 'crashed' }],
  ['lifecycle', [3, 2], { event: 'suspended', detail: 'io-error' }],
  ['lifecycle', [5, 99], { event: 'stopped', detail: 'unknown' }],
  ['reboot', [], {}],
  ['watchdog', [6], { action: 'inject-nmi' }],
  [
    'ioError',
    ['/disk', 'virtio-disk0', 1, 'enospc'],
    { sourcePath: '/disk', deviceAlias: 'virtio-disk0', action: 'pause', reason: 'enospc' },
  ],
  ['deviceAdded', ['net0'], { deviceAlias: 'net0' }],
  ['deviceRemoved', ['net0'], { deviceAlias: 'net0' }],
  ['deviceRemovalFailed', ['net0'], { deviceAlias: 'net0' }],
  ['agentLifecycle', [1, 2], { state: 'connected', reason: 'channel' }],
  ['migrationIteration', [3], { iteration: 3 }],
  ['metadataChanged', [2, 'urn:x'], { type: 'element', uri: 'urn:x' }],
  ['metadataChanged', [1, null], { type: 'title', uri: undefined }],
])('%s %j', async (name, details, expected) => {
  const texts = details.filter((detail) => typeof detail === 'string')
  const list = newStringArray(texts)
  let next = 0n
  raise(
    name,
    details.map((detail) => (typeof detail === 'string' ? readPointer(list + next++ * 8n) : detail)),
  )
  koffi.free(list)
  await Promise.resolve()
  expect(delivered.pop()).toEqual([opaque, name, { domain: domainIdentity(domain), ...expected }])
})

test('jobCompleted', async () => {
  await withTypedParameters(
    [
      { name: 'operation', type: 'int', value: 5 },
      { name: 'memory_total', type: 'ullong', value: 2 ** 40 },
      { name: 'errmsg', type: 'string', value: 'none' },
    ],
    async (parameters, count) => raise('jobCompleted', [parameters, count]),
  )
  expect(delivered.pop()).toMatchObject([
    opaque,
    'jobCompleted',
    {
      stats: {
        type: 'completed',
        operation: 'migration-out',
        memoryTotalBytes: 2 ** 40,
        errorMessage: 'none',
      },
    },
  ])
})

function raise(name: DomainEventName, details: readonly unknown[]): void {
  const callback = callbacks.find((candidate) => candidate.name === name)
  koffi.call(callback?.address, callback?.type ?? '', connection, domain, ...details, opaque)
}
