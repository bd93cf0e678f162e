// Consoles of real guests, through the agent's gRPC server. The guest is a boot sector of thirty bytes
// that repeats on its serial line whatever it hears there.

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type AttachConsoleRequest,
  ConsoleKind,
  DiskPoolSpec,
  fromClientError,
  type InstanceSpec,
  Power,
  RebootKind,
  SystemDiskKind,
} from '@vpe/proto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AgentProcess } from './testing/agent-process.ts'
import { TestLab, until } from './testing/lab.ts'
import { type MarkedPool, markedPool } from './testing/marked-pool.ts'

// Waits for a byte (line status, bit 0), takes it, waits until it may send (bit 5), sends it, begins again.
const ECHO = Buffer.from('bafd03eca80174fbbaf803ec88c4bafd03eca82074fbbaf80388e0eeebe2', 'hex')

let lab: TestLab
let agent: AgentProcess
let guest: InstanceSpec
let pool: MarkedPool

beforeAll(async () => {
  lab = await TestLab.start()
  pool = markedPool(join(lab.dir, 'pool'))
  const disk = Buffer.alloc(1024 * 1024)
  disk.set(ECHO)
  disk.set([0x55, 0xaa], 510)
  const file = join(lab.folder('images'), 'echo.raw')
  writeFileSync(file, disk)
  guest = spec({ image: { uuid: randomUUID(), url: `file://${file}`, sha256: '' } })
  agent = await startAgent()
  await agent.apply(guest)
})
afterAll(async () => {
  await agent?.end('SIGTERM')
  await lab?.[Symbol.asyncDispose]()
})

function startAgent(): Promise<AgentProcess> {
  return new AgentProcess({
    VPE_AGENT_STATE_DIR: lab.folder('state'),
    VPE_LIBVIRT_URI: lab.libvirtUri,
    VPE_NATS_URL: 'nats://127.0.0.1:1',
    VPE_AGENT_IMAGE_DIRS: lab.folder('images'),
  }).ready()
}

function spec(changes: Partial<InstanceSpec>): InstanceSpec {
  return {
    uuid: randomUUID(),
    name: 'echo',
    generation: 1,
    power: Power.ON,
    ha: false,
    vcpus: 1,
    memoryMib: 32,
    diskBytes: 0,
    image: guest?.image,
    diskPool: {
      ...DiskPoolSpec.create(),
      uuid: pool.uuid,
      kind: 'dir',
      path: pool.path,
      systemDisks: SystemDiskKind.OVERLAY,
    },
    stopGraceMs: 100,
    rebootGeneration: 0,
    rebootKind: RebootKind.UNSPECIFIED,
    diskGeneration: 0,
    seed: undefined,
    disks: [],
    hasDisk: false,
    ownership: undefined,
    diskSnapshotUuid: '',
    diskSource: undefined,
    ...changes,
  }
}

/** Somebody at a console. */
class Viewer {
  heard = ''
  heardBytes = 0
  readonly #going = new AbortController()
  readonly #waiting: Uint8Array[] = []
  #wake: () => void = () => {}
  isOpen = false
  /** The code of the fault that ended it; null for an end without fault. */
  readonly ended: Promise<string | null>

  constructor(uuid: string, kind: ConsoleKind) {
    const responses = agent.client.attachConsole(this.#requests(uuid, kind), { signal: this.#going.signal })
    this.ended = (async () => {
      try {
        for await (const { message } of responses) {
          if (message?.$case === 'opened') this.isOpen = true
          if (message?.$case === 'data') {
            this.heard = (this.heard + Buffer.from(message.value).toString('latin1')).slice(-100_000)
            this.heardBytes += message.value.length
          }
        }
        return null
      } catch (error) {
        return fromClientError(error).code
      }
    })()
  }

  static async at(uuid: string, kind: ConsoleKind): Promise<Viewer> {
    const viewer = new Viewer(uuid, kind)
    await Promise.race([until('it is open', () => viewer.isOpen), viewer.ended])
    return viewer
  }

  say(text: string): void {
    this.#waiting.push(new TextEncoder().encode(text))
    this.#wake()
  }

  async hears(text: string): Promise<void> {
    await until(`it hears ${text.slice(0, 40)}`, () => this.heard.includes(text))
  }

  leave(): void {
    this.#going.abort()
  }

  async *#requests(uuid: string, kind: ConsoleKind): AsyncGenerator<Partial<AttachConsoleRequest>> {
    yield { message: { $case: 'target', value: { uuid, kind } } }
    while (!this.#going.signal.aborted) {
      const value = this.#waiting.shift()
      if (value) yield { message: { $case: 'data', value } }
      else
        await Promise.race([
          new Promise<void>((wake) => (this.#wake = wake)),
          once(this.#going.signal, 'abort'),
        ])
    }
  }
}

const { VNC, SERIAL } = ConsoleKind

describe('a screen', () => {
  test('speaks VNC to several at once, and goes on when one leaves', async () => {
    const viewers = await Promise.all([1, 2, 3].map(() => Viewer.at(guest.uuid, VNC)))
    for (const viewer of viewers) await viewer.hears('RFB 003.008\n')
    viewers[0]?.leave()
    viewers[1]?.say('RFB 003.008\n')
    // One security type: none. The socket is nobody's but ours.
    await viewers[1]?.hears('RFB 003.008\n\u0001\u0001')
    for (const viewer of viewers) viewer.leave()
  })

  test('takes sixteen viewers, and says so to the next', async () => {
    const viewers = await Promise.all(Array.from({ length: 16 }, () => Viewer.at(guest.uuid, VNC)))
    expect(viewers.every(({ isOpen }) => isOpen)).toBe(true)
    expect(await new Viewer(guest.uuid, VNC).ended).toBe('CONFLICT')
    for (const viewer of viewers) viewer.leave()
    await until('there is room again', async () => {
      const viewer = await Viewer.at(guest.uuid, VNC)
      viewer.leave()
      return viewer.isOpen
    })
  })
})

describe('a serial line', () => {
  test('carries both ways, and into the log', async () => {
    const viewer = await Viewer.at(guest.uuid, SERIAL)
    viewer.say('hello, guest')
    await viewer.hears('hello, guest')
    const log = join(lab.dir, 'state', 'console', `${guest.uuid}.log`)
    await until('it is in the log', () => readFileSync(log, 'utf8').includes('hello, guest'))
    viewer.leave()
  })

  test('is open to nobody else on the host', () => {
    expect(statSync(join(lab.dir, 'state', 'console')).mode & 0o777).toBe(0o700)
  })

  test('loses nothing of 30 kB each way', async () => {
    const viewer = await Viewer.at(guest.uuid, SERIAL)
    viewer.say('a'.repeat(30_000))
    await until('all has come back', () => viewer.heardBytes >= 30_000, 50_000).catch(() => {})
    expect(viewer.heardBytes).toBe(30_000)
    viewer.leave()
  })

  test('goes to the latest opener', async () => {
    const first = await Viewer.at(guest.uuid, SERIAL)
    const second = await Viewer.at(guest.uuid, SERIAL)
    expect(await first.ended).toBe('SUPERSEDED')
    second.say('second')
    await second.hears('second')
    second.leave()
  })
})

test.each(['takes them at once', 'is too busy to take them'])(
  'of five who open a serial line at once, one has it, when QEMU %s',
  async (how) => {
    const pid = lab.qemuPid(`vpe-${guest.uuid}`)
    if (how.includes('busy')) process.kill(pid, 'SIGSTOP')
    const viewers = Array.from({ length: 5 }, () => new Viewer(guest.uuid, SERIAL))
    const lost = new Set<Viewer>()
    for (const viewer of viewers) {
      void viewer.ended.then((code) => code === 'SUPERSEDED' && lost.add(viewer))
    }
    await until('some have lost it', () => lost.size > 0)
    process.kill(pid, 'SIGCONT')
    await until('four have lost it', () => lost.size === 4)
    const [winner] = viewers.filter((viewer) => !lost.has(viewer))
    winner?.say('mine')
    await winner?.hears('mine')
    winner?.leave()
  },
)

describe('there is none', () => {
  test('of a guest that nobody knows', async () => {
    expect(await new Viewer(randomUUID(), VNC).ended).toBe('NOT_FOUND')
  })

  test('of a domain of others', async () => {
    const uuid = randomUUID()
    const xml = `<domain type='test'><name>theirs</name><uuid>${uuid}</uuid><memory>32768</memory><os><type>hvm</type></os></domain>`
    const file = join(lab.dir, 'theirs.xml')
    writeFileSync(file, xml.replace("'test'", "'qemu'"))
    await lab.virsh('define', file)
    expect(await new Viewer(uuid, SERIAL).ended).toBe('NOT_FOUND')
    await lab.virsh('undefine', uuid)
  })

  test('of a guest that is off', async () => {
    const off = spec({ power: Power.OFF })
    await agent.apply(off)
    expect(await new Viewer(off.uuid, VNC).ended).toBe('CONFLICT')
    expect(await new Viewer(off.uuid, SERIAL).ended).toBe('CONFLICT')
  })

  test('of nothing: a stream that names no console is refused', async () => {
    expect(await new Viewer('', ConsoleKind.UNSPECIFIED).ended).toBe('INVALID_ARGUMENT')
  })
})

test('a guest of a vpe without serial consoles has one with its next start', async () => {
  const old = spec({ power: Power.OFF })
  await agent.apply(old)
  const file = join(lab.dir, 'old.xml')
  const xml = await lab.virsh('dumpxml', '--inactive', old.uuid)
  writeFileSync(file, xml.replaceAll(/<(serial|console) type='unix'>\s*<source[^>]*\/>/g, "<$1 type='pty'>"))
  await lab.virsh('define', file)
  await lab.virsh('start', old.uuid)
  expect(await lab.virsh('dumpxml', old.uuid)).toContain("<serial type='pty'>")
  expect(await new Viewer(old.uuid, SERIAL).ended).toBe('CONFLICT')
  const screen = await Viewer.at(old.uuid, VNC)
  await screen.hears('RFB')
  screen.leave()

  await agent.apply({ ...old, generation: 2, power: Power.OFF })
  await agent.apply({ ...old, generation: 3, power: Power.ON })
  const serial = await Viewer.at(old.uuid, SERIAL)
  serial.say('now')
  await serial.hears('now')
  serial.leave()
})

test('a guest that goes off ends its consoles', async () => {
  const viewers = [await Viewer.at(guest.uuid, VNC), await Viewer.at(guest.uuid, SERIAL)]
  process.kill(lab.qemuPid(`vpe-${guest.uuid}`), 'SIGKILL')
  for (const viewer of viewers) expect([null, 'INTERNAL']).toContain(await viewer.ended)
  // libvirt hears of it later than its viewers do, and a guest that is still on is not started.
  await until('it is off', async () => (await agent.report(guest.uuid))?.power === Power.OFF)
  await agent.apply({ ...guest, generation: 2 })
})

test('an agent that stops ends them, too, and does not wait for its viewers', async () => {
  const viewers = [await Viewer.at(guest.uuid, VNC), await Viewer.at(guest.uuid, SERIAL)]
  const startedMs = performance.now()
  const codes = Promise.all(viewers.map(({ ended }) => ended))
  expect(await agent.end('SIGTERM')).toBe(0)
  // Less than what it gives to calls that do not end.
  expect(performance.now() - startedMs).toBeLessThan(10_000)
  expect(await codes).toEqual(['UNAVAILABLE', 'UNAVAILABLE'])
  agent = await startAgent()
})
