// Watches all leases of a pool: the rim of core's pool reader. While a read hangs it answers nothing, which is "unknown" to who
// asks. It also writes what others are told into their mailboxes.

import type { HostId } from '@vpe/core'
import {
  decodeBlock,
  encodeBlock,
  HA_RULES,
  type Pill,
  type PoolReaderState,
  seenAck,
  sight,
  startPoolReader,
  stepPoolReader,
} from '@vpe/core/ha'
import { attempt } from './attempt.ts'
import type { BlockFile } from './block-file.ts'
import { upMs } from './boot-time.ts'
import type { ChildSettings, FromChild, ToChild } from './child-protocol.ts'
import { openHostFiles } from './pool-objects.ts'

export class PoolReader {
  readonly #settings: ChildSettings
  readonly #say: (message: FromChild) => void
  readonly #leases: BlockFile
  readonly #mailboxes: BlockFile
  #state: PoolReaderState

  constructor(settings: ChildSettings, say: (message: FromChild) => void) {
    const { place, hostId } = settings
    this.#settings = settings
    this.#say = say
    const { leases, mailboxes } = openHostFiles(place)
    this.#leases = leases
    this.#mailboxes = mailboxes
    this.#state = startPoolReader(hostId as HostId)
  }

  start(): void {
    setInterval(() => this.#read(), this.#settings.timings.readMs)
    this.#read()
  }

  hear(message: ToChild): void {
    switch (message.kind) {
      case 'sight': {
        const { timings } = this.#settings
        const hostId = message.hostId as HostId
        const sighting = sight(this.#state, hostId, upMs(), { timings, rules: HA_RULES })
        this.#say({ kind: 'sighting', id: message.id, sighting, ack: seenAck(this.#state, hostId) })
        return
      }
      case 'send-pill':
        this.#say({ kind: 'pill-sent', id: message.id, failure: this.#sendPill(message.slot, message.pill) })
    }
  }

  #read(): void {
    this.#state = stepPoolReader(this.#state, { kind: 'tick' }, upMs()).state
    const blocks = attempt(() => {
      const read = this.#leases.readAll().map((bytes) => decodeBlock(bytes, 'lease'))
      // A block says itself whose it is; one that is torn says nothing, and what was known stays.
      return new Map(
        read.flatMap((each) => (each.kind === 'block' ? [[each.block.hostId, each] as const] : [])),
      )
    })
    this.#state = stepPoolReader(this.#state, { kind: 'read', blocks }, upMs()).state
  }

  /** Why it could not be written; null when it is on disk. */
  #sendPill(slot: number, pill: Pill): string | null {
    try {
      this.#mailboxes.write(slot, encodeBlock(pill))
      return null
    } catch (error) {
      return (error as Error).message
    }
  }
}
