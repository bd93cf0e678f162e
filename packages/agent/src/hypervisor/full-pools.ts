// Which guests libvirt has paused because there is no room for what they write. Of all I/O errors it is the one that says nothing of
// whose the disk is, and that lasts until somebody makes room.

import type { Connection, Domain, DomainState } from '@vpe/node-libvirt'
import { systemClock } from '../clock.ts'
import { attempt } from '../preflight/deadline.ts'

/** QEMU is asked, and one whose storage hangs does not answer. */
const ASK_MS = 2_000

export class FullPools {
  /**
   * Whether the last I/O error of a guest was for want of room. Of one that was not heard of QEMU is asked, once, since an answer that
   * does not come keeps one of the connection's few places. It speaks of the first error since the guest was started, which is why
   * what is heard counts first.
   */
  readonly #lacksRoom = new Map<string, Promise<boolean>>()

  constructor(connection: Pick<Connection, 'on'>) {
    connection.on('ioError', ({ domain, reason }) =>
      this.#lacksRoom.set(domain.uuid, Promise.resolve(reason === 'enospc')),
    )
    connection.on('lifecycle', ({ domain, event }) => {
      if (event === 'started' || event === 'undefined') this.#lacksRoom.delete(domain.uuid)
    })
    connection.on('disconnected', () => this.#lacksRoom.clear())
  }

  /** False as well where nobody can tell: any other I/O error is looked into by the guard. */
  async hasPaused(domain: Domain, { state, reason }: DomainState): Promise<boolean> {
    if (state !== 'paused' || reason !== 'io-error') return false
    const lacksRoom = this.#lacksRoom.get(domain.uuid) ?? askQemu(domain)
    this.#lacksRoom.set(domain.uuid, lacksRoom)
    const answer = await attempt(lacksRoom, ASK_MS, systemClock)
    return 'value' in answer && answer.value
  }
}

async function askQemu(domain: Domain): Promise<boolean> {
  const errors = await domain.diskErrors()
  return errors.some(({ error }) => error === 'no-space')
}
