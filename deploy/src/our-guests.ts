/**
 * Ends a cluster's guests for good on this host: a polite shutdown for all at once, then power off, then
 * libvirt forgets them. Their disks stay, and so do the controller's records: the next start defines them anew.
 *
 * Ours is what says so: a domain whose vpe metadata names our host id, a pool with a vpe name whose folder is
 * in our disk folder. Nothing else is touched.
 */
import { readFileSync } from 'node:fs'
import { join, sep } from 'node:path'
import { type Connection, connect, type Domain, isLibvirtError, type StoragePool } from '@vpe/node-libvirt'
import type { Say } from './debian-packages.ts'
import { waitUntil } from './wait-until.ts'

const metadataNamespace = 'https://vpe.dev/xmlns/instance/1'
/** All that libvirt would otherwise refuse to forget a domain for; firmware variables stay, as disks do. */
const undefineAll = { managedSave: true, snapshotsMetadata: true, checkpointsMetadata: true, keepNvram: true }
const buttonEveryMs = 2500
const poolName = /^vpe-[0-9a-f]{8}/

export interface Ownership {
  /** Undefined when the agent never ran: then no domain is ours. */
  readonly hostId: string | undefined
  readonly diskFolder: string
}

export interface ClearedHost {
  readonly removed: readonly string[]
  /** Running domains that are not ours, and were left alone. */
  readonly foreign: readonly string[]
}

/** The agent's host id, as it wrote it down. */
export function readHostId(agentStateFolder: string): string | undefined {
  try {
    const { hostId } = JSON.parse(readFileSync(join(agentStateFolder, 'identity.json'), 'utf8'))
    return typeof hostId === 'string' && hostId !== '' ? hostId : undefined
  } catch {
    return undefined
  }
}

/** The host id that a domain's vpe metadata names. */
export function hostInMetadata(xml: string): string | undefined {
  return /\shost=(["'])([^"']*)\1/.exec(xml)?.[2]
}

export function isOurPool(name: string, targetPath: string | undefined, diskFolder: string): boolean {
  return (
    poolName.test(name) && targetPath !== undefined && `${targetPath}${sep}`.startsWith(`${diskFolder}${sep}`)
  )
}

/** The target path in a pool's XML. */
export function targetPathOf(poolXml: string): string | undefined {
  return /<target>.*?<path>([^<]*)<\/path>/s.exec(poolXml)?.[1]
}

/** Stops and forgets what is ours in the libvirt at `uri`. */
export async function clearHost(
  uri: string,
  ownership: Ownership,
  { graceMs, say }: { graceMs: number; say: Say },
): Promise<ClearedHost> {
  await using connection = await connect(uri, { reconnect: false })
  const { ours, foreign } = await sortDomains(connection, ownership.hostId)
  if (ours.length > 0) {
    say(`shutting down ${ours.map(({ name }) => name).join(', ')}`)
    await shutDown(ours, graceMs, say)
    await Promise.all(ours.map(unlessGone((domain) => domain.undefine(undefineAll))))
  }
  const pools = await ourPools(connection, ownership.diskFolder)
  for (const pool of pools) await unlessGone(forgetPool)(pool)
  return { removed: [...ours, ...pools].map(({ name }) => name), foreign }
}

async function sortDomains(connection: Connection, hostId: string | undefined) {
  const ours: Domain[] = []
  const foreign: string[] = []
  for (const domain of await connection.listDomains()) {
    const xml = await domain.metadata(metadataNamespace).catch(unlessMissing)
    const isOurs = xml !== undefined && hostId !== undefined && hostInMetadata(xml) === hostId
    if (isOurs) ours.push(domain)
    else if (await domain.isActive().catch(unlessMissing)) foreign.push(domain.name)
  }
  return { ours, foreign }
}

/** All at once: the power button, a bounded wait, then the plug. */
async function shutDown(domains: readonly Domain[], graceMs: number, say: Say): Promise<void> {
  const running = async () => {
    const active = await Promise.all(domains.map((domain) => domain.isActive().catch(unlessMissing)))
    return domains.filter((_, index) => active[index])
  }
  let pressedAt = Number.NEGATIVE_INFINITY
  const check = async () => {
    const rest = await running()
    if (rest.length === 0) return undefined
    // A guest that is still booting does not hear the button yet: press it again now and then. Some cannot be
    // shut down at all (paused, just ending): whatever the answer, the next look shows what came of it.
    if (performance.now() - pressedAt > buttonEveryMs) {
      pressedAt = performance.now()
      await Promise.all(rest.map((domain) => domain.shutdown().catch(ifLibvirtError)))
    }
    return `waiting for ${rest.map(({ name }) => name).join(', ')}`
  }
  const ended = await waitUntil(check, { what: 'the shutdown', timeoutMs: graceMs, onProgress: say }).then(
    () => true,
    () => false,
  )
  if (ended) return
  const rest = await running()
  say(`powering off ${rest.map(({ name }) => name).join(', ')}`)
  await Promise.all(rest.map(unlessGone((domain) => domain.destroy())))
}

async function ourPools(connection: Connection, diskFolder: string): Promise<StoragePool[]> {
  const ours: StoragePool[] = []
  for (const pool of await connection.listStoragePools()) {
    if (!poolName.test(pool.name)) continue
    const xml = await pool.xml().catch(unlessMissing)
    if (xml !== undefined && isOurPool(pool.name, targetPathOf(xml), diskFolder)) ours.push(pool)
  }
  return ours
}

/** libvirt's record only; the files stay. */
async function forgetPool(pool: StoragePool): Promise<void> {
  if (await pool.isActive()) await pool.destroy()
  if (await pool.isPersistent()) await pool.undefine()
}

/** What is to be gone may go by itself meanwhile. */
function unlessGone<T>(work: (object: T) => Promise<void>): (object: T) => Promise<void> {
  return (object) => work(object).catch(unlessMissing)
}

function unlessMissing(error: unknown): undefined {
  if (!isLibvirtError(error, 'NO_DOMAIN', 'NO_DOMAIN_METADATA', 'NO_STORAGE_POOL', 'OPERATION_INVALID'))
    throw error
}

function ifLibvirtError(error: unknown): void {
  if (!isLibvirtError(error)) throw error
}
