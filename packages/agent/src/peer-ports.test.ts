import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { FakeHypervisor } from './hypervisor/fake.ts'
import { PeerPorts } from './peer-ports.ts'
import { ManualClock } from './testing/manual-clock.ts'

const stopping = new AbortController()
afterEach(() => stopping.abort())

const answers = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('close', () => socket.destroy())
  })

test('a port stays open for as long after who asked last as after who asked first, and no longer', async () => {
  const clock = new ManualClock()
  const receive = {
    libvirtUri: 'qemu+tcp://127.0.0.1/system',
    memoryUri: 'tcp://127.0.0.1',
    listenAddress: '127.0.0.1',
  }
  const settings = { receive, tls: false, ports: { from: 49_152, to: 65_535 } }
  const ports = new PeerPorts(settings, new FakeHypervisor(), clock, stopping.signal)
  const { port } = await ports.open()
  await clock.advance(29_000)
  expect((await ports.open()).port).toBe(port)
  await clock.advance(29_000)
  expect(await answers(port)).toBe(true)
  await clock.advance(2_000)
  expect(await answers(port)).toBe(false)
  const next = await ports.open()
  expect(await answers(next.port)).toBe(true)
})
