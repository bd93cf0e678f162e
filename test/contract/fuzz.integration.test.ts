// Goal: whatever is asked, in any state that the asking brings about, the API answers soon, as its document
// says, and blames itself for nothing. Method: requests made from the document, right and spoilt, through
// the real app over a real controller with its store; only the host at the end is pretended.

import { createApp } from '@vpe/api/app'
import { FakeAgent } from '@vpe/controller/testing/fake-agent'
import { Harness } from '@vpe/controller/testing/harness'
import { MemoryHa } from '@vpe/controller/testing/memory-ha'
import fc from 'fast-check'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { DescribedApi } from './described.ts'
import { anyRequest, fillIn, type MadeRequest, type Vocabulary } from './requests.ts'

const REQUESTS = 4_000
/** The same requests each time, so that a change is judged by what it changes; other seeds are tried by hand. */
const SEED = Number(process.env.VPE_FUZZ_SEED ?? 1)
/** Far beyond what any of them takes; nobody is to wait for ever. */
const HUNG_MS = 30_000
const FURNISH_EVERY = 50

let agent: FakeAgent
let harness: Harness
let app: ReturnType<typeof createApp>
let api: DescribedApi

beforeAll(async () => {
  agent = await FakeAgent.start({ cpus: 64, memoryMib: 64 * 1024 })
  harness = new Harness()
  harness.haView = new MemoryHa()
  await harness.start()
  await harness.furnish(agent)
  // An event log in which nothing happens, and that ends where others go on: answers are to end here.
  const quietLog = {
    bounds: async () => ({ epoch: 1, first: 1, last: 0 }),
    positionAt: async () => ({ epoch: 1, sequence: 0 }),
    async *follow() {},
  }
  const log = pino({ level: 'silent' })
  app = createApp({ controller: harness.client, log, currentLog: () => quietLog })
  api = new DescribedApi(await (await app.request('/openapi.json')).text())
})
afterAll(async () => {
  await harness[Symbol.asyncDispose]()
  agent.stop()
})

/** The things that most requests need, again and again: requests delete them. */
const FURNITURE = [
  ['/flavors', () => ({ flavor: { name: 'tiny', vcpus: 1, memory_mib: 64, disk_gib: 1 } })],
  ['/hosts', () => ({ host: { name: 'h1', address: agent.address } })],
  ['/disk_pools', () => ({ disk_pool: { name: 'local', path: '/pool' } })],
  ['/images', () => ({ image: { name: 'demo', url: 'file:///demo.qcow2' } })],
  ['/instances', () => ({ instance: { name: 'vm', flavor_uuid: 'tiny', image_uuid: 'demo' } })],
] as const

async function send({ method, path, body, headers }: MadeRequest) {
  const response = await app.request(path, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(HUNG_MS),
  })
  const type = response.headers.get('content-type')
  // biome-ignore lint/suspicious/noExplicitAny: whatever the answer is
  const answer: any = await (type?.startsWith('text/') ? response.text() : response.json())
  return { status: response.status, type, body: answer }
}

const known = new Map<string, string[]>()
/** The path of a snapshot that there was lately: it is found only by way of its own instance. */
let snapshotPath = '/instances/-/snapshots/-'

/** Makes what is missing, and learns what there is now. */
async function furnish(): Promise<void> {
  for (const [path, body] of FURNITURE) await send({ method: 'POST', path, body: body(), headers: {} })
  for (const [path] of FURNITURE) {
    const { body } = await send({ method: 'GET', path, body: undefined, headers: {} })
    const things = Object.values<{ uuid: string; name: string }[]>(body).flat()
    known.set(
      path,
      things.slice(0, 10).flatMap(({ uuid, name }) => [uuid, uuid, name]),
    )
  }
  const path = `/instances/${known.get('/instances')?.[0]}/snapshots`
  await send({ method: 'POST', path, body: { snapshot: { name: 'kept' } }, headers: {} })
  const { body } = await send({ method: 'GET', path, body: undefined, headers: {} })
  snapshotPath = `${path}/${body.snapshots?.[0]?.uuid ?? '-'}`
}

test('every answer is one that the document describes, and none is a failure of vpe', async () => {
  await furnish()
  const vocabulary: Vocabulary = {
    // A fixed number of places, whatever is in them by the time that a request is made.
    known: Array.from({ length: 20 }, (_, at) => `known-${at}`),
    ofField: {
      address: [agent.address, '127.0.0.1:1', 'nowhere', '127.0.0.1:99999'],
      url: ['file:///demo.qcow2', 'http://127.0.0.1:1/demo', 'ftp://127.0.0.1/', 'file:///etc/passwd'],
      wait: ['0', '1ms', '20ms', '61s', '-1', 'soon'],
      since: ['10m', '2016-11-22T10:22:32Z', 'yesterday'],
      step: ['1m', '0', '2h'],
      flavor_uuid: ['tiny', 'known-0'],
      image_uuid: ['demo', 'demo', 'known-1'],
      disk_pool: ['local', 'known-2'],
      snapshot: ['a-snapshot', 'a-snapshot', 'known-3'],
    },
  }
  const statuses = new Map<number, number>()
  let count = 0
  await fc.assert(
    fc.asyncProperty(anyRequest(api, vocabulary), async (made) => {
      if (count++ % FURNISH_EVERY === 0) await furnish()
      const filled = fillIn(made, known)
      const path = filled.path.replace(/^.*\/a-snapshot/, snapshotPath)
      const request = { ...filled, path }
      const { status, type, body } = await send(request)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      const bare = request.path.replace(/\?.*/s, '')
      expect({ faults: api.faultsOf(request.method, bare, status, type, body), body }).toMatchObject({
        faults: [],
      })
      const isRefusedByDialect2 = bare === '/api/v1/instance' && body.data.error !== undefined
      if (!isRefusedByDialect2)
        expect({ status, body }).toMatchObject({ status: expect.toSatisfy((it) => it < 500) })
    }),
    { numRuns: REQUESTS, endOnFailure: true, seed: SEED },
  )
  process.stdout.write(`statuses of ${count} requests: ${JSON.stringify(Object.fromEntries(statuses))}\n`)
  expect(harness.fatal).toBeNull()
  // Not only refusals.
  expect(statuses.get(200)).toBeGreaterThan(REQUESTS / 10)
}, 600_000)
