// The consoles as their user has them: a real guest, a real browser, and everything between. The tests
// share one cluster and go in order.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Browser, type ConsolePage } from './browser.ts'
import { Cluster, until } from './cluster.ts'

const TOKEN_VALID_MS = 60_000

const cluster = new Cluster()
let browser: Browser
let uuid: string
/** Every URL that was given out: none of their tokens may be found in a log. */
const urls: string[] = []
let forgotten: { readonly url: string; readonly atMs: number }

beforeAll(async () => {
  await cluster.quickstart()
  browser = await Browser.start()
  uuid = (await cluster.instances())[0]?.uuid ?? ''
  await guestUp(uuid)
  forgotten = { url: await consoleUrl('vnc'), atMs: Date.now() }
})
afterAll(async () => {
  await browser?.[Symbol.asyncDispose]()
  if (existsSync(cluster.home)) await cluster[Symbol.asyncDispose]()
})

async function consoleUrl(kind: 'vnc' | 'serial', of = uuid): Promise<string> {
  const { body } = await cluster.ok('GET', `/instances/${of}/${kind}`)
  urls.push(body.instance[`${kind}_url`])
  return body.instance[`${kind}_url`]
}

async function guestUp(of: string): Promise<void> {
  await until('the guest is up', () => cluster.serialLog(of).includes('vpe demo guest'))
}

async function drawn(console: ConsolePage): Promise<void> {
  await until('the screen is drawn', async () => (await console.picture()).colours > 1)
}

describe('the screen', () => {
  test('has the URL of the document, with a token', async () => {
    const { body, headers } = await cluster.ok('GET', `/instances/${uuid}/vnc`)
    expect(body).toEqual({ instance: { uuid, vnc_url: expect.any(String) } })
    const url = new URL(body.instance.vnc_url)
    expect(`${url.origin}${url.pathname}${url.search}`).toBe(`${cluster.apiUrl}/vnc?instance-uuid=${uuid}`)
    expect(url.hash).toMatch(/^#token=[\w-]{43}$/)
    expect(headers.get('cache-control')).toBe('no-store')
    urls.push(body.instance.vnc_url)
  })

  test('shows the guest, and its keyboard types into the guest’s shell', async () => {
    const startedMs = performance.now()
    const screen = await browser.open(await consoleUrl('vnc'))
    await screen.status('open')
    await drawn(screen)
    const drawnMs = performance.now() - startedMs
    expect(new URL(screen.page.url()).hash).toBe('')

    const before = await screen.picture()
    await screen.typeLine('echo vpe-$((40+2))')
    await until('the picture has changed', async () => (await screen.picture()).sum !== before.sum)
    // A guest whose CPU stands for a moment loses keys: its keyboard holds few of them. Who types sees that, and types again.
    for (let seen = false; !seen; ) {
      await screen.typeLine('echo seen-$((6*7)) > /dev/ttyS0')
      const isDone = () => cluster.serialLog(uuid).includes('seen-42')
      seen = await until('the guest has carried it out', isDone, 20_000).then(
        () => true,
        () => false,
      )
    }
    await screen.screenshot('console-vnc')
    expect(screen.errors).toEqual([])
    process.stdout.write(`screen drawn after ${drawnMs.toFixed(0)} ms\n`)
    await screen.close()
  })
})

describe('the serial line', () => {
  test('is a terminal on the guest’s shell, and its log goes on', async () => {
    const serial = await browser.open(await consoleUrl('serial'))
    await serial.status('open')
    await serial.typeLine('echo vpe-$((40+2))')
    await until('the guest has answered', async () => /^vpe-42$/m.test(await serial.terminalText()))
    expect(cluster.serialLog(uuid)).toMatch(/^vpe-42\r?$/m)
    await serial.screenshot('console-serial')
    expect(serial.errors).toEqual([])
    await serial.close()
  })

  test('belongs to who opened it last', async () => {
    const first = await browser.open(await consoleUrl('serial'))
    await first.status('open')
    const second = await browser.open(await consoleUrl('serial'))
    await second.status('open')
    expect(await first.status('closed')).toEqual({
      code: '4409',
      text: expect.stringContaining('somebody else has opened the serial line'),
    })
    await second.typeLine('echo second-$((40+2))')
    await until('the second has the line', async () => /^second-42$/m.test(await second.terminalText()))
    await Promise.all([first.close(), second.close()])
  })

  test('carries much: the guest says more than all buffers hold, and nothing is lost', async () => {
    const serial = await browser.open(await consoleUrl('serial'))
    await serial.status('open')
    await serial.typeLine('seq 100000 109999')
    await until('the last line is there', async () => /^109999$/m.test(await serial.terminalText()))
    const seen = [...(await serial.terminalText()).matchAll(/^1\d{5}$/gm)].map(([line]) => Number(line))
    const first = seen[0] ?? 0
    expect(seen).toEqual(Array.from({ length: seen.length }, (_, at) => first + at))
    expect(seen.length).toBeGreaterThan(9_000)
    await serial.close()
  })
})

describe('ten consoles at once', () => {
  test('eight screens and two serial lines of two guests, all alive', async () => {
    const { body, headers } = await cluster.ok('POST', '/instances', {
      instance: { name: 'other', ...(await cluster.ingredients()) },
    })
    const other: string = body.instance.uuid
    expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
    await guestUp(other)
    const guests = [uuid, other]

    // One after the other: a token is good for a minute, in which its page has to come up.
    const opened = async (kind: 'vnc' | 'serial', of: string) => {
      const console = await browser.open(await consoleUrl(kind, of))
      await console.status('open')
      return console
    }
    const screens: ConsolePage[] = []
    const serials: ConsolePage[] = []
    for (const of of guests) {
      for (let screen = 0; screen < 4; screen++) screens.push(await opened('vnc', of))
      serials.push(await opened('serial', of))
    }
    await Promise.all(screens.map(drawn))

    for (const [index, serial] of serials.entries()) {
      await serial.page.bringToFront()
      await serial.typeLine(`echo ten-${index}-$((40+2))`)
      await until('it answers', async () => (await serial.terminalText()).includes(`\nten-${index}-42`))
    }
    for (const screen of screens) {
      await screen.page.bringToFront()
      const before = await screen.picture()
      await screen.typeLine('echo ten')
      await until('its picture changes', async () => (await screen.picture()).sum !== before.sum)
    }
    for (const console of [...screens, ...serials]) {
      expect(console.errors).toEqual([])
      expect(await console.page.locator('#status').getAttribute('data-state')).toBe('open')
      await console.close()
    }
  })
})

describe('a token', () => {
  test('opens one page once', async () => {
    const url = await consoleUrl('vnc')
    const first = await browser.open(url)
    await first.status('open')
    const again = await browser.open(url)
    expect(await again.status('closed')).toEqual({
      code: '4403',
      text: expect.stringContaining('it has been used'),
    })
    await again.screenshot('console-refused')
    expect(await first.page.locator('#status').getAttribute('data-state')).toBe('open')
    await Promise.all([first.close(), again.close()])
  })

  test.each([
    ['made up', (url: string) => url.replace(/token=.*/, 'token=abc')],
    ['left out', (url: string) => url.replace(/#.*/, '')],
    ['of the screen, on the serial line', (url: string) => url.replace('/vnc?', '/serial?')],
  ])('%s is refused', async (_, spoil) => {
    const page = await browser.open(spoil(await consoleUrl('vnc')))
    expect((await page.status('closed')).code).toBe('4403')
    await page.close()
  })

  test('that waited for more than a minute is refused', async () => {
    await until('it is old', () => Date.now() - forgotten.atMs > TOKEN_VALID_MS + 1_000, 2 * TOKEN_VALID_MS)
    const page = await browser.open(forgotten.url)
    expect(await page.status('closed')).toEqual({
      code: '4403',
      text: expect.stringContaining('more than 60 s old'),
    })
    await page.close()
  })
})

test('a guest that goes off closes its consoles, and has none to open until it runs again', async () => {
  const consoles = [
    await browser.open(await consoleUrl('vnc')),
    await browser.open(await consoleUrl('serial')),
  ]
  await Promise.all(consoles.map((console) => console.status('open')))
  const stop = await cluster.ok('POST', `/instances/${uuid}/stop`, {})
  expect(await cluster.ended(stop.headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  for (const console of consoles) {
    expect(await console.status('closed')).toMatchObject({ code: '1000' })
    await console.close()
  }
  for (const kind of ['vnc', 'serial']) {
    const refused = await cluster.request('GET', `/instances/${uuid}/${kind}`)
    expect(refused).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT', detail: expect.stringContaining('shutoff') },
    })
  }
  const start = await cluster.ok('POST', `/instances/${uuid}/start`, {})
  expect(await cluster.ended(start.headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  const screen = await browser.open(await consoleUrl('vnc'))
  await drawn(screen)
  await screen.close()
})

test('no token is in any log', () => {
  const logs = ['api', 'controller', 'agent'].map((name) =>
    readFileSync(join(cluster.home, 'log', `${name}.log`), 'utf8'),
  )
  expect(urls.length).toBeGreaterThan(20)
  for (const url of urls) {
    const token = new URL(url).hash.replace('#token=', '')
    expect(logs.some((log) => log.includes(token))).toBe(false)
  }
})
