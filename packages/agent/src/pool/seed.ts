// The seed of an instance: what its guest is told at its first boot, as the NoCloud data source of
// cloud-init reads it from a CD-ROM with the label `cidata`.
//
// https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html

import { rename, rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { VpeError } from '@vpe/core'
import { ExecaError, execa } from 'execa'
import { seedFile } from './pool-files.ts'
import { type PoolFolder, syncFile } from './pool-folder.ts'
import type { PoolArguments } from './pool-protocol.ts'

/** Writes the image; a guest that runs keeps the one that it has. */
export async function makeSeed(
  folder: PoolFolder,
  seed: PoolArguments<'make-seed'>,
  signal: AbortSignal,
): Promise<void> {
  const temporary = (part: string) => folder.temporary(`instance-${seed.instanceUuid}`, part)
  const image = temporary('seed')
  const parts = Object.entries(seedFiles(seed)).map(([name, text], index) => ({
    name,
    text,
    path: temporary(`seed${index}`),
  }))
  try {
    for (const { path, text } of parts) await writeFile(path, text, { mode: 0o600 })
    // Made before the program opens it, which keeps its mode: at no moment may others read it.
    await writeFile(image, '', { mode: 0o600 })
    await writeImage(folder.root, image, parts, signal)
    await syncFile(image)
    signal.throwIfAborted()
    await rename(image, folder.path(seedFile(seed.instanceUuid)))
  } finally {
    for (const path of [image, ...parts.map(({ path }) => path)]) await rm(path, { force: true })
  }
  await folder.sync()
}

/** The files of the seed, by name. cloud-init takes a seed without user-data for none. */
export function seedFiles({
  instanceUuid,
  hostname,
  sshKeys,
  userData,
}: PoolArguments<'make-seed'>): Record<'meta-data' | 'user-data', string> {
  // A JSON string is a YAML string, whatever is in it: a host may be called 1e3, and a comment hold a colon.
  const lines = [
    `instance-id: ${JSON.stringify(instanceUuid)}`,
    `local-hostname: ${JSON.stringify(hostname)}`,
    ...(sshKeys.length > 0 ? ['public-keys:', ...sshKeys.map((key) => `  - ${JSON.stringify(key)}`)] : []),
  ]
  return { 'meta-data': `${lines.join('\n')}\n`, 'user-data': userData }
}

async function writeImage(
  root: string,
  image: string,
  parts: readonly { name: string; path: string }[],
  signal: AbortSignal,
): Promise<void> {
  const args = ['-quiet', '-volid', 'cidata', '-joliet', '-rational-rock', '-output', basename(image)]
  const files = parts.map(({ name, path }) => `${name}=${basename(path)}`)
  try {
    // Relative names, ours alone: in a path, = would have a meaning.
    const options = { cwd: root, stdin: 'ignore', cancelSignal: signal, timeout: 30_000 } as const
    await execa('genisoimage', [...args, '-graft-points', ...files], options)
  } catch (error) {
    signal.throwIfAborted()
    const isMissing = error instanceof ExecaError && error.code === 'ENOENT'
    const why = isMissing
      ? 'genisoimage is not installed; install it: apt-get install genisoimage'
      : `genisoimage failed: ${error instanceof ExecaError ? error.stderr || error.shortMessage : error}`
    throw new VpeError('DISK_POOL_FAILED', why, { cause: error })
  }
}
