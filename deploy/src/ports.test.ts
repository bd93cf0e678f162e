import { createServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import {
  choosePorts,
  findPorts,
  freePorts,
  isListening,
  listeningSockets,
  usualPorts,
  wishedPorts,
} from './ports.ts'

const wish = (port: number, held = false) => ({ port, held })
const usual = {
  api: wish(8080),
  controller: wish(7701),
  agent: wish(7702),
  agentMetrics: wish(7703),
  nats: wish(4222),
}

describe('choosePorts', () => {
  it('takes what was wished for when nobody is there', () => {
    expect(choosePorts(usual, () => false, [])).toEqual({ ports: usualPorts, moved: [] })
  })

  it('moves what somebody else holds, and says so', () => {
    const { ports, moved } = choosePorts(usual, (port) => port === 8080, [50_001])
    expect(ports).toEqual({ ...usualPorts, api: 50_001 })
    expect(moved).toEqual(['port 8080 is taken by another program: api gets 50001'])
  })

  it('leaves our own process on its port', () => {
    const wishes = { ...usual, api: wish(8080, true) }
    expect(choosePorts(wishes, () => true, [1, 2, 3, 4]).ports.api).toBe(8080)
  })

  it('never gives one port to two services', () => {
    const wishes = { ...usual, api: wish(7701) }
    const { ports } = choosePorts(wishes, () => false, [7702, 50_001])
    expect(new Set(Object.values(ports)).size).toBe(5)
  })
})

describe('wishedPorts', () => {
  it('are the usual ones, or those from another on', () => {
    expect(wishedPorts({})).toEqual(usualPorts)
    const ports = { api: 21_000, controller: 21_001, agent: 21_002, agentMetrics: 21_003, nats: 21_004 }
    expect(wishedPorts({ VPE_PORTS_FROM: '21000' })).toEqual(ports)
  })

  it.each(['0', 'http', '65532', '80.5'])('are not those from %s on', (text) => {
    expect(() => wishedPorts({ VPE_PORTS_FROM: text })).toThrow(`not ${text}`)
  })
})

describe('findPorts', () => {
  const server = createServer()
  afterEach(() => server.close())

  it('sees a port that is really taken', async () => {
    const [a, b, c, d, e] = (await freePorts(5)) as [number, number, number, number, number]
    await new Promise<void>((resolve) => server.listen(a, '127.0.0.1', resolve))
    const { ports } = await findPorts({
      api: wish(a),
      controller: wish(b),
      agent: wish(c),
      nats: wish(d),
      agentMetrics: wish(e),
    })
    expect(ports.api).not.toBe(a)
    expect(ports).toMatchObject({ controller: b, agent: c, nats: d })
  })
})

describe('who listens on a port', () => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4343 1 0 100 0 0 10 0`

  it('is read from the kernel', () => {
    expect([...listeningSockets(table, 8080)]).toEqual(['socket:[4242]'])
    expect([...listeningSockets(table, 80)]).toEqual([])
  })

  it('is us, and nobody else', async () => {
    const server = createServer()
    const [port = 0] = await freePorts(1)
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    expect(isListening(process.pid, port)).toBe(true)
    expect(isListening(process.ppid, port)).toBe(false)
    await new Promise((resolve) => server.close(resolve))
    expect(isListening(process.pid, port)).toBe(false)
  })
})
