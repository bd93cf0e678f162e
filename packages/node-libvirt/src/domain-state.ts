// The states of a domain and why it is in them: virDomainState and the vir…Reason enums of
// <libvirt/libvirt-domain.h>, in order of their numbers.

const reasonsByState = {
  nostate: ['unknown'],
  running: [
    'unknown',
    'booted',
    'migrated',
    'restored',
    'from-snapshot',
    'unpaused',
    'migration-canceled',
    'save-canceled',
    'wakeup',
    'crashed',
    'postcopy',
    'postcopy-failed',
  ],
  blocked: ['unknown'],
  paused: [
    'unknown',
    'user',
    'migration',
    'save',
    'dump',
    'io-error',
    'watchdog',
    'from-snapshot',
    'shutting-down',
    'snapshot',
    'crashed',
    'starting-up',
    'postcopy',
    'postcopy-failed',
    'api-error',
  ],
  shutdown: ['unknown', 'user'],
  shutoff: [
    'unknown',
    'shutdown',
    'destroyed',
    'crashed',
    'migrated',
    'saved',
    'failed',
    'from-snapshot',
    'daemon',
  ],
  crashed: ['unknown', 'panicked'],
  pmsuspended: ['unknown'],
} as const

const stateNames = [
  'nostate',
  'running',
  'blocked',
  'paused',
  'shutdown',
  'shutoff',
  'crashed',
  'pmsuspended',
] as const

/** `shutdown` is a guest on its way down, `shutoff` one that is not running. */
export type DomainStateName = (typeof stateNames)[number]

/** A state together with a reason that belongs to it. */
export type DomainState = {
  [S in DomainStateName]: { readonly state: S; readonly reason: (typeof reasonsByState)[S][number] }
}[DomainStateName]

/** Names a state and reason. A number newer than this package becomes `nostate` or `unknown`. */
export function domainState(state: number, reason: number): DomainState {
  const name = stateNames[state] ?? 'nostate'
  return { state: name, reason: reasonsByState[name][reason] ?? 'unknown' } as DomainState
}

/** The name of a state whose reason is not known. */
export function domainStateName(state: number): DomainStateName {
  return stateNames[state] ?? 'nostate'
}
