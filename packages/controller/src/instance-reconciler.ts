// Drives each instance to where its record wants it: asks `plan` for the next step, makes the call,
// feeds the result back, and looks again. One runner per instance at most; woken by changes of the
// record and of its host, and by nothing else, so that it does not matter how often or how late.

import {
  type Attempts,
  afterFailure,
  type DepartureReport,
  decideCopyFailed,
  decideFailed,
  decideMigrationFailed,
  decideReleased,
  decideRemoved,
  decideReport,
  decideStayed,
  decideSwept,
  type HostRecord,
  type InstanceDecision,
  type InstanceRecord,
  isGivenUp,
  isTransient,
  judgeMigration,
  type PlannedAction,
  plan,
  VpeError,
} from '@vpe/core'
import { fromClientError, type InstanceSpec } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from './agents.ts'
import { DiskCopier } from './disk-copier.ts'
import { takeBackDiskWishes } from './disk-wishes.ts'
import type { Ownerships } from './ha/ownerships.ts'
import { commitDecision } from './instance-commit.ts'
import { wantedDisks } from './instance-disks.ts'
import type { Store } from './store/store.ts'
import { type Callers, Turnstile } from './turnstile.ts'
import {
  departureFromWire,
  diskPoolSpecToWire,
  instanceSpecToWire,
  reportFromWire,
  STOP_GRACE_MS,
} from './wire.ts'

/** So often it is looked again whether an instance may be touched: a look that was missed is made up for. */
const HELD_LOOK_MS = 5_000

type Decide = (now: InstanceRecord) => InstanceDecision | null

interface Runner {
  /** Aborts the call under way; null between calls. */
  call: { readonly generation: number; readonly abort: AbortController } | null
  /** Ends the wait for a retry early. */
  wake: () => void
}

export class InstanceReconciler {
  readonly #store: Store
  readonly #agents: Agents
  readonly #copier: DiskCopier
  readonly #now: () => number
  readonly #log: Logger
  readonly #onFatal: (error: unknown) => void
  readonly #ownerships: Ownerships
  readonly #runners = new Map<string, Runner>()
  readonly #attempts = new Map<string, Attempts>()
  readonly #steps = new Map<string, string>()
  readonly #calls = {
    migrate: this.#migrate.bind(this),
    'end-migration': this.#endMigration.bind(this),
    release: this.#release.bind(this),
    apply: this.#apply.bind(this),
    remove: this.#remove.bind(this),
    sweep: this.#sweep.bind(this),
  }
  /** Where new instances wait for their turn: that creations are accepted comes before that guests are made. */
  readonly #turnstile: Turnstile
  #isClosed = false

  /**
   * @param callers those that new instances wait behind
   * @param ownerships who has what is highly available
   * @param onFatal told of a defect, or of a store that failed: the process must end
   */
  constructor(
    store: Store,
    agents: Agents,
    callers: Callers,
    ownerships: Ownerships,
    now: () => number,
    log: Logger,
    onFatal: (error: unknown) => void,
  ) {
    this.#ownerships = ownerships
    this.#turnstile = new Turnstile(callers)
    this.#store = store
    this.#agents = agents
    this.#copier = new DiskCopier(store, agents)
    this.#now = now
    this.#log = log
    this.#onFatal = onFatal
    store.listen({ onInstance: (_before, after) => after && this.look(after.uuid) })
  }

  /** Takes up every instance that has something left to be done: after a start, or when in doubt. */
  lookAtAll(): void {
    for (const uuid of this.#store.instances.keys()) this.look(uuid)
  }

  /** A host can be reached again: what waits for it is tried at once. */
  lookAtHost(hostId: string): void {
    for (const uuid of this.#store.usage.instancesOfHost(hostId)) {
      this.#attempts.delete(uuid)
      this.look(uuid)
    }
  }

  /** Looks at one instance again. */
  look(uuid: string): void {
    if (this.#isClosed) return
    const instance = this.#store.instances.get(uuid)
    const runner = this.#runners.get(uuid)
    if (runner) {
      if (runner.call && instance && instance.generation > runner.call.generation) runner.call.abort.abort()
      runner.wake()
      return
    }
    if (!instance || plan(instance, null, this.#now()).kind === 'none') return
    const fresh: Runner = { call: null, wake: () => {} }
    this.#runners.set(uuid, fresh)
    void this.#run(uuid, fresh)
  }

  /** What is being done for an instance at this moment, for people. */
  stepOf(uuid: string): string {
    return this.#steps.get(uuid) ?? ''
  }

  close(): void {
    this.#isClosed = true
    this.#turnstile.close()
    for (const runner of this.#runners.values()) {
      runner.call?.abort.abort()
      runner.wake()
    }
  }

  async #run(uuid: string, runner: Runner): Promise<void> {
    try {
      if (this.#store.instances.get(uuid)?.task === 'creating') {
        this.#steps.set(uuid, 'waits for its turn')
        await this.#turnstile.pass()
      }
      while (!this.#isClosed) {
        // Before anything leaves the process, what it rests on must be on disk.
        await this.#store.durable()
        const instance = this.#store.instances.get(uuid)
        if (!instance) break
        const action = plan(instance, this.#attempts.get(uuid) ?? null, this.#now())
        if (action.kind === 'none') break
        const held = this.#ownerships.whyHeld(instance, action.kind)
        if (held !== null) this.#steps.set(uuid, `waits: ${held}`)
        if (held !== null) await this.#waitUntil(runner, this.#now() + HELD_LOOK_MS)
        else if (action.kind === 'wait') await this.#waitUntil(runner, action.untilMs)
        else await this.#act(instance, runner, action.kind)
      }
    } catch (error) {
      // Calls that fail are decided upon above.
      this.#onFatal(error)
      return
    } finally {
      this.#runners.delete(uuid)
      this.#steps.delete(uuid)
      if (!this.#store.instances.has(uuid)) this.#attempts.delete(uuid)
    }
    // A change that came between the last look and the removal of this runner has no runner.
    this.look(uuid)
  }

  async #act(
    instance: InstanceRecord,
    runner: Runner,
    kind: Exclude<PlannedAction['kind'], 'none' | 'wait'>,
  ): Promise<void> {
    const abort = new AbortController()
    runner.call = { generation: instance.generation, abort }
    try {
      const decision = await this.#calls[kind](instance, abort.signal)
      this.#attempts.delete(instance.uuid)
      if (!this.#commit(instance, decision))
        throw new VpeError('UNAVAILABLE', 'what its host says does not count while it is recovered')
    } catch (error) {
      if (abort.signal.aborted) return
      this.#failed(instance, kind, fromClientError(error))
    } finally {
      runner.call = null
    }
  }

  /**
   * Has the guest taken to its new host as it runs. Whoever has it then, the old host says; it is asked again, however
   * often its word is lost.
   */
  async #migrate(instance: InstanceRecord, signal: AbortSignal): Promise<Decide> {
    const { uuid, generation, migration } = instance
    const [from, to] = [this.#leavingHost(instance), this.#partsOf(instance).host]
    const copies = migration?.copyDisks ? await this.#copier.describe(instance, from, signal) : []
    const postCopy = migration?.postCopy ?? false
    this.#steps.set(uuid, `asking ${to.name} whether it can take the guest`)
    const spec = await this.#specOf(instance)
    const epoch = this.#store.epoch
    const prepared = await this.#agents
      .client(to)
      .prepareMigration({ epoch, spec, copies, postCopy }, { signal })
      .catch((error: unknown) => {
        const fault = about(to, fromClientError(error))
        if (isTransient(fault.code)) throw fault
        return fault
      })
    if (prepared instanceof VpeError) return this.#refusedThere(instance, prepared.message, signal)
    const limits = {
      bandwidthMibS: migration?.bandwidthMibS ?? 0,
      downtimeMs: migration?.downtimeMaxMs ?? 0,
      copyTargets: copies.map(({ target }) => target),
      postCopy,
    }
    const order = { epoch, uuid, generation, target: prepared.target, ...limits }
    try {
      for await (const { update } of this.#agents.client(from).migrateDomain(order, { signal })) {
        if (update?.$case === 'step') this.#steps.set(uuid, update.value)
        if (update?.$case !== 'report') continue
        const report = departureFromWire(update.value)
        const fault = `host ${from.name}: ${report.fault}`
        if (report.isRefused) return (now) => decideMigrationFailed(now, fault, true)
        const verdict = judgeMigration(report.departure, null)
        if (verdict === 'moved') return (now) => decideReleased(now, report.downtimeMs)
        if (verdict === 'stays') return (now) => decideStayed(now, report.stopCause, fault)
        return (now) => decideMigrationFailed(now, fault, false)
      }
    } catch (error) {
      throw about(from, fromClientError(error))
    }
    throw new VpeError('UNAVAILABLE', `host ${from.name} ended the call without a report`)
  }

  /**
   * The new host says that it cannot take it. An earlier call, whose answer was lost, may have begun it all the same:
   * only by the old host's word that it has its guest, and hands it over no more, was it refused before it began.
   */
  async #refusedThere(instance: InstanceRecord, fault: string, signal: AbortSignal): Promise<Decide> {
    const report = await this.#keep(instance, signal)
    const verdict = judgeMigration(report.departure, null)
    if (verdict === 'moved') return (now) => decideReleased(now, report.downtimeMs)
    return (now) => decideMigrationFailed(now, fault, verdict === 'stays')
  }

  /** Has the old host hand its guest over no more, and say what it has of it. */
  async #keep(instance: InstanceRecord, signal: AbortSignal): Promise<DepartureReport> {
    const { uuid, generation } = instance
    const from = this.#leavingHost(instance)
    this.#steps.set(uuid, `having ${from.name} keep its guest`)
    const { report } = await this.#agents
      .client(from)
      .endMigration({ epoch: this.#store.epoch, uuid, generation }, { signal })
      .catch((error: unknown) => {
        throw about(from, fromClientError(error))
      })
    return departureFromWire(report)
  }

  /** Finds out who has the guest of a live migration that is wanted no more, or has failed. */
  async #endMigration(instance: InstanceRecord, signal: AbortSignal): Promise<Decide> {
    const { uuid, generation, migration } = instance
    const to = this.#partsOf(instance).host
    const report = await this.#keep(instance, signal)
    const decide = (arrival: 'arrived' | 'absent' | null): Promise<Decide> | Decide => {
      const verdict = judgeMigration(report.departure, arrival)
      switch (verdict) {
        case 'moved':
          return (now) => decideReleased(now, report.downtimeMs)
        case 'stays':
          return (now) => decideStayed(now, report.stopCause, report.fault)
        case 'release':
          return this.#release(instance, signal)
        case 'ask':
          return ask()
        default:
          throw new Error(`no such verdict: ${verdict satisfies never}`)
      }
    }
    const ask = async () => {
      this.#steps.set(uuid, `asking ${to.name} whether the guest has arrived`)
      const since = migration?.generation ?? generation
      const { arrived } = await this.#agents
        .client(to)
        .abandonMigration({ epoch: this.#store.epoch, uuid, generation, since }, { signal })
        .catch((error: unknown) => {
          throw about(to, fromClientError(error))
        })
      return decide(arrived ? 'arrived' : 'absent')
    }
    return decide(null)
  }

  /** Waits for the old host as long as it takes: that it is silent says nothing of what it runs. */
  async #release(instance: InstanceRecord, signal: AbortSignal): Promise<Decide> {
    const { uuid, generation } = instance
    const host = this.#leavingHost(instance)
    const what = `${host.name} has to let go of it first`
    this.#steps.set(uuid, what)
    const request = { epoch: this.#store.epoch, uuid, generation, stopGraceMs: STOP_GRACE_MS }
    try {
      await this.#agents.client(host).releaseInstance(request, { signal })
    } catch (error) {
      const { code, message } = fromClientError(error)
      throw new VpeError(code, `${what}: ${message}`, { cause: error })
    }
    const { migration, task } = instance
    if (migration?.copyDisks && migration.mode === 'cold' && task !== 'deleting') {
      const say = (step: string) => this.#steps.set(uuid, step)
      await this.#copier.copy(instance, host, this.#partsOf(instance).host, say, signal)
    }
    return decideReleased
  }

  /** Has a host remove what a move has left there. One that is no host of the cluster any more has nothing of it. */
  async #sweep(instance: InstanceRecord, signal: AbortSignal): Promise<Decide> {
    const action = plan(instance, null, this.#now())
    if (action.kind !== 'sweep') throw new Error('this was planned for a record that leaves something')
    const { hostId } = action
    const host = this.#store.hosts.get(hostId)
    if (host) {
      this.#steps.set(instance.uuid, `having ${host.name} remove what the move has left`)
      await this.#copier.remove(instance, host, signal)
    }
    return (now) => decideSwept(now, hostId)
  }

  async #apply(instance: InstanceRecord, signal: AbortSignal): Promise<Decide> {
    const { host } = this.#partsOf(instance)
    const spec = await this.#specOf(instance)
    const updates = this.#agents.client(host).applyInstance({ epoch: this.#store.epoch, spec }, { signal })
    let last: Parameters<typeof reportFromWire>[0] | null = null
    // To its end, also behind the report: leaving early would cancel a call that is over.
    for await (const { update } of updates) {
      if (update?.$case === 'step') this.#steps.set(instance.uuid, update.value)
      if (update?.$case === 'report') last = update.value
    }
    if (!last) throw new VpeError('UNAVAILABLE', `${host.name} ended the call without a report`)
    const report = { ...reportFromWire(last), converging: false }
    if (!decideReport(instance, report)) {
      throw new VpeError(
        'HYPERVISOR_FAILED',
        `${host.name} made it power ${report.power} at generation ${report.generation}, not ${instance.power} at ${instance.generation}`,
      )
    }
    return (now) => decideReport(now, report)
  }

  async #specOf(instance: InstanceRecord): Promise<InstanceSpec> {
    const { pool } = this.#partsOf(instance)
    const image = this.#store.images.get(instance.imageUuid)
    if (!image)
      throw new VpeError('INTERNAL', `image ${instance.imageUuid} of instance ${instance.uuid} has no record`)
    // Before anything is waited for: these are the disks of this generation.
    const disks = wantedDisks(this.#store, instance.uuid)
    const userData = instance.userDataSha256 ? await this.#userData(instance.uuid) : ''
    const ownership = this.#ownerships.own(instance)
    // Its host must never have by it what is not written down.
    await this.#store.durable()
    return instanceSpecToWire(this.#store, instance, image, pool, userData, disks, ownership)
  }

  async #userData(uuid: string): Promise<string> {
    const text = await this.#store.backend.findUserData(uuid)
    if (text !== null) return text
    throw new VpeError('SUPERSEDED', `instance ${uuid} went away with its user data`)
  }

  async #remove(instance: InstanceRecord, signal: AbortSignal): Promise<Decide> {
    const { host, pool } = this.#partsOf(instance)
    this.#steps.set(instance.uuid, `removing it from ${host.name}`)
    await this.#agents.client(host).removeInstance(
      {
        epoch: this.#store.epoch,
        uuid: instance.uuid,
        generation: instance.generation,
        diskPool: diskPoolSpecToWire(this.#store, pool, host.uuid),
      },
      { signal },
    )
    return decideRemoved
  }

  /**
   * A decision counts only for the record that the call was made for, or a later one that it still fits.
   * @returns false where it does not count, since another host may have the instance soon
   */
  #commit(before: InstanceRecord, decide: (now: InstanceRecord) => InstanceDecision | null): boolean {
    const now = this.#store.instances.get(before.uuid)
    if (!now || now.generation !== before.generation) return true
    const decision = decide(now)
    if (!decision) return true
    if (!this.#ownerships.isBelieved(now, decision)) return false
    commitDecision(this.#store, now, decision, this.#now(), this.#log)
    return true
  }

  #failed(instance: InstanceRecord, kind: PlannedAction['kind'], error: VpeError): void {
    const { uuid, generation, task } = instance
    const attempts = afterFailure(this.#attempts.get(uuid) ?? null, generation, error.code, this.#now())
    const isRecoverys =
      kind === 'apply' &&
      isGivenUp(kind, error.code, attempts) &&
      this.#ownerships.noteStartFailed(instance, error.message)
    const isOver = !isRecoverys && isGivenUp(kind, error.code, attempts)
    this.#log.warn({ instance: uuid, code: error.code, failures: attempts.failures, isOver }, error.message)
    this.#attempts.set(uuid, attempts)
    this.#steps.set(uuid, `will try again: ${error.message}`)
    if (isOver && kind === 'migrate') {
      // Its guest runs on; what becomes of it is found out before anything else is done.
      this.#commit(instance, (now) => decideMigrationFailed(now, error.message, false))
      return
    }
    if (isOver && kind === 'release' && instance.migration?.copyDisks && task !== 'deleting') {
      this.#commit(
        instance,
        (now) => decideCopyFailed(now, error.message) ?? decideFailed(now, error.message),
      )
      return
    }
    if (!isOver || takeBackDiskWishes(this.#store, instance, error.message, this.#now(), this.#log)) return
    this.#commit(instance, (now) => decideFailed(now, error.message))
    if (task !== 'deleting') this.#attempts.delete(uuid)
  }

  async #waitUntil(runner: Runner, untilMs: number): Promise<void> {
    const woken = Promise.withResolvers<void>()
    const timer = setTimeout(woken.resolve, untilMs - this.#now())
    runner.wake = woken.resolve
    await woken.promise
    runner.wake = () => {}
    clearTimeout(timer)
  }

  #leavingHost({ uuid, leavingHostId }: InstanceRecord): HostRecord {
    const host = this.#store.hosts.get(leavingHostId ?? '')
    if (!host) throw new VpeError('INTERNAL', `instance ${uuid} leaves a host that has no record`)
    return host
  }

  #partsOf(instance: InstanceRecord) {
    const host = this.#store.hosts.get(instance.hostId)
    const pool = this.#store.diskPools.get(instance.diskPoolUuid)
    if (!host || !pool) throw new VpeError('INTERNAL', `instance ${instance.uuid} has no host or pool record`)
    return { host, pool }
  }
}

function about(host: HostRecord, cause: VpeError): VpeError {
  return new VpeError(cause.code, `host ${host.name}: ${cause.message}`, { cause })
}
