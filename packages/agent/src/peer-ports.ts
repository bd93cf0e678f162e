// Tries whether guests can come from other hosts, and go to them: a port of those that QEMU receives memory on is
// opened for a moment, for another host to dial, and another host's is dialled, with its libvirt.

import { connect, createServer, type Server } from 'node:net'
import { VpeError } from '@vpe/core'
import type { Clock } from './clock.ts'
import type { MigrationSettings } from './definition.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import { attempt } from './preflight/deadline.ts'

/** Long enough for the other host to be told, and to dial. */
const OPEN_MS = 30_000
const DIAL_MS = 5_000

/** Where a guest would be sent. */
export interface PeerPort {
  readonly libvirtUri: string
  /** Where the memory goes. */
  readonly address: string
  readonly port: number
  /** All that are to be open, for people. */
  readonly ports: string
}

/** What did not work; empty where all did. */
export type PeerFaults = readonly string[]

interface Listener {
  readonly server: Server
  readonly port: number
}

export class PeerPorts {
  readonly #settings: MigrationSettings
  readonly #hypervisor: Hypervisor
  readonly #clock: Clock
  readonly #signal: AbortSignal
  #open: Promise<Listener> | null = null
  /** Ends the wait for the close that was due. */
  #later = new AbortController()

  /** @param signal ends what is open */
  constructor(settings: MigrationSettings, hypervisor: Hypervisor, clock: Clock, signal: AbortSignal) {
    this.#settings = settings
    this.#hypervisor = hypervisor
    this.#clock = clock
    this.#signal = signal
  }

  /**
   * Opens a port, or says which is open; it stays so for a while from now.
   * @throws VpeError CONFLICT where this host receives no running guests, or all its ports are taken
   */
  async open(): Promise<PeerPort> {
    const { receive, ports } = this.#settings
    if (!receive) throw new VpeError('CONFLICT', 'this host receives no running guests')
    this.#open ??= this.#listen(receive.listenAddress)
    const { server, port } = await this.#open
    this.#closeLater(server)
    const address = new URL(receive.memoryUri).hostname.replace(/^\[|\]$/g, '')
    const dialled = `TCP ${libvirtPort(receive.libvirtUri)} (libvirt) and ${ports.from}–${ports.to} (memory)`
    return { libvirtUri: receive.libvirtUri, address, port, ports: dialled }
  }

  /** Dials another host as a migration would. */
  async dial({
    libvirtUri,
    address,
    port,
  }: Pick<PeerPort, 'libvirtUri' | 'address' | 'port'>): Promise<PeerFaults> {
    const reach = this.#hypervisor.reach(libvirtUri)
    const [libvirt, memory] = await Promise.all([
      attempt(reach, DIAL_MS, this.#clock),
      attempt(dialTcp(address, port), DIAL_MS, this.#clock),
    ])
    return [
      ...('fault' in libvirt ? [`${libvirtUri} (${libvirt.fault})`] : []),
      ...('fault' in memory ? [`tcp ${address}:${port} (${memory.fault})`] : []),
    ]
  }

  /** Whoever is told of the port last has as long to dial it as who was told first. */
  #closeLater(server: Server): void {
    this.#later.abort()
    const later = new AbortController()
    this.#later = later
    const close = () => {
      this.#open = null
      server.close()
    }
    this.#clock.sleep(OPEN_MS, AbortSignal.any([this.#signal, later.signal])).then(close, () => {
      // Put off, unless the agent ends.
      if (!later.signal.aborted) close()
    })
  }

  async #listen(host: string | undefined): Promise<Listener> {
    const { ports } = this.#settings
    try {
      // libvirt takes them from the other end.
      for (let port = ports.to; port >= ports.from; port--) {
        const server = await listenAt(port, host)
        if (server) return { server, port }
      }
    } catch (error) {
      this.#open = null
      throw error
    }
    this.#open = null
    throw new VpeError('CONFLICT', `all ports from ${ports.from} to ${ports.to} are taken`)
  }
}

/** Null where it is taken. */
function listenAt(port: number, host: string | undefined): Promise<Server | null> {
  const server = createServer((socket) => socket.destroy())
  server.unref()
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE'
        ? resolve(null)
        : reject(new VpeError('CONFLICT', `port ${port}: ${error.message}`)),
    )
    server.listen({ port, ...(host !== undefined && { host }) }, () => resolve(server))
  })
}

function dialTcp(host: string, port: number): Promise<void> {
  const socket = connect({ host, port, timeout: DIAL_MS })
  return new Promise<void>((resolve, reject) => {
    socket.once('connect', () => resolve())
    socket.once('timeout', () => reject(new Error('nothing answers')))
    socket.once('error', reject)
  }).finally(() => socket.destroy())
}

const USUAL_PORTS: Readonly<Record<string, number>> = { tls: 16514, tcp: 16509, ssh: 22 }

function libvirtPort(uri: string): number {
  const { protocol, port } = new URL(uri)
  return Number(port) || (USUAL_PORTS[protocol.replace(/^.*\+|:$/g, '')] ?? 16514)
}
