// A pool: what lies in it, who has which lock, and what becomes of operations. An operation is submitted, applied and acknowledged at different
// times; it may be stuck on its host, under way, or done without its host knowing. What a dead process has submitted is
// still applied, unless the host is reset or the pool is unmounted by force; what has left a host is applied in any case.

import type { HostId } from '@vpe/core'
import type { Claim, Decoded, HostLease, Pill, PoolClass } from '@vpe/core/ha'
import { classifyPool, type PoolProbe } from '@vpe/core/ha'
import type { SimHost } from './sim-host.ts'
import type { World } from './world.ts'

/** What kind of server keeps the locks. */
export type LockServer =
  /** Leases, courtesy, revoking; writes of who has lost its locks are refused. */
  | 'nfs4'
  /** Locks of a dead host stay until it comes back; they do not gate writes. */
  | 'nfs3-sticky'
  /** As above, and the way QEMU asks for conflicts does not work. */
  | 'nfs3-broken-test'
  | 'no-locks'

const probes: Readonly<Record<LockServer, PoolProbe>> = {
  nfs4: probe(true, true, true, true),
  'nfs3-sticky': probe(true, true, true, false),
  'nfs3-broken-test': probe(false, true, true, false),
  'no-locks': { ...probe(false, false, true, false), unsafeOptions: ['nolock'] },
}

function probe(shown: boolean, refused: boolean, released: boolean, areLostLocksFenced: boolean): PoolProbe {
  return {
    isConflictShown: shown,
    isConflictRefused: refused,
    isReleaseSeen: released,
    areLostLocksFenced,
    unsafeOptions: [],
    isLinearizable: true,
  }
}

export interface SimPoolSettings {
  readonly name: string
  readonly lockServer: LockServer
  /** Of the server; a client that is not heard for so long may lose its locks to another. */
  readonly leaseMs: number
  readonly canRevoke: boolean
  readonly canUnmount: boolean
}

/** An operation of a host. */
export interface Op {
  readonly host: SimHost
  readonly bootId: string
  readonly what: OpKind
  readonly submittedMs: number
  /** Its effect, in the pool; returns what the host is told. */
  readonly apply: () => unknown
  readonly done: (result: unknown) => void
  isUnderWay: boolean
  isApplied: boolean
  result: unknown
}

export type OpKind = 'lease-write' | 'lease-read' | 'mailbox' | 'claim' | 'lock' | 'unlock' | 'guest-write'

/** The operation did not come about: the pool was unmounted, or refused it. */
export const FAILED = Symbol('failed')

interface Lock {
  readonly host: SimHost
  readonly bootId: string
  readonly token: number
}

interface Client {
  bootId: string
  /** Since when the server has not heard it; null while it does. */
  lostMs: number | null
}

export class SimPool {
  readonly name: string
  readonly settings: SimPoolSettings
  readonly poolClass: PoolClass
  readonly leases = new Map<string, Decoded<HostLease>>()
  readonly mailboxes = new Map<string, Pill>()
  readonly claims = new Map<string, Claim>()
  readonly locks = new Map<string, Lock>()
  /** When each host was shut out last. */
  readonly revokedMs = new Map<HostId, number>()
  readonly #clients = new Map<SimHost, Client>()
  isUp = true
  downSinceMs: number | null = null
  /** After a restart of the server: new locks wait, old ones can be claimed back. */
  graceUntilMs = 0
  /** Operations that have arrived while it was down. */
  #arrived: Op[] = []
  /** Time an operation spends on its way, at most. */
  slowMs = 0
  /** Only what comes from there is slow. */
  slowFor: SimHost | null = null
  readonly #world: World

  constructor(world: World, settings: SimPoolSettings) {
    this.#world = world
    this.settings = settings
    this.name = settings.name
    const host = { name: 'each', hasWatchdog: true, pausable: '' }
    this.poolClass = classifyPool(probes[settings.lockServer], [host]).poolClass
  }

  get gatesWrites(): boolean {
    return this.settings.lockServer === 'nfs4'
  }

  submit(host: SimHost, what: OpKind, apply: () => unknown, done: (result: unknown) => void): void {
    const op: Op = {
      host,
      bootId: host.bootId,
      what,
      submittedMs: this.#world.nowMs,
      apply,
      done,
      isUnderWay: false,
      isApplied: false,
      result: undefined,
    }
    host.queueOf(this).add(op)
    if (host.reaches(this) && !host.isStuck(this, what)) this.#send(op)
  }

  /** Sends again what waits on a host, after a cut has healed. */
  resend(host: SimHost): void {
    for (const op of host.queueOf(this))
      if (!op.isUnderWay && !host.isStuck(this, op.what))
        this.#world.after(this.#world.random.between(0, 200), () => {
          if (!op.isUnderWay && host.queueOf(this).has(op) && host.reaches(this)) this.#send(op)
        })
  }

  #send(op: Op): void {
    op.isUnderWay = true
    const { random } = this.#world
    const { flightMs } = this.#world.context.timings
    // What a host has sent is executed within the time that the protocol allows for it, though the host be gone.
    const isSlow = this.slowMs > 0 && (this.slowFor ?? op.host) === op.host && random.chance(0.5)
    const delayMs = isSlow
      ? random.between(0, Math.min(this.slowMs, flightMs * 0.95))
      : random.between(0.3, 3)
    this.#world.after(delayMs, () => this.#arrive(op))
  }

  #arrive(op: Op): void {
    if (!this.isUp) {
      this.#arrived.push(op)
      return
    }
    if (op.what === 'lock' && this.#world.nowMs < this.graceUntilMs) {
      this.#world.after(this.graceUntilMs - this.#world.nowMs + 1, () => this.#arrive(op))
      return
    }
    // A second arrival of what has been done is answered, and half of the time done again.
    if (!op.isApplied || (op.what === 'guest-write' && this.#world.random.chance(0.5))) {
      op.result = op.apply()
      op.isApplied = true
    }
    const { random } = this.#world
    const isAckLost = random.chance(this.#world.ackLoss)
    this.#world.after(random.between(0.3, 3), () => {
      op.isUnderWay = false
      const { host } = op
      if (!host.isOn || host.bootId !== op.bootId || !host.queueOf(this).has(op)) return
      const hears = host.reaches(this) && !host.of(this).deafTo.includes(op.what)
      if (isAckLost || !hears) {
        if (hears)
          // The connection broke: what waits for an answer is sent again as soon as there is another.
          this.#world.after(random.between(1, 20), () => {
            if (!op.isUnderWay && host.reaches(this) && host.queueOf(this).has(op)) this.#send(op)
          })
        return
      }
      host.queueOf(this).delete(op)
      host.whenAwake(() => op.done(op.result))
    })
  }

  /** The server stops answering, or comes back, with or without its memory of locks. */
  setUp(isUp: boolean, graceMs = 0): void {
    if (this.isUp === isUp) return
    this.isUp = isUp
    this.downSinceMs = isUp ? null : this.#world.nowMs
    for (const host of this.#world.hosts) this.noteContact(host)
    if (!isUp) return
    if (graceMs > 0) {
      this.graceUntilMs = this.#world.nowMs + graceMs
      // Who is there in time claims its locks back; the rest is forgotten.
      this.#world.after(graceMs, () => {
        for (const [host, { lostMs }] of this.#clients) if (lostMs !== null) this.drop(host)
      })
    }
    const arrived = this.#arrived
    this.#arrived = []
    for (const op of arrived) this.#arrive(op)
  }

  /** Keeps account of since when the server has not heard a host. */
  noteContact(host: SimHost): void {
    if (!host.mounts(this)) return
    const hears = this.isUp && host.isOn && !host.isFrozen && host.reaches(this)
    const client = this.#clients.get(host)
    if (!client) {
      if (hears) this.#clients.set(host, { bootId: host.bootId, lostMs: null })
      return
    }
    if (!hears) {
      client.lostMs ??= this.#world.nowMs
      return
    }
    // A client that has booted says so: its former self is gone.
    if (client.bootId !== host.bootId) this.drop(host)
    client.bootId = host.bootId
    client.lostMs = null
  }

  /** Shuts a host out: its locks are dropped. */
  revoke(host: SimHost): void {
    this.revokedMs.set(host.id, this.#world.nowMs)
    this.drop(host)
  }

  /** Drops all locks of a host. */
  drop(host: SimHost): void {
    for (const [key, lock] of this.locks) if (lock.host === host) this.locks.delete(key)
  }

  /** Gives a lock to a host, if it can be had. Returns its token, or null. */
  tryLock(key: string, host: SimHost): number | null {
    const { lockServer, leaseMs } = this.settings
    const token = this.#world.nextToken()
    const isImage = key.startsWith('image')
    if (lockServer === 'no-locks' || (isImage && lockServer === 'nfs3-broken-test')) return token
    const held = this.locks.get(key)
    if (held && lockServer === 'nfs4' && held.host !== host) {
      const lostMs = this.#clients.get(held.host)?.lostMs ?? null
      // A courteous server keeps what nobody else asks for.
      if (lostMs !== null && this.#world.nowMs - lostMs > leaseMs) this.drop(held.host)
    }
    if (this.locks.has(key)) return null
    this.locks.set(key, { host, bootId: host.bootId, token })
    return token
  }

  unlock(key: string, token: number): void {
    if (this.locks.get(key)?.token === token) this.locks.delete(key)
  }

  /** Whether what is done under a lock is still done. */
  admits(key: string, token: number): boolean {
    return !this.gatesWrites || this.locks.get(key)?.token === token
  }
}
