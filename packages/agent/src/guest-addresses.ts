// The addresses of this host's guests: from the leases of libvirt's networks, and from the host's ARP table
// for all others. Kept in memory and reported with the inventory; guests behind
// user-mode networking have none that anybody could reach.

import { isIP } from 'node:net'
import { isUp, type ObservedDomain, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import { macAddress } from './domain-xml.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import type { Neighbours } from './neighbours.ts'

export const ADDRESSES_INTERVAL_MS = 10_000

/** More than any honest guest has; whatever else it claims is left out. */
const ADDRESSES_MAX = 32

export interface GuestAddressesDeps {
  readonly hypervisor: Pick<Hypervisor, 'guestAddresses'>
  readonly neighbours: () => Promise<Neighbours>
  readonly log: Logger
  readonly domains: () => readonly ObservedDomain[]
  readonly onChange: () => void
}

export class GuestAddresses {
  readonly #deps: GuestAddressesDeps
  #known = new Map<string, readonly string[]>()

  constructor(deps: GuestAddressesDeps) {
    this.#deps = deps
  }

  /** Asks for those of every guest that is up. To be called every ADDRESSES_INTERVAL_MS; never rejects. */
  async look(): Promise<void> {
    const seen = new Map<string, readonly string[]>()
    const up = this.#deps.domains().filter(({ guest }) => isUp(guest))
    try {
      const neighbours = up.length > 0 ? await this.#deps.neighbours() : new Map()
      for (const { mark } of up) {
        const leased = await this.#deps.hypervisor.guestAddresses(mark.uuid)
        const addresses = sound([...leased, ...(neighbours.get(macAddress(mark.uuid)) ?? [])])
        if (addresses.length > 0) seen.set(mark.uuid, addresses)
      }
    } catch (error) {
      // What was known is likelier than nothing.
      const isExpected = error instanceof VpeError && error.code === 'UNAVAILABLE'
      if (!isExpected) this.#deps.log.debug({ err: error }, 'addresses cannot be learnt')
      return
    }
    const isSame = JSON.stringify([...seen]) === JSON.stringify([...this.#known])
    this.#known = seen
    if (!isSame) this.#deps.onChange()
  }

  /** Of each guest that has any. */
  all(): ReadonlyMap<string, readonly string[]> {
    return this.#known
  }
}

function sound(addresses: readonly string[]): readonly string[] {
  const useful = addresses.filter((address) => isIP(address) !== 0 && !isForItself(address))
  return [...new Set(useful)].sort().slice(0, ADDRESSES_MAX)
}

/** Loopback and link-local: of no use to anybody else. */
function isForItself(address: string): boolean {
  return /^(?:127\.|169\.254\.|::1$|fe[89ab])/i.test(address)
}
