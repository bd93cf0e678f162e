// Where what HA keeps in a pool lies: `.ha/<cluster>/` in the pool's folder. Files are made once, at their full length, and
// then only written in place: never renamed, truncated or removed while the cluster uses the pool.

import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { BlockFile } from './block-file.ts'

/** Which pool, and which block of its files is this host's. */
export interface PoolPlace {
  readonly pool: string
  readonly path: string
  readonly clusterId: string
  /** Index of this host's block. */
  readonly slot: number
  /** How many hosts there may be. */
  readonly slots: number
}

/**
 * The folder, made if need be; its files are for root alone.
 * @throws Error ENOENT where there is no pool: what is not mounted is not made up
 */
export function makeFolders(place: Pick<PoolPlace, 'path' | 'clusterId'>): string {
  statSync(place.path)
  const folder = join(place.path, '.ha', place.clusterId)
  mkdirSync(join(folder, 'inst'), { recursive: true, mode: 0o700 })
  return folder
}

/** The files with a block for each host. */
export function openHostFiles(place: PoolPlace): {
  readonly leases: BlockFile
  readonly mailboxes: BlockFile
} {
  const folder = makeFolders(place)
  const open = (name: string) => BlockFile.open(join(folder, name), place.slots)
  return { leases: open('hosts'), mailboxes: open('mbox') }
}

export const claimFile = (folder: string, uuid: string) => join(folder, 'inst', uuid)
