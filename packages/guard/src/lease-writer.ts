// Renews this host's lease in a pool: the rim of core's lease writer. Every call may hang; then nothing is renewed, which is
// what a host that cannot write must look like.

import type { HostId } from '@vpe/core'
import {
  decodeBlock,
  encodeBlock,
  HA_RULES,
  type LeaseWriterAction,
  type LeaseWriterEvent,
  type LeaseWriterState,
  startLeaseWriter,
  stepLeaseWriter,
} from '@vpe/core/ha'
import { attempt } from './attempt.ts'
import type { BlockFile } from './block-file.ts'
import { upMs } from './boot-time.ts'
import type { ChildSettings, FromChild, ToChild } from './child-protocol.ts'
import { openHostFiles } from './pool-objects.ts'

/** Often enough that a cycle begins when it is due. */
const TICK_MS = 100

export class LeaseWriter {
  readonly #settings: ChildSettings
  readonly #say: (message: FromChild) => void
  readonly #leases: BlockFile
  readonly #mailboxes: BlockFile
  #state: LeaseWriterState

  constructor(settings: ChildSettings, say: (message: FromChild) => void) {
    const { place, hostId, bootId } = settings
    this.#settings = settings
    this.#say = say
    const { leases, mailboxes } = openHostFiles(place)
    this.#leases = leases
    this.#mailboxes = mailboxes
    // Whoever watches must see another value than the last one.
    const last = decodeBlock(this.#leases.read(place.slot), 'lease')
    const seq = last.kind === 'block' ? last.block.seq : 0
    this.#state = startLeaseWriter(hostId as HostId, bootId, seq)
  }

  start(): void {
    setInterval(() => this.#step({ kind: 'tick' }), TICK_MS)
  }

  hear(message: ToChild): void {
    if (message.kind === 'permit' || message.kind === 'ack') this.#step(message)
  }

  #step(event: LeaseWriterEvent): void {
    const { timings } = this.#settings
    const step = stepLeaseWriter(this.#state, event, upMs(), { timings, rules: HA_RULES })
    this.#state = step.state
    for (const action of step.actions) this.#perform(action)
  }

  #perform(action: LeaseWriterAction): void {
    const { slot } = this.#settings.place
    switch (action.kind) {
      case 'read-mailbox':
        this.#step({
          kind: 'mailbox',
          read: attempt(() => decodeBlock(this.#mailboxes.read(slot), 'mailbox')),
        })
        break
      case 'write-lease':
        this.#step({
          kind: 'written',
          isOk: attempt(() => this.#leases.write(slot, encodeBlock(action.block))) !== null,
        })
        break
      case 'tell-renewed':
        this.#say({ kind: 'renewed', submittedMs: action.submittedMs })
        break
      case 'tell-pill':
        this.#say({ kind: 'pill', pill: action.pill })
        break
      default:
        throw new Error(`no such action: ${action satisfies never}`)
    }
  }
}
