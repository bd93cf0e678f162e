// A graceful stop: the power button, pressed again now and then, since a guest that is still booting
// hears the first press not at all.

import type { Hypervisor } from './hypervisor/hypervisor.ts'
import { insist, type Waiting } from './insist.ts'

export interface GuestWatch extends Omit<Waiting, 'signal'> {
  /** A fresh look: the guest runs, or stands still with its state kept. */
  readonly isOn: () => Promise<boolean>
}

export interface ShutDownContext extends GuestWatch, Waiting {
  readonly hypervisor: Pick<Hypervisor, 'shutdownDomain'>
  readonly uuid: string
}

/** Resolves when the guest is off or its time is over. */
export async function shutDown(graceMs: number, context: ShutDownContext): Promise<void> {
  const { hypervisor, uuid, isOn } = context
  const isDone = async () => !(await isOn())
  await insist(graceMs, { isDone, ask: () => hypervisor.shutdownDomain(uuid) }, context)
}
