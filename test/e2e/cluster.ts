// A whole cluster of one for a test, made by deploy/quickstart itself in a folder of its own, on ports of
// its own, beside whatever else runs on the machine. Real libvirt, real QEMU, real everything.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { jetstreamManager } from '@nats-io/jetstream'
import { type CloudEvent, connectBus, EVENTS_STREAM } from '@vpe/bus'
import { createVpeClient, type VpeClient } from '@vpe/client'
import { execa } from 'execa'
import { DescribedApi } from '../contract/described.ts'

const root = join(import.meta.dirname, '..', '..')
/** Building the demo image anew for each cluster would only take time; it is cached as for a user. */
export const CACHE = process.env.VPE_CACHE ?? join(root, '.tools/cache')

/**
 * Files of tests run beside each other, and stop and start their clusters: each has ports of its own, so that none takes those of a cluster
 * that is just away. Below those that the kernel gives out. Commands that are no tests leave it to whoever calls them.
 */
const worker = process.env.VITEST_POOL_ID
export const PORTS_FROM =
  worker === undefined ? process.env.VPE_PORTS_FROM : `${21_000 + 100 * Number(worker)}`

/** How long anything may take: far beyond what it does, also on a slow machine. */
export const BOUND_MS = 240_000

export interface Answer {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever came back
  readonly body: any
}

export interface InstanceView {
  readonly uuid: string
  readonly name: string
  readonly status: string
  readonly task: string | null
  readonly fault: string | null
  /** By its name. */
  readonly host: string | null
  /** How high availability stands with it; null while it does not look after it. */
  readonly recovery: { readonly state: string; readonly why: string } | null
}

export class Cluster {
  readonly home: string
  readonly #isOwn: boolean
  #env: Readonly<Record<string, string>> = {}
  #api: Promise<DescribedApi> | null = null

  /** @param home of a cluster that is there; else its own, somewhere */
  constructor(home?: string) {
    // Short: libvirt's sockets lie below it, and a socket's path may have 108 bytes.
    this.home = home ?? mkdtempSync(join(tmpdir(), 'vpe-e2e-'))
    this.#isOwn = home === undefined
    if (this.#isOwn) rmSync(this.home, { recursive: true })
  }

  get apiUrl(): string {
    return this.setting('VPE_API_URL')
  }

  /** The typed client. Its answers are held to the document, as those of `request` are. */
  get client(): VpeClient {
    return createVpeClient({ baseUrl: this.apiUrl, fetch: (request) => this.#fetch(request) })
  }

  get libvirtUri(): string {
    return this.setting('VPE_LIBVIRT_URI')
  }

  /** Runs deploy/quickstart with some arguments, as a user would, and returns what it printed. */
  async quickstart(...args: string[]): Promise<string> {
    const { all } = await execa(join(root, 'deploy/quickstart'), args, {
      all: true,
      stdin: 'ignore',
      env: { VPE_HOME: this.home, VPE_CACHE: CACHE, VPE_LIBVIRTD: 'private', VPE_PORTS_FROM: PORTS_FROM },
    })
    if (args.length === 0) this.readEnv()
    return all
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.quickstart('down', '--purge')
    // What tests have put beside what quickstart made, such as pools of their own.
    if (this.#isOwn) rmSync(this.home, { recursive: true, force: true })
  }

  setting(name: string): string {
    const value = this.#env[name]
    if (value === undefined) throw new Error(`${name} is not in ${this.home}/env`)
    return value
  }

  async request(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await this.#fetch(
      new Request(`${this.apiUrl}${path}`, {
        method,
        headers: { 'content-type': 'application/json', ...headers },
        ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
    )
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: text === '' ? null : JSON.parse(text) }
  }

  /** The answer's body; anything but success is an error that shows it. */
  async ok(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> {
    const answer = await this.request(method, path, body, headers)
    if (answer.status !== 200)
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    return answer
  }

  /** What an instance can be made of: the flavor and the image that quickstart registers. */
  async ingredients(): Promise<{ flavor_uuid: string; image_uuid: string }> {
    const [flavors, images] = await Promise.all([this.ok('GET', '/flavors'), this.ok('GET', '/images')])
    return { flavor_uuid: flavors.body.flavors[0].uuid, image_uuid: images.body.images[0].uuid }
  }

  async instance(uuid: string): Promise<InstanceView> {
    return (await this.ok('GET', `/instances/${uuid}`)).body.instance
  }

  async instances(): Promise<InstanceView[]> {
    return (await this.ok('GET', '/instances')).body.instances
  }

  /** The operation when it has ended. */
  async ended(operationUuid: string): Promise<{ status: string; fault: string | null }> {
    const deadline = Date.now() + BOUND_MS
    for (;;) {
      const { operation } = (await this.ok('GET', `/operations/${operationUuid}?wait=60s`)).body
      if (operation.status !== 'running') return operation
      if (Date.now() > deadline) throw new Error(`it runs on: ${JSON.stringify(operation)}`)
    }
  }

  async virsh(...args: string[]): Promise<string> {
    return (await execa('virsh', ['-c', this.libvirtUri, ...args])).stdout
  }

  /** Uuids of the domains that run, asked of libvirt, not of vpe. */
  async runningDomains(): Promise<string[]> {
    const text = await this.virsh('list', '--uuid')
    return text
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '')
      .sort()
  }

  pidOf(service: string): number {
    return Number(JSON.parse(readFileSync(join(this.home, 'run', `${service}.json`), 'utf8')).pid)
  }

  serialLog(uuid: string): string {
    return readFileSync(join(this.home, 'agent/console', `${uuid}.log`), 'utf8')
  }

  /** Everything on the event stream so far, read by the plain protocol. */
  async events(): Promise<CloudEvent[]> {
    const access = { credentials: this.#env.VPE_NATS_CREDS }
    const connection = await connectBus(this.setting('VPE_NATS_URL'), 'test', () => {}, access)
    try {
      const manager = await jetstreamManager(connection)
      const { state } = await manager.streams.info(EVENTS_STREAM)
      const events: CloudEvent[] = []
      for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
        const message = await manager.streams.getMessage(EVENTS_STREAM, { seq })
        if (message) events.push(message.json<CloudEvent>())
      }
      return events
    } finally {
      await connection.close()
    }
  }

  /** Whatever a test is about, an answer that the OpenAPI document does not describe fails it. */
  async #fetch(request: Request): Promise<Response> {
    const response = await fetch(request.clone()).catch((error) => {
      if (!isClosed(error) || !['GET', 'DELETE'].includes(request.method)) throw error
      return fetch(request)
    })
    const { pathname } = new URL(request.url)
    const type = response.headers.get('content-type')
    if (pathname === '/openapi.json' || !type?.includes('json')) return response
    this.#api ??= fetch(`${this.apiUrl}/openapi.json`).then(
      async (document) => new DescribedApi(await document.text()),
    )
    const body = await response.clone().json()
    const faults = (await this.#api).faultsOf(request.method, pathname, response.status, type, body)
    if (faults.length > 0) throw new Error(`${faults.join('\n')}\n${JSON.stringify(body)}`)
    return response
  }

  protected readEnv(): void {
    const text = readFileSync(join(this.home, 'env'), 'utf8')
    const pairs = [...text.matchAll(/^export (\w+)='?([^'\n]*)'?$/gm)].map(([, name, value]) => [name, value])
    this.#env = Object.fromEntries(pairs)
  }
}

/** A connection that was idle may have been closed just when it was used again: nothing was asked then. */
function isClosed(error: unknown): boolean {
  const { cause } = error as Error
  return ['UND_ERR_SOCKET', 'ECONNRESET'].includes((cause as NodeJS.ErrnoException | undefined)?.code ?? '')
}

/** Waits for a condition, with a bound. */
export async function until(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  boundMs = BOUND_MS,
): Promise<void> {
  const deadline = Date.now() + boundMs
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`not within ${boundMs} ms: ${what}`)
    await sleep(50)
  }
}
