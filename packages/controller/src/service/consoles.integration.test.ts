// Tokens and streams over real gRPC, with a pretended agent at the end that repeats what it is told.

import { setTimeout as sleep } from 'node:timers/promises'
import { ConsoleKind, fromClientError, type OpenConsoleRequest } from '@vpe/proto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FakeAgent } from '../testing/fake-agent.ts'
import { Harness, until } from '../testing/harness.ts'

const { VNC, SERIAL } = ConsoleKind

let agent: FakeAgent
let harness: Harness

beforeEach(async () => {
  agent = await FakeAgent.start()
  harness = new Harness()
  await harness.start()
  await harness.furnish(agent)
})
afterEach(async () => {
  await harness[Symbol.asyncDispose]()
  agent.stop()
})

async function activeInstance(): Promise<string> {
  const { instance } = await harness.create('web')
  await harness.atRest(instance?.uuid ?? '')
  return instance?.uuid ?? ''
}

/** Opens a console and says something there; what comes back, or the code of the fault. */
async function say(ticket: { token: string; uuid: string; kind: ConsoleKind }, words: string) {
  const heard = Promise.withResolvers<void>()
  async function* requests(): AsyncGenerator<Partial<OpenConsoleRequest>> {
    yield { message: { $case: 'ticket', value: ticket } }
    yield { message: { $case: 'data', value: new TextEncoder().encode(words) } }
    await heard.promise
  }
  const answers: string[] = []
  try {
    for await (const { message } of harness.client.openConsole(requests())) {
      answers.push(message?.$case === 'data' ? new TextDecoder().decode(message.value) : 'open')
      if (message?.$case === 'data') heard.resolve()
    }
    return answers
  } catch (error) {
    heard.resolve()
    return fromClientError(error).code
  }
}

test('a token opens its console once, at the agent of the instance', async () => {
  const uuid = await activeInstance()
  const { token, validMs } = await harness.client.createConsoleToken({ uuid, kind: SERIAL })
  expect(validMs).toBe(60_000)
  expect(await say({ token, uuid, kind: SERIAL }, 'hello')).toEqual([
    'open',
    `CONSOLE_KIND_SERIAL of ${uuid}: hello`,
  ])
  expect(await say({ token, uuid, kind: SERIAL }, 'hello')).toBe('CONSOLE_TOKEN_REFUSED')
})

test('a token for one console opens no other', async () => {
  const uuid = await activeInstance()
  const { token } = await harness.client.createConsoleToken({ uuid, kind: VNC })
  expect(await say({ token, uuid, kind: SERIAL }, 'hello')).toBe('CONSOLE_TOKEN_REFUSED')
  expect(await say({ token: 'made up', uuid, kind: VNC }, 'hello')).toBe('CONSOLE_TOKEN_REFUSED')
})

test('an instance that is not active has none, and the reason is said', async () => {
  const gate = Promise.withResolvers<void>()
  agent.onApply = () => gate.promise
  const { instance } = await harness.create('web')
  const uuid = instance?.uuid ?? ''
  const refused = await harness.client.createConsoleToken({ uuid, kind: VNC }).catch(fromClientError)
  expect(refused).toMatchObject({
    code: 'CONFLICT',
    message: expect.stringMatching(/web is shutoff and its task is creating/),
  })
  gate.resolve()
  await harness.atRest(uuid)
  const unknown = await harness.client
    .createConsoleToken({ uuid: 'nobody', kind: VNC })
    .catch(fromClientError)
  expect(unknown).toMatchObject({ code: 'NOT_FOUND' })
})

test('a restart makes tokens void', async () => {
  const uuid = await activeInstance()
  const { token } = await harness.client.createConsoleToken({ uuid, kind: VNC })
  await harness.stop()
  await harness.start()
  expect(await say({ token, uuid, kind: VNC }, 'hello')).toBe('CONSOLE_TOKEN_REFUSED')
})

test('an agent that is lost ends the console, with the name of its host', async () => {
  const uuid = await activeInstance()
  const { token } = await harness.client.createConsoleToken({ uuid, kind: VNC })
  let isOpen = false
  async function* requests(): AsyncGenerator<Partial<OpenConsoleRequest>> {
    yield { message: { $case: 'ticket', value: { token, uuid, kind: VNC } } }
    await sleep(20_000, undefined, { ref: false })
  }
  const ended = (async () => {
    for await (const _ of harness.client.openConsole(requests())) isOpen = true
  })().catch(fromClientError)
  await until('it is open', () => isOpen)
  agent.stop()
  expect(await ended).toMatchObject({ code: 'HOST_UNREACHABLE', message: expect.stringContaining('h1') })
})
