// Goal: from every observation, the plan leads to the desired state in a few rounds, takes no step that
// the desired state forbids, and survives a crash after any step. Method: a simulated host that carries
// steps out on a record of what libvirt would say, and random pairs of desired and observed.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type AttachedDisk,
  type DesiredInstance,
  type GuestState,
  type HostStep,
  type InstanceMark,
  isUp,
  type LiveDisk,
  type ObservedInstance,
  planConvergence,
  planRelease,
  planRemoval,
  reportOf,
  stopCauseOf,
} from './host-convergence.ts'
import type { HoldUp } from './instance.ts'

const HOST = 'host-1'
const BOOT = 'boot-2'

const desired: DesiredInstance = {
  uuid: 'instance-1',
  name: 'web',
  generation: 3,
  epoch: 1,
  power: 'on',
  ha: false,
  vcpus: 2,
  memoryMib: 512,
  diskBytes: 0,
  image: { uuid: 'image-1', url: 'http://images/1', sha256: '' },
  diskPool: { uuid: 'pool-1', kind: 'dir', path: '/pool', systemDisks: 'overlay' },
  dataDisks: [],
  stopGraceMs: 30_000,
  rebootGeneration: 0,
  rebootKind: 'soft',
  diskGeneration: 0,
  seed: null,
  hasDisk: false,
  diskSnapshotUuid: null,
  diskSource: null,
  ownership: null,
}

const SEED = { hostname: 'web', sshKeys: [], userData: '', sha256: 'seed-1' }

const mark: InstanceMark = {
  uuid: 'instance-1',
  hostId: HOST,
  generation: 3,
  epoch: 1,
  name: 'web',
  power: 'on',
  ha: false,
  vcpus: 2,
  memoryMib: 512,
  imageUuid: 'image-1',
  diskPoolUuid: 'pool-1',
  diskPoolPath: '/pool',
  seedSha256: '',
  dataDisks: [],
  bootId: BOOT,
  stopCause: null,
  fault: '',
  restarts: 0,
  ownership: 0,
  isGuarded: false,
  rebootGeneration: 0,
  diskGeneration: 0,
  diskBytes: 0,
}

function aDataDisk(name: string, sizeBytes = 1024): AttachedDisk {
  const target = `vd${String.fromCharCode(name.charCodeAt(0) + 1)}`
  return { uuid: `disk-${name}`, diskPoolUuid: 'pool-1', diskPoolPath: '/pool', target, sizeBytes }
}
const [diskA, diskB] = [aDataDisk('a'), aDataDisk('b')]

const ON: GuestState = { power: 'on' }
const OFF: GuestState = { power: 'off', reason: 'guest-shutdown' }
const PAUSED: GuestState = { power: 'paused', reason: 'asked' }
const FAULTY: GuestState = { power: 'paused', reason: 'io-error' }
const FULL: GuestState = { power: 'paused', reason: 'full' }

function seen(
  guest: GuestState | null,
  changes: Partial<InstanceMark> = {},
  rest: Partial<ObservedInstance> = {},
) {
  const domain = guest ? { mark: { ...mark, ...changes }, guest } : null
  return {
    hostId: HOST,
    bootId: BOOT,
    domain,
    systemDisk: null,
    liveDisks: [],
    isGraceSpent: false,
    ownership: null,
    ...rest,
  }
}

function steps(wanted: DesiredInstance, observed: ObservedInstance): readonly HostStep[] {
  const plan = planConvergence(wanted, observed)
  if ('refused' in plan) throw new Error(plan.refused)
  return plan.steps
}

const kinds = (wanted: DesiredInstance, observed: ObservedInstance) =>
  steps(wanted, observed).map(({ kind }) => kind)

describe('planConvergence', () => {
  const ownership = { generation: 2, bootId: BOOT, pools: [] }
  const held = { ownership: { generation: 2, isRunning: true } }
  const creation = ['ensure-disk-pool', 'ensure-image', 'make-system-disk', 'define']

  test.each<[string, Partial<DesiredInstance>, ObservedInstance, readonly string[]]>([
    ['nothing there, wanted on', {}, seen(null), [...creation, 'start']],
    ['nothing there, wanted off', { power: 'off' }, seen(null), creation],
    ['a guest that runs is owned before its mark says so', { ownership }, seen(ON), ['own', 'mark']],
    ['one that is owned is left alone', { ownership }, seen(ON, { ownership: 2 }, held), []],
    [
      'one of the ownership before is taken into this one',
      { ownership: { ...ownership, generation: 3 } },
      seen(ON, { ownership: 2 }, held),
      ['own', 'mark'],
    ],
    [
      'one that is to be guarded no more is, until it is off',
      {},
      seen(ON, { ownership: 2, isGuarded: false }, held),
      [],
    ],
    [
      'and is then let go of before it is started',
      {},
      seen(OFF, { ownership: 2 }, held),
      ['mark', 'let-go', 'start'],
    ],
    [
      'one that is wanted off, and off, is let go of',
      { power: 'off', ownership },
      seen(OFF, { power: 'off', stopCause: 'requested', ownership: 2 }, held),
      ['let-go'],
    ],
    [
      'a disk without a domain is kept',
      {},
      seen(null, {}, { systemDisk: { imageUuid: 'image-1' } }),
      ['ensure-disk-pool', 'grow-system-disk', 'define', 'start'],
    ],
    [
      'so is one that does not tell its image',
      {},
      seen(null, {}, { systemDisk: { imageUuid: null } }),
      ['ensure-disk-pool', 'grow-system-disk', 'define', 'start'],
    ],
    [
      'one of another image is not',
      {},
      seen(null, {}, { systemDisk: { imageUuid: 'image-0' } }),
      [...creation, 'start'],
    ],
    [
      'a seed is there before its definition',
      { seed: SEED },
      seen(null),
      ['ensure-disk-pool', 'ensure-image', 'make-system-disk', 'make-seed', 'define', 'start'],
    ],
    ['its seed is there', { seed: SEED }, seen(ON, { seedSha256: 'seed-1' }), []],
    [
      'another seed',
      { generation: 4, seed: SEED },
      seen(ON, { seedSha256: 'seed-0' }),
      ['make-seed', 'define'],
    ],
    ['no seed any more', { generation: 4 }, seen(ON, { seedSha256: 'seed-0' }), ['define']],
    ['runs as wanted', {}, seen(ON), []],
    ['off as wanted', { power: 'off' }, seen(OFF, { power: 'off', stopCause: 'requested' }), []],
    ['off, wanted on', {}, seen(OFF), ['start']],
    ['runs, wanted off: the mark comes first', { power: 'off' }, seen(ON), ['mark', 'shutdown']],
    [
      'its grace time is over',
      { power: 'off' },
      seen(ON, { power: 'off', stopCause: 'requested' }, { isGraceSpent: true }),
      ['power-off'],
    ],
    [
      'marked off by a guest that stopped, wanted on again',
      {},
      seen(OFF, { power: 'off', stopCause: 'guest' }),
      ['mark', 'start'],
    ],
    ['panicked, wanted on', {}, seen({ power: 'panicked' }), ['power-off', 'start']],
    ['panicked, wanted off', { power: 'off' }, seen({ power: 'panicked' }), ['mark', 'power-off']],
    ['a newer generation of the same', { generation: 4 }, seen(ON), ['mark']],
    ['another leader of the same', { epoch: 9 }, seen(ON), []],
    ['highly available from now on', { generation: 4, ha: true }, seen(ON), ['mark']],
    ['another size while it runs', { generation: 4, vcpus: 4 }, seen(ON), ['define']],
    ['another size while it is off', { generation: 4, memoryMib: 1024 }, seen(OFF), ['define', 'start']],
    ['another name', { generation: 4, name: 'db' }, seen(ON), ['define']],
    [
      'another image: nothing is stopped before the image is there',
      { generation: 4, image: { ...desired.image, uuid: 'image-2' } },
      seen(ON),
      ['ensure-disk-pool', 'ensure-image', 'mark', 'shutdown'],
    ],
    [
      'the same image anew, once its guest is off',
      { generation: 4, diskGeneration: 4 },
      seen(OFF, { power: 'off', stopCause: 'requested' }),
      ['ensure-disk-pool', 'ensure-image', 'make-system-disk', 'mark', 'start'],
    ],
    [
      'a larger disk, while it runs',
      { generation: 4, diskBytes: 9 },
      seen(ON, { diskBytes: 5 }),
      ['mark', 'shutdown'],
    ],
    [
      'a larger disk, while it is off',
      { generation: 4, power: 'off', diskBytes: 9 },
      seen(OFF, { power: 'off', stopCause: 'requested', diskBytes: 5 }),
      ['ensure-disk-pool', 'grow-system-disk', 'define'],
    ],
    ['a soft reboot', { generation: 4, rebootGeneration: 4 }, seen(ON), ['mark', 'shutdown']],
    [
      'a soft reboot that its guest ignores',
      { generation: 4, rebootGeneration: 4 },
      seen(ON, { power: 'off', stopCause: 'requested' }, { isGraceSpent: true }),
      ['power-off'],
    ],
    [
      'a hard reboot',
      { generation: 4, rebootGeneration: 4, rebootKind: 'hard' },
      seen(ON),
      ['mark', 'power-off'],
    ],
    [
      'a reboot whose guest is off by now',
      { generation: 4, rebootGeneration: 4 },
      seen(OFF, { power: 'off', stopCause: 'requested' }),
      ['mark', 'start'],
    ],
    ['a reboot that was carried out', { rebootGeneration: 3 }, seen(ON, { rebootGeneration: 3 }), []],
    [
      'a reboot that a stop has overtaken',
      { generation: 4, rebootGeneration: 3, power: 'off' },
      seen(ON),
      ['mark', 'shutdown'],
    ],
    [
      'runs, wanted paused: the mark comes first',
      { generation: 4, power: 'paused' },
      seen(ON),
      ['mark', 'pause'],
    ],
    ['paused as wanted', { power: 'paused' }, seen(PAUSED, { power: 'paused' }), []],
    [
      'paused, wanted on: the mark comes last',
      { generation: 4 },
      seen(PAUSED, { power: 'paused' }),
      ['resume', 'mark'],
    ],
    ['paused by somebody else', { generation: 4, name: 'db' }, seen(PAUSED), ['define']],
    ['paused on an I/O error', {}, seen(FAULTY), []],
    [
      'paused, wanted off: it must go on to shut down',
      { generation: 4, power: 'off' },
      seen(PAUSED, { power: 'paused' }),
      ['mark', 'resume', 'shutdown'],
    ],
    [
      'paused by a fault, wanted off: it cannot shut down',
      { generation: 4, power: 'off' },
      seen(FAULTY, { power: 'paused' }),
      ['mark', 'power-off'],
    ],
    ['wanted paused, but off', { power: 'paused' }, seen(OFF, { power: 'paused' }), []],
    [
      'a disk to attach: the guest has it before the mark says so',
      { generation: 4, dataDisks: [diskA] },
      seen(ON),
      ['attach-disk', 'define'],
    ],
    [
      'a disk to detach, likewise',
      { generation: 4 },
      seen(ON, { dataDisks: [diskA] }, { liveDisks: [diskA] }),
      ['detach-disk', 'define'],
    ],
    [
      'one for another',
      { generation: 4, dataDisks: [diskB] },
      seen(ON, { dataDisks: [diskA] }, { liveDisks: [diskA] }),
      ['detach-disk', 'attach-disk', 'define'],
    ],
    [
      'a disk to attach while it is off',
      { generation: 4, power: 'off', dataDisks: [diskA] },
      seen(OFF),
      ['define'],
    ],
    [
      'a disk to detach from what is to be powered off: the guest need not let go first',
      { generation: 4, power: 'off' },
      seen(ON, { dataDisks: [diskA] }, { liveDisks: [diskA] }),
      ['define', 'shutdown'],
    ],
    [
      'a disk to detach from a guest that is paused: it is asked, and never taken for gone',
      { generation: 4, power: 'paused' },
      seen(
        { power: 'paused', reason: 'asked' },
        { power: 'paused', dataDisks: [diskA] },
        { liveDisks: [diskA] },
      ),
      ['detach-disk', 'define'],
    ],
    [
      'a disk to detach from a guest that has panicked: that must be gone first',
      { generation: 4 },
      seen({ power: 'panicked' }, { dataDisks: [diskA] }, { liveDisks: [diskA] }),
      ['mark', 'power-off', 'define', 'start'],
    ],
    [
      'a disk that the guest has lost',
      { dataDisks: [diskA] },
      seen(ON, { dataDisks: [diskA] }),
      ['attach-disk'],
    ],
    [
      'a larger disk',
      { generation: 4, dataDisks: [aDataDisk('a', 2048)] },
      seen(ON, { dataDisks: [diskA] }, { liveDisks: [diskA] }),
      ['grow-disk', 'mark'],
    ],
    [
      'a larger disk while it is off',
      { generation: 4, power: 'off', dataDisks: [aDataDisk('a', 2048)] },
      seen(OFF, { power: 'off', dataDisks: [diskA] }),
      ['grow-disk', 'mark'],
    ],
    ['the host was rebooted', {}, seen(OFF, { bootId: 'boot-1' }), ['mark', 'start']],
    ['given up at this generation', {}, seen(OFF, { fault: 'too often' }), []],
    [
      'given up at an older generation',
      { generation: 4 },
      seen(OFF, { fault: 'too often' }),
      ['mark', 'start'],
    ],
  ])('%s', (_name, changes, observed, expected) => {
    expect(kinds({ ...desired, ...changes }, observed)).toEqual(expected)
  })

  test('a running guest is told when a new size counts', () => {
    const [define] = steps({ ...desired, generation: 4, vcpus: 4 }, seen(ON))
    expect(define?.why).toBe('vCPUs 2 → 4; sizes take effect at the next start')
  })

  test('a lower generation is refused', () => {
    expect(planConvergence({ ...desired, generation: 2 }, seen(ON))).toMatchObject({
      code: 'STALE_GENERATION',
    })
  })

  test('a disk is reverted while the guest is off, without its image', () => {
    const wanted = { ...desired, generation: 4, diskGeneration: 4, diskSnapshotUuid: 'snapshot-1' }
    expect(kinds(wanted, seen(ON))).toEqual(['mark', 'shutdown'])
    expect(kinds(wanted, seen(OFF))).toEqual(['ensure-disk-pool', 'revert-system-disk', 'mark', 'start'])
    expect(kinds(wanted, seen(OFF, { generation: 4, diskGeneration: 4 }))).toEqual(['start'])
  })

  test('without a domain a disk is reverted if nobody has said that it was', () => {
    const wanted = { ...desired, generation: 4, diskGeneration: 4, diskSnapshotUuid: 'snapshot-1' }
    const loose = seen(null, {}, { systemDisk: { imageUuid: 'image-1' } })
    expect(kinds({ ...wanted, hasDisk: false }, loose)).toContain('revert-system-disk')
    expect(kinds({ ...wanted, hasDisk: true }, loose)).not.toContain('revert-system-disk')
    // Its snapshots are gone with it, so this step says so, rather than another disk being taken for it.
    expect(kinds({ ...wanted, hasDisk: false }, seen(null))).not.toContain('make-system-disk')
  })

  test('the disk of a clone is a copy, once', () => {
    const clone = { ...desired, diskSource: { instanceUuid: 'other', snapshotUuid: null } }
    const made = ['ensure-disk-pool', 'copy-system-disk', 'define', 'start']
    expect(kinds(clone, seen(null))).toEqual(made)
    const there = seen(null, {}, { systemDisk: { imageUuid: 'image-1' } })
    expect(kinds(clone, there)).not.toContain('copy-system-disk')
    expect(() => kinds({ ...clone, hasDisk: true }, seen(null))).toThrow('its system disk is not in')
    expect(kinds(clone, seen(ON))).toEqual([])
  })

  test('another disk pool is refused', () => {
    const elsewhere = { ...desired, diskPool: { ...desired.diskPool, uuid: 'pool-2' } }
    expect(planConvergence(elsewhere, seen(ON))).toMatchObject({ code: 'CONFLICT' })
  })

  test('a stop that vpe asked for is told from one of the guest', () => {
    const markOf = (observed: ObservedInstance) => {
      const step = steps({ ...desired, power: 'off', generation: 4 }, observed).find(
        ({ kind }) => kind === 'mark',
      )
      return step?.kind === 'mark' ? step.mark.stopCause : undefined
    }
    expect(markOf(seen(ON))).toBe('requested')
    expect(markOf(seen(OFF, { power: 'off', stopCause: 'guest' }))).toBe('guest')
  })
})

describe('planRemoval', () => {
  const remove = (generation: number, observed: ObservedInstance) => {
    const plan = planRemoval(generation, observed.domain)
    return 'refused' in plan ? plan.code : plan.steps.map(({ kind }) => kind)
  }
  const files = ['remove-system-disk', 'remove-console-log']

  test('absent is success', () => expect(remove(4, seen(null))).toEqual(files))
  test('off', () => expect(remove(4, seen(OFF))).toEqual(['undefine', ...files]))
  test('running: marked first, so that nobody brings it back', () =>
    expect(remove(4, seen(ON))).toEqual(['mark', 'power-off', 'undefine', ...files]))
  test('a lower generation is refused', () => expect(remove(2, seen(ON))).toBe('STALE_GENERATION'))
})

describe('reportOf', () => {
  test.each<[string, GuestState, Partial<InstanceMark>, string | null]>([
    ['runs', ON, {}, null],
    ['paused', PAUSED, { power: 'paused' }, null],
    [
      'stopped by vpe',
      { power: 'off', reason: 'destroyed' },
      { power: 'off', stopCause: 'requested' },
      'requested',
    ],
    ['shut down by its guest', OFF, {}, 'guest'],
    ['crashed', { power: 'off', reason: 'crashed' }, {}, 'crash'],
    ['panicked', { power: 'panicked' }, {}, 'crash'],
    ["stopped by somebody's virsh", { power: 'off', reason: 'destroyed' }, {}, null],
    ['never came up', { power: 'off', reason: 'start-failed' }, {}, null],
    ['libvirt does not know', { power: 'off', reason: 'unknown' }, {}, null],
    ['crashed before the host was rebooted', { power: 'off', reason: 'crashed' }, { bootId: 'boot-1' }, null],
    [
      'written down earlier',
      { power: 'off', reason: 'unknown' },
      { power: 'off', stopCause: 'crash' },
      'crash',
    ],
  ])('%s', (_name, guest, changes, cause) => {
    expect(stopCauseOf({ mark: { ...mark, ...changes }, guest }, BOOT)).toBe(cause)
  })

  test('carries generation, fault and whether somebody is at work', () => {
    const report = reportOf({ mark: { ...mark, fault: 'too often' }, guest: OFF }, BOOT, true)
    expect(report).toEqual({
      uuid: 'instance-1',
      generation: 3,
      power: 'off',
      stopCause: 'guest',
      fault: 'too often',
      converging: true,
      restarts: 0,
      holdUp: null,
    })
  })

  test.each<[string, GuestState, Partial<InstanceMark>, HoldUp | null]>([
    ['paused by an I/O error', FAULTY, {}, 'claim-check'],
    ['so, where nobody guards it', FAULTY, { isGuarded: false }, null],
    ['so, and wanted paused by now', FAULTY, { power: 'paused' }, null],
    ['paused as a pool is full', FULL, {}, 'full-pool'],
    ['paused as a pool is full, and nobody guards it', FULL, { isGuarded: false }, 'full-pool'],
    ['paused as a pool is full, and is not highly available', FULL, { ha: false }, null],
    ['paused as a pool is full, and wanted paused by now', FULL, { power: 'paused' }, null],
    ['paused by another fault', { power: 'paused', reason: 'fault' }, {}, null],
    ['paused by somebody', PAUSED, {}, null],
    ['on', ON, {}, null],
  ])('says what holds up one that is %s', (_name, guest, changes, holdUp) => {
    const report = reportOf({ mark: { ...mark, ha: true, isGuarded: true, ...changes }, guest }, BOOT, false)
    expect(report.holdUp).toBe(holdUp)
  })
})

describe('of one that moves to another host', () => {
  const release = (generation: number, { domain }: ObservedInstance, isGraceSpent = false) => {
    const plan = planRelease({ uuid: mark.uuid, generation, stopGraceMs: 5 }, { domain, isGraceSpent })
    return 'refused' in plan ? plan.code : plan.steps.map(({ kind }) => kind)
  }
  const forget = ['remove-console-log', 'undefine']

  test.each([
    ['on', seen(ON), ['mark', 'shutdown']],
    ['on, and asked before', seen(ON, { power: 'off' }), ['shutdown']],
    ['off', seen(OFF), forget],
    ['paused', seen(PAUSED), ['mark', 'resume', 'shutdown']],
    ['paused by a fault', seen(FAULTY), ['mark', 'power-off', ...forget]],
    ['panicked', seen({ power: 'panicked' }), ['mark', 'power-off', ...forget]],
    ['gone', seen(null), []],
  ])('a guest that is %s', (_, observed, expected) => expect(release(4, observed)).toEqual(expected))

  test('a guest that does not shut down is powered off', () =>
    expect(release(4, seen(ON, { power: 'off' }), true)).toEqual(['power-off', ...forget]))

  test('a release that comes late finds what has come back, and leaves it alone', () => {
    expect(release(3, seen(ON))).toBe('STALE_GENERATION')
    expect(release(2, seen(OFF))).toBe('STALE_GENERATION')
  })

  test('is taken with the disk that is there, and never with another', () => {
    const moved = { ...desired, hasDisk: true }
    const kinds = (observed: ObservedInstance, wanted = moved) =>
      steps(wanted, observed).map(({ kind }) => kind)
    const taken = ['ensure-disk-pool', 'grow-system-disk', 'define', 'start']
    expect(kinds(seen(null, {}, { systemDisk: { imageUuid: 'image-1' } }))).toEqual(taken)
    expect(kinds(seen(null, {}, { systemDisk: { imageUuid: null } }))).toEqual(taken)
    // Whatever it lies on: it is the one that was made.
    expect(kinds(seen(null, {}, { systemDisk: { imageUuid: 'image-0' } }))).toEqual(taken)
    expect(planConvergence(moved, seen(null))).toMatchObject({
      code: 'DISK_POOL_FAILED',
      refused: expect.stringContaining('is not in /pool'),
    })
  })

  test('a new disk that was asked for on the way is made', () => {
    const observed = seen(null, {}, { systemDisk: { imageUuid: 'image-1' } })
    const wanted = { ...desired, diskGeneration: 3, hasDisk: false }
    expect(steps(wanted, observed).map(({ kind }) => kind)).toContain('make-system-disk')
    expect(steps({ ...wanted, hasDisk: true }, observed).map(({ kind }) => kind)).not.toContain(
      'make-system-disk',
    )
  })
})

/** A host that carries steps out on what libvirt and the pool would hold. */
class SimulatedHost {
  observed: ObservedInstance
  readonly taken: HostStep['kind'][] = []
  /** The content of the system disk: how often it was made. */
  disksMade = 0
  #seed: string
  readonly grown: string[] = []
  readonly #obeysPowerButton: boolean
  readonly #diskImage: { present: string | null }

  constructor(observed: ObservedInstance, obeysPowerButton: boolean) {
    this.observed = observed
    this.#seed = observed.domain?.mark.seedSha256 ?? ''
    this.#obeysPowerButton = obeysPowerButton
    const loose = observed.systemDisk && (observed.systemDisk.imageUuid ?? 'of an image it does not tell')
    this.#diskImage = { present: observed.domain?.mark.imageUuid ?? loose }
  }

  get diskImage(): string | null {
    return this.#diskImage.present
  }

  take(step: HostStep, wanted: DesiredInstance): void {
    this.taken.push(step.kind)
    const { domain } = this.observed
    switch (step.kind) {
      case 'ensure-disk-pool':
      case 'ensure-image':
      case 'remove-console-log':
        return
      case 'make-system-disk':
        expect(domain?.guest.power ?? 'off', 'a disk in use is never replaced').toBe('off')
        this.#diskImage.present = wanted.image.uuid
        this.disksMade++
        if (!domain) this.observed = { ...this.observed, systemDisk: { imageUuid: wanted.image.uuid } }
        return
      case 'copy-system-disk':
        this.#diskImage.present = wanted.image.uuid
        return
      case 'revert-system-disk':
        expect(domain?.guest.power ?? 'off', 'a disk in use is never reverted').toBe('off')
        expect(this.diskImage, 'only a disk that is there can be reverted').not.toBeNull()
        return
      case 'grow-system-disk':
        expect(domain?.guest.power ?? 'off', 'a disk in use is never grown').toBe('off')
        return
      case 'pause':
        expect(domain?.mark.power, 'the mark tells the wanted power first').toBe('paused')
        this.#change({ guest: PAUSED })
        return
      case 'resume':
        expect(domain?.mark.power, 'only what vpe has paused is resumed').not.toBe('on')
        this.#change({ guest: ON })
        return
      case 'make-seed':
        this.#seed = wanted.seed?.sha256 ?? ''
        return
      case 'attach-disk':
        this.#setLive([...this.observed.liveDisks, step.disk])
        return
      case 'detach-disk':
        this.#setLive(this.observed.liveDisks.filter(({ uuid }) => uuid !== step.disk.uuid))
        return
      case 'grow-disk':
        this.grown.push(step.disk.uuid)
        return
      case 'define':
        expect(this.diskImage, 'a domain is defined only over a whole disk').not.toBeNull()
        if (step.mark.seedSha256) expect(this.#seed, 'and a seed that is there').toBe(step.mark.seedSha256)
        this.#expectHonest(step.mark)
        this.observed = {
          ...this.observed,
          domain: { mark: step.mark, guest: domain?.guest ?? { power: 'off', reason: 'unknown' } },
        }
        return
      case 'mark':
        this.#expectHonest(step.mark)
        this.#change({ mark: step.mark })
        return
      case 'start':
        expect(domain?.guest.power, 'only what is off is started').toBe('off')
        expect(domain?.mark.power, 'never started when wanted off').toBe('on')
        this.#change({ guest: ON })
        this.#setLive(domain?.mark.dataDisks ?? [])
        return
      case 'shutdown':
        expect(domain?.mark.power, 'the mark tells the wanted power first').toBe('off')
        this.observed = { ...this.observed, isGraceSpent: true }
        if (this.#obeysPowerButton) this.#turnOff(OFF)
        return
      case 'power-off':
        if (domain?.guest.power !== 'panicked') expect(domain?.mark.power).toBe('off')
        expect(domain?.guest.power).not.toBe('off')
        this.#turnOff({ power: 'off', reason: 'destroyed' })
        return
      case 'undefine':
        this.observed = { ...this.observed, domain: null }
        return
      case 'remove-system-disk':
        this.#diskImage.present = null
    }
  }

  #turnOff(guest: GuestState): void {
    this.#change({ guest })
    this.#setLive([])
  }

  #setLive(liveDisks: readonly LiveDisk[]): void {
    this.observed = { ...this.observed, liveDisks }
  }

  /** A disk that a mark of this generation leaves out may be given to another instance. */
  #expectHonest({ generation, power, dataDisks }: InstanceMark): void {
    const { domain } = this.observed
    const isOffSoon = power === 'off' && domain !== null && isUp(domain.guest)
    if (generation < desired.generation || isOffSoon) return
    const kept = new Set(dataDisks.map(({ uuid }) => uuid))
    for (const { uuid } of this.observed.liveDisks)
      expect(kept, 'a disk in a guest is in its mark').toContain(uuid)
  }

  #change(changes: { mark?: InstanceMark; guest?: GuestState }): void {
    if (!this.observed.domain) throw new Error('there is no domain')
    this.observed = { ...this.observed, domain: { ...this.observed.domain, ...changes } }
  }
}

describe('in a simulated host', () => {
  const power = fc.constantFrom('on' as const, 'off' as const, 'paused' as const)
  const guest: fc.Arbitrary<GuestState> = fc.oneof(
    fc.constant(ON),
    fc.constantFrom(PAUSED, FAULTY, { power: 'panicked' } as const),
    fc
      .constantFrom('guest-shutdown', 'crashed', 'destroyed', 'start-failed', 'unknown')
      .map((reason) => ({ power: 'off', reason }) as const),
  )
  const someDisks = fc.subarray(['a', 'b', 'c']).map((names) => names.map((name) => aDataDisk(name)))
  const marks = fc.record({
    generation: fc.integer({ min: 1, max: 3 }),
    power,
    ha: fc.boolean(),
    vcpus: fc.constantFrom(1, 2),
    seedSha256: fc.constantFrom('', 'seed-0', 'seed-1'),
    imageUuid: fc.constantFrom('image-1', 'image-2'),
    rebootGeneration: fc.nat(3),
    diskGeneration: fc.nat(3),
    diskBytes: fc.constantFrom(0, 5, 9),
    bootId: fc.constantFrom('', 'boot-1', BOOT),
    stopCause: fc.constantFrom(null, 'requested' as const, 'guest' as const, 'crash' as const),
    fault: fc.constantFrom('', 'too often'),
    dataDisks: someDisks,
  })
  const observations = fc.oneof(
    fc.tuple(guest, marks, someDisks).map(([state, changes, live]) => {
      // A crash may have come between the disks of the guest and those of its mark; of older wishes only.
      const isOlder = changes.generation < desired.generation
      const liveDisks = state.power === 'off' ? [] : isOlder ? live : changes.dataDisks
      return seen(state, changes, { liveDisks })
    }),
    fc
      .constantFrom(null, { imageUuid: null }, { imageUuid: 'image-1' }, { imageUuid: 'image-2' })
      .map((systemDisk) => seen(null, {}, { systemDisk })),
  )
  const wishes = fc.record({
    power,
    ha: fc.boolean(),
    vcpus: fc.constantFrom(2, 4),
    image: fc.constantFrom('image-1', 'image-2'),
    rebootGeneration: fc.nat(3),
    rebootKind: fc.constantFrom('soft' as const, 'hard' as const),
    diskGeneration: fc.nat(3),
    diskBytes: fc.constantFrom(5, 9),
    seed: fc.constantFrom(null, SEED),
    dataDisks: someDisks,
  })

  test('every observation leads to the desired state, also when the host crashes after any step', () => {
    fc.assert(
      fc.property(observations, wishes, fc.boolean(), fc.nat(12), (observed, wish, obeys, crashAfter) => {
        const wanted = { ...desired, ...wish, image: { ...desired.image, uuid: wish.image } }
        const host = new SimulatedHost(observed, obeys)
        let left = crashAfter
        for (let round = 0; round < 6; round++) {
          for (const step of steps(wanted, host.observed)) {
            host.take(step, wanted)
            if (left-- === 0) {
              // What lives in memory only is gone after a crash.
              host.observed = { ...host.observed, isGraceSpent: false }
              break
            }
          }
        }
        expect(steps(wanted, host.observed)).toEqual([])
        const { domain } = host.observed
        if (domain?.mark.fault) return
        expect(domain).toMatchObject({
          mark: { generation: 3, power: wish.power, ha: wish.ha, vcpus: wish.vcpus, imageUuid: wish.image },
        })
        const { power } = domain?.guest ?? {}
        // What is off cannot be paused, and what somebody else has paused stays so.
        if (wish.power === 'off') expect(power).toBe('off')
        else if (wish.power === 'on') expect(['on', 'paused']).toContain(power)
        else expect(power).not.toBe('on')
        const uuids = (disks: readonly LiveDisk[]) => disks.map(({ uuid }) => uuid).sort()
        expect(uuids(domain?.mark.dataDisks ?? [])).toEqual(uuids(wish.dataDisks))
        const live = uuids(host.observed.liveDisks)
        if (domain?.guest.power === 'panicked')
          expect(uuids(wish.dataDisks)).toEqual(expect.arrayContaining(live))
        else expect(live).toEqual(domain && isUp(domain.guest) ? uuids(wish.dataDisks) : [])
      }),
      { numRuns: 2000 },
    )
  })

  test('a plan is the same when it is made twice, and empty once it was carried out', () => {
    fc.assert(
      fc.property(observations, wishes, (observed, wish) => {
        const wanted = { ...desired, ...wish, image: { ...desired.image, uuid: wish.image } }
        expect(steps(wanted, observed)).toEqual(steps(wanted, observed))
        const host = new SimulatedHost(observed, true)
        for (let round = 0; round < 2; round++) {
          for (const step of steps(wanted, host.observed)) host.take(step, wanted)
        }
        expect(steps(wanted, host.observed)).toEqual([])
      }),
    )
  })

  test('a reboot happens exactly once, whenever and however often the host crashes', () => {
    const crashes = fc.array(fc.nat(4), { maxLength: 6 })
    fc.assert(
      fc.property(crashes, fc.boolean(), fc.constantFrom('soft', 'hard'), (crashAfter, obeys, rebootKind) => {
        const wanted = { ...desired, generation: 4, rebootGeneration: 4, rebootKind }
        const host = new SimulatedHost(seen(ON), obeys)
        for (const taken of [...crashAfter, 9, 9, 9, 9]) {
          for (const step of steps(wanted, host.observed).slice(0, taken)) host.take(step, wanted)
          if (taken < 9) host.observed = { ...host.observed, isGraceSpent: false }
        }
        expect(steps(wanted, host.observed)).toEqual([])
        expect(host.taken.filter((kind) => kind === 'start')).toHaveLength(1)
        expect(host.observed.domain?.guest.power).toBe('on')
      }),
    )
  })

  test('a new system disk is never under a guest that has run since the old one was dropped', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(6), { maxLength: 6 }), (crashAfter) => {
        const wanted = { ...desired, generation: 4, diskGeneration: 4 }
        const host = new SimulatedHost(seen(ON), true)
        for (const taken of [...crashAfter, 9, 9, 9]) {
          for (const step of steps(wanted, host.observed).slice(0, taken)) host.take(step, wanted)
        }
        expect(steps(wanted, host.observed)).toEqual([])
        expect(host.taken.lastIndexOf('make-system-disk')).toBeLessThan(host.taken.indexOf('start'))
        expect(host.disksMade).toBeGreaterThan(0)
      }),
    )
  })

  test('a release leaves the disk and nothing else, also when the host crashes after any step', () => {
    fc.assert(
      fc.property(observations, fc.boolean(), fc.nat(8), (observed, obeys, crashAfter) => {
        const host = new SimulatedHost(observed, obeys)
        const disk = host.diskImage
        let left = crashAfter
        for (let round = 0; round < 4; round++) {
          const plan = planRelease({ uuid: mark.uuid, generation: 9, stopGraceMs: 5 }, host.observed)
          for (const step of 'refused' in plan ? [] : plan.steps) {
            host.take(step, desired)
            if (left-- === 0) {
              host.observed = { ...host.observed, isGraceSpent: false }
              break
            }
          }
        }
        expect(host.observed.domain).toBeNull()
        expect(host.diskImage).toBe(disk)
        expect(host.taken).not.toContain('start')
      }),
    )
  })

  test('a revert is never under a guest that has run since, and boots it once', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(6), { maxLength: 6 }), (crashAfter) => {
        const wanted = { ...desired, generation: 4, diskGeneration: 4, diskSnapshotUuid: 'snapshot-1' }
        const host = new SimulatedHost(seen(ON), true)
        for (const taken of [...crashAfter, 9, 9, 9]) {
          for (const step of steps(wanted, host.observed).slice(0, taken)) host.take(step, wanted)
        }
        expect(steps(wanted, host.observed)).toEqual([])
        expect(host.taken.lastIndexOf('revert-system-disk')).toBeLessThan(host.taken.indexOf('start'))
        expect(host.taken.filter((kind) => kind === 'start')).toHaveLength(1)
        expect(host.disksMade).toBe(0)
      }),
    )
  })

  test('a removal leaves nothing, also when the host crashes after any step', () => {
    fc.assert(
      fc.property(observations, fc.nat(6), (observed, crashAfter) => {
        const host = new SimulatedHost(observed, false)
        let left = crashAfter
        for (let round = 0; round < 2; round++) {
          const plan = planRemoval(9, host.observed.domain)
          for (const step of 'refused' in plan ? [] : plan.steps) {
            host.take(step, desired)
            if (left-- === 0) break
          }
        }
        expect(host.observed.domain).toBeNull()
        expect(host.diskImage).toBeNull()
      }),
    )
  })
})
