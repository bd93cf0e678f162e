// What commands have in common that try a lab for long: their numbers, and the lab that is theirs for the time.

import type { LabCluster } from './lab-cluster.ts'

/** @throws Error that names the option */
export function asCount(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`--${name} ${text}: expected a number from 1 on`)
  return value
}

/**
 * Does some work on a lab, and says what went wrong by word and exit code. Interrupted, it removes what is its own all the same.
 * @param own how many hosts a lab of its own has, and whether that stays when something is wrong; null for one that is up
 */
export async function onLab(
  cluster: LabCluster,
  own: { readonly hosts: string; readonly keep: boolean } | null,
  work: () => Promise<void>,
): Promise<void> {
  let isInterrupted = false
  const interrupted = Promise.withResolvers<never>()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      isInterrupted = true
      interrupted.reject(new Error(`ended by ${signal}`))
    })
  const all = async () => {
    if (own) await cluster.up(asCount('hosts', own.hosts))
    else cluster.connect()
    await work()
  }
  try {
    await Promise.race([all(), interrupted.promise])
  } catch (error) {
    process.exitCode = 1
    process.stderr.write(`\n${error instanceof Error ? error.message : error}\n`)
  }
  if (own && !(own.keep && process.exitCode === 1)) await cluster[Symbol.asyncDispose]()
  // The work itself has nobody who waits for it any more.
  if (isInterrupted) process.exit()
}
