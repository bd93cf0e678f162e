// A guest that writes, ten times a second, who it is and what comes next into the next block of its data disk, past every cache; what
// the disk has then shows whether two lives of it ever wrote, or a write was lost (journal.ts). The guest's boot id tells its lives apart.

import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../e2e/cluster.ts'
import { readRest } from '../e2e/counting-guest.ts'
import type { LabCluster } from '../e2e/lab-cluster.ts'
import {
  type Acknowledged,
  BLOCK_BYTES,
  checkJournal,
  type JournalReport,
  parseAcknowledged,
  parseJournal,
} from './journal.ts'

/** User data for the demo image. The end of the journal is found by bisection: blocks are written in order. */
export const JOURNALING = `#!/bin/sh
disk=/dev/vdb
until [ -b $disk ]; do usleep 50000; done
read -r life </proc/sys/kernel/random/boot_id
read -r up _ </proc/uptime
base=$(($(date +%s) * 100 - \${up%.*}\${up#*.}))
at=0 end=$(($(cat /sys/block/vdb/size) / 8))
while [ $at -lt $end ]; do
  middle=$(((at + end) / 2))
  if dd if=$disk bs=${BLOCK_BYTES} skip=$middle count=1 2>/dev/null | { read -r mark _; [ "$mark" = vpe ]; }
  then at=$((middle + 1)); else end=$middle; fi
done
echo "journaling from $at"
number=0
while :; do
  read -r up _ </proc/uptime
  echo "vpe $at $life $number $((base + \${up%.*}\${up#*.}))" |
    dd of=$disk bs=${BLOCK_BYTES} seek=$at conv=sync,notrunc oflag=direct 2>/dev/null || continue
  [ $((number % 10)) = 0 ] && echo "journal $life $number"
  at=$((at + 1)) number=$((number + 1))
  usleep 70000
done
`

const POOL = 'shared'
const FLAVOR = { name: 'tiny-96', vcpus: 1, memory_mib: 96, disk_gib: 0 }
/** So much is read at a time, until a part has nothing in it. */
const READ_BLOCKS = 1024

export class JournalingGuest {
  readonly uuid: string
  readonly name: string
  readonly #cluster: LabCluster
  readonly #disk: string
  /** Its serial logs, open for as long as they are read: a host forgets what has left. */
  readonly #serials = new Map<number, { readonly fd: number; text: string }>()
  #acknowledged: Acknowledged[] = []
  #written = 0
  #life: string | undefined

  private constructor(cluster: LabCluster, name: string, uuid: string, disk: string) {
    this.#cluster = cluster
    this.name = name
    this.uuid = uuid
    this.#disk = disk
  }

  /** Makes one that is highly available, with both its disks in the shared pool; it need not run yet. */
  static async create(cluster: LabCluster, name: string): Promise<JournalingGuest> {
    const { body } = await cluster.ok('GET', '/flavors')
    if (!body.flavors.some((flavor: { name: string }) => flavor.name === FLAVOR.name))
      await cluster.ok('POST', '/flavors', { flavor: FLAVOR })
    const made = await cluster.ok('POST', '/disks', {
      disk: { name: `${name}-journal`, size_gib: 1, disk_pool: POOL },
    })
    const disk: string = made.body.disk.uuid
    await until(`the disk of ${name} is made`, async () => {
      return (await cluster.ok('GET', `/disks/${disk}`)).body.disk.status === 'available'
    })
    const instance = {
      name,
      flavor_uuid: FLAVOR.name,
      image_uuid: 'demo',
      disk_pool: POOL,
      disks: [disk],
      user_data: JOURNALING,
      ha: true,
    }
    const answer = await cluster.ok('POST', '/instances', { instance })
    return new JournalingGuest(cluster, name, answer.body.instance.uuid, disk)
  }

  /** How many blocks are written, as seen past the hosts; to be asked at any time. */
  written(): number {
    const blocks = this.#blocks(this.#written)
    this.#written += blocks.length
    const last = blocks.at(-1)
    if (last && last !== 'empty' && last !== 'foreign') this.#life = last.life
    return this.#written
  }

  /** That which wrote last; undefined before the first. */
  life(): string | undefined {
    this.written()
    return this.#life
  }

  check(): JournalReport {
    this.listen()
    return checkJournal(this.#blocks(0), this.#acknowledged)
  }

  /** Hears what it has said since; to be called often enough that no log is removed unread. */
  listen(): void {
    for (const host of this.#cluster.lab.hosts) this.#open(host.own('agent/console', `${this.uuid}.log`))
    for (const serial of this.#serials.values()) {
      serial.text += readRest(serial.fd)
      const end = serial.text.lastIndexOf('\n') + 1
      this.#acknowledged = mostOf([...this.#acknowledged, ...parseAcknowledged(serial.text.slice(0, end))])
      serial.text = serial.text.slice(end)
    }
  }

  /** With its disks. */
  async remove(): Promise<void> {
    for (const { fd } of this.#serials.values()) closeSync(fd)
    this.#serials.clear()
    const { headers } = await this.#cluster.ok('DELETE', `/instances/${this.uuid}`)
    await this.#cluster.ended(headers.get('operation-id') ?? '')
    const gone = await this.#cluster.ok('DELETE', `/disks/${this.#disk}`)
    await this.#cluster.ended(gone.headers.get('operation-id') ?? '')
  }

  /** From one to the last that is not empty. Holes are shorter than what is read at a time. */
  #blocks(first: number) {
    const fd = openSync(join(this.#cluster.lab.sharedFolder, `disk-${this.#disk}.raw`), 'r')
    try {
      const parts: Uint8Array[] = []
      for (let position = first * BLOCK_BYTES; ; ) {
        const part = Buffer.alloc(READ_BLOCKS * BLOCK_BYTES)
        const bytes = readSync(fd, part, 0, part.length, position)
        if (bytes === 0 || part.every((byte) => byte === 0)) break
        parts.push(part.subarray(0, bytes))
        position += bytes
      }
      const blocks = parseJournal(Buffer.concat(parts))
      return blocks.slice(0, blocks.findLastIndex((block) => block !== 'empty') + 1)
    } finally {
      closeSync(fd)
    }
  }

  #open(file: string): void {
    if (!existsSync(file)) return
    const fd = openSync(file, 'r')
    const inode = fstatSync(fd).ino
    if (this.#serials.has(inode)) closeSync(fd)
    else this.#serials.set(inode, { fd, text: '' })
  }
}

/** The last of each life is all that matters. */
function mostOf(acknowledged: readonly Acknowledged[]): Acknowledged[] {
  const most = new Map<string, Acknowledged>()
  for (const each of acknowledged) {
    const before = most.get(each.life)
    if (!before || before.number < each.number) most.set(each.life, each)
  }
  return [...most.values()]
}
