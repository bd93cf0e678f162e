// Every NATS subject of vpe, in one place.
//
//   vpe.events.<kind>.<id>.<what>   what happened, for everyone who watches; kept in the stream
//                                   VPE_EVENTS; only the controller publishes here
//   vpe.host.<id>.heartbeat         an agent lives; only that host's agent publishes below vpe.host.<id>
//   vpe.host.<id>.changed           something about its instances changed: look again

export const EVENTS_STREAM = 'VPE_EVENTS'
export const EVENTS_SUBJECTS = 'vpe.events.>'
export const HEARTBEAT_SUBJECTS = 'vpe.host.*.heartbeat'
export const CHANGED_SUBJECTS = 'vpe.host.*.changed'

export function heartbeatSubject(hostId: string): string {
  return `vpe.host.${hostId}.heartbeat`
}

export function changedSubject(hostId: string): string {
  return `vpe.host.${hostId}.changed`
}

/** Which host a subject below vpe.host speaks for; null for other subjects. */
export function hostOfSubject(subject: string): string | null {
  const [root, kind, id] = subject.split('.')
  return root === 'vpe' && kind === 'host' && id ? id : null
}

/** What events are about. */
export const EVENT_KINDS = [
  'instance',
  'disk',
  'host',
  'image',
  'disk_pool',
  'flavor',
  'snapshot',
  'webhook',
  'rebalance',
  'ha',
] as const

export type EventKind = (typeof EVENT_KINDS)[number]

/** The subjects of events; what is left out is any. */
export function eventSubjects({ kind = '*', id = '*', what = '*' }): string {
  return eventSubject(kind, id, what)
}

/** What an event's subject says; null for other subjects. */
export function partsOfEventSubject(subject: string): { kind: string; id: string; what: string } | null {
  const [root, events, kind, id, what, ...more] = subject.split('.')
  if (root !== 'vpe' || events !== 'events' || !kind || !id || !what || more.length > 0) return null
  return { kind, id, what }
}

export function eventSubject(kind: string, id: string, what: string): string {
  return `vpe.events.${kind}.${id}.${what}`
}
