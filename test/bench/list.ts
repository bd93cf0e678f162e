// How long a list of 1,000 instances takes to come while others are at work: 50 requests a second of other
// kinds (show, update, find, list one page, list flavors). Controller and API node are the real processes,
// the host behind them is pretended; whoever asks is on the same machine, and its time counts too.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { FakeAgent } from '@vpe/controller/testing/fake-agent'
import { nodeFlags } from '@vpe/deploy/node-flags'
import { execa } from 'execa'
import { until } from '../e2e/cluster.ts'
import { type Distribution, distribution } from './figures.ts'

const INSTANCES = 1_000
const OTHERS_PER_SECOND = 50
const packages = join(import.meta.dirname, '../../packages')

export interface ListInstances {
  /** From the request to the last byte of the answer. */
  readonly listMs: Distribution
  /** And until the client has parsed it. */
  readonly parsedMs: Distribution
  readonly othersMs: Distribution
  readonly othersPerSecond: number
}

export async function measureList(rounds: number): Promise<ListInstances> {
  const dir = mkdtempSync(join(tmpdir(), 'vpe-bench-'))
  const agent = await FakeAgent.start({ cpus: 4096, memoryMib: 64 * 1024 ** 2 })
  const [controllerPort, apiPort] = [await freePort(), await freePort()]
  const stop = new AbortController()
  const start = (name: string, env: Record<string, string>) =>
    execa(process.execPath, [...nodeFlags(name), join(packages, name, 'src/main.ts')], {
      env: { VPE_LOG_LEVEL: 'warn', ...env },
      stdio: 'ignore',
      cancelSignal: stop.signal,
      reject: false,
    })
  const processes = [
    start('controller', {
      VPE_CONTROLLER_LISTEN: `127.0.0.1:${controllerPort}`,
      VPE_CONTROLLER_STATE_DIR: dir,
      // Nobody is there: events wait in the outbox.
      VPE_NATS_URL: 'nats://127.0.0.1:9',
    }),
    start('api', {
      VPE_API_LISTEN: `127.0.0.1:${apiPort}`,
      VPE_CONTROLLER_ADDRESS: `127.0.0.1:${controllerPort}`,
    }),
  ]
  try {
    const client = new Client(`http://127.0.0.1:${apiPort}`)
    await until('the API answers for its controller', () => client.isAnswered('/flavors'))
    const uuids = await furnish(client, agent)
    return await measure(client, uuids, rounds)
  } finally {
    stop.abort()
    await Promise.all(processes)
    agent.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

async function measure(client: Client, uuids: readonly string[], rounds: number): Promise<ListInstances> {
  const others: number[] = []
  let isDone = false
  const beginMs = performance.now()
  const load = (async () => {
    const underWay: Promise<unknown>[] = []
    for (let count = 0; !isDone; count++) {
      // Open loop: the next one is sent when it is due, whether the last one was answered or not.
      await sleep(Math.max(0, beginMs + (count * 1_000) / OTHERS_PER_SECOND - performance.now()))
      const uuid = uuids[count % uuids.length] ?? ''
      underWay.push(timed(() => other(client, count, uuid)).then((ms) => others.push(ms)))
    }
    await Promise.all(underWay)
  })()
  const lists: number[] = []
  const parsed: number[] = []
  for (let round = 0; round < rounds; round++) {
    const fromMs = performance.now()
    const answer = await client.fetch('GET', '/instances')
    lists.push(performance.now() - fromMs)
    JSON.parse(answer.body)
    parsed.push(performance.now() - fromMs)
    await sleep(20)
  }
  isDone = true
  const seconds = (performance.now() - beginMs) / 1_000
  await load
  return {
    listMs: distribution(lists),
    parsedMs: distribution(parsed),
    othersMs: distribution(others),
    othersPerSecond: others.length / seconds,
  }
}

function other(client: Client, count: number, uuid: string): Promise<unknown> {
  switch (count % 5) {
    case 0:
      return client.request('PUT', `/instances/${uuid}`, { instance: { tags: [`t${count}`] } })
    case 1:
      return client.request('GET', '/instances?limit=20')
    case 2:
      return client.request('GET', '/flavors')
    case 3:
      return client.request('GET', `/operations?resource=${uuid}`)
    default:
      return client.request('GET', `/instances/${uuid}`)
  }
}

async function furnish(client: Client, agent: FakeAgent): Promise<string[]> {
  await client.request('POST', '/hosts', { host: { name: 'h1', address: agent.address } })
  await client.request('POST', '/flavors', { flavor: { name: 'tiny', vcpus: 1, memory_mib: 256 } })
  await client.request('POST', '/disk_pools', { disk_pool: { name: 'local', kind: 'dir', path: '/pool' } })
  await client.request('POST', '/images', { image: { name: 'demo', url: 'file:///demo.qcow2' } })
  const create = async (number: number) => {
    const { instance } = await client.request('POST', '/instances', {
      instance: { name: `vm${number}`, flavor_uuid: 'tiny', image_uuid: 'demo', tags: ['a', 'b'] },
    })
    return instance.uuid as string
  }
  const uuids: string[] = []
  for (let from = 0; from < INSTANCES; from += 50) {
    uuids.push(...(await Promise.all(Array.from({ length: 50 }, (_, index) => create(from + index)))))
  }
  await until('all of them run', async () => {
    const { instances } = await client.request('GET', '/instances?status=active')
    return instances.length === INSTANCES
  })
  return uuids
}

/** On plain node:http, which takes a third of the time that fetch does: it shares the machine with what is measured. */
class Client {
  readonly #url: string
  readonly #agent = new Agent({ keepAlive: true })

  constructor(url: string) {
    this.#url = url
  }

  async isAnswered(path: string): Promise<boolean> {
    const response = await fetch(this.#url + path).catch(() => null)
    await response?.body?.cancel()
    return response?.ok ?? false
  }

  // biome-ignore lint/suspicious/noExplicitAny: whatever the answer is
  async request(method: string, path: string, content?: unknown): Promise<any> {
    const { status, body } = await this.fetch(method, path, content)
    if (status !== 200) throw new Error(`${method} ${path}: ${body}`)
    return JSON.parse(body)
  }

  async fetch(method: string, path: string, content?: unknown): Promise<{ status: number; body: string }> {
    const headers = { 'content-type': 'application/json' }
    const request = httpRequest(this.#url + path, { method, headers, agent: this.#agent })
    request.end(content === undefined ? undefined : JSON.stringify(content))
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    return { status: response.statusCode ?? 0, body: await text(response) }
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const fromMs = performance.now()
  await work()
  return performance.now() - fromMs
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}
