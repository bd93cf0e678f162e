// Work on the disk of an instance that needs its guest off, and that it stays so: it takes the instance's
// turn. Who wants to start the guest ends it.

import { VpeError } from '@vpe/core'
import type { InstanceTurns } from './instance-turns.ts'
import type { Inventory } from './inventory.ts'

/** @throws VpeError CONFLICT when the guest runs, UNAVAILABLE while somebody else is at work on it */
export function whileOff<T>(
  { turns, inventory }: { readonly turns: InstanceTurns; readonly inventory: Inventory },
  uuid: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const running = turns.run(uuid, { kind: 'capture' }, async (turn) => {
    const domain = await inventory.look(uuid)
    if (!domain) throw notHere(uuid)
    if (domain.guest.power !== 'off') throw new VpeError('CONFLICT', `instance ${uuid} runs; stop it first`)
    return work(AbortSignal.any([turn, signal]))
  })
  if (!running) throw new Error('only upkeep is ever skipped')
  return running.result
}

/** An instance without a domain here may run on another host: its disk is not for this one to touch. */
export function notHere(uuid: string): VpeError {
  return new VpeError('UNAVAILABLE', `instance ${uuid} is not on this host now`)
}
