/** Against a small API that keeps records in memory: what is asked for, once, and what is made of the answers. */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ensureFirstInstance, registerCatalogue } from './first-instance.ts'
import { usualPorts } from './ports.ts'
import type { Layout } from './services.ts'
import { openStateFolder, readSettings } from './state-folder.ts'

type Row = Record<string, unknown> & { uuid: string }

const keys: Record<string, string> = {
  hosts: 'host',
  flavors: 'flavor',
  disk_pools: 'disk_pool',
  images: 'image',
  instances: 'instance',
}

/** What a record looks like when it has just been made, and after it was looked at. */
const beginnings: Record<string, object> = {
  hosts: { state: 'up' },
  images: { status: 'importing', progress: 40 },
  instances: { status: 'shutoff', task: 'creating' },
}
const ends: Record<string, object> = {
  images: { status: 'active' },
  instances: { status: 'active', task: null },
}

class FakeApi {
  readonly rows: Record<string, Row[]> = { hosts: [], flavors: [], disk_pools: [], images: [], instances: [] }
  readonly posts: { collection: string; key: string | undefined }[] = []
  /** How often something that is in error, and goes on by itself, is seen so. */
  answersInError = 0
  /** The next answer to a POST is lost on its way. */
  losesAnswer = false
  readonly server: Server = createServer((request, response) => void this.#serve(request, response))

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, collection = '', uuid] = new URL(request.url ?? '', 'http://x').pathname.split('/')
    const rows = this.rows[collection]
    const key = keys[collection]
    if (!rows || !key) return answer(response, 404, { title: 'Not found' })
    if (request.method === 'POST') return this.#post(request, response, collection, key, rows)
    if (!uuid) return answer(response, 200, { [collection]: rows })
    const row = rows.find((candidate) => candidate.uuid === uuid)
    if (!row) return answer(response, 404, { title: 'Not found' })
    answer(response, 200, { [key]: { ...row } })
    if (row.status === 'error' && !row.task) return
    if (row.status === 'error' && --this.answersInError > 0) return
    Object.assign(row, ends[collection])
  }

  async #post(
    request: IncomingMessage,
    response: ServerResponse,
    collection: string,
    key: string,
    rows: Row[],
  ) {
    const record = ((await json(request)) as Record<string, object>)[key]
    const idempotencyKey = request.headers['idempotency-key'] as string | undefined
    const repeated = this.posts.some((post) => post.key === idempotencyKey)
    this.posts.push({ collection, key: idempotencyKey })
    if (!repeated) rows.push({ ...record, uuid: randomUUID(), ...beginnings[collection] })
    if (this.losesAnswer) {
      this.losesAnswer = false
      request.socket.destroy()
    } else answer(response, 200, { [key]: rows.at(-1) })
  }
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

let work: string
let api: FakeApi
let layout: Layout
const options = { say: () => {} }
const first = { ...options, comeBackMs: 0, domainRuns: async () => true }

beforeEach(async () => {
  work = mkdtempSync(join(tmpdir(), 'vpe-first-'))
  api = new FakeApi()
  await new Promise<void>((resolve) => api.server.listen(0, '127.0.0.1', resolve))
  const address = api.server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  layout = {
    root: '/',
    folder: openStateFolder(join(work, 's')),
    ports: { ...usualPorts, api: port },
    libvirt: 'private',
  }
})
afterEach(() => {
  api.server.closeAllConnections()
  api.server.close()
  rmSync(work, { recursive: true, force: true })
})

describe('filling an empty cluster', () => {
  it('makes each thing once, whatever the number of runs', async () => {
    for (let run = 0; run < 2; run++) {
      const catalogue = await registerCatalogue(layout, '/cache/demo.qcow2', options)
      expect(catalogue.image.status).toBe('active')
      expect(await ensureFirstInstance(layout, catalogue, first)).toMatchObject({
        name: 'demo',
        status: 'active',
      })
    }
    const made = ['hosts', 'flavors', 'disk_pools', 'images', 'instances']
    expect(api.posts.map(({ collection }) => collection)).toEqual(made)
    expect(api.rows.instances?.[0]).toMatchObject({ image_uuid: api.rows.images?.[0]?.uuid, tags: ['demo'] })
    expect(readSettings(layout.folder)).toMatchObject({
      firstInstance: api.rows.instances?.[0]?.uuid,
      pendingKeys: {},
    })
  })

  it('takes the name as a whole, where the API searches for parts', async () => {
    api.rows.flavors?.push({ uuid: 'other', name: 'm1.tiny-and-more' })
    const { flavor } = await registerCatalogue(layout, '/cache/demo.qcow2', options)
    expect(flavor.uuid).not.toBe('other')
  })

  it('sends the same key again when it never heard the answer', async () => {
    const catalogue = await registerCatalogue(layout, '/cache/demo.qcow2', options)
    api.losesAnswer = true
    const rows = api.rows.instances ?? []
    await expect(ensureFirstInstance(layout, catalogue, first)).rejects.toThrow(/does not answer/)
    // As an API would that shows a record late.
    const hidden = rows.splice(0)
    const [lost] = api.posts.slice(-1)
    await ensureFirstInstance(layout, catalogue, first).catch(() => {})
    expect(api.posts.at(-1)).toEqual(lost)
    expect(hidden).toHaveLength(1)
  })

  it('does not make again what its user deleted', async () => {
    const catalogue = await registerCatalogue(layout, '/cache/demo.qcow2', options)
    await ensureFirstInstance(layout, catalogue, first)
    api.rows.instances?.splice(0)
    expect(await ensureFirstInstance(layout, catalogue, first)).toBeUndefined()
  })

  it('tells what it is that went wrong', async () => {
    const catalogue = await registerCatalogue(layout, '/cache/demo.qcow2', options)
    const fault = { code: 'NO_HOST_FITS', message: '1 host has too little memory' }
    api.rows.instances?.push({ uuid: 'i', name: 'demo', status: 'error', task: null, fault })
    await expect(ensureFirstInstance(layout, catalogue, first)).rejects.toThrow(
      /NO_HOST_FITS: 1 host has too little memory/,
    )
  })

  it('waits for one that is in error while its host is not heard yet', async () => {
    const catalogue = await registerCatalogue(layout, '/cache/demo.qcow2', options)
    const fault = 'host vm does not answer; its disk is in local pool local'
    api.rows.instances?.push({ uuid: 'i', name: 'demo', status: 'error', task: 'recovering', fault })
    api.answersInError = 3
    expect(await ensureFirstInstance(layout, catalogue, first)).toMatchObject({ status: 'active' })
  })

  it('does not believe in an active instance whose guest is not there', async () => {
    const catalogue = await registerCatalogue(layout, '/cache/demo.qcow2', options)
    const host_uuid = catalogue.host.uuid
    api.rows.instances?.push({ uuid: 'i', name: 'demo', status: 'active', task: null, host_uuid })
    const answers = [false, false, true]
    const domainRuns = async () => answers.shift() ?? true
    expect(await ensureFirstInstance(layout, catalogue, { ...first, domainRuns })).toMatchObject({
      uuid: 'i',
    })
    expect(answers).toEqual([])
  })

  it('does not go on with a host that is known at another address', async () => {
    await registerCatalogue(layout, '/cache/demo.qcow2', options)
    const moved = { ...layout, ports: { ...layout.ports, agent: 7999 } }
    await expect(registerCatalogue(moved, '/cache/demo.qcow2', options)).rejects.toThrow(
      /knows this host at 127.0.0.1:7702/,
    )
  })
})
