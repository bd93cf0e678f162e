// What becomes of an instance when a user asks for something, or when its host reports. Each
// function takes the record and returns the next one with the reason, or null when nothing changes.
// What follows from it (events, operations, calls to agents) is derived elsewhere from the two records.

import { VpeError } from './errors.ts'
import type { Isolation } from './ha/instance-wish.ts'
import type { Priority } from './ha/recovery.ts'
import type { FlavorId, HostId, ImageId } from './ids.ts'
import {
  hostOfGuest,
  type InstancePhase,
  type InstanceRecord,
  type InstanceReport,
  isLeavingLive,
  type MigrationMode,
  type Power,
  phaseOf,
  type RebootKind,
  type StopCause,
} from './instance.ts'
import { enterPhase, type InstanceEvent, nextPhase } from './instance-machine.ts'
import type { SnapshotRecord } from './snapshot.ts'

export interface InstanceDecision {
  /** The next record; null when the instance is gone. */
  readonly next: InstanceRecord | null
  /** Why, for the log and the event. */
  readonly why: string
}

/** A user wants it powered on; one that is paused goes on where it was. Null when it is wanted on already. */
export function decideStart(instance: InstanceRecord): InstanceDecision | null {
  return decidePower(instance, 'start', 'on', 'start was asked for')
}

/** A user wants it powered off. Null when it is wanted off already. */
export function decideStop(instance: InstanceRecord): InstanceDecision | null {
  return decidePower(instance, 'stop', 'off', 'stop was asked for')
}

/** A user wants its CPUs to stand still. Null when they are wanted so already. */
export function decidePause(instance: InstanceRecord): InstanceDecision | null {
  return decidePower(instance, 'pause', 'paused', 'pause was asked for')
}

/** A user wants a paused one to go on where it was. Null when it goes on already. */
export function decideResume(instance: InstanceRecord): InstanceDecision | null {
  return decidePower(instance, 'resume', 'on', 'resume was asked for')
}

function decidePower(
  instance: InstanceRecord,
  event: 'start' | 'stop' | 'pause' | 'resume',
  power: Power,
  why: string,
): InstanceDecision | null {
  const phase = nextPhase(instance, event)
  if (phase === 'refused') throw refusal(instance, event)
  // What is under way leads there.
  if (instance.task !== null && instance.power === power) return null
  if (phase === 'ignored' || phase === 'same' || phase === 'gone') return null
  return { next: enterPhase(nextGeneration({ ...instance, power }), phase), why }
}

/**
 * A user wants its guest to boot anew. One that is under way is joined, so that it happens once; a hard
 * one makes a soft one hard.
 */
export function decideReboot(instance: InstanceRecord, rebootKind: RebootKind): InstanceDecision | null {
  const phase = nextPhase(instance, 'reboot')
  if (phase === 'refused') throw refusal(instance, 'reboot')
  const why = `a ${rebootKind} reboot was asked for`
  if (phase !== 'rebooting') {
    const isHarder = rebootKind === 'hard' && instance.rebootKind === 'soft'
    return isHarder ? { next: nextGeneration({ ...instance, rebootKind }), why } : null
  }
  return { next: enterPhase(withReboot(nextGeneration(instance), rebootKind), phase), why }
}

/** A user wants its system disk anew from an image, the present one or another. */
export function decideRebuild(instance: InstanceRecord, imageUuid: ImageId): InstanceDecision | null {
  const phase = nextPhase(instance, 'rebuild')
  if (phase === 'refused' || instance.power === 'paused') throw refusal(instance, 'be rebuilt')
  assertUnlocked(instance, 'be rebuilt')
  if (phase === 'same' && imageUuid === instance.imageUuid) return null
  const which = imageUuid === instance.imageUuid ? 'its image' : `image ${imageUuid}`
  const next = withNewDisk(nextGeneration({ ...instance, imageUuid }))
  return { next: moveTo(next, phase), why: `a rebuild from ${which} was asked for` }
}

/**
 * A user wants the content of its system disk to be that of one of its snapshots again.
 * @param snapshots those that it has
 */
export function decideRevert(
  instance: InstanceRecord,
  snapshot: SnapshotRecord,
  snapshots: readonly SnapshotRecord[],
): InstanceDecision {
  const phase = nextPhase(instance, 'revert')
  if (phase === 'refused' || instance.power === 'paused') throw refusal(instance, 'be reverted')
  assertUnlocked(instance, 'be reverted')
  if (snapshot.status !== 'available') {
    const words = `cannot be reverted to snapshot ${snapshot.name}: that is ${snapshot.status}`
    throw new VpeError('CONFLICT', `instance ${instance.uuid} ${words}`)
  }
  const unmade = snapshots.find(({ status }) => status === 'creating')
  if (unmade) {
    const words = `cannot be reverted while snapshot ${unmade.name} is being made; wait until it is available`
    throw new VpeError('CONFLICT', `instance ${instance.uuid} ${words}`)
  }
  const next = { ...withNewDisk(nextGeneration(instance)), diskSnapshotUuid: snapshot.uuid }
  return { next: moveTo(next, phase), why: `a revert to snapshot ${snapshot.name} was asked for` }
}

/** The sizes that a flavor gives to an instance. */
export interface InstanceSize {
  readonly flavorUuid: FlavorId
  readonly vcpus: number
  readonly memoryMib: number
  readonly diskBytes: number
}

/**
 * A user wants it to have another size; whether its host has room is judged elsewhere. One that runs is
 * booted anew, if `restart` says that it may be. Null when it has that size.
 */
export function decideResize(
  instance: InstanceRecord,
  size: InstanceSize,
  restart: boolean,
): InstanceDecision | null {
  const phase = nextPhase(instance, 'resize')
  if (phase === 'refused' || instance.power === 'paused') throw refusal(instance, 'be resized')
  if (size.diskBytes < instance.diskBytes) {
    throw new VpeError(
      'CONFLICT',
      `instance ${instance.uuid} has a system disk of ${gib(instance.diskBytes)} GiB, which cannot shrink to ${gib(size.diskBytes)} GiB; take a flavor with at least as large a disk`,
    )
  }
  const { flavorUuid, vcpus, memoryMib, diskBytes } = instance
  if (JSON.stringify({ flavorUuid, vcpus, memoryMib, diskBytes }) === JSON.stringify(size)) return null
  if (instance.power !== 'off' && !restart) {
    throw new VpeError(
      'CONFLICT',
      `instance ${instance.uuid} cannot be resized while it is ${phaseOf(instance)}: stop it, or give "restart": true to have it rebooted`,
    )
  }
  const resized = nextGeneration({ ...instance, ...size })
  return {
    next: moveTo(instance.power === 'off' ? resized : withReboot(resized, 'soft'), phase),
    why: `a resize to flavor ${size.flavorUuid} was asked for`,
  }
}

/** A user protects its data, or no longer does. Null when it is so already. */
export function decideLock(instance: InstanceRecord, locked: boolean): InstanceDecision | null {
  if (phaseOf(instance) === 'deleting') throw refusal(instance, locked ? 'be locked' : 'be unlocked')
  if (instance.locked === locked) return null
  return { next: { ...instance, locked }, why: `it is ${locked ? 'locked' : 'unlocked'} by its user` }
}

export interface InstanceChanges {
  readonly name?: string
  readonly tags?: readonly string[]
  readonly hostIds?: readonly HostId[]
  readonly ha?: boolean
  readonly haPriority?: Priority
  readonly haIsolation?: Isolation
  readonly imageUuid?: ImageId
  /** Where it is to go, and how. */
  readonly move?: MoveWish
}

/** A user's wish that it be on another host. */
export interface MoveWish {
  readonly hostId: HostId
  /** Auto: live when it runs, else cold. */
  readonly mode: MigrationMode | 'auto'
  readonly atMs: number
  readonly orCold?: boolean
  readonly bandwidthMibS?: number
  readonly downtimeMaxMs?: number
  readonly copyDisks?: boolean
  readonly postCopy?: boolean
}

/**
 * A user changes its properties. Name, tags and hosts are the controller's own affair; a change of
 * `ha` or of the image is carried out by the host, so it raises the generation and is a task. Another
 * image is a rebuild, another host a move.
 */
export function decideUpdate(instance: InstanceRecord, changes: InstanceChanges): InstanceDecision | null {
  const { imageUuid = instance.imageUuid, move, ...properties } = changes
  if (move && move.hostId !== instance.hostId) {
    if (imageUuid === instance.imageUuid) return decideMove(instance, move, properties)
    throw new VpeError(
      'CONFLICT',
      `instance ${instance.uuid} cannot get another image and another host at once; change one, wait until that has ended, then change the other`,
    )
  }
  if (imageUuid !== instance.imageUuid) return decideRebuild({ ...instance, ...properties }, imageUuid)
  const phase = nextPhase(instance, 'update')
  if (phase === 'refused') throw refusal(instance, 'be changed')
  const changed: InstanceRecord = { ...instance, ...properties }
  const why = `${Object.keys(changes).join(', ') || 'nothing'} changed`
  // A new name is shown by the host, too, but is no reason to start what its host has given up on.
  const isRenamed = changed.name !== instance.name && phaseOf(instance) !== 'error'
  if (isRenamed || changed.ha !== instance.ha) {
    if (isLeavingLive(instance)) throw busyMigrating(instance, 'be changed')
    return { next: moveTo(nextGeneration(changed), phase), why }
  }
  const ofNoHost = ({ name, tags, hostIds, haPriority, haIsolation }: InstanceRecord) =>
    JSON.stringify([name, tags, hostIds, haPriority, haIsolation])
  const same = ofNoHost(changed) === ofNoHost(instance)
  return same ? null : { next: withHostsKept(instance, changed), why }
}

/** Hosts that are allowed anew during a live move are what it has, too, if it stays; with the one that it is on. */
function withHostsKept(before: InstanceRecord, changed: InstanceRecord): InstanceRecord {
  const { migration, leavingHostId, hostIds } = changed
  const isSame = JSON.stringify(hostIds) === JSON.stringify(before.hostIds)
  if (isSame || !migration || leavingHostId === null || !isLeavingLive(changed)) return changed
  const isAllowed = hostIds.length === 0 || hostIds.includes(leavingHostId)
  const hostIdsBefore = isAllowed ? hostIds : [...hostIds, leavingHostId]
  return { ...changed, migration: { ...migration, hostIdsBefore } }
}

/**
 * Its data disks change, which its host must carry out. Not while it is in error: the same call would
 * start what its host has given up on.
 */
export function decideDisksChange(instance: InstanceRecord, why: string): InstanceDecision {
  const phase = nextPhase(instance, 'update')
  if (phase === 'refused') throw refusal(instance, 'change its disks')
  if (phaseOf(instance) === 'error') {
    throw new VpeError(
      'CONFLICT',
      `instance ${instance.name} is in error (${instance.fault}); start, stop or delete it first`,
    )
  }
  if (isLeavingLive(instance)) throw busyMigrating(instance, 'change its disks')
  const next = nextGeneration(instance)
  const isTask = phase !== 'same' && phase !== 'ignored' && phase !== 'gone'
  return { next: isTask ? enterPhase(next, phase) : next, why }
}

/**
 * It is to go on on another host. Live, its guest is handed over as it runs. Cold, it is off in between: what
 * its disk holds comes along, what its memory holds does not; where it moves cold already, it goes there
 * instead: nothing of it is there yet, or that host has to let go of it, too. Null when it is there.
 * @param properties what changes besides
 */
export function decideMove(
  instance: InstanceRecord,
  wish: MoveWish,
  properties: Partial<InstanceRecord> = {},
): InstanceDecision | null {
  const { hostId, mode, atMs, orCold = false, bandwidthMibS = 0, downtimeMaxMs = 0 } = wish
  const { copyDisks = false, postCopy = false } = wish
  const phase = nextPhase(instance, 'move')
  if (phase === 'refused' || instance.power === 'paused') throw refusal(instance, 'move')
  if (isLeavingLive(instance)) throw busyMigrating(instance, 'move elsewhere')
  const from = hostOfGuest(instance)
  if (hostId === instance.hostId) return null
  if (instance.diskGeneration > instance.settledGeneration) {
    throw new VpeError(
      'CONFLICT',
      `instance ${instance.uuid} cannot move: its system disk was to be made anew, and was not; rebuild it first`,
    )
  }
  const isLive = mode === 'live' || (mode === 'auto' && phaseOf(instance) === 'active')
  if (isLive && phaseOf(instance) !== 'active') throw refusal(instance, 'migrate live')
  if (copyDisks) assertCopiable(instance, hostId)
  if (postCopy) assertPostCopy(instance, isLive, copyDisks)
  const moved: InstanceRecord = {
    ...instance,
    ...properties,
    // Back again: what has been copied there so far is of no use.
    ...(instance.leavingHostId !== null &&
      instance.migration?.copyDisks &&
      withStaleCopy(instance, instance.hostId)),
    hostId,
    leavingHostId: hostId === from ? null : from,
    migration: {
      mode: isLive ? 'live' : 'cold',
      generation: instance.generation + 1,
      fromHostId: from,
      toHostId: hostId,
      startedAtMs: atMs,
      orCold,
      bandwidthMibS,
      downtimeMaxMs,
      copyDisks,
      postCopy,
      hostIdsBefore: instance.hostIds,
      end: null,
      fault: '',
      downtimeMs: null,
    },
  }
  const how = isLive ? 'a live migration' : 'a move'
  return {
    next: moveTo(nextGeneration(moved), phase),
    why: `${how} from host ${from} to ${hostId} was asked for`,
  }
}

/** @throws VpeError CONFLICT where a copy would be made beside another one */
function assertCopiable({ uuid, leavingHostId, staleCopies }: InstanceRecord, hostId: HostId): void {
  if (leavingHostId !== null) {
    const words = 'its disks are on their way already; wait until that move has ended'
    throw new VpeError('CONFLICT', `instance ${uuid} cannot move: ${words}`)
  }
  if (!staleCopies.includes(hostId)) return
  const words = `what an earlier move has left of its disks on host ${hostId} is not removed yet`
  throw new VpeError('CONFLICT', `instance ${uuid} cannot move there: ${words}; wait until that host answers`)
}

/** @throws VpeError CONFLICT where its guest has nothing to fetch, or could not */
function assertPostCopy({ uuid }: InstanceRecord, isLive: boolean, copyDisks: boolean): void {
  if (isLive && !copyDisks) return
  const words = isLive ? 'not together with copy_disks' : 'for a live migration only'
  throw new VpeError('CONFLICT', `instance ${uuid} cannot move so: post_copy is ${words}`)
}

/** A user does not want a live move any more: its guest stays where it is, unless it is over by then. Null when that is so already. */
export function decideCancelMigration(instance: InstanceRecord): InstanceDecision | null {
  const { migration } = instance
  if (!migration || !isLeavingLive(instance) || instance.task !== 'migrating') {
    const words = 'has no live migration under way, which alone can be cancelled'
    throw new VpeError('CONFLICT', `instance ${instance.uuid} ${words}`)
  }
  if (migration.end !== null) return null
  const fault = 'it was cancelled'
  return {
    next: nextGeneration({ ...instance, migration: { ...migration, end: 'cancelled', fault } }),
    why: 'its user cancels the live migration',
  }
}

/**
 * A live move cannot be carried out. What its guest's host has to say is heard before anything else is done.
 * @param isRefused it was before anything was begun
 */
export function decideMigrationFailed(
  instance: InstanceRecord,
  fault: string,
  isRefused: boolean,
): InstanceDecision | null {
  const { migration } = instance
  if (!migration || !isLeavingLive(instance) || migration.end !== null) return null
  if (isRefused && migration.orCold) {
    const cold = { ...migration, mode: 'cold', fault } as const
    return {
      next: nextGeneration({ ...instance, migration: cold }),
      why: `it cannot migrate live (${fault}), so it moves off in between`,
    }
  }
  return {
    next: nextGeneration({ ...instance, migration: { ...migration, end: 'failed', fault } }),
    why: `its live migration failed: ${fault}`,
  }
}

/**
 * The host that it was to leave has its guest, and hands it over no more: it belongs there, as before. A guest
 * that has gone off by itself meanwhile stays off, unless it is highly available.
 * @param why it was not handed over, in the host's words
 */
export function decideStayed(
  instance: InstanceRecord,
  stopCause: StopCause | null,
  why: string,
): InstanceDecision | null {
  const { migration, leavingHostId } = instance
  if (leavingHostId === null || migration?.mode !== 'live') return null
  const isOff = (stopCause === 'guest' || stopCause === 'crash') && !instance.ha
  const isOvertaken = migration.end === null && instance.task !== 'migrating'
  const fault =
    migration.fault || (isOvertaken ? 'another wish has ended it' : why) || 'it was not handed over'
  const stayed: InstanceRecord = {
    ...instance,
    hostId: leavingHostId,
    leavingHostId: null,
    hostIds: migration.hostIdsBefore,
    power: isOff ? 'off' : instance.power,
    migration: { ...migration, end: migration.end ?? (isOvertaken ? 'cancelled' : 'failed'), fault },
    ...(migration.copyDisks && withStaleCopy(instance, migration.toHostId)),
  }
  return { next: nextGeneration(stayed), why: `it stays on host ${leavingHostId}: ${fault}` }
}

/** The host that it leaves says that nothing of it runs there any more, nor will. */
export function decideReleased(
  instance: InstanceRecord,
  downtimeMs: number | null = null,
): InstanceDecision | null {
  const { leavingHostId, migration } = instance
  if (leavingHostId === null) return null
  const isHandedOver = isLeavingLive(instance) && instance.task === 'migrating'
  const status = isHandedOver ? instance.status : 'shutoff'
  const released: InstanceRecord = {
    ...instance,
    leavingHostId: null,
    status,
    migration: migration && { ...migration, end: 'moved', fault: '', downtimeMs },
    ...(migration?.copyDisks && withStaleCopy(instance, leavingHostId)),
  }
  return {
    // A guest that has come with its disks stands still until its host is told of this: what that reports until
    // then is out of date.
    next: migration?.copyDisks ? nextGeneration(released) : released,
    why: `host ${leavingHostId} has let go of it`,
  }
}

/**
 * A move with its disks cannot be carried out while its guest is off, and they are whole where they were: it belongs
 * there, as before.
 */
export function decideCopyFailed(instance: InstanceRecord, fault: string): InstanceDecision | null {
  const { migration, leavingHostId } = instance
  if (leavingHostId === null || migration?.mode !== 'cold' || !migration.copyDisks) return null
  const stayed: InstanceRecord = {
    ...instance,
    hostId: leavingHostId,
    leavingHostId: null,
    hostIds: migration.hostIdsBefore,
    migration: { ...migration, end: 'failed', fault },
    ...withStaleCopy(instance, migration.toHostId),
  }
  return { next: nextGeneration(stayed), why: `it stays on host ${leavingHostId}: ${fault}` }
}

/** A host says that it has no files of its disks any more, but those that are its disks. */
export function decideSwept(instance: InstanceRecord, hostId: HostId): InstanceDecision | null {
  if (!instance.staleCopies.includes(hostId)) return null
  const staleCopies = instance.staleCopies.filter((each) => each !== hostId)
  return { next: { ...instance, staleCopies }, why: `host ${hostId} has removed what a move had left there` }
}

function withStaleCopy({ staleCopies }: InstanceRecord, hostId: HostId): Pick<InstanceRecord, 'staleCopies'> {
  return { staleCopies: [...staleCopies.filter((each) => each !== hostId), hostId] }
}

/** A user wants it gone. Null when it is going already. */
export function decideDelete(instance: InstanceRecord): InstanceDecision | null {
  const phase = nextPhase(instance, 'delete')
  if (phase === 'same') return null
  assertUnlocked(instance, 'be deleted')
  return { next: enterPhase(nextGeneration(instance), 'deleting'), why: 'deletion was asked for' }
}

/** Its host says that nothing of it is left. */
export function decideRemoved(instance: InstanceRecord): InstanceDecision | null {
  return nextPhase(instance, 'removed') === 'gone' ? { next: null, why: 'its host has removed it' } : null
}

/** What its host was asked to do cannot be done, and trying again would not help. */
export function decideFailed(instance: InstanceRecord, fault: string): InstanceDecision | null {
  const phase = nextPhase(instance, 'failed')
  if (phase === 'same' && fault !== instance.fault) return { next: { ...instance, fault }, why: fault }
  if (phase !== 'error') return null
  return { next: { ...enterPhase(instance, 'error'), fault }, why: fault }
}

/**
 * Its host reports. `null` stands for a host that answered and does not have the instance at all.
 * Reports that are half way, stale, or say nothing new change nothing.
 */
export function decideReport(
  instance: InstanceRecord,
  report: InstanceReport | null,
): InstanceDecision | null {
  const seen = classifyReport(instance, report)
  if (!seen) return null
  const phase = nextPhase(instance, seen.event)
  if (seen.event === 'settled' && phase === 'ignored') return decideRecovered(instance, report)
  if (phase === 'ignored' || phase === 'same' || phase === 'refused' || phase === 'gone') return null
  switch (seen.event) {
    case 'settled': {
      const restarts = report?.restarts ?? instance.restarts
      const settled = { ...instance, settledGeneration: instance.generation, restarts }
      return { next: enterPhase(settled, phase), why: seen.why }
    }
    case 'guestPaused':
      // As it was left, so it is wanted: only a user's word resumes what vpe has not paused.
      return { next: enterPhase(nextGeneration({ ...instance, power: 'paused' }), phase), why: seen.why }
    case 'guestResumed':
      return { next: enterPhase(nextGeneration({ ...instance, power: 'on' }), phase), why: seen.why }
    case 'pauseLost': {
      // There is nothing left to be carried out, whatever was asked for besides.
      const off = { ...instance, power: 'off', settledGeneration: instance.generation } as const
      return { next: enterPhase(off, phase), why: seen.why }
    }
    case 'guestOff':
      // The agent has written the same into the domain's metadata, so the generation stays.
      return { next: enterPhase({ ...instance, power: 'off' }, phase), why: seen.why }
    case 'failed':
      return { next: { ...enterPhase(instance, phase), fault: seen.why }, why: seen.why }
    case 'guestDown':
      return { next: enterPhase(instance, phase), why: seen.why }
    case 'outOfRoom': {
      if (instance.task === 'recovering' && instance.fault === seen.why) return null
      return { next: { ...enterPhase(instance, phase), status: 'error', fault: seen.why }, why: seen.why }
    }
    default:
      return { next: enterPhase(nextGeneration(instance), phase), why: seen.why }
  }
}

/** It runs as it did, but its host had to bring it back meanwhile: that is news. */
function decideRecovered(instance: InstanceRecord, report: InstanceReport | null): InstanceDecision | null {
  if (!report || report.restarts <= instance.restarts) return null
  const times = report.restarts === 1 ? 'once' : `${report.restarts} times`
  return {
    next: { ...instance, restarts: report.restarts },
    why: `its guest went off, and its host brought it back (${times} so far)`,
  }
}

/** Its host says what addresses its guest has. Null when they are the ones that are known. */
export function decideAddresses(
  instance: InstanceRecord,
  addresses: readonly string[],
): InstanceDecision | null {
  if (JSON.stringify(addresses) === JSON.stringify(instance.addresses)) return null
  const why = addresses.length === 0 ? 'its guest has no addresses' : `its guest has ${addresses.join(', ')}`
  return { next: { ...instance, addresses }, why }
}

interface SeenEvent {
  readonly event: InstanceEvent
  readonly why: string
}

function classifyReport(instance: InstanceRecord, report: InstanceReport | null): SeenEvent | null {
  if (instance.task === 'deleting') return null
  // Where it belongs nothing of it is yet, and where it is nothing of it counts any more.
  if (instance.leavingHostId !== null) return null
  if (!report) {
    const event = instance.power === 'paused' ? 'pauseLost' : 'lost'
    return { event, why: 'its host does not have it' }
  }
  if (report.converging || report.generation !== instance.generation) return null
  if (report.fault) return { event: 'failed', why: report.fault }
  if (report.power === instance.power) return { event: 'settled', why: `its host reports it ${report.power}` }
  if (instance.power === 'off')
    return { event: 'revived', why: `it is ${report.power} although it is wanted off` }
  if (report.power === 'on') return { event: 'guestResumed', why: 'it was resumed by somebody else' }
  switch (report.holdUp) {
    case 'claim-check':
      return { event: 'guestDown', why: 'an I/O error has paused it: its host checks whether it may go on' }
    case 'full-pool':
      return { event: 'outOfRoom', why: 'a pool of its disks is full: it stands still until there is room' }
    case null:
      break
    default:
      throw new Error(`no such hold-up: ${report.holdUp satisfies never}`)
  }
  if (report.power === 'paused') {
    return { event: 'guestPaused', why: 'it was paused by somebody else, or by libvirt on an I/O error' }
  }
  if (instance.power === 'paused') return { event: 'pauseLost', why: 'it went off while it was paused' }
  switch (report.stopCause) {
    case 'guest':
    case 'crash': {
      const what = report.stopCause === 'guest' ? 'the guest powered itself off' : 'the guest crashed'
      return instance.ha ? { event: 'guestDown', why: what } : { event: 'guestOff', why: what }
    }
    case 'requested':
    case null:
      return { event: 'lost', why: 'it is off for no cause known here, such as a reboot of its host' }
    default:
      throw new Error(`no such cause: ${report.stopCause satisfies never}`)
  }
}

function nextGeneration(instance: InstanceRecord): InstanceRecord {
  return { ...instance, generation: instance.generation + 1 }
}

/** The record in the phase that an event has led to, where that is one; else where it was. */
function moveTo(instance: InstanceRecord, phase: ReturnType<typeof nextPhase>): InstanceRecord {
  switch (phase) {
    case 'same':
    case 'ignored':
    case 'refused':
    case 'gone':
      return instance
    default:
      return enterPhase(instance, phase)
  }
}

/** Of the present generation, as is the next. */
function withReboot(instance: InstanceRecord, rebootKind: RebootKind): InstanceRecord {
  return { ...instance, rebootGeneration: instance.generation, rebootKind }
}

function withNewDisk(instance: InstanceRecord): InstanceRecord {
  return { ...instance, diskGeneration: instance.generation, diskSnapshotUuid: null, diskSource: null }
}

const GIB = 1024 ** 3

function gib(bytes: number): string {
  return (bytes / GIB).toFixed(1)
}

/** What helps, where a user's wish does not fit the phase. */
const MENDS: Partial<Record<InstancePhase, string>> = {
  shutoff: 'start it',
  paused: 'resume or stop it',
  error: 'start or stop it',
}

function refusal(instance: InstanceRecord, action: string): VpeError {
  const phase = phaseOf(instance)
  const mend = instance.task === null ? MENDS[phase] : 'wait until that has ended'
  const advice = mend && phase !== 'deleting' ? `; ${mend}, then try again` : ''
  return new VpeError('CONFLICT', `instance ${instance.uuid} cannot ${action}: it is ${phase}${advice}`)
}

function busyMigrating({ uuid }: InstanceRecord, action: string): VpeError {
  const mend = `wait until that has ended, or cancel it with DELETE /instances/${uuid}/migrate`
  return new VpeError('CONFLICT', `instance ${uuid} cannot ${action}: it is migrating live; ${mend}`)
}

function assertUnlocked(instance: InstanceRecord, action: string): void {
  if (!instance.locked) return
  throw new VpeError(
    'CONFLICT',
    `instance ${instance.uuid} cannot ${action}: it is locked; unlock it first with POST /instances/${instance.uuid}/unlock`,
  )
}
