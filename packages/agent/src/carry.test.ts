import { once } from 'node:events'
import { mkdtempDisposable } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Duplex, duplexPair } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { carry } from './carry.ts'

const never = new AbortController().signal
const bytes = (text: string) => new TextEncoder().encode(text)

/** What never says anything, until the signal ends it. */
function silence(signal: AbortSignal): AsyncIterable<Uint8Array> {
  const next = async () => {
    if (!signal.aborted) await once(signal, 'abort')
    return { done: true, value: undefined } as const
  }
  return { [Symbol.asyncIterator]: () => ({ next }) }
}

async function textOf(output: AsyncIterable<Uint8Array>): Promise<string> {
  let text = ''
  for await (const chunk of output) text += Buffer.from(chunk).toString()
  return text
}

test('bytes go both ways, until the guest ends', async () => {
  const [line, guest] = duplexPair()
  const going = new AbortController()
  async function* input() {
    yield bytes('to the guest')
    yield* silence(going.signal)
  }
  const output = textOf(carry(line, input(), never))
  expect(String((await once(guest, 'data'))[0])).toBe('to the guest')
  guest.end('from the guest')
  expect(await output).toBe('from the guest')
  expect(line.destroyed).toBe(true)
  going.abort()
})

test('the end of the input is told to the guest, which may have a last word', async () => {
  const [line, guest] = duplexPair()
  async function* input() {
    yield bytes('bye')
  }
  const output = textOf(carry(line, input(), never))
  guest.resume()
  await once(guest, 'end')
  guest.end('bye')
  expect(await output).toBe('bye')
})

test('a guest that goes away with keys unread ends as one that hangs up', async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'vpe-carry-'))
  const path = join(folder.path, 'line')
  const server = createServer({ pauseOnConnect: true }).listen(path)
  const connected = once(server, 'connection')
  const line = connect(path)
  const [guest] = await connected
  const going = new AbortController()
  const written = Promise.withResolvers<void>()
  async function* input() {
    yield bytes('keys')
    written.resolve()
    yield* silence(going.signal)
  }
  const output = textOf(carry(line, input(), never))
  await written.promise
  guest.destroy()
  expect(await output).toBe('')
  going.abort()
  server.close()
})

test('an abort closes the line', async () => {
  const [line] = duplexPair()
  const going = new AbortController()
  const output = textOf(carry(line, silence(going.signal), going.signal))
  going.abort()
  await expect(output).rejects.toThrow()
  expect(line.destroyed).toBe(true)
})

test('an abort that came before closes it, too', async () => {
  const [line] = duplexPair()
  const output = textOf(carry(line, silence(AbortSignal.abort()), AbortSignal.abort()))
  await expect(output).rejects.toThrow()
})

test('why the line was taken away is what its reader is told', async () => {
  const [line] = duplexPair()
  const going = new AbortController()
  const output = textOf(carry(line, silence(going.signal), never))
  line.destroy(new Error('somebody else has it'))
  await expect(output).rejects.toThrow('somebody else has it')
  going.abort()
})

test('a reader who stops closes the line', async () => {
  const [line, guest] = duplexPair()
  const going = new AbortController()
  guest.write('a')
  for await (const _ of carry(line, silence(going.signal), never)) break
  expect(line.destroyed).toBe(true)
  going.abort()
})

/** Writes as long as it is taken; how many bytes that were. */
async function fill(stream: Duplex): Promise<number> {
  const chunk = Buffer.alloc(16 * 1024)
  for (let written = 0; ; written += chunk.length) {
    if (!stream.write(chunk)) return written + chunk.length
    await turn()
  }
}

test('a guest is not heard faster than its viewer listens', async () => {
  const [line, guest] = duplexPair()
  const going = new AbortController()
  const output = carry(line, silence(going.signal), never)
  void output.next()
  expect(await fill(guest)).toBeLessThan(512 * 1024)
  going.abort()
  line.destroy()
})

test('a viewer is not asked for more than its guest takes', async () => {
  const [line] = duplexPair()
  let asked = 0
  async function* input() {
    for (; asked < 1_000; asked++) yield Buffer.alloc(16 * 1024)
  }
  void carry(line, input(), never)
  for (let turns = 0; turns < 200; turns++) await turn()
  expect(asked).toBeLessThan(32)
  line.destroy()
})

test('a viewer who takes nothing for too long loses the line', async () => {
  const [line, guest] = duplexPair()
  const going = new AbortController()
  guest.write('a')
  const output = carry(line, silence(going.signal), never, 20)
  await output.next()
  await new Promise((resolve) => line.once('close', resolve))
  await expect(output.next()).rejects.toMatchObject({ code: 'CONFLICT' })
  going.abort()
})
