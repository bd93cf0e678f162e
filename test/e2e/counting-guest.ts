// A guest in a lab that counts on its serial line: what it says shows whether anything of it was lost on its way from
// host to host, how long it stood still, and on how many hosts it ran.

import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import { expect } from 'vitest'
import { until } from './cluster.ts'
import type { LabCluster } from './lab-cluster.ts'

export const COUNTING = '#!/bin/sh\ni=0; while :; do i=$((i+1)); echo "count $i."; usleep 50000; done\n'

/** A serial log as it was on one host; open for as long as it is read, for a host forgets what has left. */
interface Part {
  readonly inode: number
  readonly fd: number
  text: string
}

export class CountingGuest {
  readonly cluster: LabCluster
  readonly uuid: string
  readonly #parts: Part[] = []

  constructor(cluster: LabCluster, uuid: string) {
    this.cluster = cluster
    this.uuid = uuid
  }

  /** Every number that it has said, in the order of its hosts. */
  numbers(): number[] {
    for (const host of this.cluster.lab.hosts) this.#open(host.own('agent/console', `${this.uuid}.log`))
    for (const part of this.#parts) part.text += readRest(part.fd)
    const text = this.#parts.map((part) => part.text).join('')
    return [...text.matchAll(/count (\d+)\./g)].map(([, number]) => Number(number))
  }

  async goesOn(): Promise<void> {
    const before = this.numbers().length
    await until(`${this.uuid} goes on counting`, () => this.numbers().length > before + 5)
  }

  /** No number is missing, none was said twice, and it never began again. */
  expectWhole(): void {
    const numbers = this.numbers()
    expect(numbers).toEqual(numbers.map((_, index) => index + 1))
  }

  close(): void {
    for (const { fd } of this.#parts) closeSync(fd)
    this.#parts.length = 0
  }

  #open(path: string): void {
    if (!existsSync(path)) return
    const fd = openSync(path, 'r')
    const inode = fstatSync(fd).ino
    if (this.#parts.some((part) => part.inode === inode)) closeSync(fd)
    else this.#parts.push({ inode, fd, text: '' })
  }
}

/**
 * Looks at guests all the time while something is done: that none runs twice, and for how long each said nothing.
 *
 * @returns the longest such time of each, in ms
 */
export async function watchedWhile(
  cluster: LabCluster,
  guests: readonly CountingGuest[],
  act: () => Promise<unknown>,
): Promise<number[]> {
  let isDone = false
  const watched = guests.map((guest) => ({ guest, gapMs: 0, since: performance.now(), count: 0 }))
  const counting = until('it is done', () => {
    for (const each of watched) {
      const { length } = each.guest.numbers()
      if (length === each.count) continue
      const now = performance.now()
      if (each.count > 0) each.gapMs = Math.max(each.gapMs, now - each.since)
      Object.assign(each, { count: length, since: now })
    }
    return isDone
  })
  const looking = until('it is done', async () => {
    await expectNoneTwice(cluster)
    return isDone
  })
  const acting = act().finally(() => {
    isDone = true
  })
  await Promise.all([acting, counting, looking])
  return watched.map(({ gapMs }) => Math.round(gapMs))
}

/** Hosts are asked one after the other: only who runs it in two looks in a row has run it all the while. */
async function expectNoneTwice(cluster: LabCluster): Promise<void> {
  const first = await cluster.running()
  if ([...first.values()].every((hosts) => hosts.length === 1)) return
  const second = await cluster.running()
  for (const [uuid, hosts] of first)
    expect(hosts.filter((host) => second.get(uuid)?.includes(host)).length).toBeLessThan(2)
}

/** What is in a file from where it was read last. */
export function readRest(fd: number): string {
  const buffer = Buffer.alloc(65_536)
  let text = ''
  for (;;) {
    const length = readSync(fd, buffer)
    if (length === 0) return text
    text += buffer.toString('latin1', 0, length)
  }
}
