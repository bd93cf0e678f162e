// What libvirt reports about domains by itself: virDomainEventID and its callbacks in <libvirt/libvirt-domain.h>.
//
// A callback runs while the thread of libvirt's event loop waits for it, so the virDomainPtr it gets is valid
// until it returns and no longer: everything worth knowing is copied out at once.

import koffi, { type TypeObject } from 'koffi'
import { type DomainIdentity, domainIdentity } from './identity.ts'
import { type JobStats, jobStats } from './job-stats.ts'
import { readString } from './memory.ts'
import type { Pointer } from './native-functions.ts'
import { readTypedParameters } from './typed-parameters.ts'

const lifecycleDetails = {
  defined: ['added', 'updated', 'renamed', 'from-snapshot'],
  undefined: ['removed', 'renamed'],
  started: ['booted', 'migrated', 'restored', 'from-snapshot', 'wakeup'],
  suspended: [
    'paused',
    'migrated',
    'io-error',
    'watchdog',
    'restored',
    'from-snapshot',
    'api-error',
    'postcopy',
    'postcopy-failed',
  ],
  resumed: ['unpaused', 'migrated', 'from-snapshot', 'postcopy', 'postcopy-failed'],
  stopped: ['shutdown', 'destroyed', 'crashed', 'migrated', 'saved', 'failed', 'from-snapshot'],
  shutdown: ['finished', 'guest', 'host'],
  pmsuspended: ['memory', 'disk'],
  crashed: ['panicked', 'crashloaded'],
} as const

const lifecycleNames = Object.keys(lifecycleDetails) as (keyof typeof lifecycleDetails)[]
const watchdogActions = ['none', 'pause', 'reset', 'poweroff', 'shutdown', 'debug', 'inject-nmi'] as const
const ioErrorActions = ['none', 'pause', 'report'] as const
const agentStates = [undefined, 'connected', 'disconnected'] as const
const agentReasons = ['unknown', 'domain-started', 'channel'] as const
const metadataTypes = ['description', 'title', 'element'] as const

interface DomainEvent {
  readonly domain: DomainIdentity
}
/** A change of state; `detail` belongs to `event` and is `unknown` when newer than this package. */
export type LifecycleEvent = {
  [E in keyof typeof lifecycleDetails]: DomainEvent & {
    readonly event: E
    readonly detail: (typeof lifecycleDetails)[E][number] | 'unknown'
  }
}[keyof typeof lifecycleDetails]
export type RebootEvent = DomainEvent
export interface WatchdogEvent extends DomainEvent {
  readonly action: (typeof watchdogActions)[number] | 'unknown'
}
/** The guest met an I/O error. `reason` is `enospc` for a full disk, else empty or words of the hypervisor. */
export interface IoErrorEvent extends DomainEvent {
  readonly sourcePath: string
  readonly deviceAlias: string
  readonly action: (typeof ioErrorActions)[number] | 'unknown'
  readonly reason: string
}
export interface DeviceEvent extends DomainEvent {
  readonly deviceAlias: string
}
/** The guest agent's channel went up or down. */
export interface AgentLifecycleEvent extends DomainEvent {
  readonly state: 'connected' | 'disconnected' | 'unknown'
  readonly reason: (typeof agentReasons)[number]
}
export interface MigrationIterationEvent extends DomainEvent {
  readonly iteration: number
}
/** A job, for instance a migration, ended; `stats` are its last. */
export interface JobCompletedEvent extends DomainEvent {
  readonly stats: JobStats
}
export interface MetadataChangedEvent extends DomainEvent {
  readonly type: (typeof metadataTypes)[number] | 'unknown'
  /** The namespace, for type `element`. */
  readonly uri: string | undefined
}

/** The domain events by name, as a Connection emits them. */
export interface DomainEvents {
  readonly lifecycle: LifecycleEvent
  readonly reboot: RebootEvent
  readonly watchdog: WatchdogEvent
  readonly ioError: IoErrorEvent
  readonly deviceAdded: DeviceEvent
  readonly deviceRemoved: DeviceEvent
  readonly deviceRemovalFailed: DeviceEvent
  readonly agentLifecycle: AgentLifecycleEvent
  readonly migrationIteration: MigrationIterationEvent
  readonly jobCompleted: JobCompletedEvent
  readonly metadataChanged: MetadataChangedEvent
}
export type DomainEventName = keyof DomainEvents

interface EventKind<N extends DomainEventName> {
  /** virDomainEventID */
  readonly id: number
  /** The types of what the callback gets between the domain and the opaque pointer. */
  readonly details: readonly ('int' | 'void *')[]
  readonly read: (domain: DomainIdentity, details: readonly unknown[]) => DomainEvents[N]
}

const eventKinds: { readonly [N in DomainEventName]: EventKind<N> } = {
  lifecycle: {
    id: 0,
    details: ['int', 'int'],
    read: (domain, [event, detail]) => lifecycleEvent(domain, Number(event), Number(detail)),
  },
  reboot: { id: 1, details: [], read: (domain) => ({ domain }) },
  watchdog: {
    id: 3,
    details: ['int'],
    read: (domain, [action]) => ({ domain, action: watchdogActions[Number(action)] ?? 'unknown' }),
  },
  ioError: {
    id: 6,
    details: ['void *', 'void *', 'int', 'void *'],
    read: (domain, [path, alias, action, reason]) => ({
      domain,
      sourcePath: text(path),
      deviceAlias: text(alias),
      action: ioErrorActions[Number(action)] ?? 'unknown',
      reason: text(reason),
    }),
  },
  deviceRemoved: deviceEvent(15),
  agentLifecycle: {
    id: 18,
    details: ['int', 'int'],
    read: (domain, [state, reason]) => ({
      domain,
      state: agentStates[Number(state)] ?? 'unknown',
      reason: agentReasons[Number(reason)] ?? 'unknown',
    }),
  },
  deviceAdded: deviceEvent(19),
  migrationIteration: {
    id: 20,
    details: ['int'],
    read: (domain, [iteration]) => ({ domain, iteration: Number(iteration) }),
  },
  jobCompleted: {
    id: 21,
    details: ['void *', 'int'],
    read: (domain, [parameters, count]) => ({
      domain,
      stats: jobStats('completed', readTypedParameters(parameters as Pointer | null, Number(count))),
    }),
  },
  deviceRemovalFailed: deviceEvent(22),
  metadataChanged: {
    id: 23,
    details: ['int', 'void *'],
    read: (domain, [type, uri]) => ({
      domain,
      type: metadataTypes[Number(type)] ?? 'unknown',
      uri: uri === null ? undefined : text(uri),
    }),
  },
}

/** A kind of event to ask libvirt for, and the native callback to ask with. */
export interface DomainEventCallback {
  readonly id: number
  readonly name: DomainEventName
  readonly address: Pointer
  /** The callback's C type, for whoever wants to call it. */
  readonly type: TypeObject
}

/** Receives an event; `opaque` is what the callback was registered with. */
export type DeliverDomainEvent = <N extends DomainEventName>(
  opaque: bigint,
  name: N,
  event: DomainEvents[N],
) => void

/**
 * One native callback per kind of event, all leading to `deliver`. They live as long as the process: which
 * connection an event belongs to is told by the opaque number.
 */
export function domainEventCallbacks(deliver: DeliverDomainEvent): DomainEventCallback[] {
  return (Object.keys(eventKinds) as DomainEventName[]).map((name) => domainEventCallback(name, deliver))
}

function domainEventCallback<N extends DomainEventName>(
  name: N,
  deliver: DeliverDomainEvent,
): DomainEventCallback {
  const { id, details, read } = eventKinds[name]
  const type = koffi.proto('void', ['void *', 'void *', ...details, 'void *'])
  const address = koffi.register((_connection: Pointer, domain: Pointer, ...rest: unknown[]) => {
    const opaque = BigInt((rest.pop() as bigint | null) ?? 0n)
    const event = read(domainIdentity(domain), rest)
    // Listeners run once libvirt has its thread back, and what they throw is theirs to answer for.
    queueMicrotask(() => deliver(opaque, name, event))
  }, koffi.pointer(type))
  return { id, name, address, type }
}

function lifecycleEvent(domain: DomainIdentity, event: number, detail: number): LifecycleEvent {
  const name = lifecycleNames[event]
  // Seen only with a libvirt whose list of events has grown: a hint to look again is the best it can be.
  if (name === undefined) return { domain, event: 'defined', detail: 'unknown' }
  return { domain, event: name, detail: lifecycleDetails[name][detail] ?? 'unknown' } as LifecycleEvent
}

function deviceEvent(id: number) {
  return { id, details: ['void *'] as const, read: readDeviceEvent }
}

function readDeviceEvent(domain: DomainIdentity, [alias]: readonly unknown[]): DeviceEvent {
  return { domain, deviceAlias: text(alias) }
}

function text(address: unknown): string {
  return address === null || address === undefined ? '' : readString(address as Pointer)
}
