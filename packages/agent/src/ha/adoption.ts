// What an agent finds of owned instances when it comes: what the guard answers for, and guests that run by an ownership without
// pools. Pure; the same is found again until it is taken up.

import { isUp, type ObservedDomain } from '@vpe/core'
import type { AgentHaState, RunningGuest } from '@vpe/core/ha'
import type { GuardedArm } from './guard-port.ts'

/** Those that the machine does not know yet. */
export function adoptable(
  { instances, record }: AgentHaState,
  arms: readonly GuardedArm[],
  domains: readonly ObservedDomain[],
  bootId: string,
): readonly RunningGuest[] {
  const guests: RunningGuest[] = []
  for (const { uuid, generation, pools, isEnding } of arms) {
    if (instances.has(uuid) || isEnding) continue
    const domain = domains.find(({ mark }) => mark.uuid === uuid)
    const arm = { uuid, generation, pools, run: 0 }
    // Armed for a guest that comes from another host, which has begun nothing yet; or it has left, and this was not said.
    if (!domain) guests.push({ ...arm, isIncoming: true })
    else guests.push({ ...arm, isIncoming: false, ...stateOf(domain, bootId) })
  }
  for (const domain of domains) {
    const { uuid, ownership, isGuarded } = domain.mark
    if (ownership === 0 || isGuarded || instances.has(uuid)) continue
    if (ownership <= (record.closed.get(uuid) ?? -1)) continue
    // After a start of the host nothing is started before the controller has said so.
    if (!isUp(domain.guest) && domain.mark.bootId !== bootId) continue
    const state = stateOf(domain, bootId)
    // What was given up, or never got to run, is not brought back.
    guests.push({ uuid, generation: ownership, pools: [], run: 0, isIncoming: false, ...state })
  }
  return guests
}

function stateOf({ mark, guest }: ObservedDomain, bootId: string) {
  const isKept = mark.power === 'on' && mark.ha && mark.bootId === bootId && mark.fault === ''
  return { isOff: !isUp(guest), isHeld: !isKept, wish: mark.generation }
}
