// How a running guest gets from one host to another, and what is done when that breaks. libvirt copies the
// memory and switches over; what is decided here is what to believe afterwards, from what both hosts have.
//
// The host that it leaves has the say: nothing is done on the other before it has none of the domain left, and
// nothing is taken back before it has said that it hands nothing over any more. Only where it cannot know, since
// the connection broke between the two halves of the switch, is the other one asked. There a domain that has
// arrived has run, and has written to its disks: the one that stands still here is out of date for good.
// (docs/adr/0020)

import {
  type GuestState,
  type HostPlan,
  type InstanceMark,
  isUp,
  type ObservedDomain,
} from './host-convergence.ts'
import type { DiskId, ImageId } from './ids.ts'
import type { StopCause } from './instance.ts'

/** What a host is doing about a domain right now: copying it to another, receiving it, or neither. */
export type MigrationJob = 'out' | 'in' | null

/** What a host has of an instance that it is to hand over. */
export type Departure =
  /** Nothing; nor will it have. */
  | 'gone'
  /** It is copying. */
  | 'under-way'
  /** The guest, and it hands it over no more. */
  | 'running'
  /** The guest standing still, and perhaps it goes on elsewhere. */
  | 'standing'
  /** A definition, and perhaps the guest is elsewhere. */
  | 'off'

/** What a host has of an instance that comes to it. */
export type Arrival =
  /** Nothing that has run. */
  | 'absent'
  /** A domain that waits for its memory. */
  | 'incoming'
  /** Its domain: the guest has gone on here, whether it runs now or not. */
  | 'arrived'

/** A disk that comes along when its instance moves. */
export interface DiskCopy {
  /** Name of the device: "vda". */
  readonly target: string
  /** Null for the system disk. */
  readonly diskUuid: DiskId | null
  /** What its guest sees. */
  readonly sizeBytes: number
  /** What it takes of its pool. */
  readonly allocatedBytes: number
  /** The image that the system disk lies on; null where it lies on none. */
  readonly imageUuid: ImageId | null
}

/** What the host that an instance leaves says at the end of a call. */
export interface DepartureReport {
  readonly departure: Exclude<Departure, 'under-way'>
  /** Why its guest is still there; empty where nothing failed. */
  readonly fault: string
  /** It was refused before anything was begun. */
  readonly isRefused: boolean
  /** How long the guest stood still, where it is gone and that is known. */
  readonly downtimeMs: number | null
  /** Of a guest that is off. */
  readonly stopCause: StopCause | null
}

export function departureOf(domain: ObservedDomain | null, job: MigrationJob): Departure {
  if (job === 'out') return 'under-way'
  if (!domain) return 'gone'
  const { guest } = domain
  // Also of a fault: libvirt says so where the image's lock, which the other host has, kept it from going on here.
  if (guest.power === 'paused' && guest.reason !== 'asked') return 'standing'
  return isUp(guest) ? 'running' : 'off'
}

/** @param since the generation of the move: an older domain is what an earlier stay has left */
export function arrivalOf(domain: ObservedDomain | null, job: MigrationJob, since: number): Arrival {
  if (!domain || domain.mark.generation < since) return 'absent'
  return job === 'in' ? 'incoming' : 'arrived'
}

export type DepartureStep =
  | { readonly kind: 'report'; readonly departure: DepartureReport['departure'] }
  /** Somebody has begun it: wait for its end. */
  | { readonly kind: 'follow' }
  | { readonly kind: 'hand-over' }

/**
 * What the host that an instance leaves does next.
 * @param isWanted false where it is to be brought to its end
 */
export function planDeparture(
  generation: number,
  isWanted: boolean,
  domain: ObservedDomain | null,
  job: MigrationJob,
): DepartureStep | Extract<HostPlan, { refused: string }> {
  if (domain && domain.mark.generation >= generation) {
    return {
      code: 'STALE_GENERATION',
      refused: `generation ${generation} is too late: this host has ${domain.mark.generation}`,
    }
  }
  const departure = departureOf(domain, job)
  if (departure === 'under-way') return { kind: 'follow' }
  return departure === 'running' && isWanted ? { kind: 'hand-over' } : { kind: 'report', departure }
}

/**
 * The mark of a domain while it is handed over: wanted off, so that nobody brings it back here who finds it off
 * after a crash.
 */
export function departingMark(mark: InstanceMark): InstanceMark {
  return { ...mark, power: 'off', stopCause: 'requested' }
}

/** The mark of a domain that is kept after all; its host keeps it on again. */
export function keptMark(mark: InstanceMark): InstanceMark {
  return { ...mark, power: 'on', stopCause: null }
}

/** Why a guest that was being handed over is off: its mark says nothing of it. Null where nobody can know. */
export function departingStopCause(domain: ObservedDomain | null): StopCause | null {
  if (!domain || isUp(domain.guest)) return null
  if (domain.guest.power === 'panicked') return 'crash'
  const { reason } = domain.guest as Extract<GuestState, { power: 'off' }>
  if (reason === 'guest-shutdown') return 'guest'
  return reason === 'crashed' ? 'crash' : null
}

export type MigrationVerdict =
  /** It is the other host's now. */
  | 'moved'
  /** It is this host's, as before. */
  | 'stays'
  /** The other host has to say what it has, and to receive nothing any more. */
  | 'ask'
  /** The other host has it: what is left here goes. */
  | 'release'

/**
 * What has become of a migration that is at its end.
 * @param arrival what the other host has said, once it receives nothing any more; null while it was not asked
 */
export function judgeMigration(
  departure: DepartureReport['departure'],
  arrival: Exclude<Arrival, 'incoming'> | null,
): MigrationVerdict {
  switch (departure) {
    case 'gone':
      return 'moved'
    case 'running':
      return 'stays'
    case 'standing':
    case 'off':
      if (arrival === null) return 'ask'
      return arrival === 'arrived' ? 'release' : 'stays'
    default:
      throw new Error(`no such departure: ${departure satisfies never}`)
  }
}
