// A running guest has the data disks of its mark, whatever happens: one that it lets go of by itself is
// given back. That comes from a request to let go that was given up as too slow and is heard after all,
// perhaps only when the guest boots anew.

import { type AttachedDisk, type ObservedDomain, VpeError } from '@vpe/core'
import type { HostParts } from './converge.ts'
import { dataDiskXml } from './domain-xml.ts'
import type { InstanceTurns } from './instance-turns.ts'
import { liveDisks } from './live-disks.ts'

export class DiskUpkeep {
  readonly #host: HostParts
  readonly #turns: InstanceTurns
  readonly #looking = new Set<string>()

  constructor(host: HostParts, turns: InstanceTurns) {
    this.#host = host
    this.#turns = turns
  }

  /** To be told of each look at an instance. */
  consider(uuid: string, domain: ObservedDomain | null): void {
    if (!domain || !isKept(domain) || this.#looking.has(uuid)) return
    this.#looking.add(uuid)
    this.#keep(uuid, domain)
      .catch((error: unknown) => {
        const isExpected = error instanceof VpeError && ['SUPERSEDED', 'UNAVAILABLE'].includes(error.code)
        if (!isExpected) {
          this.#host.log.error(
            { instance: uuid, err: error },
            'disk upkeep failed; the next look tries again',
          )
        }
      })
      .finally(() => this.#looking.delete(uuid))
  }

  async #keep(uuid: string, domain: ObservedDomain): Promise<void> {
    if ((await this.#missing(uuid, domain)).length === 0) return
    // Somebody who is at work on it sees to it himself: then this is skipped.
    await this.#turns.run(uuid, { kind: 'upkeep' }, (signal) => this.#giveBack(uuid, signal))?.result
  }

  async #giveBack(uuid: string, signal: AbortSignal): Promise<void> {
    const { inventory, hypervisor, log } = this.#host
    const domain = await inventory.look(uuid)
    if (!domain || !isKept(domain)) return
    for (const disk of await this.#missing(uuid, domain)) {
      signal.throwIfAborted()
      await hypervisor.attachDisk(uuid, dataDiskXml(disk, domain.mark.ownership > 0))
      log.info({ instance: uuid, disk: disk.uuid }, 'the guest had let go of a disk, and has it again')
    }
  }

  async #missing(uuid: string, { mark }: ObservedDomain): Promise<readonly AttachedDisk[]> {
    const live = await liveDisks(this.#host.hypervisor, uuid)
    return mark.dataDisks.filter((disk) => !live.some((each) => each.uuid === disk.uuid))
  }
}

function isKept({ mark, guest }: ObservedDomain): boolean {
  return guest.power === 'on' && mark.power === 'on' && mark.dataDisks.length > 0
}
