/**
 * Which port each service listens on. A port once chosen stays (scripts and the cluster's own records
 * name it), the usual one is tried first, and one that somebody else holds is passed over for a free one.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { Trouble } from './trouble.ts'

export const usualPorts = {
  api: 8080,
  controller: 7701,
  agent: 7702,
  agentMetrics: 7703,
  nats: 4222,
} as const

export type PortName = keyof typeof usualPorts
export type Ports = Readonly<Record<PortName, number>>

/**
 * What services listen on unless somebody is there already: the usual ports, or those from VPE_PORTS_FROM on, so that several clusters
 * may be made at the same time.
 *
 * @throws Trouble when that is no port, or too high for all of them
 */
export function wishedPorts(env: NodeJS.ProcessEnv = process.env): Ports {
  const text = env.VPE_PORTS_FROM
  if (!text) return usualPorts
  const names = Object.keys(usualPorts) as PortName[]
  const first = Number(text)
  const highest = 65_535 - names.length + 1
  if (!Number.isInteger(first) || first < 1 || first > highest)
    throw new Trouble(`VPE_PORTS_FROM is a port from 1 to ${highest}, not ${text}`)
  return Object.fromEntries(names.map((name, index) => [name, first + index])) as Record<PortName, number>
}

export interface PortChoice<Name extends string = PortName> {
  readonly ports: Readonly<Record<Name, number>>
  /** In words, for the user: which service could not have its port. */
  readonly moved: readonly string[]
}

/** What a service would like: its remembered port or the usual one; `held` when our own process is on it. */
export interface PortWish {
  readonly port: number
  readonly held: boolean
}

/** Pure: from wishes, and what is taken, to ports. `free` yields ports that nobody holds. */
export function choosePorts<Name extends string>(
  wishes: Readonly<Record<Name, PortWish>>,
  isTaken: (port: number) => boolean,
  free: readonly number[],
): PortChoice<Name> {
  const spare = [...free]
  const ports: Record<string, number> = {}
  const moved: string[] = []
  const used = new Set<number>()
  for (const [name, { port, held }] of Object.entries<PortWish>(wishes)) {
    let chosen = port
    if (!held && (isTaken(port) || used.has(port))) {
      const next = spare.find((candidate) => !used.has(candidate))
      if (next === undefined) throw new RangeError('too few free ports were offered')
      chosen = next
      moved.push(`port ${port} is taken by another program: ${name} gets ${chosen}`)
    }
    ports[name] = chosen
    used.add(chosen)
  }
  return { ports: ports as Record<Name, number>, moved }
}

/** Looks at the machine, then decides. */
export async function findPorts<Name extends string>(
  wishes: Readonly<Record<Name, PortWish>>,
): Promise<PortChoice<Name>> {
  const taken = new Set<number>()
  for (const { port, held } of Object.values<PortWish>(wishes)) {
    if (!held && !(await canListen(port))) taken.add(port)
  }
  return choosePorts(wishes, (port) => taken.has(port), await freePorts(Object.keys(wishes).length))
}

/** Ports that are free now, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => listen(0)))
  const ports = servers.map((server) => {
    const address = server.address()
    return typeof address === 'object' && address ? address.port : 0
  })
  await Promise.all(servers.map(close))
  return ports
}

/** Does somebody accept connections there? */
export function accepts(at: { port: number } | { path: string }, timeoutMs = 1000): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', ...at, timeout: timeoutMs })
    const answer = (is: boolean) => () => {
      socket.destroy()
      resolve(is)
    }
    socket.once('connect', answer(true)).once('error', answer(false)).once('timeout', answer(false))
  })
}

/** Does this very process listen there? That somebody answers at a port says nothing about who. */
export function isListening(pid: number, port: number): boolean {
  try {
    const sockets = listeningSockets(readFileSync(`/proc/${pid}/net/tcp`, 'utf8'), port)
    const files = `/proc/${pid}/fd`
    return readdirSync(files).some((file) => sockets.has(linkTarget(`${files}/${file}`)))
  } catch {
    return false
  }
}

/** From /proc/net/tcp: `socket:[inode]` of what listens on a port, as /proc/<pid>/fd names it. */
export function listeningSockets(table: string, port: number): ReadonlySet<string> {
  const listen = '0A'
  const end = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = table.split('\n').map((line) => line.trim().split(/\s+/))
  const matching = rows.filter(([, local, , state]) => local?.endsWith(end) && state === listen)
  return new Set(matching.map((row) => `socket:[${row[9]}]`))
}

function linkTarget(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

async function canListen(port: number): Promise<boolean> {
  try {
    await close(await listen(port))
  } catch {
    return false
  }
  // Linux lets a second socket listen on 127.0.0.1 beside one on 0.0.0.0 in some cases: ask, too.
  return !(await accepts({ port }, 200))
}

function listen(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject).listen(port, '127.0.0.1', () => resolve(server))
  })
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
