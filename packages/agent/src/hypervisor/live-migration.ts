// A running domain to another libvirtd, by way of libvirt: peer to peer, from this host's to the other's.
//
// `unsafe` tells libvirt not to judge by the kind of file system whether both hosts see the same bytes. It
// cannot know that of a plain folder that is shared, nor need it: each disk has cache=none (domain-xml.ts), so
// that no host's page cache holds what the other does not see.

import type { MigrationJob } from '@vpe/core'
import { VpeError } from '@vpe/core'
import { type Connection, connect, type Domain, type DomainState, isLibvirtError } from '@vpe/node-libvirt'
import { attributesOf, buildXml, childrenOf, parseXml, type XmlNode } from '../xml.ts'
import type { MigrationLimits, MigrationProgress, MigrationTarget } from './hypervisor.ts'
import { travellingXml } from './travelling-xml.ts'

/** CPUs that are what the host offers, so that there is nothing to compare. */
const UNCOMPARED: ReadonlySet<unknown> = new Set(['maximum', 'host-passthrough'])

export async function migrationJob(domain: Pick<Domain, 'jobStats'>): Promise<MigrationJob> {
  try {
    const stats = await unlessOff(domain.jobStats())
    if (!stats || (stats.type !== 'bounded' && stats.type !== 'unbounded')) return null
    if (stats.operation === 'migration-out') return 'out'
    return stats.operation === 'migration-in' ? 'in' : null
  } catch (error) {
    // The receiving side has no figures, which QEMU's driver says of that job alone.
    if (isLibvirtError(error, 'OPERATION_UNSUPPORTED')) return 'in'
    throw error
  }
}

export async function migrationProgress(domain: Domain): Promise<MigrationProgress | null> {
  const stats = await unlessOff(domain.jobStats())
  if (stats?.operation !== 'migration-out') return null
  const passes = stats.memoryIteration ?? 0
  if (!stats.memoryTotalBytes) {
    if (!stats.diskTotalBytes) return null
    return {
      ...{ what: 'disks', passes, totalBytes: stats.diskTotalBytes },
      remainingBytes: stats.diskRemainingBytes ?? 0,
      bytesPerSecond: stats.diskBytesPerSecond ?? 0,
    }
  }
  return {
    ...{ what: 'memory', passes },
    totalBytes: stats.memoryTotalBytes,
    remainingBytes: stats.memoryRemainingBytes ?? 0,
    bytesPerSecond: stats.memoryBytesPerSecond ?? 0,
  }
}

/** @throws VpeError CONFLICT with the reason */
export function reachTarget(libvirtUri: string): Promise<void> {
  return withTarget(libvirtUri, async () => {})
}

/** @throws VpeError CONFLICT with the reason */
export async function checkTarget(domain: Domain, { libvirtUri }: MigrationTarget): Promise<void> {
  const { domain: root } = parseXml(await domain.xml({ secure: true, migratable: true }))
  await withTarget(libvirtUri, async (there) => {
    const [cpu] = childrenOf(root, 'cpu')
    if (cpu === undefined || UNCOMPARED.has(attributesOf(cpu).mode)) return
    const virtType = String(attributesOf(root).type)
    const comparison = await there.compareCpu(buildXml({ cpu: cpu as XmlNode }), { virtType })
    if (comparison !== 'incompatible') return
    throw new VpeError('CONFLICT', `the CPU of ${libvirtUri} lacks features that the guest was started with`)
  })
}

/** Hands a domain over on a connection of its own, which the call holds all the while. */
export async function migrate(
  uri: string,
  uuid: string,
  target: MigrationTarget,
  { bandwidthMibS, downtimeMaxMs, tls, copyTargets, postCopy }: MigrationLimits,
): Promise<{ readonly downtimeMs: number | null }> {
  const here = await connect(uri, { reconnect: false })
  try {
    const domain = here.domain(uuid)
    const live = await domain.xml({ secure: true, migratable: true })
    if (downtimeMaxMs > 0) await domain.setMigrateMaxDowntimeMs(downtimeMaxMs)
    await domain.migrate(target.libvirtUri, {
      ...{ live: true, peerToPeer: true, persistDestination: true, undefineSource: true },
      ...{ unsafe: true, abortOnError: true, autoConverge: !postCopy, tls, postCopy },
      ...(copyTargets.length > 0 && { nonSharedIncremental: true, paused: true, disks: copyTargets }),
      destinationXml: travellingXml(live, target.definitionXml),
      persistentXml: target.definitionXml,
      migrateUri: target.memoryUri,
      ...(target.listenAddress !== undefined && { listenAddress: target.listenAddress }),
      ...(bandwidthMibS > 0 && { bandwidthMibPerSecond: bandwidthMibS }),
    })
  } finally {
    await here.close()
  }
  if (copyTargets.length === 0) return { downtimeMs: await downtimeAt(target.libvirtUri, uuid) }
  const switchedMs = performance.now()
  await goOnAt(target.libvirtUri, uuid)
  const resumedMs = performance.now() - switchedMs
  const downtimeMs = await downtimeAt(target.libvirtUri, uuid)
  return { downtimeMs: downtimeMs === null ? null : Math.round(downtimeMs + resumedMs) }
}

/** Where it does not go on now, it does as soon as its new host is told that it has it. */
async function goOnAt(uri: string, uuid: string): Promise<void> {
  try {
    await withTarget(uri, (there) => there.domain(uuid).resume())
  } catch {
    // Nothing of it is left here, and nothing but this says so to those who ask.
  }
}

/**
 * Ends what is copied; a domain that is being received and has not run is gone then. The job of receiving outlasts
 * the start of the CPUs a little: one that runs has arrived, and is left. Where it begins to run just as it is
 * destroyed, its definition, which is written before, stays and tells so.
 */
export async function abortMigration(
  domain: Pick<Domain, 'jobStats' | 'state' | 'abortJob' | 'destroy'>,
): Promise<void> {
  const job = await migrationJob(domain)
  const isOverAlready = (error: unknown) => isLibvirtError(error, 'OPERATION_INVALID', 'NO_DOMAIN')
  try {
    if (job === 'out') await domain.abortJob()
    if (job === 'in' && isPausedToMigrate(await domain.state())) await domain.destroy()
  } catch (error) {
    if (!isOverAlready(error)) throw error
  }
}

/** Its CPUs stand still for a migration, which either goes on or has left them so. */
export function isPausedToMigrate({ state, reason }: DomainState): boolean {
  return state === 'paused' && reason === 'migration'
}

/** As above, or with its memory on two hosts, which a post-copy that broke has left so. */
export function isHeldByMigration(state: DomainState): boolean {
  const isSplit = state.reason === 'postcopy' || state.reason === 'postcopy-failed'
  return isPausedToMigrate(state) || (state.state === 'paused' && isSplit)
}

/** Only the receiving side keeps the figures of what is over; without them it has moved all the same. */
async function downtimeAt(uri: string, uuid: string): Promise<number | null> {
  try {
    return await withTarget(uri, async (there) => {
      const stats = await there.domain(uuid).jobStats({ completed: true, keepCompleted: true })
      return stats.downtimeMs ?? null
    })
  } catch {
    return null
  }
}

async function withTarget<T>(uri: string, work: (there: Connection) => Promise<T>): Promise<T> {
  const there = await connect(uri, { reconnect: false }).catch((error: unknown) => {
    if (!isLibvirtError(error)) throw error
    throw new VpeError('CONFLICT', `libvirt at ${uri} cannot be reached from here: ${error.message}`, {
      cause: error,
    })
  })
  try {
    return await work(there)
  } finally {
    await there.close()
  }
}

async function unlessOff<T>(call: Promise<T>): Promise<T | null> {
  try {
    return await call
  } catch (error) {
    if (isLibvirtError(error, 'NO_DOMAIN', 'OPERATION_INVALID', 'NO_SUPPORT')) return null
    throw error
  }
}
