// What tests of the API node stand on: the app over the fake controller, with a host, a pool, an image
// and a flavor to make instances from.

import { pino } from 'pino'
import { type App, createApp } from './app.ts'
import type { CallLimits } from './controller-calls.ts'
import type { EventLogReader } from './events/log-connection.ts'
import { createFakeController, type FakeController } from './fake-controller.ts'

export interface Answer {
  readonly status: number
  readonly headers: Headers
  /** Of whatever shape the answer has; tests say which they expect. */
  readonly body: ReturnType<typeof JSON.parse>
}

export interface TestBed {
  readonly app: App
  readonly controller: FakeController
  readonly ids: {
    readonly host: string
    readonly pool: string
    readonly image: string
    readonly flavor: string
  }
  /** The log lines written so far, parsed. */
  readonly logLines: Record<string, unknown>[]
  /** Sends a request; what is no string is sent as JSON. */
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
}

export async function createTestBed(limits: Partial<CallLimits> = {}): Promise<TestBed> {
  const controller = createFakeController()
  const logLines: Record<string, unknown>[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void logLines.push(JSON.parse(line)) })
  const app = createApp({ controller, log, limits, currentLog: () => EMPTY_LOG })
  const host = await controller.createHost({ name: 'h1', address: '127.0.0.1:7702' })
  const pool = await controller.createDiskPool({ name: 'pool2', kind: 'dir', path: '/var/lib/vpe/pool2' })
  const image = await controller.createImage({ name: 'centos6.7', url: 'file:///images/centos.qcow2' })
  const flavor = await controller.createFlavor({ name: 'default', vcpus: 1, memoryMib: 256 })
  controller.settle()
  controller.calls.length = 0

  return {
    app,
    controller,
    logLines,
    ids: {
      host: host.host?.uuid ?? '',
      pool: pool.diskPool?.uuid ?? '',
      image: image.image?.uuid ?? '',
      flavor: flavor.flavor?.uuid ?? '',
    },
    async send(method, path, body, headers = {}) {
      const isText = typeof body === 'string' || body instanceof Uint8Array
      const response = await app.request(path, {
        method,
        headers: {
          ...(body === undefined || isText ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: isText ? body : JSON.stringify(body) }),
      })
      const text = await response.text()
      return {
        status: response.status,
        headers: response.headers,
        body: parse(text, response.headers.get('content-type')),
      }
    },
  }
}

/** An event log in which nothing has happened, and that ends where others go on. */
const EMPTY_LOG: EventLogReader = {
  bounds: async () => ({ epoch: 1, first: 1, last: 0 }),
  positionAt: async () => ({ epoch: 1, sequence: 0 }),
  async *follow() {},
}

function parse(text: string, contentType: string | null): Answer['body'] {
  if (text === '') return undefined
  return contentType?.startsWith('text/') ? text : JSON.parse(text)
}
