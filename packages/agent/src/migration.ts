// How a running guest leaves this host for another, or comes to it. libvirt does the work; this looks at what
// is there, begins or follows it, tells how far it is, and says at its end what is left here. All of it may be
// asked again after a crash, of libvirt or of the agent: what is under way then is taken up where it is.

import {
  arrivalOf,
  type DepartureReport,
  type DesiredInstance,
  type DiskCopy,
  departingMark,
  departingStopCause,
  incomingMark,
  isUp,
  keptMark,
  type MigrationJob,
  type ObservedDomain,
  planDeparture,
  VpeError,
} from '@vpe/core'
import { removeConsoleLog } from './console-log.ts'
import type { HostParts } from './converge.ts'
import { definitionXml } from './definition.ts'
import { makeCopyTargets } from './disk-copies.ts'
import type { MigrationProgress, MigrationTarget } from './hypervisor/hypervisor.ts'
import { formatMark } from './instance-mark.ts'
import type { Progress } from './progress.ts'
import { removeSerialSocket } from './serial-socket.ts'
import { whileOff } from './while-off.ts'

const LOOK_INTERVAL_MS = 250
const MIB = 1024 ** 2

/** What a running instance is handed over with. */
export interface MigrationOrder {
  readonly uuid: string
  readonly generation: number
  readonly target: MigrationTarget
  /** In MiB/s; 0 for no bound. */
  readonly bandwidthMibS: number
  /** 0 leaves it to the hypervisor. */
  readonly downtimeMaxMs: number
  /** Devices of the disks that are copied along: "vda". */
  readonly copyTargets: readonly string[]
  readonly postCopy: boolean
}

/**
 * Hands an instance over, and says what is left of it here.
 * @throws VpeError STALE_GENERATION, or UNAVAILABLE where nobody can say: ask again
 */
export async function migrateInstance(
  order: MigrationOrder,
  host: HostParts,
  signal: AbortSignal,
  progress: Progress,
): Promise<DepartureReport> {
  const { uuid } = order
  host.ha.setLeaving(uuid, true)
  try {
    return await handOverOnce(order, host, signal, progress)
  } finally {
    host.ha.setLeaving(uuid, false)
  }
}

async function handOverOnce(
  order: MigrationOrder,
  host: HostParts,
  signal: AbortSignal,
  progress: Progress,
): Promise<DepartureReport> {
  const { uuid, generation } = order
  let fault = ''
  for (let isWanted = true; ; isWanted = false) {
    signal.throwIfAborted()
    const seen = await lookAt(uuid, host)
    const step = planDeparture(generation, isWanted, seen.domain, seen.job)
    if ('refused' in step) throw new VpeError(step.code, `instance ${uuid}: ${step.refused}`)
    switch (step.kind) {
      case 'report':
        return report(uuid, step.departure, seen.domain, host, {
          fault: fault || (isWanted ? '' : 'what had been begun has handed nothing over'),
        })
      case 'follow':
        fault = 'what had been begun has handed nothing over'
        await follow(uuid, host, signal, progress)
        break
      case 'hand-over': {
        const begun = await handOver(order, seen.domain, host, signal, progress)
        if ('downtimeMs' in begun) {
          return report(uuid, 'gone', null, host, { downtimeMs: begun.downtimeMs })
        }
        if (begun.isRefused) return report(uuid, 'running', seen.domain, host, begun)
        fault = begun.fault
        break
      }
      default:
        throw new Error(`no such step: ${JSON.stringify(step satisfies never)}`)
    }
  }
}

/** Has this host hand an instance over no more, and says what is left of it here. */
export async function endMigration(
  uuid: string,
  generation: number,
  host: HostParts,
  signal: AbortSignal,
  progress: Progress,
): Promise<DepartureReport> {
  for (;;) {
    signal.throwIfAborted()
    const { domain, job } = await lookAt(uuid, host)
    const step = planDeparture(generation, false, domain, job)
    if ('refused' in step) throw new VpeError(step.code, `instance ${uuid}: ${step.refused}`)
    if (step.kind === 'report') return report(uuid, step.departure, domain, host, {})
    await host.hypervisor.abortMigration(uuid)
    await follow(uuid, host, signal, progress)
  }
}

/** What a guest that comes brings along, and how. */
export interface ArrivalWish {
  readonly copies: readonly DiskCopy[]
  readonly postCopy: boolean
}

/**
 * Whether an instance can come to this host as it runs, and how it is sent.
 * @throws VpeError that says what is in its way
 */
export async function prepareMigration(
  desired: DesiredInstance,
  { copies, postCopy }: ArrivalWish,
  host: HostParts,
  freeMemoryBytes: number,
  signal: AbortSignal,
): Promise<MigrationTarget> {
  const { hostId, bootId, diskPools, files, settings } = host
  const { uuid, generation, diskPool, dataDisks, memoryMib } = desired
  host.ha.assertCanOwn(desired)
  if (settings.migration.receive === undefined) {
    const words = 'this host receives no running guests: its agent has no VPE_AGENT_MIGRATION_URI'
    throw new VpeError('CONFLICT', words)
  }
  const mark = incomingMark(desired, { hostId, bootId }, copies.length > 0)
  const target = { ...settings.migration.receive, definitionXml: definitionXml(mark, settings) }
  const { domain, job } = await lookAt(uuid, host)
  if (arrivalOf(domain, job, generation) !== 'absent') return target
  if (domain && isUp(domain.guest)) {
    throw new VpeError(
      'CONFLICT',
      `instance ${uuid} runs on this host, at generation ${domain.mark.generation}`,
    )
  }
  const pools = new Map(dataDisks.map((disk) => [disk.diskPoolUuid, disk.diskPoolPath]))
  await diskPools.ensure(diskPool)
  for (const [poolUuid, path] of pools) await diskPools.ensure({ uuid: poolUuid, path })
  const isCopied = copies.some(({ diskUuid }) => diskUuid === null)
  const isThere =
    isCopied || (await files.request(diskPool, 'find-system-disk', { instanceUuid: uuid })).isFound
  if (!isThere) {
    const words = `its system disk is not in ${diskPool.path} of this host; if that is shared storage, see that it is mounted here`
    throw new VpeError('DISK_POOL_FAILED', `instance ${uuid}: ${words}`)
  }
  if (freeMemoryBytes < memoryMib * MIB) {
    const words = `this host has ${Math.floor(freeMemoryBytes / MIB)} MiB of memory free, and ${memoryMib} MiB are needed`
    throw new VpeError('CONFLICT', `instance ${uuid}: ${words}`)
  }
  if (postCopy) await assertPostCopyAllowed(host)
  if (domain) await forgetOld(desired, host)
  if (copies.length > 0) await makeTargetsUnseen(desired, copies, host, signal)
  if (desired.ownership) await host.ha.start(desired, { kind: 'incoming' }, signal)
  return target
}

/**
 * Makes the files that are copied into, while nobody receives it. A libvirt that has begun to receive meanwhile, by an
 * order that was given before, may have opened the files that were there: it is made to give up, before it has run.
 */
async function makeTargetsUnseen(
  desired: DesiredInstance,
  copies: readonly DiskCopy[],
  host: HostParts,
  signal: AbortSignal,
): Promise<void> {
  const { uuid, generation } = desired
  await makeCopyTargets(desired, copies, host, signal)
  const { domain, job } = await lookAt(uuid, host)
  if (arrivalOf(domain, job, generation) === 'absent') return
  await abandonMigration(uuid, generation, host)
  throw new VpeError('UNAVAILABLE', `instance ${uuid} began to come before its disks were ready; ask again`)
}

/** @throws VpeError CONFLICT where the kernel keeps QEMU from fetching memory when it is missed */
async function assertPostCopyAllowed({ postCopyFault }: HostParts): Promise<void> {
  const fault = await postCopyFault()
  if (fault) throw new VpeError('CONFLICT', `post-copy is not possible to this host: ${fault}`)
}

/** Undefines what an earlier stay has left; nobody makes anything of it meanwhile, or has before. */
function forgetOld({ uuid, generation }: DesiredInstance, host: HostParts): Promise<void> {
  return whileOff(host, uuid, new AbortController().signal, async () => {
    const { domain, job } = await lookAt(uuid, host)
    if (arrivalOf(domain, job, generation) !== 'absent') {
      throw new VpeError('CONFLICT', `instance ${uuid} has come to this host meanwhile`)
    }
    await host.hypervisor.undefineDomain(uuid)
  })
}

/** Has this host receive an instance no more; whether it has arrived before. */
export async function abandonMigration(
  uuid: string,
  since: number,
  host: HostParts,
): Promise<{ readonly arrived: boolean }> {
  for (;;) {
    const { domain, job } = await lookAt(uuid, host)
    const arrival = arrivalOf(domain, job, since)
    if (arrival !== 'incoming') return { arrived: arrival === 'arrived' }
    await host.hypervisor.abortMigration(uuid)
    await host.clock.sleep(LOOK_INTERVAL_MS)
  }
}

/**
 * Ends what an earlier process of this agent, or one that lost libvirt on the way, has begun to hand over: whoever
 * changes a guest changes the one that stays.
 */
export async function endCopying(
  uuid: string,
  { hypervisor, clock }: HostParts,
  signal: AbortSignal,
): Promise<void> {
  while ((await hypervisor.migrationJob(uuid)) === 'out') {
    signal.throwIfAborted()
    await hypervisor.abortMigration(uuid)
    await clock.sleep(LOOK_INTERVAL_MS, signal)
  }
}

async function lookAt(
  uuid: string,
  { hypervisor, inventory }: HostParts,
): Promise<{ readonly domain: ObservedDomain | null; readonly job: MigrationJob }> {
  // The job first: where it ends in between, the domain shows it.
  const job = await hypervisor.migrationJob(uuid)
  return { domain: await inventory.look(uuid), job }
}

type HandedOver =
  | { readonly downtimeMs: number | null }
  | { readonly fault: string; readonly isRefused: boolean }

async function handOver(
  { uuid, target, bandwidthMibS, downtimeMaxMs, copyTargets, postCopy }: MigrationOrder,
  domain: ObservedDomain | null,
  host: HostParts,
  signal: AbortSignal,
  progress: Progress,
): Promise<HandedOver> {
  const { hypervisor, settings, log, clock } = host
  if (!domain) throw new Error('a hand-over of nothing was planned')
  progress.say(`asking ${target.libvirtUri} whether it can take the guest`)
  try {
    await hypervisor.checkMigration(uuid, target)
  } catch (error) {
    return { fault: faultOf(error), isRefused: true }
  }
  signal.throwIfAborted()
  await hypervisor.writeMark(uuid, formatMark(departingMark(domain.mark)))
  const startMs = clock.nowMs()
  const over = new AbortController()
  const watching = watch(uuid, postCopy, host, AbortSignal.any([over.signal, signal]), progress)
  // Ended from outside, it is told so until it has come to its end: what is left then, the next look shows.
  const ending = whenAborted(signal, over.signal, async () => {
    while (!over.signal.aborted) {
      await hypervisor.abortMigration(uuid).catch(() => {})
      await clock.sleep(LOOK_INTERVAL_MS, over.signal).catch(() => {})
    }
  })
  try {
    const limits = { bandwidthMibS, downtimeMaxMs, tls: settings.migration.tls, copyTargets, postCopy }
    const { downtimeMs } = await hypervisor.migrateDomain(uuid, target, limits)
    const ms = Math.round(clock.nowMs() - startMs)
    log.info({ instance: uuid, to: target.libvirtUri, ms, downtimeMs }, 'guest handed over')
    return { downtimeMs }
  } catch (error) {
    log.warn({ instance: uuid, to: target.libvirtUri, err: error }, 'guest not handed over')
    return { fault: faultOf(error), isRefused: false }
  } finally {
    over.abort()
    await Promise.all([watching, ending])
  }
}

async function whenAborted(signal: AbortSignal, over: AbortSignal, work: () => Promise<void>): Promise<void> {
  const either = AbortSignal.any([signal, over])
  if (!either.aborted)
    await new Promise((resolve) => either.addEventListener('abort', resolve, { once: true }))
  if (!over.aborted) await work()
}

/** Waits until nothing is copied any more. */
async function follow(uuid: string, host: HostParts, signal: AbortSignal, progress: Progress): Promise<void> {
  const { hypervisor, clock } = host
  while ((await hypervisor.migrationJob(uuid)) === 'out') {
    if (signal.aborted) await hypervisor.abortMigration(uuid)
    await sayProgress(uuid, host, progress)
    await clock.sleep(LOOK_INTERVAL_MS)
  }
}

/** Tells how far it is, until it is over; and has the guest go on there once a first pass is over, if it shall. */
async function watch(
  uuid: string,
  postCopy: boolean,
  host: HostParts,
  over: AbortSignal,
  progress: Progress,
): Promise<void> {
  let isDue = postCopy
  while (!over.aborted) {
    const seen = await sayProgress(uuid, host, progress)
    if (isDue && seen && seen.passes > 1) {
      isDue = false
      host.log.info({ instance: uuid }, 'its guest goes on there, and fetches the rest')
      await host.hypervisor.startPostCopy(uuid)
    }
    await host.clock.sleep(LOOK_INTERVAL_MS, over).catch(() => {})
  }
}

async function sayProgress(uuid: string, { hypervisor }: HostParts, progress: Progress) {
  // What cannot be told now is told the next time; the end is told elsewhere.
  const seen = await hypervisor.migrationProgress(uuid).catch(() => null)
  if (seen) progress.say(describeProgress(seen))
  return seen
}

/** How far a migration is, for people. */
export function describeProgress({
  what,
  totalBytes,
  remainingBytes,
  bytesPerSecond,
}: MigrationProgress): string {
  const percent = totalBytes === 0 ? 0 : Math.floor((100 * (totalBytes - remainingBytes)) / totalBytes)
  const mib = (bytes: number) => Math.ceil(bytes / MIB)
  const subject = what === 'disks' ? 'copied disks ' : 'copied '
  return `${subject}${percent} %, ${mib(bytesPerSecond)} MiB/s, ${mib(remainingBytes)} MiB remain`
}

async function report(
  uuid: string,
  departure: DepartureReport['departure'],
  domain: ObservedDomain | null,
  host: HostParts,
  more: Partial<DepartureReport>,
): Promise<DepartureReport> {
  const { hypervisor, inventory, settings } = host
  if (departure === 'gone') {
    await host.ha.handedOver(uuid)
    await removeConsoleLog(settings.consoleDir, uuid)
    await removeSerialSocket(settings.consoleDir, uuid)
    await inventory.look(uuid)
  }
  if (departure === 'running' && domain?.mark.power === 'off') {
    await hypervisor.writeMark(uuid, formatMark(keptMark(domain.mark)))
  }
  const stopCause = departure === 'off' ? departingStopCause(domain) : null
  return { departure, fault: '', isRefused: false, downtimeMs: null, stopCause, ...more }
}

function faultOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
