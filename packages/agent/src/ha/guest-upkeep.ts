// What the guard wants of guests that run: those that an I/O error has paused go on when it is clear that their disks are still
// theirs, and networks are cut and restored.

import { holdUpOf, type ObservedDomain, VpeError } from '@vpe/core'
import { networkXml } from '../domain-xml.ts'
import type { GuardedArm } from './guard-port.ts'
import type { HaDeps } from './ha-agent.ts'

type Parts = Pick<HaDeps, 'hypervisor' | 'inventory' | 'turns' | 'guard' | 'bridge' | 'log'>

export class GuestUpkeep {
  readonly #parts: Parts
  /** Guests whose present pause the guard has been told of. */
  readonly #noted = new Set<string>()
  /** What was last done to a guest's network: true for cut, null for one that an earlier agent may have cut. */
  readonly #networks = new Map<string, boolean | null>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** @param arms what the guard has said a moment ago */
  async keep(arms: readonly GuardedArm[]): Promise<void> {
    const domains = new Map(this.#parts.inventory.domains().map((domain) => [domain.mark.uuid, domain]))
    for (const arm of arms) {
      const domain = domains.get(arm.uuid)
      if (!domain || arm.isEnding) continue
      await this.#keepPaused(arm, domain)
      await this.#keepNetwork(arm, domain)
    }
    const known = new Set(arms.map(({ uuid }) => uuid as string))
    for (const uuid of this.#networks.keys()) if (!known.has(uuid)) this.#networks.delete(uuid)
  }

  /** A guest that an earlier agent has looked after. */
  doubt(uuid: string): void {
    this.#networks.set(uuid, null)
  }

  /** One that has panicked, and is kept for inspection, holds its disks: it is ended, so that it can be started again. */
  async endPanicked(uuid: string, isHeld: boolean): Promise<void> {
    const { hypervisor, turns } = this.#parts
    if (isHeld) return
    await turns.run(uuid, { kind: 'upkeep' }, () => hypervisor.destroyDomain(uuid))?.result
  }

  async #keepPaused(arm: GuardedArm, domain: ObservedDomain): Promise<void> {
    const { guard, hypervisor, inventory, log } = this.#parts
    const { uuid } = arm
    if (holdUpOf(domain) !== 'claim-check' || !guard) {
      this.#noted.delete(uuid)
      return
    }
    if (!this.#noted.has(uuid)) {
      await guard.noteIoError(arm)
      this.#noted.add(uuid)
      log.warn({ instance: uuid }, 'paused by an I/O error: it goes on when its claim was checked')
      return
    }
    // What was said before the guard was told is of no use.
    const now = (await guard.look()).arms.find((each) => each.uuid === uuid)
    if (!now?.mayResume) return
    await hypervisor.resumeDomain(uuid)
    log.info({ instance: uuid }, 'its disks are its own: it goes on')
    await inventory.look(uuid)
    // The next pause is news again; while this one may still be seen it is not, for who pauses again at once is ended.
    this.#noted.delete(uuid)
  }

  async #keepNetwork({ uuid, isNetworkCut }: GuardedArm, { guest }: ObservedDomain): Promise<void> {
    const { hypervisor, bridge, log } = this.#parts
    const before = this.#networks.get(uuid)
    // The next guest begins with its network.
    if (guest.power === 'off') this.#networks.delete(uuid)
    if (guest.power === 'off' || (before === undefined ? false : before) === isNetworkCut) return
    try {
      await hypervisor.updateDevice(uuid, networkXml(uuid, bridge, !isNetworkCut))
      if (isNetworkCut || before) log.warn({ instance: uuid, isNetworkCut }, 'network changed')
    } catch (error) {
      if (error instanceof VpeError && error.code === 'UNAVAILABLE') throw error
      log.error({ instance: uuid, err: error }, 'its network cannot be changed')
    }
    this.#networks.set(uuid, isNetworkCut)
  }
}
