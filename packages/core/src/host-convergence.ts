// What a host must do so that one instance matches its desired state. The host's only record is the
// mark that vpe writes into each domain's metadata; these functions compare it, and what libvirt says
// of the guest, with what is wanted, and list the steps that are left. They decide from a fresh look
// each time and remember nothing: a host may die between any two steps, and the next look goes on.
//
// Two orders matter. The mark tells the wanted power before the guest is touched, so that whoever
// looks after a crash knows whether vpe meant the guest to be off. The mark carries a generation only
// in the same write that makes the definition match it, so that a reported generation is never a promise.
//
// What is to happen once (a reboot, a new system disk) is named by the generation that asked for it, and
// is done when the mark says that number. A guest is off in between, so the mark catches up while it is
// off: who finds the guest off and the number old writes the mark and starts it, and nobody boots it twice
// (docs/adr/0011).
//
// Not decided here: when a guest that went off by itself is started again (restart-policy.ts).

import type { DiskSource } from './clone.ts'
import type { VpeError } from './errors.ts'
import type { ArmedPool } from './ha/guard.ts'
import type { DiskId, DiskPoolId, HostId, ImageId, InstanceId, SnapshotId } from './ids.ts'
import type { HoldUp, InstanceReport, Power, RebootKind, StopCause } from './instance.ts'
import type { DiskPoolKind, NfsSource, RbdSource, SystemDiskKind } from './resources.ts'
import type { Seed } from './seed.ts'

/** The desired state of one instance, as its host needs to know it. */
export interface DesiredInstance {
  readonly uuid: InstanceId
  readonly name: string
  readonly generation: number
  /** Of the controller that wants it. */
  readonly epoch: number
  readonly power: Power
  readonly ha: boolean
  readonly vcpus: number
  readonly memoryMib: number
  /** 0 takes the image's own size. */
  readonly diskBytes: number
  readonly image: DesiredImage
  readonly diskPool: DesiredDiskPool
  readonly dataDisks: readonly AttachedDisk[]
  readonly stopGraceMs: number
  /** The generation that asked for the last reboot, and how; 0 for none. */
  readonly rebootGeneration: number
  readonly rebootKind: RebootKind
  /** The generation that asked for the system disk's present content; 0 for its first. */
  readonly diskGeneration: number
  /** The snapshot that this content is of; null where it is the image's. */
  readonly diskSnapshotUuid: SnapshotId | null
  /** What its first content is a copy of; null where that is the image's. */
  readonly diskSource: DiskSource | null
  /** Null for a guest that is told nothing. */
  readonly seed: DesiredSeed | null
  /** The system disk has been made, and holds a user's data: where it is missing it is not made again. */
  readonly hasDisk: boolean
  /** By what it may run on this host; null for one that nothing guards. */
  readonly ownership: Ownership | null
}

/** Gives an instance to one boot of one host (docs/adr/0030). */
export interface Ownership {
  /** The number in claims: the instance's generation when it was given. */
  readonly generation: number
  readonly bootId: string
  /** In which its guest needs claim and lease. */
  readonly pools: readonly ArmedPool[]
}

export interface DesiredSeed extends Seed {
  /** Of all that the guest is told, in lower-case hex. */
  readonly sha256: string
}

/** A data disk as the domain that has it needs to know it. */
export interface AttachedDisk {
  readonly uuid: DiskId
  readonly diskPoolUuid: DiskPoolId
  readonly diskPoolPath: string
  /** Name of the device: "vdb". */
  readonly target: string
  readonly sizeBytes: number
}

export interface DesiredImage {
  readonly uuid: ImageId
  readonly url: string
  /** Lower-case hex; empty when not known. */
  readonly sha256: string
}

export interface DesiredDiskPool {
  readonly uuid: DiskPoolId
  readonly kind: DiskPoolKind
  readonly path: string
  readonly systemDisks: SystemDiskKind
  /** What its marker says here; empty or absent while that is not known, and any marker of this pool will do. */
  readonly marker?: string
  readonly nfs?: NfsSource | null
  readonly rbd?: RbdSource | null
}

/** A data disk as its host needs to know it while it makes, grows or removes it. */
export interface DesiredDisk {
  readonly uuid: DiskId
  readonly diskPool: DesiredDiskPool
  readonly sizeBytes: number
}

/** What a host needs to know to let go of an instance that moves to another. */
export interface InstanceRelease {
  readonly uuid: InstanceId
  /** Of the move, or of a later wish. */
  readonly generation: number
  readonly stopGraceMs: number
}

/** What vpe writes into the metadata of each of its domains: all that a host knows of an instance. */
export interface InstanceMark {
  readonly uuid: InstanceId
  readonly hostId: HostId
  /** The generation that the definition matches. */
  readonly generation: number
  readonly epoch: number
  readonly name: string
  /** Wanted power. */
  readonly power: Power
  readonly ha: boolean
  readonly vcpus: number
  readonly memoryMib: number
  readonly imageUuid: ImageId
  readonly diskPoolUuid: DiskPoolId
  readonly diskPoolPath: string
  /** Of the seed that the guest has beside its disk; empty for none. What it says is for the guest alone. */
  readonly seedSha256: string
  /** Those of the definition. */
  readonly dataDisks: readonly AttachedDisk[]
  /** The boot of the host in which the guest was last started; empty when a stop since is of unknown cause. */
  readonly bootId: string
  /** Why it is off, when it is wanted off. */
  readonly stopCause: StopCause | null
  /** Why the host has given up on keeping it on; empty otherwise. */
  readonly fault: string
  /** How often this host has brought it back by itself. */
  readonly restarts: number
  /** The generation of the ownership that its guest runs by; 0 for none. */
  readonly ownership: number
  /** That ownership has pools: the guard answers for its guest. */
  readonly isGuarded: boolean
  /** The reboot that has been carried out; see DesiredInstance. */
  readonly rebootGeneration: number
  /** What the system disk holds; see DesiredInstance. */
  readonly diskGeneration: number
  /** What the system disk was last made or grown to; 0 where that is not known. */
  readonly diskBytes: number
}

/** Why a domain is not running, in libvirt's words as far as they tell causes apart. */
export type OffReason = 'guest-shutdown' | 'crashed' | 'destroyed' | 'start-failed' | 'unknown'

export type GuestState =
  /** Running, suspended by itself or on its way down: it holds its disks. */
  | { readonly power: 'on' }
  /**
   * Its CPUs stand still, and it holds its disks, or its place. An I/O error is one of its disks, but for one of a full pool, which
   * is told apart; a fault is any other that it was paused for, such as one of its memory. After a migration that broke at its end
   * nobody here knows whether it goes on elsewhere.
   */
  | { readonly power: 'paused'; readonly reason: 'asked' | 'io-error' | 'full' | 'fault' | 'migration' }
  /** Panicked, and kept for inspection: neither on nor ready to be started. */
  | { readonly power: 'panicked' }
  | { readonly power: 'off'; readonly reason: OffReason }

/** A domain of vpe on this host, as libvirt shows it. */
export interface ObservedDomain {
  readonly mark: InstanceMark
  readonly guest: GuestState
}

/** The file in a pool that a new domain would use: whole, whoever made it. */
export interface ObservedSystemDisk {
  /** The image it was made from, where the file itself tells. */
  readonly imageUuid: ImageId | null
}

/** A data disk that a running guest has. */
export type LiveDisk = Pick<AttachedDisk, 'uuid' | 'target'>

export interface ObservedInstance {
  readonly hostId: HostId
  readonly bootId: string
  readonly domain: ObservedDomain | null
  /** Looked at only while no domain is defined. */
  readonly systemDisk: ObservedSystemDisk | null
  /** The data disks that its guest holds, running or panicked; none while it is off. */
  readonly liveDisks: readonly LiveDisk[]
  /** In this convergence the guest had its time to shut down, and still runs. */
  readonly isGraceSpent: boolean
  /** What this host holds of the instance in claims, or is about to give back; null for nothing. */
  readonly ownership: HeldOwnership | null
}

export interface HeldOwnership {
  readonly generation: number
  /** Its guest runs by it. */
  readonly isRunning: boolean
}

export type HostStep = { readonly why: string } & (
  | { readonly kind: 'ensure-disk-pool' }
  | { readonly kind: 'ensure-image' }
  | { readonly kind: 'make-system-disk' }
  /** Makes it as a copy of another instance's. */
  | { readonly kind: 'copy-system-disk' }
  | { readonly kind: 'grow-system-disk' }
  | { readonly kind: 'make-seed' }
  /** Gives it the content of the snapshot that is wanted, and then its size. */
  | { readonly kind: 'revert-system-disk' }
  /** Writes the whole definition, mark included. */
  | { readonly kind: 'define'; readonly mark: InstanceMark }
  /** Writes the mark alone. */
  | { readonly kind: 'mark'; readonly mark: InstanceMark }
  | { readonly kind: 'attach-disk'; readonly disk: AttachedDisk }
  /** Asks the guest to let go of it, and waits until it has. */
  | { readonly kind: 'detach-disk'; readonly disk: LiveDisk; readonly graceMs: number }
  | { readonly kind: 'grow-disk'; readonly disk: AttachedDisk }
  | { readonly kind: 'start' }
  /** Takes a guest that runs into its ownership, as it runs. */
  | { readonly kind: 'own' }
  /** Gives claims back, for a guest that is off. */
  | { readonly kind: 'let-go' }
  | { readonly kind: 'pause' }
  | { readonly kind: 'resume' }
  | { readonly kind: 'shutdown'; readonly graceMs: number }
  | { readonly kind: 'power-off' }
  | { readonly kind: 'undefine' }
  | { readonly kind: 'remove-system-disk' }
  | { readonly kind: 'remove-console-log' }
)

export type HostStepKind = HostStep['kind']

export type HostPlan =
  | { readonly steps: readonly HostStep[] }
  | { readonly refused: string; readonly code: VpeError['code'] }

/** The steps that are left until the instance matches; none when it does. */
export function planConvergence(desired: DesiredInstance, observed: ObservedInstance): HostPlan {
  const { domain } = observed
  if (!domain) {
    if (!desired.hasDisk || observed.systemDisk) return { steps: planCreation(desired, observed) }
    return {
      code: 'DISK_POOL_FAILED',
      refused: `its system disk is not in ${desired.diskPool.path}; if that is shared storage, see that it is mounted on this host, then start the instance`,
    }
  }
  const { mark, guest } = domain
  if (mark.generation > desired.generation) return refuseStale(mark, desired.generation)
  if (mark.diskPoolUuid !== desired.diskPool.uuid) {
    return {
      code: 'CONFLICT',
      refused: `its system disk lies in disk pool ${mark.diskPoolUuid}, and cannot be had in ${desired.diskPool.uuid}`,
    }
  }
  const hasGivenUp = mark.fault !== '' && mark.generation === desired.generation && guest.power === 'off'
  if (hasGivenUp) return { steps: [] }
  const why = guest.power === 'off' ? null : reasonToBeOff(desired, mark)
  return { steps: why ? planDowntime(desired, observed, domain, why) : planMatch(desired, observed, domain) }
}

/** It holds its disks. */
export function isUp(guest: GuestState): boolean {
  return guest.power === 'on' || guest.power === 'paused'
}

/** The steps after which nothing of an instance is left. `generation` is the removal's own. */
export function planRemoval(generation: number, domain: ObservedDomain | null): HostPlan {
  const why = 'the instance is deleted'
  const files: HostStep[] = [
    { kind: 'remove-system-disk', why },
    { kind: 'remove-console-log', why },
  ]
  if (!domain) return { steps: files }
  const { mark, guest } = domain
  if (mark.generation > generation) return refuseStale(mark, generation)
  const stop: HostStep[] =
    guest.power === 'off'
      ? []
      : [
          { kind: 'mark', mark: { ...mark, power: 'off', stopCause: 'requested' }, why },
          { kind: 'power-off', why },
        ]
  return { steps: [...stop, { kind: 'undefine', why }, ...files] }
}

/**
 * The steps after which this host cannot run an instance that moves away. Its disks stay as they are. A
 * domain that matches the release's own generation, or a later one, is there because it has come back.
 */
export function planRelease(
  release: InstanceRelease,
  { domain, isGraceSpent }: Pick<ObservedInstance, 'domain' | 'isGraceSpent'>,
): HostPlan {
  const why = 'the instance moves to another host'
  if (!domain) return { steps: [] }
  const { mark, guest } = domain
  if (mark.generation >= release.generation) return refuseStale(mark, release.generation)
  // First of all, so that nobody brings the guest back who finds it off.
  const off: HostStep = { kind: 'mark', mark: { ...mark, power: 'off', stopCause: 'requested' }, why }
  const stop = planStop(release, { isGraceSpent }, guest, why)
  const isOffThen = stop.every(({ kind }) => kind === 'power-off')
  // The domain goes last: while it is there, the next look finds what is left to be done.
  const forget: HostStep[] = [
    { kind: 'remove-console-log', why },
    { kind: 'undefine', why },
  ]
  return {
    steps: [...(stop.length > 0 && mark.power !== 'off' ? [off] : []), ...stop, ...(isOffThen ? forget : [])],
  }
}

/**
 * The mark of a domain that comes to a host as it runs: it matches what is wanted from its first moment there.
 * @param isHeld it stands still until the other host has nothing of it: who lets it go on then finds that vpe held it
 */
export function incomingMark(
  desired: DesiredInstance,
  { hostId, bootId }: Pick<ObservedInstance, 'hostId' | 'bootId'>,
  isHeld: boolean,
): InstanceMark {
  const nothing = { domain: null, systemDisk: null, liveDisks: [], isGraceSpent: false, ownership: null }
  const mark = wantedMark(desired, { hostId, bootId, ...nothing })
  return isHeld ? { ...mark, power: 'paused' } : mark
}

/** What a host reports of a domain. */
export function reportOf(domain: ObservedDomain, bootId: string, isConverging: boolean): InstanceReport {
  const { mark, guest } = domain
  return {
    uuid: mark.uuid,
    generation: mark.generation,
    power: guest.power === 'panicked' ? 'off' : guest.power,
    stopCause: stopCauseOf(domain, bootId),
    fault: mark.fault,
    converging: isConverging,
    restarts: mark.restarts,
    holdUp: holdUpOf(domain),
  }
}

/** Why a guest that is wanted on stands still; null where only a user lets it go on, and where it runs. */
export function holdUpOf({ mark, guest }: ObservedDomain): HoldUp | null {
  if (mark.power !== 'on' || guest.power !== 'paused') return null
  if (guest.reason === 'io-error' && mark.isGuarded) return 'claim-check'
  return guest.reason === 'full' && mark.ha ? 'full-pool' : null
}

/**
 * Why a domain is off; null while it is on, and where nobody can know: after a reboot of the host,
 * or when somebody destroyed it behind vpe's back.
 */
export function stopCauseOf({ mark, guest }: ObservedDomain, bootId: string): StopCause | null {
  if (guest.power === 'on' || guest.power === 'paused') return null
  if (guest.power === 'panicked') return 'crash'
  if (mark.power === 'off') return mark.stopCause
  if (mark.bootId !== bootId) return null
  const { reason } = guest
  switch (reason) {
    case 'guest-shutdown':
      return 'guest'
    case 'crashed':
      return 'crash'
    case 'destroyed':
    case 'start-failed':
    case 'unknown':
      return null
    default:
      throw new Error(`no such reason: ${reason satisfies never}`)
  }
}

function planCreation(desired: DesiredInstance, observed: ObservedInstance): HostStep[] {
  const why = 'no domain is defined'
  const disk = observed.systemDisk
  // A disk that outlived its domain, or has come from another host, holds a user's data: one that is known to
  // be made is taken as it is; any other, unless a new one was asked for or it shows that it is of another image.
  const isOfImage = disk !== null && (disk.imageUuid === null || disk.imageUuid === desired.image.uuid)
  const isUsable = disk !== null && (desired.hasDisk || (isOfImage && desired.diskGeneration === 0))
  const isRevertDue = desired.diskSnapshotUuid !== null && !desired.hasDisk
  return [
    { kind: 'ensure-disk-pool', why },
    ...(isRevertDue
      ? [{ kind: 'revert-system-disk', why: 'nobody has said that it was' } as const]
      : isUsable
        ? [{ kind: 'grow-system-disk', why: 'the one there is may be smaller' } as const]
        : planFirstDisk(desired, whyNewDisk(disk, isOfImage))),
    ...seedSteps(desired, ''),
    ...planGrowth(desired, null),
    { kind: 'define', mark: wantedMark(desired, observed), why },
    ...(desired.power === 'on' ? [{ kind: 'start', why: 'it is wanted on' } as const] : []),
  ]
}

function whyNewDisk(disk: ObservedSystemDisk | null, isOfImage: boolean): string {
  if (!disk) return 'there is none'
  return isOfImage ? 'it is made anew' : 'the one there is of another image'
}

/** A copy once; whatever its source holds later is another's. */
function planFirstDisk(desired: DesiredInstance, why: string): HostStep[] {
  if (desired.diskSource !== null && !desired.hasDisk)
    return [{ kind: 'copy-system-disk', why: `it is a clone of ${desired.diskSource.instanceUuid}` }]
  return [
    { kind: 'ensure-image', why: 'the system disk is made from it' },
    { kind: 'make-system-disk', why },
  ]
}

/** What cannot be done to a guest that is up; null when nothing of it is left to do. */
function reasonToBeOff(desired: DesiredInstance, mark: InstanceMark): string | null {
  if (needsNewDisk(desired, mark)) return reasonForNewDisk(desired, mark)
  if (mark.diskBytes > 0 && mark.diskBytes < desired.diskBytes) return 'its system disk is to grow'
  return needsReboot(desired, mark) ? `a ${desired.rebootKind} reboot was asked for` : null
}

function needsNewDisk(desired: DesiredInstance, mark: InstanceMark): boolean {
  return mark.diskGeneration < desired.diskGeneration || mark.imageUuid !== desired.image.uuid
}

function reasonForNewDisk(desired: DesiredInstance, mark: InstanceMark): string {
  if (desired.diskSnapshotUuid !== null) return `it is reverted to snapshot ${desired.diskSnapshotUuid}`
  return mark.imageUuid === desired.image.uuid
    ? 'its system disk is made anew'
    : `image ${mark.imageUuid} is replaced by ${desired.image.uuid}`
}

/** A reboot that a stop has overtaken is none. */
function needsReboot(desired: DesiredInstance, mark: InstanceMark): boolean {
  return desired.power !== 'off' && mark.rebootGeneration < desired.rebootGeneration
}

/** The image is there before the guest is stopped: a failed import costs nobody a running guest. */
function planDowntime(
  desired: DesiredInstance,
  observed: ObservedInstance,
  { mark, guest }: ObservedDomain,
  why: string,
): HostStep[] {
  const isHard = needsReboot(desired, mark) && desired.rebootKind === 'hard'
  const markOff: HostStep[] =
    mark.power === 'off'
      ? []
      : [{ kind: 'mark', mark: { ...mark, power: 'off', stopCause: 'requested' }, why }]
  return [
    ...(needsNewDisk(desired, mark) && desired.diskSnapshotUuid === null ? planImage(why) : []),
    ...markOff,
    ...(isHard ? [{ kind: 'power-off', why } as const] : planStop(desired, observed, guest, why)),
  ]
}

function planImage(why: string): HostStep[] {
  return [
    { kind: 'ensure-disk-pool', why },
    { kind: 'ensure-image', why },
  ]
}

function planMatch(desired: DesiredInstance, observed: ObservedInstance, domain: ObservedDomain): HostStep[] {
  const { mark, guest } = domain
  const isHeld = observed.liveDisks.some((disk) => !isAmong(desired.dataDisks, disk))
  if (guest.power === 'panicked' && isHeld) {
    // It is reported as off, yet holds its disks: it must be gone before a mark leaves one of them out.
    const why = 'its guest has panicked, and holds a disk that is not wanted'
    const stopped: ObservedDomain = {
      mark: { ...mark, power: 'off', stopCause: 'crash' },
      guest: { power: 'off', reason: 'destroyed' },
    }
    const rest = { ...observed, domain: stopped, liveDisks: [] }
    return [
      { kind: 'mark', mark: stopped.mark, why },
      { kind: 'power-off', why },
      ...planMatch(desired, rest, stopped),
    ]
  }
  const wanted = wantedMark(desired, observed)
  // Before the mark: while that says paused, whoever looks knows that vpe may resume it. A guest that was
  // paused behind vpe's back, or by libvirt on an I/O error, is left as it is until a user says so.
  const isOurPause = guest.power === 'paused' && mark.power !== 'on'
  const resume: HostStep[] =
    desired.power === 'on' && isOurPause ? [{ kind: 'resume', why: 'it is wanted on' }] : []
  return [
    ...(guest.power === 'off' ? planDisk(desired, mark) : []),
    ...seedSteps(desired, mark.seedSha256),
    ...resume,
    ...planOwnership(desired, observed, guest),
    ...planDataDisks(desired, observed, domain),
    ...planRecord(domain, wanted),
    ...planPower(desired, observed, domain),
  ]
}

function planDisk(desired: DesiredInstance, mark: InstanceMark): HostStep[] {
  if (needsNewDisk(desired, mark)) {
    const why = reasonForNewDisk(desired, mark)
    if (desired.diskSnapshotUuid !== null) {
      return [
        { kind: 'ensure-disk-pool', why },
        { kind: 'revert-system-disk', why },
      ]
    }
    return [...planImage(why), { kind: 'make-system-disk', why }]
  }
  if (mark.diskBytes >= desired.diskBytes) return []
  const why = 'its system disk is to grow'
  return [
    { kind: 'ensure-disk-pool', why },
    { kind: 'grow-system-disk', why },
  ]
}

/** The seed is there before a definition names it. */
function seedSteps({ seed }: DesiredInstance, presentSha256: string): HostStep[] {
  return seed === null || seed.sha256 === presentSha256
    ? []
    : [{ kind: 'make-seed', why: presentSha256 ? 'it says something else' : 'there is none' }]
}

/**
 * A guest that is up gets and loses its disks before the mark says so: a generation that is reported
 * with a disk gone means that no domain has it. What is to be powered off is not asked to let go first.
 */
function planDataDisks(
  desired: DesiredInstance,
  { liveDisks }: ObservedInstance,
  { mark, guest }: ObservedDomain,
): HostStep[] {
  const grow = planGrowth(desired, mark)
  if (!isUp(guest) || desired.power === 'off') return grow
  return [
    ...liveDisks
      .filter((disk) => !isAmong(desired.dataDisks, disk))
      .map((disk): HostStep => {
        const why = `disk ${disk.uuid} is not wanted`
        return { kind: 'detach-disk', disk, graceMs: desired.stopGraceMs, why }
      }),
    ...desired.dataDisks
      .filter((disk) => !isAmong(liveDisks, disk))
      .map((disk): HostStep => ({ kind: 'attach-disk', disk, why: `disk ${disk.uuid} is wanted` })),
    ...grow,
  ]
}

/** Disks that are larger than the mark says; without a mark, nobody knows, and each is looked at. */
function planGrowth({ dataDisks }: DesiredInstance, mark: InstanceMark | null): HostStep[] {
  const isKnown = (disk: AttachedDisk) =>
    mark?.dataDisks.every(({ uuid, sizeBytes }) => uuid !== disk.uuid || sizeBytes >= disk.sizeBytes)
  return dataDisks
    .filter((disk) => !isKnown(disk))
    .map((disk) => ({ kind: 'grow-disk', disk, why: `to ${disk.sizeBytes} bytes` }))
}

function isAmong(disks: readonly LiveDisk[], { uuid }: LiveDisk): boolean {
  return disks.some((disk) => disk.uuid === uuid)
}

/** Brings definition and mark up to date. A running guest keeps its size until it is started again. */
function planRecord({ mark, guest }: ObservedDomain, wanted: InstanceMark): HostStep[] {
  const changes = [
    change('name', mark.name, wanted.name),
    change('vCPUs', mark.vcpus, wanted.vcpus),
    change('MiB of memory', mark.memoryMib, wanted.memoryMib),
    change('image', mark.imageUuid, wanted.imageUuid),
    change('bytes of system disk', mark.diskBytes, wanted.diskBytes),
    change('pool path', mark.diskPoolPath, wanted.diskPoolPath),
    mark.seedSha256 === wanted.seedSha256 ? null : 'another seed',
    change('data disks', deviceList(mark), deviceList(wanted)),
  ].filter((text) => text !== null)
  if (changes.length > 0) {
    const when = guest.power === 'off' ? '' : '; sizes take effect at the next start'
    return [{ kind: 'define', mark: wanted, why: `${changes.join(', ')}${when}` }]
  }
  // The epoch alone is no reason to write: it says who asked last, and changes with each new leader.
  if (isSameMark(mark, { ...wanted, epoch: mark.epoch })) return []
  const why =
    mark.generation === wanted.generation
      ? `wanted power is ${wanted.power}`
      : `generation ${mark.generation} → ${wanted.generation}, power ${wanted.power}`
  return [{ kind: 'mark', mark: wanted, why }]
}

function planPower(
  desired: DesiredInstance,
  observed: ObservedInstance,
  { guest }: ObservedDomain,
): HostStep[] {
  switch (desired.power) {
    case 'off':
      if (guest.power === 'off' && observed.ownership)
        return [{ kind: 'let-go', why: 'it is wanted off, and is off' }]
      return planStop(desired, observed, guest, 'it is wanted off')
    case 'paused':
      // Of a guest that is off there is nothing to be paused, and a panicked one stands still already.
      return guest.power === 'on' ? [{ kind: 'pause', why: 'it is wanted paused' }] : []
    case 'on': {
      const isUnguarded = desired.ownership === null && observed.ownership !== null
      const letGo: HostStep[] =
        isUnguarded && guest.power === 'off'
          ? [{ kind: 'let-go', why: 'it is wanted on, and nothing is to guard it' }]
          : []
      return [...letGo, ...planStart(guest)]
    }
    default:
      throw new Error(`no such power: ${desired.power satisfies never}`)
  }
}

/** Before the mark says so: a generation that is reported means that the guest is guarded. */
function planOwnership(
  { ownership, power }: DesiredInstance,
  observed: ObservedInstance,
  guest: GuestState,
): HostStep[] {
  if (!ownership || power === 'off' || !isUp(guest)) return []
  const held = observed.ownership
  if (held?.generation === ownership.generation && held.isRunning) return []
  return [{ kind: 'own', why: `it is this host's in generation ${ownership.generation}` }]
}

function planStart(guest: GuestState): HostStep[] {
  const start: HostStep = { kind: 'start', why: 'it is wanted on' }
  switch (guest.power) {
    case 'on':
    case 'paused':
      return []
    case 'off':
      return [start]
    case 'panicked':
      return [{ kind: 'power-off', why: 'its guest has panicked' }, start]
  }
}

/** Gracefully, while there is somebody to ask: a guest that stands still is asked once it goes on. */
function planStop(
  desired: Pick<DesiredInstance, 'stopGraceMs'>,
  observed: Pick<ObservedInstance, 'isGraceSpent'>,
  guest: GuestState,
  why: string,
): HostStep[] {
  if (guest.power === 'off') return []
  if (guest.power === 'panicked') return [{ kind: 'power-off', why: 'its guest has panicked' }]
  if (observed.isGraceSpent) {
    return [{ kind: 'power-off', why: `the guest did not shut down within ${desired.stopGraceMs / 1000} s` }]
  }
  const shutdown: HostStep = { kind: 'shutdown', graceMs: desired.stopGraceMs, why }
  if (guest.power === 'on') return [shutdown]
  return guest.reason === 'asked'
    ? [{ kind: 'resume', why: 'only a guest that goes on can shut down' }, shutdown]
    : [{ kind: 'power-off', why: 'a fault has paused it, so it cannot shut down' }]
}

function wantedMark(desired: DesiredInstance, observed: ObservedInstance): InstanceMark {
  const { domain } = observed
  return {
    uuid: desired.uuid,
    hostId: observed.hostId,
    generation: desired.generation,
    epoch: desired.epoch,
    name: desired.name,
    power: desired.power,
    ha: desired.ha,
    vcpus: desired.vcpus,
    memoryMib: desired.memoryMib,
    imageUuid: desired.image.uuid,
    diskPoolUuid: desired.diskPool.uuid,
    diskPoolPath: desired.diskPool.path,
    seedSha256: desired.seed?.sha256 ?? '',
    dataDisks: desired.dataDisks,
    bootId: desired.power === 'on' ? observed.bootId : (domain?.mark.bootId ?? ''),
    stopCause: desired.power === 'off' ? wantedStopCause(domain) : null,
    fault: '',
    restarts: domain?.mark.restarts ?? 0,
    // A guest that runs stays guarded until it is off.
    ...markOwnership(desired, domain),
    rebootGeneration: desired.rebootGeneration,
    diskGeneration: desired.diskGeneration,
    diskBytes: desired.diskBytes,
  }
}

function markOwnership({ ownership }: DesiredInstance, domain: ObservedDomain | null) {
  if (ownership) return { ownership: ownership.generation, isGuarded: ownership.pools.length > 0 }
  if (!domain || !isUp(domain.guest)) return { ownership: 0, isGuarded: false }
  return { ownership: domain.mark.ownership, isGuarded: domain.mark.isGuarded }
}

/** A guest that was off for a cause of its own before keeps that cause; else the stop is vpe's. */
function wantedStopCause(domain: ObservedDomain | null): StopCause {
  if (domain?.guest.power === 'off' && domain.mark.power === 'off')
    return domain.mark.stopCause ?? 'requested'
  return 'requested'
}

function refuseStale(mark: InstanceMark, generation: number): HostPlan {
  return {
    code: 'STALE_GENERATION',
    refused: `generation ${generation} is too late: this host has ${mark.generation}`,
  }
}

function change(what: string, from: string | number, to: string | number): string | null {
  return from === to ? null : `${what} ${from} → ${to}`
}

function deviceList({ dataDisks }: InstanceMark): string {
  const devices = dataDisks.map(({ uuid, target, diskPoolPath }) => `${target} ${diskPoolPath}/${uuid}`)
  return devices.join(', ') || 'none'
}

function isSameMark(one: InstanceMark, other: InstanceMark): boolean {
  return (Object.keys(one) as (keyof InstanceMark)[]).every((key) =>
    key === 'dataDisks'
      ? JSON.stringify(one[key].map(diskKey)) === JSON.stringify(other[key].map(diskKey))
      : one[key] === other[key],
  )
}

function diskKey({ uuid, diskPoolUuid, diskPoolPath, target, sizeBytes }: AttachedDisk) {
  return [uuid, diskPoolUuid, diskPoolPath, target, sizeBytes]
}
