// Has two hosts try the locks of a pool on the pool itself, and every host say how it has it mounted. What a type of file system
// promises counts for nothing where a server, an option or a kernel breaks it.

import type { HostRecord } from '@vpe/core'
import type { LockTrial, PoolMount } from '@vpe/core/ha'
import { type AttachPoolRequest, fromClientError, LockStep, type TryPoolLockResponse } from '@vpe/proto'
import type { Agents } from '../agents.ts'
import { Slots } from '../slots.ts'

/** One step on one host. */
const STEP_MS = 10_000
const LOOKS_AT_ONCE = 16

/** A trial that was carried out to the end, or why it could not be. */
export type TrialOutcome =
  | { readonly trial: LockTrial }
  /** Nothing follows for the class of the pool: it is as it was, and tried again. */
  | { readonly fault: string }

export interface TrialRequest {
  /** The pool, as a host that tries its locks is told of it. */
  readonly pool: AttachPoolRequest
  /** Those that are up: at least two. The locks are tried by the first and the second. */
  readonly hosts: readonly HostRecord[]
  /** As they were found before: for hosts that do not answer. */
  readonly knownMounts: readonly PoolMount[]
}

/** Never throws: a host or a pool that does not answer is a fault. */
export async function tryLocks(agents: Agents, request: TrialRequest): Promise<TrialOutcome> {
  const [holder, asker] = request.hosts
  if (!holder || !asker) return { fault: `${request.hosts.length} of its hosts are up, and it takes two` }
  try {
    const found = await tryWith(agents, request.pool, holder, asker)
    return { trial: { ...found, mounts: await mountsOf(agents, request) } }
  } catch (error) {
    await step(agents, request.pool, holder, LockStep.DROP).catch(() => {
      // Who cannot be told lets go of it by itself, a minute after it took it.
    })
    return { fault: (error as Error).message }
  }
}

async function tryWith(
  agents: Agents,
  pool: AttachPoolRequest,
  holder: HostRecord,
  asker: HostRecord,
): Promise<Omit<LockTrial, 'mounts'>> {
  const at = (host: HostRecord, lockStep: LockStep) => step(agents, pool, host, lockStep)
  // What a trial that broke off has left, of this controller or of another, would be taken for a finding.
  await Promise.all([at(holder, LockStep.DROP), at(asker, LockStep.DROP)])
  if (!(await at(asker, LockStep.TAKE)).isGranted)
    throw new Error('somebody else holds the lock that they are tried by')
  if (!(await at(holder, LockStep.HOLD)).isGranted)
    throw new Error(`${holder.name} did not get a lock that nobody held`)
  const isConflictShown = !(await at(asker, LockStep.ASK)).isGranted
  const isConflictRefused = !(await at(asker, LockStep.TAKE)).isGranted
  await at(holder, LockStep.DROP)
  const isReleaseSeen = (await at(asker, LockStep.TAKE)).isGranted
  return { isConflictShown, isConflictRefused, isReleaseSeen }
}

/** How each host has the pool mounted: letting go of nothing says it, too. */
async function mountsOf(
  agents: Agents,
  { pool, hosts, knownMounts }: TrialRequest,
): Promise<readonly PoolMount[]> {
  const slots = new Slots(LOOKS_AT_ONCE)
  const looks = hosts.map((host) =>
    slots.run(() =>
      step(agents, pool, host, LockStep.DROP).then(
        ({ fileSystem, mountOptions }): PoolMount => ({ host: host.name, fileSystem, options: mountOptions }),
        () => knownMounts.find((known) => known.host === host.name) ?? null,
      ),
    ),
  )
  const seen = (await Promise.all(looks)).filter((mount) => mount !== null)
  const names = new Set(seen.map(({ host }) => host))
  return [...seen, ...knownMounts.filter(({ host }) => !names.has(host))]
}

/** @throws Error that names the host */
async function step(
  agents: Agents,
  pool: AttachPoolRequest,
  host: HostRecord,
  lockStep: LockStep,
): Promise<TryPoolLockResponse> {
  const signal = AbortSignal.timeout(STEP_MS)
  const request = { pool, step: lockStep }
  const answer = await agents
    .client(host)
    .tryPoolLock(request, { signal })
    .catch((cause: unknown) => {
      throw new Error(`${host.name}: ${fromClientError(cause).message}`, { cause })
    })
  if (answer.fault !== '') throw new Error(`${host.name}: ${answer.fault}`)
  return answer
}
