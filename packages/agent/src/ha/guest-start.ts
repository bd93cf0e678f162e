// Bringing back a guest that nobody converges just now, and writing down that it is not brought back any more.

import { VpeError } from '@vpe/core'
import { formatMark } from '../instance-mark.ts'
import type { HaDeps } from './ha-agent.ts'

type Parts = Pick<HaDeps, 'hypervisor' | 'inventory' | 'turns' | 'slots' | 'log'>

/**
 * Starts a guest that went off, and counts that in its mark.
 * @throws VpeError SUPERSEDED where somebody else is at work on it
 */
export async function beginGuest(uuid: string, parts: Parts): Promise<void> {
  const { hypervisor, inventory, turns, slots, log } = parts
  const running = turns.run(uuid, { kind: 'upkeep' }, async (signal) => {
    const domain = await inventory.look(uuid)
    if (!domain) throw new VpeError('NOT_FOUND', `instance ${uuid} has no domain here`)
    const { mark, guest } = domain
    if (mark.power !== 'on') throw new VpeError('SUPERSEDED', `instance ${uuid} is not wanted on any more`)
    await slots.run(async () => {
      if (guest.power === 'panicked') await hypervisor.destroyDomain(uuid)
      signal.throwIfAborted()
      // Before the start: whoever looks afterwards sees that there was one.
      if (guest.power !== 'on')
        await hypervisor.writeMark(uuid, formatMark({ ...mark, restarts: mark.restarts + 1 }))
      await hypervisor.startDomain(uuid)
    })
    await inventory.look(uuid)
    log.info({ instance: uuid }, 'instance is back')
  })
  if (!running) throw new VpeError('SUPERSEDED', `somebody is at work on instance ${uuid}`)
  await running.result
}

/** Keeps the reason in its mark, for people. */
export async function writeGivenUp(uuid: string, why: string, parts: Parts): Promise<void> {
  const { hypervisor, inventory, turns, log } = parts
  const running = turns.run(uuid, { kind: 'upkeep' }, async () => {
    const domain = await inventory.look(uuid)
    if (!domain) return
    const fault = `${why}; it stays off until it is started again by hand`
    await hypervisor.writeMark(uuid, formatMark({ ...domain.mark, fault }))
    log.error({ instance: uuid, fault }, 'instance is given up')
    await inventory.look(uuid)
  })
  await running?.result
}

/** QEMU's words for an image that another process has. */
export function isImageLocked(words: string): boolean {
  return /Failed to get ("|&quot;)?\w+("|&quot;)? lock/i.test(words)
}
