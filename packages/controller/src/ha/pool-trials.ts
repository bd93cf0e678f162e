// When the locks of pools are tried: as soon as a second host has one, when its hosts, their kernels or their boots are others, and daily.
// What could not be tried is tried again, ever later, or as soon as a host of it is back.

import { createHash } from 'node:crypto'
import type { DiskPoolHost, DiskPoolRecord } from '@vpe/core'
import type { PoolMount } from '@vpe/core/ha'
import type { AttachPoolRequest } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from '../agents.ts'
import { Slots } from '../slots.ts'
import type { Store } from '../store/store.ts'
import { change } from '../store/tables.ts'
import { tryLocks } from './lock-prober.ts'
import type { PoolLeasesRecord } from './records.ts'

const AT_ONCE = 4
const EVERY_MS = 24 * 3_600_000
const AGAIN_MS = 10_000
const AGAIN_MAX_MS = 600_000

interface Trial {
  dueMs: number
  isRunning: boolean
  /** Trials in a row that could not be carried out. */
  failures: number
  /** How many there were: each is made by other hosts, where there are others. */
  round: number
  fault: string
}

export interface PoolTrialDeps {
  readonly store: Store
  readonly agents: Agents
  readonly now: () => number
  readonly log: Logger
  readonly onFatal: (error: unknown) => void
  /** A pool, as a host that tries its locks is told of it. */
  readonly placeOf: (pool: DiskPoolRecord) => AttachPoolRequest
  /** Told when a trial of a pool is over, whatever it came to. */
  readonly onTried: (poolUuid: string) => void
}

/** The hosts of a pool that have had it in use, and keep it. */
export function usersOf({ hosts }: DiskPoolRecord): readonly DiskPoolHost[] {
  return hosts.filter(({ state, marker }) => state !== 'leaving' && marker !== '')
}

export class PoolTrials {
  readonly #deps: PoolTrialDeps
  readonly #trials = new Map<string, Trial>()
  /** Pools whose hosts, or what those run, may be others than when their locks were tried. */
  readonly #changed = new Set<string>()
  readonly #slots = new Slots(AT_ONCE)

  constructor(deps: PoolTrialDeps) {
    this.#deps = deps
  }

  /** Begins what is due. */
  tick(): void {
    for (const leases of this.#deps.store.poolLeases.values()) this.#look(leases, this.#deps.now())
  }

  noteChange(poolUuid: string): void {
    this.#changed.add(poolUuid)
  }

  /** Tries the pools of a host soon, however long they were to wait: what kept them from being tried may be over. */
  tryAgain(hostId: string): void {
    for (const uuid of this.#deps.store.poolHosts.poolsOf(hostId)) {
      this.#changed.add(uuid)
      const trial = this.#trials.get(uuid)
      if (trial) trial.dueMs = 0
    }
  }

  forget(poolUuid: string): void {
    this.#trials.delete(poolUuid)
    this.#changed.delete(poolUuid)
  }

  /** What kept a pool from being tried at the last attempt; empty where nothing did. */
  faultOf(poolUuid: string): string {
    return this.#trials.get(poolUuid)?.fault ?? ''
  }

  #look(leases: PoolLeasesRecord, now: number): void {
    const { store, onFatal } = this.#deps
    const isOld = leases.triedAtMs === null || now - leases.triedAtMs >= EVERY_MS
    const pool = store.diskPools.get(leases.diskPoolUuid)
    if (!pool || (!isOld && !this.#changed.has(pool.uuid))) return
    const trial = this.#trialOf(pool.uuid)
    if (trial.isRunning || trial.dueMs > now || leases.settings.wantedClass === 'N') return
    this.#changed.delete(pool.uuid)
    const users = usersOf(pool)
    const of = this.#idOf(users)
    if (users.length < 2 || (!isOld && leases.triedOf === of)) return
    trial.isRunning = true
    this.#slots
      .run(() => this.#try(pool, users, of, trial))
      .catch(onFatal)
      .finally(() => {
        trial.isRunning = false
      })
  }

  async #try(pool: DiskPoolRecord, users: readonly DiskPoolHost[], of: string, trial: Trial): Promise<void> {
    const { store, agents, now, log, placeOf, onTried } = this.#deps
    await store.durable()
    const up = users
      .filter(({ state }) => state === 'ready')
      .flatMap(({ hostId }) => store.hosts.get(hostId) ?? [])
      .filter(({ state }) => state === 'up')
    const at = up.length === 0 ? 0 : trial.round++ % up.length
    const outcome = await tryLocks(agents, {
      pool: placeOf(pool),
      hosts: [...up.slice(at), ...up.slice(0, at)],
      knownMounts: this.#knownMounts(pool.uuid, users),
    })
    if ('fault' in outcome) {
      this.#changed.add(pool.uuid)
      trial.fault = outcome.fault
      trial.dueMs = now() + Math.min(AGAIN_MAX_MS, AGAIN_MS * 2 ** trial.failures++)
      log.info({ disk_pool: pool.uuid, why: outcome.fault }, 'locks could not be tried')
    } else {
      trial.fault = ''
      trial.failures = 0
      log.info({ disk_pool: pool.uuid, ...outcome.trial }, 'locks tried')
      // It may have been deleted, or set otherwise, meanwhile.
      const leases = store.poolLeases.get(pool.uuid)
      const tried = { trial: outcome.trial, triedAtMs: now(), triedOf: of }
      if (leases) void store.commit([change.poolLeases({ ...leases, ...tried })])
    }
    onTried(pool.uuid)
  }

  #knownMounts(poolUuid: string, users: readonly DiskPoolHost[]): readonly PoolMount[] {
    const { store } = this.#deps
    const names = new Set(users.map(({ hostId }) => store.hosts.get(hostId)?.name))
    const mounts = store.poolLeases.get(poolUuid)?.trial?.mounts ?? []
    return mounts.filter(({ host }) => names.has(host))
  }

  /** Stands for hosts with their kernels and boots: mounts are made anew by each boot. */
  #idOf(users: readonly DiskPoolHost[]): string {
    const parts = users.map(({ hostId }) => {
      const facts = this.#deps.store.hosts.get(hostId)?.facts
      return `${hostId} ${facts?.kernel} ${facts?.bootId}`
    })
    return createHash('sha256').update(parts.sort().join('\n')).digest('hex')
  }

  #trialOf(poolUuid: string): Trial {
    const trial = this.#trials.get(poolUuid) ?? {
      ...{ dueMs: 0, isRunning: false, failures: 0, round: 0, fault: '' },
    }
    this.#trials.set(poolUuid, trial)
    return trial
  }
}
