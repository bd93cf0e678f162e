// The processes of guests, as the kernel has them: how the guard ends one, and how it knows that nothing of it is left.
//
// What libvirt says of a guest is no proof of either (it calls one destroyed whose I/O thread still waits for the storage), and
// neither is its process: a leader that is a zombie may have threads that are not. So a guest gets a cgroup, libvirt's own or one of
// ours, and is gone when that has no task left.

import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface GuestProcesses {
  /** Puts what runs of an instance where it can be ended whole. To be called until it returns true. */
  adopt(uuid: string): boolean
  /** Ends everything of it, now; what waits for storage goes when that lets go of it. */
  kill(uuid: string): void
  /** Whether nothing of it is left. */
  isGone(uuid: string): boolean
  /** It is known to be gone: what was kept for it is removed. */
  forget(uuid: string): void
}

/** libvirt's own group for one machine, with systemd and without. */
const LIBVIRT_GROUP = /^(.*\/machine-qemu[^/]*\.scope|.*\/[^/]+\.libvirt-qemu)(\/.*)?$/

export class KernelGuestProcesses implements GuestProcesses {
  /** Where the cgroups of version 2 are. */
  readonly #root: string
  /** Below it, ours. */
  readonly #parent: string
  readonly #groups = new Map<string, string>()

  /** @param parent group below which guests get groups of their own where libvirt makes none */
  constructor(root: string, parent: string) {
    this.#root = root
    this.#parent = parent
  }

  adopt(uuid: string): boolean {
    const known = this.#groups.get(uuid)
    if (known && !isEmpty(known)) return true
    // Not seen yet, or started anew: libvirt gives each start a group of its own.
    const pids = processesOf(uuid)
    if (pids.length === 0) return known !== undefined
    const theirs = pids.map((pid) => LIBVIRT_GROUP.exec(groupOf(pid))?.[1]).find(Boolean)
    const group = join(this.#root, theirs ?? join(this.#parent, `guest-${uuid}`))
    if (!theirs) {
      mkdirSync(group, { recursive: true })
      for (const pid of pids) writeFileSync(join(group, 'cgroup.procs'), String(pid))
    }
    this.#groups.set(uuid, group)
    return true
  }

  kill(uuid: string): void {
    const before = this.#groups.get(uuid)
    this.adopt(uuid)
    for (const group of new Set([before, this.#groups.get(uuid)]))
      if (group) ifThere(() => writeFileSync(join(group, 'cgroup.kill'), '1'))
  }

  isGone(uuid: string): boolean {
    const group = this.#groups.get(uuid)
    // One that was never seen may have been seen too late: nothing of it must run now, either.
    return (!group || isEmpty(group)) && processesOf(uuid).length === 0
  }

  forget(uuid: string): void {
    const group = this.#groups.get(uuid)
    this.#groups.delete(uuid)
    if (group?.endsWith(`guest-${uuid}`)) ifThere(() => rmdirSync(group))
  }
}

/** Where the cgroups of version 2 are; also on a machine that has those of version 1 beside them. */
export function cgroupRoot(mounts: string = readFileSync('/proc/mounts', 'utf8')): string {
  const lines = mounts.split('\n').map((line) => line.split(' '))
  const root = lines.find(([, , type]) => type === 'cgroup2')?.[1]
  if (!root) throw new Error('there are no cgroups of version 2 here: mount -t cgroup2 none /sys/fs/cgroup')
  return root
}

function isEmpty(group: string): boolean {
  const events = ifThere(() => readFileSync(join(group, 'cgroup.events'), 'latin1'))
  return events === null || /^populated 0$/m.test(events)
}

/** QEMUs that libvirt has started for an instance. */
function processesOf(uuid: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      const words = ifThere(() => readFileSync(`/proc/${pid}/cmdline`, 'latin1'))?.split('\0') ?? []
      return words.some((word, index) => word === '-uuid' && words[index + 1] === uuid)
    })
}

function groupOf(pid: number): string {
  const text = ifThere(() => readFileSync(`/proc/${pid}/cgroup`, 'latin1')) ?? ''
  return /^0::(.*)$/m.exec(text)?.[1] ?? ''
}

/** Null where it has gone meanwhile. */
function ifThere<Result>(call: () => Result): Result | null {
  try {
    return call()
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) return null
    throw error
  }
}
