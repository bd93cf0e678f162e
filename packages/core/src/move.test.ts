// Goal: an instance that moves never runs on two hosts, loses no disk, and comes to rest, whatever is lost,
// comes late, or dies. Method: the real decisions, a record of their commits, three hosts that carry the real
// plans out, and a network that delivers calls when it likes, and answers or not.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type DesiredInstance,
  type HostStep,
  type InstanceMark,
  type ObservedDomain,
  planConvergence,
  planRelease,
  reportOf,
} from './host-convergence.ts'
import type { HostId } from './ids.ts'
import type { InstanceRecord } from './instance.ts'
import {
  decideDelete,
  decideReleased,
  decideRemoved,
  decideReport,
  decideStart,
  decideStop,
  decideUpdate,
  type InstanceDecision,
} from './instance-decisions.ts'
import { plan } from './plan.ts'
import { anInstance } from './testing.ts'

const HOSTS = ['a', 'b', 'c'] as const

interface Call {
  readonly kind: 'release' | 'apply' | 'remove'
  readonly host: HostId
  readonly record: InstanceRecord
}

/** One host: a domain or none, and what its agent remembers until it dies. */
class Host {
  domain: ObservedDomain | null = null
  departed = 0
}

class World {
  record: InstanceRecord | null = anInstance({
    hostId: 'a',
    status: 'shutoff',
    task: 'creating',
    settledGeneration: 0,
  })
  readonly hosts = new Map<HostId, Host>(HOSTS.map((name) => [name, new Host()]))
  calls: Call[] = []
  /** The shared pool. */
  hasDisk = false
  disksMade = 0

  commit(decision: InstanceDecision | null): void {
    if (decision) this.record = decision.next
  }

  /** The controller looks, and calls whom it has to. */
  call(): void {
    const { record } = this
    const action = record && plan(record, null, 0)
    if (!record || !action || action.kind === 'none' || action.kind === 'wait') return
    const host = action.kind === 'release' ? record.leavingHostId : record.hostId
    this.calls.push({ kind: action.kind, host: host ?? '', record })
  }

  /** A host carries a call out, up to a step; it answers if it gets to the end and the answer arrives. */
  deliver(index: number, stepsMax: number, isAnswered: boolean): void {
    const [call] = this.calls.splice(index % Math.max(1, this.calls.length), 1)
    if (!call || !this.#carryOut(call, stepsMax) || !isAnswered) return
    const { record } = this
    if (!record || record.generation !== call.record.generation) return
    if (call.kind === 'release') this.commit(decideReleased(record))
    else if (call.kind === 'remove') this.commit(decideRemoved(record))
    else {
      const { domain } = this.#host(call.host)
      this.commit(decideReport(record, domain && reportOf(domain, 'boot', false)))
    }
  }

  /** An agent dies: its connections end with it. */
  kill(name: HostId): void {
    this.calls = this.calls.filter((call) => call.host !== name)
    this.#host(name).departed = 0
  }

  look(name: HostId): void {
    const { record } = this
    const { domain } = this.#host(name)
    if (record?.hostId === name) this.commit(decideReport(record, domain && reportOf(domain, 'boot', false)))
  }

  running(): HostId[] {
    return HOSTS.filter((name) => this.#host(name).domain?.guest.power === 'on')
  }

  #carryOut({ kind, host: name, record }: Call, stepsMax: number): boolean {
    const host = this.#host(name)
    const { generation } = record
    if (kind === 'apply' && host.departed >= generation) return false
    let isGraceSpent = false
    let left = stepsMax
    for (let round = 0; round < 6; round++) {
      const observed = { hostId: name, bootId: 'boot', domain: host.domain, liveDisks: [], isGraceSpent }
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
    if (step.kind === 'define' || step.kind === 'mark') host.domain = domain(step.mark)
    else if (step.kind === 'undefine') host.domain = null
    else if (step.kind === 'make-system-disk') {
      this.hasDisk = true
      this.disksMade++
    } else if (host.domain && step.kind === 'start') host.domain = { ...host.domain, guest: { power: 'on' } }
    else if (host.domain && step.kind === 'power-off')
      host.domain = { ...host.domain, guest: { power: 'off', reason: 'destroyed' } }
    expect(this.running().length, `it runs on ${this.running()} after ${step.kind}`).toBeLessThan(2)
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
    hasDisk: settledGeneration > 0 && diskGeneration <= settledGeneration,
  }
}

const host = fc.constantFrom(...HOSTS)
const action = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('move' as const), host }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('call' as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      index: fc.nat(9),
      stepsMax: fc.oneof(fc.constant(99), fc.nat(5)),
      isAnswered: fc.boolean(),
    }),
  },
  fc.record({ do: fc.constant('start' as const) }),
  fc.record({ do: fc.constant('stop' as const) }),
  fc.record({ do: fc.constant('delete' as const) }),
  fc.record({ do: fc.constant('kill' as const), host }),
  fc.record({ do: fc.constant('look' as const), host }),
)

test('an instance that moves runs on one host at most, keeps its disk, and arrives', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const world = new World()
      const attempt = (decide: (record: InstanceRecord) => InstanceDecision | null) => {
        const { record } = world
        if (!record) return
        try {
          world.commit(decide(record))
        } catch (error) {
          expect(error).toMatchObject({ code: 'CONFLICT' })
        }
      }
      for (const each of actions) {
        if (each.do === 'move') attempt((record) => decideUpdate(record, { hostId: each.host }))
        else if (each.do === 'start') attempt(decideStart)
        else if (each.do === 'stop') attempt(decideStop)
        else if (each.do === 'delete') attempt(decideDelete)
        else if (each.do === 'call') world.call()
        else if (each.do === 'deliver') world.deliver(each.index, each.stepsMax, each.isAnswered)
        else if (each.do === 'kill') world.kill(each.host)
        else world.look(each.host)
      }
      // From here on nothing fails any more; what was sent before still arrives, late.
      for (let round = 0; round < 12; round++) {
        world.call()
        while (world.calls.length > 0) world.deliver(world.calls.length - 1, 99, true)
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
    }),
    { numRuns: 3_000 },
  )
})
