// What the guard and the processes that do its I/O in pools say to each other. Each of those does one thing, synchronously,
// and may hang for ever in it: nothing that they say is waited for without a deadline.

import type {
  ClaimJob,
  ClaimResult,
  HaTimings,
  LeaseWriterEvent,
  Pill,
  PillAck,
  Sighting,
} from '@vpe/core/ha'
import type { PoolPlace } from './pool-objects.ts'

export type Role = 'lease-writer' | 'pool-reader' | 'claim-holder'

/** One step of finding out, with another host, what a pool's locks are worth. */
export type LockStep = 'hold' | 'ask' | 'take' | 'drop'

/** The one argument of a child, as JSON. */
export interface ChildSettings {
  readonly role: Role | 'lock-prober'
  readonly place: PoolPlace
  readonly hostId: string
  readonly bootId: string
  readonly timings: HaTimings
}

export type ToChild =
  | Extract<LeaseWriterEvent, { kind: 'permit' | 'ack' }>
  | { readonly kind: 'sight'; readonly id: number; readonly hostId: string }
  | { readonly kind: 'send-pill'; readonly id: number; readonly slot: number; readonly pill: Pill }
  | { readonly kind: 'claim'; readonly job: ClaimJob }
  | { readonly kind: 'forget'; readonly uuid: string }
  | { readonly kind: 'try-lock'; readonly id: number; readonly step: LockStep }

export type FromChild =
  /** It has opened its files. */
  | { readonly kind: 'ready' }
  | { readonly kind: 'renewed'; readonly submittedMs: number }
  | { readonly kind: 'pill'; readonly pill: Pill }
  | {
      readonly kind: 'sighting'
      readonly id: number
      readonly sighting: Sighting
      readonly ack: PillAck | null
    }
  | { readonly kind: 'pill-sent'; readonly id: number; readonly failure: string | null }
  | { readonly kind: 'claim'; readonly job: ClaimJob; readonly result: ClaimResult }
  | { readonly kind: 'lock-tried'; readonly id: number; readonly isGranted: boolean; readonly fault: string }
