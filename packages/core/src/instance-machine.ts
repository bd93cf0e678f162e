// How an instance moves between phases: one total table, so that a new phase or event does not
// compile until every cell is decided. Nothing else in vpe assigns a status or a task.
//
// Events from users: start, stop, reboot, pause, resume, rebuild, revert, resize, move, update, delete.
// Events from hosts:
//   settled      the host has reached the wanted generation and power
//   failed       it cannot be reached: retrying would not help (a deletion is retried all the same: half
//                deleted, an instance is of no use to anyone)
//   guestOff     the guest went off by itself, and stays off (not highly available)
//   guestDown    the guest went off by itself, or an I/O error has paused it, and its agent is bringing it back (highly available)
//   outOfRoom    libvirt has paused it since a pool of its disks is full, and its agent lets it go on when there is room (highly available)
//   guestPaused  somebody else has paused it: virsh, or libvirt on an I/O error or a full pool where its agent does not see to it;
//                so it stays until a user resumes it
//   guestResumed it is wanted paused, and somebody else has resumed it: so it stays, too
//   pauseLost    it is wanted paused, and is off: what was to be kept is gone, and nothing brings it back by itself
//   lost         the domain is gone or off for no cause that vpe knows (host reboot, someone's virsh)
//   revived      the domain runs although it is wanted off
//   removed      the host has confirmed that nothing of it is left
// Events from recovery:
//   cutOff       its host does not answer, or is lost
//   given        it is given to another host, after proof that the one before can write no more
//   letGo        nobody has it any more, and it is wanted off

import type { InstancePhase, InstanceRecord } from './instance.ts'

export const INSTANCE_EVENTS = [
  'start',
  'stop',
  'reboot',
  'pause',
  'resume',
  'rebuild',
  'revert',
  'resize',
  'move',
  'update',
  'delete',
  'settled',
  'failed',
  'guestOff',
  'guestDown',
  'outOfRoom',
  'guestPaused',
  'guestResumed',
  'pauseLost',
  'lost',
  'revived',
  'removed',
  'cutOff',
  'given',
  'letGo',
] as const
export type InstanceEvent = (typeof INSTANCE_EVENTS)[number]

/**
 * What an event does in a phase: go to a phase; `resting` is active, shutoff or paused, by desired power;
 * `same` accepts the event and stays; `ignored` means it says nothing new; `refused` tells the user
 * no; `gone` ends the record.
 */
export type Transition = InstancePhase | 'resting' | 'same' | 'ignored' | 'refused' | 'gone'

// biome-ignore format: a table reads best as a table
export const INSTANCE_TRANSITIONS: Record<InstancePhase, Record<InstanceEvent, Transition>> = {
  creating: {
    start: 'same',     stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'same',       revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'same',     letGo: 'ignored',
  },
  starting: {
    start: 'same',     stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'rebuilding', revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'same',     letGo: 'ignored',
  },
  stopping: {
    start: 'starting', stop: 'same',     reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'rebuilding', revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'ignored',    guestPaused: 'ignored', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'ignored',  letGo: 'resting',
  },
  rebooting: {
    start: 'same',     stop: 'stopping', reboot: 'same',      pause: 'refused', resume: 'refused',  rebuild: 'rebuilding', revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'same',     letGo: 'ignored',
  },
  pausing: {
    start: 'resuming', stop: 'stopping', reboot: 'refused',   pause: 'same',    resume: 'resuming', rebuild: 'refused',    revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'ignored',    guestPaused: 'ignored', guestResumed: 'ignored',  pauseLost: 'shutoff', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'ignored',  letGo: 'shutoff',
  },
  resuming: {
    start: 'same',     stop: 'stopping', reboot: 'refused',   pause: 'pausing', resume: 'same',     rebuild: 'refused',    revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'same',     letGo: 'ignored',
  },
  rebuilding: {
    start: 'starting', stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'same',       revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'same',     letGo: 'ignored',
  },
  reverting: {
    start: 'starting', stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'refused',    revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'same',     letGo: 'ignored',
  },
  resizing: {
    start: 'starting', stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'rebuilding', revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'same',     letGo: 'ignored',
  },
  migrating: {
    start: 'starting', stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'refused',    revert: 'refused',   resize: 'refused',  move: 'migrating', update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'starting', letGo: 'ignored',
  },
  updating: {
    start: 'starting', stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'rebuilding', revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'same',     delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'resuming', pauseLost: 'shutoff', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'same',     letGo: 'ignored',
  },
  recovering: {
    start: 'same',     stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'rebuilding', revert: 'refused',   resize: 'refused',  move: 'migrating', update: 'updating', delete: 'deleting',
    settled: 'resting', failed: 'error',   guestOff: 'shutoff', guestDown: 'ignored',    outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'resuming', pauseLost: 'shutoff', lost: 'starting', revived: 'ignored',  removed: 'ignored',
    cutOff: 'same',       given: 'starting', letGo: 'shutoff',
  },
  active: {
    start: 'ignored',  stop: 'stopping', reboot: 'rebooting', pause: 'pausing', resume: 'ignored',  rebuild: 'rebuilding', revert: 'reverting', resize: 'resizing', move: 'migrating', update: 'updating', delete: 'deleting',
    settled: 'ignored', failed: 'error',   guestOff: 'shutoff', guestDown: 'recovering', outOfRoom: 'recovering', guestPaused: 'pausing', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'starting', revived: 'ignored',  removed: 'ignored',
    cutOff: 'recovering', given: 'starting', letGo: 'ignored',
  },
  shutoff: {
    start: 'starting', stop: 'ignored',  reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'rebuilding', revert: 'reverting', resize: 'resizing', move: 'migrating', update: 'updating', delete: 'deleting',
    settled: 'ignored', failed: 'ignored', guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'ignored',    guestPaused: 'ignored', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'stopping', removed: 'ignored',
    cutOff: 'ignored',    given: 'ignored',  letGo: 'ignored',
  },
  paused: {
    start: 'resuming', stop: 'stopping', reboot: 'refused',   pause: 'ignored', resume: 'resuming', rebuild: 'refused',    revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'updating', delete: 'deleting',
    settled: 'ignored', failed: 'error',   guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'ignored',    guestPaused: 'ignored', guestResumed: 'resuming', pauseLost: 'shutoff', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'recovering', given: 'ignored',  letGo: 'shutoff',
  },
  error: {
    start: 'starting', stop: 'stopping', reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'rebuilding', revert: 'reverting', resize: 'resizing', move: 'migrating', update: 'updating', delete: 'deleting',
    settled: 'resting', failed: 'ignored', guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'ignored',    guestPaused: 'ignored', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'ignored',
    cutOff: 'ignored',    given: 'starting', letGo: 'resting',
  },
  deleting: {
    start: 'refused',  stop: 'refused',  reboot: 'refused',   pause: 'refused', resume: 'refused',  rebuild: 'refused',    revert: 'refused',   resize: 'refused',  move: 'refused',   update: 'refused',  delete: 'same',
    settled: 'ignored', failed: 'same',    guestOff: 'ignored', guestDown: 'ignored',    outOfRoom: 'ignored',    guestPaused: 'ignored', guestResumed: 'ignored',  pauseLost: 'ignored', lost: 'ignored',  revived: 'ignored',  removed: 'gone',
    cutOff: 'ignored',    given: 'same',     letGo: 'same',
  },
}

/** The phase that an event leads to, or what else becomes of it. */
export function nextPhase(
  instance: Pick<InstanceRecord, 'status' | 'task' | 'power'>,
  event: InstanceEvent,
): InstancePhase | 'same' | 'ignored' | 'refused' | 'gone' {
  const transition = INSTANCE_TRANSITIONS[instance.task ?? instance.status][event]
  if (transition !== 'resting') return transition
  return RESTING[instance.power]
}

const RESTING = { on: 'active', off: 'shutoff', paused: 'paused' } as const

/** The record in another phase. A task keeps the status that is seen, until something else is. */
export function enterPhase(instance: InstanceRecord, phase: InstancePhase): InstanceRecord {
  switch (phase) {
    case 'active':
    case 'shutoff':
    case 'paused':
      return { ...instance, status: phase, task: null, fault: '' }
    case 'error':
      return { ...instance, status: phase, task: null }
    case 'creating':
    case 'starting':
    case 'recovering':
      return { ...instance, status: 'shutoff', task: phase, fault: '' }
    case 'stopping':
    case 'rebooting':
    case 'pausing':
    case 'resuming':
    case 'rebuilding':
    case 'reverting':
    case 'resizing':
    case 'migrating':
    case 'updating':
    case 'deleting':
      return { ...instance, task: phase, fault: '' }
    default:
      throw new Error(`no such phase: ${phase satisfies never}`)
  }
}
