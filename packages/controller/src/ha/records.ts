// What is written down of pools and hosts for HA.

import type { HostId } from '@vpe/core'
import type { LeaseSlot, LockTrial, PoolClass, ProtectionSettings } from '@vpe/core/ha'

/** A shared pool: what protects it from two writers, and whose the blocks of its lease files are. */
export interface PoolLeasesRecord {
  readonly diskPoolUuid: string
  /** How many blocks there are; the files are made for them. */
  readonly slots: number
  readonly taken: readonly LeaseSlot[]
  readonly settings: ProtectionSettings
  readonly poolClass: PoolClass
  readonly why: string
  /** What two hosts found when they last tried its locks to the end; null where that never was. */
  readonly trial: LockTrial | null
  readonly triedAtMs: number | null
  /** Of which hosts, kernels and boots it was: where that is another, it is tried again. */
  readonly triedOf: string
}

/** How a host is switched off: a fence agent, and what it is told. */
export interface PowerSettings {
  readonly agent: string
  readonly options: Readonly<Record<string, string>>
  /** Told to the agent as options are, and to nobody else: not in logs, answers or events. */
  readonly secrets: Readonly<Record<string, string>>
}

export interface DrillStep {
  readonly what: 'lease' | 'sighting' | 'pill' | 'watchdog' | 'power'
  /** Null where it is not about one pool. */
  readonly diskPoolUuid: string | null
  readonly isOk: boolean
  readonly message: string
}

/** What came of trying all that fences a host. */
export interface DrillResult {
  readonly atMs: number
  readonly isOk: boolean
  readonly steps: readonly DrillStep[]
}

export interface HostFencingRecord {
  readonly hostId: HostId
  readonly power: PowerSettings | null
  /** As it last said; null while it never has. */
  readonly hasWatchdog: boolean | null
  /** Why it may stand still and wake later, as it last said; empty where it never does, null while it never has. */
  readonly pausable: string | null
  readonly drill: DrillResult | null
}
