// Which guests libvirt has paused because there is no room for what they write. Of all I/O errors it is the one that says nothing of
// whose the disk is, and that lasts until somebody makes room.

import type { Connection, DomainState } from '@vpe/node-libvirt'

export class FullPools {
  /** Guests whose last I/O error was for want of room. */
  readonly #lacking = new Set<string>()

  constructor(connection: Pick<Connection, 'on'>) {
    connection.on('ioError', ({ domain, reason }) => {
      if (reason === 'enospc') this.#lacking.add(domain.uuid)
      else this.#lacking.delete(domain.uuid)
    })
    connection.on('lifecycle', ({ domain, event }) => {
      if (event === 'started' || event === 'undefined') this.#lacking.delete(domain.uuid)
    })
    connection.on('disconnected', () => this.#lacking.clear())
  }

  /**
   * False as well where the error was not heard, for this agent was not there: any other I/O error is looked into by the guard. A
   * guest that it lets go on into a full pool fails again at once, and is heard then.
   */
  hasPaused(uuid: string, { state, reason }: DomainState): boolean {
    return state === 'paused' && reason === 'io-error' && this.#lacking.has(uuid)
  }
}
