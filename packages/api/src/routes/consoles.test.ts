import { beforeEach, describe, expect, test } from 'vitest'
import { createTestBed, type TestBed } from '../test-bed.ts'

let bed: TestBed
let uuid: string

beforeEach(async () => {
  bed = await createTestBed()
  const { flavor, image } = bed.ids
  const instance = { name: 'vm', flavor_uuid: flavor, image_uuid: image }
  uuid = (await bed.send('POST', '/instances', { instance })).body.instance.uuid
})

describe.each(['vnc', 'serial'])('GET /instances/{uuid}/%s', (kind) => {
  test('answers as the document has it, with a token in the fragment', async () => {
    bed.controller.settle()
    const { status, headers, body } = await bed.send('GET', `/instances/${uuid}/${kind}`)
    expect(status).toBe(200)
    const url = `http://localhost/${kind}?instance-uuid=${uuid}#token=token-0`
    expect(body).toEqual({ instance: { uuid, [`${kind}_url`]: url } })
    expect(headers.get('cache-control')).toBe('no-store')
    expect(bed.controller.calls.at(-1)).toMatchObject({
      method: 'createConsoleToken',
      request: { uuid, kind: `CONSOLE_KIND_${kind.toUpperCase()}` },
    })
  })

  test('names the host that the client has asked', async () => {
    bed.controller.settle()
    const { body } = await bed.send('GET', `http://127.0.0.1:8088/instances/${uuid}/${kind}`)
    expect(body.instance[`${kind}_url`]).toContain(`http://127.0.0.1:8088/${kind}?`)
  })

  test('is 409 with the reason while the instance is not active', async () => {
    const { status, body } = await bed.send('GET', `/instances/${uuid}/${kind}`)
    expect(status).toBe(409)
    expect(body).toMatchObject({ code: 'CONFLICT', detail: expect.stringContaining('active') })
  })

  test('is 404 for an instance that is not there', async () => {
    const { status } = await bed.send('GET', `/instances/22c91117-08de-4894-9aa9-6ef382400985/${kind}`)
    expect(status).toBe(404)
  })
})

describe('the pages', () => {
  test.each([
    ['/vnc?instance-uuid=x', 'text/html', 'vnc.js'],
    ['/serial', 'text/html', 'serial.js'],
    ['/console/vnc.js', 'text/javascript', 'rfb.js'],
    ['/console/novnc/core/rfb.js', 'text/javascript', 'export default class RFB'],
    ['/console/novnc/vendor/pako/lib/zlib/inflate.js', 'text/javascript', 'inflate'],
    ['/console/xterm/lib/xterm.mjs', 'text/javascript', 'Terminal'],
    ['/console/xterm/css/xterm.css', 'text/css', '.xterm'],
    ['/console/xterm-fit/lib/addon-fit.mjs', 'text/javascript', 'FitAddon'],
  ])('%s', async (path, type, words) => {
    const response = await bed.app.request(path)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toContain(type)
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(await response.text()).toContain(words)
  })

  test.each([
    '/console/novnc/package.json',
    '/console/../main.ts',
    '/console/%2e%2e/console-sockets.ts',
    '/console/',
    '/console/xterm/lib/xterm.mjs.map',
  ])('%s is not there', async (path) => {
    expect((await bed.app.request(path)).status).toBe(404)
  })

  test('load nothing from elsewhere', async () => {
    for (const path of [
      '/vnc',
      '/serial',
      '/console/vnc.js',
      '/console/serial.js',
      '/console/connection.js',
    ]) {
      expect(await (await bed.app.request(path)).text()).not.toMatch(/https?:\/\//)
    }
  })
})
