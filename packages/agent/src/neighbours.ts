// The host's ARP table, read from the kernel itself. libvirt has a reader of its own, for all domains' sake,
// but that of 9.0 refuses what some kernels answer ("wrong nlmsg len"), and would be asked once per guest.

import { readFile } from 'node:fs/promises'

/** ATF_COM of linux/if_arp.h: the kernel has heard the address from its owner. */
const COMPLETE = 0x2

/** IPv4 addresses by MAC address, in lower case. */
export type Neighbours = ReadonlyMap<string, readonly string[]>

export async function readNeighbours(): Promise<Neighbours> {
  return parseNeighbours(await readFile('/proc/net/arp', 'utf8'))
}

/** @param text of /proc/net/arp: a line of titles, then `address hw-type flags mac mask device` */
export function parseNeighbours(text: string): Neighbours {
  const found = new Map<string, string[]>()
  for (const line of text.split('\n').slice(1)) {
    const [address, , flags, mac] = line.trim().split(/\s+/)
    if (!address || !mac || (Number(flags) & COMPLETE) === 0) continue
    const key = mac.toLowerCase()
    found.set(key, [...(found.get(key) ?? []), address])
  }
  return found
}
