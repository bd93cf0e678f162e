// The class of a pool from all that is known: what it is, what operators say of it, its hosts, and what the last probe found.

import { classifyPool, type FencingHost, type PoolClassVerdict, type PoolProbe } from './pool-class.ts'
import { judgeMounts, type LostLocks, type PoolMount } from './pool-mounts.ts'

/** What an operator wants; E is only found, never said: nobody's word makes storage refuse a write. */
export const WANTED_CLASSES = ['auto', 'T', 'N'] as const
export type WantedClass = (typeof WANTED_CLASSES)[number]

/** What operators know of a pool's storage. */
export interface ProtectionSettings {
  readonly wantedClass: WantedClass
  readonly lostLocks: LostLocks
  readonly isLinearizable: boolean
}

export const DEFAULT_PROTECTION: ProtectionSettings = Object.freeze({
  wantedClass: 'auto',
  lostLocks: 'unknown',
  isLinearizable: true,
})

/** What two hosts found when they tried a pool's locks, and how all of its hosts have it mounted. */
export interface LockTrial
  extends Pick<PoolProbe, 'isConflictShown' | 'isConflictRefused' | 'isReleaseSeen'> {
  readonly mounts: readonly PoolMount[]
}

export interface PoolUnderJudgement {
  readonly kind: 'dir' | 'nfs' | 'rbd'
  readonly shared: boolean
  readonly settings: ProtectionSettings
  /** Those that have it, whether up or not. */
  readonly hosts: readonly FencingHost[]
  /** Null: it was never tried to the end. */
  readonly trial: LockTrial | null
  /** What kept it from being tried; empty where nothing did. */
  readonly trialFault: string
}

/** The class of a pool, and why; N with a reason for all that is not known to be better. */
export function judgePool(pool: PoolUnderJudgement): PoolClassVerdict {
  const { settings, hosts, trial } = pool
  const why = whyUnprotected(pool)
  if (why !== null || trial === null) return unprotected(why ?? 'its locks have not been tried yet')
  const { areLostLocksFenced, unsafeOptions, whyNotShared } = judgeMounts(trial.mounts, settings.lostLocks)
  if (whyNotShared !== null) return unprotected(whyNotShared)
  const isTimed = settings.wantedClass === 'T'
  const verdict = classifyPool(
    {
      ...trial,
      // What is not relied on is not there.
      areLostLocksFenced: areLostLocksFenced && !isTimed,
      unsafeOptions: isTimed ? [] : unsafeOptions,
      isLinearizable: settings.isLinearizable,
    },
    hosts,
  )
  if (isTimed && verdict.poolClass === 'T')
    return { poolClass: 'T', why: 'it was set to T, and every host has a watchdog' }
  return verdict
}

function whyUnprotected({ kind, shared, settings, hosts, trial, trialFault }: PoolUnderJudgement) {
  if (!shared) return 'it is local: each host has a folder of its own, which nobody else can read'
  if (kind === 'rbd') return 'it has no files for leases: pools of kind rbd are not protected yet'
  if (settings.wantedClass === 'N') return 'it was set to N'
  if (hosts.length < 2) return 'one host only: nothing to fail over to'
  if (trial === null && trialFault !== '') return `its locks could not be tried yet: ${trialFault}`
  return null
}

function unprotected(why: string): PoolClassVerdict {
  return { poolClass: 'N', why }
}
