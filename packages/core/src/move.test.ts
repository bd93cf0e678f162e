// Goal: an instance that moves, off in between or as it runs, never runs on two hosts, loses no disk and no
// memory that is newer than what is kept, and comes to rest, whatever is lost, comes late, or dies. Method: the
// real decisions, a record of their commits, three hosts that carry the real plans out, a libvirt that hands
// guests over in steps and may break between any two, and a network that delivers calls when it likes, and
// answers or not.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type DesiredInstance,
  type GuestState,
  type HostStep,
  type InstanceMark,
  incomingMark,
  type ObservedDomain,
  planConvergence,
  planRelease,
  reportOf,
} from './host-convergence.ts'
import type { HostId } from './ids.ts'
import type { InstanceRecord } from './instance.ts'
import {
  decideCancelMigration,
  decideDelete,
  decideMigrationFailed,
  decideMove,
  decideReleased,
  decideRemoved,
  decideReport,
  decideStart,
  decideStayed,
  decideStop,
  type InstanceDecision,
} from './instance-decisions.ts'
import {
  arrivalOf,
  type DepartureReport,
  departingMark,
  departingStopCause,
  judgeMigration,
  keptMark,
  type MigrationJob,
  planDeparture,
} from './migration.ts'
import { plan } from './plan.ts'
import { planUpkeep } from './restart-policy.ts'
import { anInstance } from './testing.ts'

const HOSTS = ['a', 'b', 'c'] as const

interface Call {
  readonly kind: 'release' | 'apply' | 'remove' | 'migrate' | 'end-migration'
  readonly host: HostId
  readonly record: InstanceRecord
  /** Its new host takes it for one that it cannot have, whether it has something of it or not. */
  readonly isRefused: boolean
}

/** One host: a domain or none, and what its agent remembers until it dies. */
class Host {
  domain: ObservedDomain | null = null
  departed = 0
  reported: { readonly generation: number; readonly report: DepartureReport } | null = null
}

/** What libvirt is at: a guest on its way, of which the target has nothing that has run, or all. */
interface Copying {
  readonly from: HostId
  readonly to: HostId
  readonly incoming: ObservedDomain
  isSwitched: boolean
}

const RUNS: GuestState = { power: 'on' }
const ENDED: GuestState = { power: 'off', reason: 'unknown' }
const STANDS: GuestState = { power: 'paused', reason: 'migration' }
const REFUSED: GuestState = { power: 'paused', reason: 'fault' }

class World {
  record: InstanceRecord | null
  readonly hosts = new Map<HostId, Host>(HOSTS.map((name) => [name, new Host()]))
  calls: Call[] = []
  copying: Copying | null = null
  /** Has a guest whose memory is out of date, since it has run elsewhere from there. */
  stale: HostId | null = null
  /** The shared pool. */
  hasDisk = false
  disksMade = 0

  constructor(ha: boolean) {
    this.record = anInstance({ ha, hostId: 'a', status: 'shutoff', task: 'creating', settledGeneration: 0 })
  }

  commit(decision: InstanceDecision | null): void {
    if (decision) this.record = decision.next
  }

  /** The controller looks, and calls whom it has to. */
  call(isRefused = false): void {
    const { record } = this
    const action = record && plan(record, null, 0)
    if (!record || !action || action.kind === 'none' || action.kind === 'wait' || action.kind === 'sweep')
      return
    const isOfTheOld = action.kind !== 'apply' && action.kind !== 'remove'
    const host = isOfTheOld ? record.leavingHostId : record.hostId
    this.calls.push({ kind: action.kind, host: host ?? '', record, isRefused })
  }

  /** A host carries a call out, up to a step; it answers if it gets to the end and the answer arrives. */
  deliver(index: number, stepsMax: number, isAnswered: boolean): void {
    const [call] = this.calls.splice(index % Math.max(1, this.calls.length), 1)
    if (!call) return
    const { kind } = call
    if (kind === 'migrate' || kind === 'end-migration') {
      this.#deliverMigration(call, stepsMax, isAnswered)
      return
    }
    if (!this.#carryOut(call, kind, stepsMax) || !isAnswered) return
    const { record } = this
    if (!record || record.generation !== call.record.generation) return
    if (kind === 'release') this.commit(decideReleased(record))
    else if (kind === 'remove') this.commit(decideRemoved(record))
    else {
      const { domain } = this.#host(call.host)
      this.commit(decideReport(record, domain && reportOf(domain, 'boot', false)))
    }
  }

  /** Copying goes on; or it breaks, and the source resumes its guest, or dies before that and leaves it standing. */
  copy(isBroken: boolean, isSourceDead: boolean): void {
    const { copying } = this
    if (!copying) return
    const { from, to, incoming, isSwitched } = copying
    const [source, target] = [this.#host(from), this.#host(to)]
    if (!isBroken && !isSwitched) {
      this.#setGuest(source, STANDS)
      target.domain = { ...incoming, guest: RUNS }
      copying.isSwitched = true
      this.stale = from
    } else if (!isBroken) {
      source.domain = null
      this.stale = null
      this.copying = null
    } else {
      // The image's lock: nobody resumes a guest whose disks another one has, which libvirt tells as a fault.
      const stopped = isSourceDead ? ENDED : REFUSED
      this.#setGuest(source, isSwitched ? stopped : isSourceDead ? STANDS : RUNS)
      this.copying = null
    }
    this.expectOne('libvirt')
  }

  /** A guest powers itself off. */
  powerOff(name: HostId): void {
    const host = this.#host(name)
    if (host.domain?.guest.power !== 'on') return
    if (this.copying?.from === name && !this.copying.isSwitched) this.copying = null
    host.domain = { ...host.domain, guest: { power: 'off', reason: 'crashed' } }
  }

  /** A host keeps on by itself what its mark wants on. */
  upkeep(name: HostId): void {
    const host = this.#host(name)
    if (!host.domain || planUpkeep(host.domain, 'boot').kind !== 'keep-on') return
    this.#setGuest(host, RUNS)
    this.expectOne('upkeep')
  }

  /** An agent dies: its connections end with it. */
  kill(name: HostId): void {
    this.calls = this.calls.filter((call) => call.host !== name)
    this.#host(name).departed = 0
    this.#host(name).reported = null
  }

  look(name: HostId): void {
    const { record } = this
    const { domain } = this.#host(name)
    if (record?.hostId === name) this.commit(decideReport(record, domain && reportOf(domain, 'boot', false)))
  }

  running(): HostId[] {
    return HOSTS.filter((name) => this.#host(name).domain?.guest.power === 'on')
  }

  /** The controller's part is in here, too: what it asks of whom, and what it makes of the answers. */
  #deliverMigration(call: Call, stepsMax: number, isAnswered: boolean): void {
    const { kind, host: name, record: asked } = call
    const { generation, migration } = asked
    const host = this.#host(name)
    // Where the new host refuses, the old one is told to keep its guest: an earlier call may have begun it.
    const isRefused = kind === 'migrate' && (call.isRefused || !this.#prepare(asked))
    const isWanted = kind === 'migrate' && !isRefused
    host.departed = Math.max(host.departed, generation - 1)
    const known = host.reported
    let report = isWanted && known && known.generation >= generation ? known.report : null
    if (!report) {
      const job = this.#jobOf(name)
      const step = planDeparture(generation, isWanted, host.domain, job)
      if ('refused' in step) return
      if (step.kind === 'hand-over' && host.domain) {
        const { mark } = host.domain
        if (stepsMax > 0) this.#take(host, { kind: 'mark', mark: departingMark(mark), why: '' })
        if (stepsMax > 1 && !this.copying && !this.#host(asked.hostId).domain) {
          const incoming = incomingMark(desiredOf(asked), { hostId: asked.hostId, bootId: 'boot' }, false)
          this.copying = {
            ...{ from: name, to: asked.hostId, isSwitched: false },
            incoming: { mark: incoming, guest: { power: 'off', reason: 'unknown' } },
          }
        }
      }
      if (step.kind === 'follow' && !isWanted && this.copying && !this.copying.isSwitched) this.copying = null
      // It answers when it is over.
      if (step.kind !== 'report') {
        if (stepsMax > 1) this.calls.push(call)
        return
      }
      if (step.departure === 'running' && host.domain?.mark.power === 'off') {
        this.#take(host, { kind: 'mark', mark: keptMark(host.domain.mark), why: '' })
      }
      const stopCause = step.departure === 'off' ? departingStopCause(host.domain) : null
      report = { departure: step.departure, fault: '', isRefused: false, downtimeMs: null, stopCause }
      host.reported = { generation, report }
      if (step.departure === 'gone') host.departed = Math.max(host.departed, generation)
    }
    if (!isAnswered) return
    const { departure, stopCause } = report
    let verdict = judgeMigration(departure, null)
    if (isRefused && verdict !== 'moved') {
      const isStill = verdict === 'stays'
      this.#commitFor(asked, (now) => decideMigrationFailed(now, 'refused', isStill))
      return
    }
    if (verdict === 'ask' && isWanted) {
      this.#commitFor(asked, (now) => decideMigrationFailed(now, 'it broke', false))
      return
    }
    if (verdict === 'ask') {
      const target = this.#host(asked.hostId)
      if (this.copying?.to === asked.hostId) this.copying = null
      const arrival = arrivalOf(target.domain, null, migration?.generation ?? 0)
      if (arrival === 'absent') target.departed = Math.max(target.departed, generation)
      verdict = judgeMigration(departure, arrival === 'incoming' ? 'absent' : arrival)
    }
    if (verdict === 'release') {
      if (this.#carryOut(call, 'release', stepsMax)) this.#commitFor(asked, decideReleased)
    } else if (verdict === 'moved') this.#commitFor(asked, decideReleased)
    else this.#commitFor(asked, (now) => decideStayed(now, stopCause, 'it broke'))
  }

  /** Whether the new host can take it. */
  #prepare({ hostId, generation }: InstanceRecord): boolean {
    const target = this.#host(hostId)
    if (target.departed >= generation) return false
    const arrival = arrivalOf(target.domain, this.#jobOf(hostId), generation)
    if (arrival !== 'absent' || !target.domain) return true
    if (target.domain.guest.power !== 'off') return false
    target.domain = null
    return true
  }

  #commitFor(asked: InstanceRecord, decide: (now: InstanceRecord) => InstanceDecision | null): void {
    if (this.record?.generation === asked.generation) this.commit(decide(this.record))
  }

  #jobOf(name: HostId): MigrationJob {
    if (this.copying?.from === name) return 'out'
    return this.copying?.to === name ? 'in' : null
  }

  #setGuest(host: Host, guest: GuestState): void {
    if (host.domain) host.domain = { ...host.domain, guest }
  }

  #carryOut({ host: name, record }: Call, kind: 'release' | 'apply' | 'remove', stepsMax: number): boolean {
    const host = this.#host(name)
    const { generation } = record
    if (kind === 'apply' && host.departed >= generation) return false
    // What takes over ends what is copied, if that can be ended still; else it comes again when that is over.
    if (this.copying?.from === name) {
      if (this.copying.isSwitched) return false
      this.copying = null
    }
    let isGraceSpent = false
    let left = stepsMax
    for (let round = 0; round < 6; round++) {
      const observed = {
        hostId: name,
        bootId: 'boot',
        domain: host.domain,
        liveDisks: [],
        isGraceSpent,
        ownership: null,
      }
      const systemDisk = this.hasDisk ? { imageUuid: record.imageUuid } : null
      const planned =
        kind === 'release'
          ? planRelease({ uuid: record.uuid, generation, stopGraceMs: 5 }, observed)
          : planConvergence(desiredOf(record), { ...observed, systemDisk })
      if (kind === 'remove') {
        if (host.domain && host.domain.mark.generation > generation) return false
        host.domain = null
        this.hasDisk = false
        host.departed = Math.max(host.departed, generation)
        return true
      }
      if ('refused' in planned) return false
      if (planned.steps.length === 0) {
        if (kind === 'release') host.departed = Math.max(host.departed, generation)
        return true
      }
      for (const step of planned.steps) {
        if (left-- === 0) return false
        if (step.kind === 'shutdown') isGraceSpent = true
        this.#take(host, step)
      }
    }
    return false
  }

  #take(host: Host, step: HostStep): void {
    const domain = (mark: InstanceMark): ObservedDomain => ({
      mark,
      guest: host.domain?.guest ?? { power: 'off', reason: 'unknown' },
    })
    const isStale = this.stale !== null && this.#host(this.stale) === host
    if (step.kind === 'resume') expect(isStale, 'what has gone on elsewhere is resumed').toBe(false)
    if (isStale && (step.kind === 'power-off' || step.kind === 'undefine')) this.stale = null
    if (step.kind === 'define' || step.kind === 'mark') host.domain = domain(step.mark)
    else if (step.kind === 'undefine') host.domain = null
    else if (step.kind === 'make-system-disk') {
      this.hasDisk = true
      this.disksMade++
    } else if (host.domain && step.kind === 'start') host.domain = { ...host.domain, guest: { power: 'on' } }
    else if (host.domain && step.kind === 'power-off')
      host.domain = { ...host.domain, guest: { power: 'off', reason: 'destroyed' } }
    this.expectOne(step.kind)
  }

  expectOne(after: string): void {
    expect(this.running().length, `it runs on ${this.running()} after ${after}`).toBeLessThan(2)
  }

  #host(name: HostId): Host {
    const host = this.hosts.get(name)
    if (!host) throw new Error(`no host ${name}`)
    return host
  }
}

function desiredOf(record: InstanceRecord): DesiredInstance {
  const { uuid, name, generation, power, ha, vcpus, memoryMib, diskBytes } = record
  const { rebootGeneration, rebootKind, diskGeneration, settledGeneration } = record
  return {
    ...{ uuid, name, generation, power, ha, vcpus, memoryMib, diskBytes },
    ...{ rebootGeneration, rebootKind, diskGeneration },
    diskSnapshotUuid: record.diskSnapshotUuid,
    diskSource: record.diskSource,
    epoch: 1,
    image: { uuid: record.imageUuid, url: '', sha256: '' },
    diskPool: { uuid: record.diskPoolUuid, kind: 'dir', path: '/pool', systemDisks: 'overlay' },
    dataDisks: [],
    seed: null,
    stopGraceMs: 5,
    ownership: null,
    hasDisk: settledGeneration > 0 && diskGeneration <= settledGeneration,
  }
}

const host = fc.constantFrom(...HOSTS)
const isRefused = fc.oneof(fc.constant(false), fc.constant(false), fc.boolean())
const action = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('move' as const), host }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('call' as const), isRefused }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      index: fc.nat(9),
      stepsMax: fc.oneof(fc.constant(99), fc.nat(5)),
      isAnswered: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('migrate' as const), host }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('copy' as const),
      isBroken: fc.oneof(fc.constant(false), fc.constant(false), fc.boolean()),
      isSourceDead: fc.boolean(),
    }),
  },
  fc.record({ do: fc.constant('cancel' as const) }),
  fc.record({ do: fc.constant('power-off' as const), host }),
  fc.record({ do: fc.constant('upkeep' as const), host }),
  fc.record({ do: fc.constant('start' as const) }),
  fc.record({ do: fc.constant('stop' as const) }),
  fc.record({ do: fc.constant('delete' as const) }),
  fc.record({ do: fc.constant('kill' as const), host }),
  fc.record({ do: fc.constant('look' as const), host }),
)

/** Of a guest that runs: all that may happen between the two halves of a switch. */
const liveAction = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('migrate' as const), host }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('call' as const), isRefused }) },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      index: fc.nat(2),
      stepsMax: fc.oneof(fc.constant(99), fc.nat(2)),
      isAnswered: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('copy' as const),
      isBroken: fc.boolean(),
      isSourceDead: fc.boolean(),
    }),
  },
  fc.record({ do: fc.constant('cancel' as const) }),
  fc.record({ do: fc.constant('stop' as const) }),
  fc.record({ do: fc.constant('power-off' as const), host }),
  fc.record({ do: fc.constant('upkeep' as const), host }),
  fc.record({ do: fc.constant('kill' as const), host }),
)

type Action = typeof action extends fc.Arbitrary<infer T> ? T : never

test('an instance that moves runs on one host at most, keeps its disk, and arrives', () => {
  const property = fc.property(
    fc.boolean(),
    fc.array(action, { maxLength: 60, size: 'max' }),
    (ha, actions) => play(new World(ha), actions),
  )
  fc.assert(property, { numRuns: 3_000 })
})

test('and so does one whose guest is handed over as it runs', () => {
  const property = fc.property(
    fc.boolean(),
    fc.array(liveAction, { maxLength: 40, size: 'max' }),
    (ha, actions) => {
      const world = new World(ha)
      world.call()
      world.deliver(0, 99, true)
      expect(world.record).toMatchObject({ status: 'active', task: null })
      play(world, actions)
    },
  )
  fc.assert(property, { numRuns: 5_000 })
})

/** Does what is listed, then lets everything come to rest, and looks what has become of it. */
function play(world: World, actions: readonly Action[]): void {
  const attempt = (decide: (record: InstanceRecord) => InstanceDecision | null) => {
    const { record } = world
    if (!record) return
    try {
      world.commit(decide(record))
    } catch (error) {
      expect(error).toMatchObject({ code: 'CONFLICT' })
    }
  }
  const wish = { atMs: 0, orCold: true }
  for (const each of actions) {
    if (each.do === 'move')
      attempt((record) => decideMove(record, { ...wish, hostId: each.host, mode: 'cold' }))
    else if (each.do === 'migrate')
      attempt((record) => decideMove(record, { ...wish, hostId: each.host, mode: 'live' }))
    else if (each.do === 'cancel') attempt(decideCancelMigration)
    else if (each.do === 'copy') world.copy(each.isBroken, each.isSourceDead)
    else if (each.do === 'power-off') world.powerOff(each.host)
    else if (each.do === 'upkeep') world.upkeep(each.host)
    else if (each.do === 'start') attempt(decideStart)
    else if (each.do === 'stop') attempt(decideStop)
    else if (each.do === 'delete') attempt(decideDelete)
    else if (each.do === 'call') world.call(each.isRefused)
    else if (each.do === 'deliver') world.deliver(each.index, each.stepsMax, each.isAnswered)
    else if (each.do === 'kill') world.kill(each.host)
    else world.look(each.host)
  }
  // From here on nothing fails any more; what was sent before still arrives, late.
  for (let round = 0; round < 24; round++) {
    world.call()
    for (let left = world.calls.length; left > 0; left--) world.deliver(0, 99, true)
    world.copy(false, false)
    for (const name of HOSTS) world.upkeep(name)
    for (const name of HOSTS) world.look(name)
  }
  const { record } = world
  const domains = HOSTS.filter((name) => world.hosts.get(name)?.domain)
  if (!record) {
    expect([domains, world.hasDisk]).toEqual([[], false])
    return
  }
  expect(record).toMatchObject({ task: null, leavingHostId: null })
  expect(domains).toEqual([record.hostId])
  expect(world.running()).toEqual(record.power === 'on' ? [record.hostId] : [])
  expect(world.disksMade).toBe(1)
}
