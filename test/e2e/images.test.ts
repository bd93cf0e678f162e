// An image comes by upload, over a cut connection and a killed agent; an instance is made from it, and an
// image of that instance; and that one boots, too.

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'

const MIB = 1024 ** 2

const cluster = new Cluster()
beforeAll(() => cluster.quickstart())
afterAll(() => cluster[Symbol.asyncDispose]())

async function boots(name: string, image_uuid: string): Promise<string> {
  const { flavor_uuid } = await cluster.ingredients()
  const made = await cluster.ok('POST', '/instances', { instance: { name, flavor_uuid, image_uuid } })
  const { uuid } = made.body.instance
  expect(await cluster.ended(made.headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  await until(`the guest of ${name} speaks`, () => cluster.serialLog(uuid).includes('vpe demo guest'))
  return uuid
}

async function carriedOut(method: string, path: string): Promise<void> {
  const { headers } = await cluster.ok(method, path, method === 'DELETE' ? undefined : {})
  expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
}

const status = async (uuid: string) => (await cluster.ok('GET', `/images/${uuid}`)).body.image
const arrived = async (uuid: string) => (await cluster.ok('GET', `/images/${uuid}/data`)).body.upload.offset
const inPool = (uuid: string) =>
  readdirSync(join(cluster.home, 'disks')).filter((file) => file.includes(uuid))

test('uploaded, booted, captured, booted again, and gone', async () => {
  const [demo] = (await cluster.ok('GET', '/images')).body.images
  const data = readFileSync(new URL(demo.url))
  const sha256 = createHash('sha256').update(data).digest('hex')
  const registered = await cluster.ok('POST', '/images', {
    image: { name: 'up', sha256, size_bytes: data.length },
  })
  const { uuid } = registered.body.image
  const path = `/images/${uuid}/data`

  // The connection is cut once some of it is there.
  const cut = httpRequest(cluster.apiUrl + path, {
    method: 'PUT',
    headers: { 'content-length': data.length },
  })
  cut.on('error', () => {})
  cut.write(data.subarray(0, 5 * MIB))
  await until('some of it has arrived', async () => (await arrived(uuid)) >= 3 * MIB)
  cut.destroy()

  // The agent dies, and knows as much as before.
  process.kill(cluster.pidOf('agent'), 'SIGKILL')
  const refused = await fetch(cluster.apiUrl + path, { method: 'PUT', body: data })
  expect([409, 503]).toContain(refused.status)
  await cluster.quickstart()
  // It listens again before the controller has found that out: until then its host does not answer.
  await until('the agent can be asked again', async () => {
    const { status } = await cluster.request('GET', path)
    expect([200, 409, 503]).toContain(status)
    return status === 200
  })
  const offset = await arrived(uuid)
  expect(offset).toBeGreaterThanOrEqual(3 * MIB)
  const rest = await fetch(`${cluster.apiUrl}${path}?offset=${offset}`, {
    method: 'PUT',
    body: data.subarray(offset),
  })
  expect(rest.status).toBe(200)
  const operation = rest.headers.get('operation-id')
  expect(operation).toBe(registered.headers.get('operation-id'))
  expect(await cluster.ended(operation ?? '')).toMatchObject({ status: 'succeeded', fault: null })
  expect(await status(uuid)).toMatchObject({ status: 'active', sha256, size_bytes: data.length, url: null })

  const first = await boots('first', uuid)
  const { body } = await cluster.request('POST', '/images', {
    image: { name: 'captured', instance_uuid: first },
  })
  expect(body).toMatchObject({ status: 409, detail: expect.stringContaining('stop it first') })
  await carriedOut('POST', `/instances/${first}/stop`)
  const captured = await cluster.ok('POST', '/images', { image: { name: 'captured', instance_uuid: first } })
  expect(await cluster.ended(captured.headers.get('operation-id') ?? '')).toMatchObject({
    status: 'succeeded',
  })
  const copy = captured.body.image.uuid

  // What it was made from may go: it depends on neither.
  await carriedOut('DELETE', `/instances/${first}`)
  await cluster.ok('DELETE', `/images/${uuid}`)
  expect(inPool(uuid)).toEqual([])
  const second = await boots('second', copy)
  expect((await cluster.ok('GET', `/images/${copy}/copies`)).body.copies).toMatchObject([{ instances: 1 }])
  expect((await cluster.request('DELETE', `/images/${copy}`)).status).toBe(409)
  await carriedOut('DELETE', `/instances/${second}`)
  await cluster.ok('DELETE', `/images/${copy}`)
  expect(inPool(copy)).toEqual([])
})
