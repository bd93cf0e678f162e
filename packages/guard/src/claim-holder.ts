// Takes, keeps and gives back claims in a pool: the rim of core's claim holder. A lock is kept by keeping the claim's file
// open.

import type { HostId, InstanceId } from '@vpe/core'
import {
  type ClaimHolderAction,
  type ClaimHolderEvent,
  type ClaimHolderState,
  decodeBlock,
  encodeBlock,
  startClaimHolder,
  stepClaimHolder,
} from '@vpe/core/ha'
import { attempt } from './attempt.ts'
import { BlockFile } from './block-file.ts'
import type { ChildSettings, FromChild, ToChild } from './child-protocol.ts'
import { tryLock } from './ofd-lock.ts'
import { claimFile, makeFolders } from './pool-objects.ts'

/** Beyond the block, so that it never meets a lock for reading or writing the file. */
const CLAIM_LOCK = { start: 1_048_576, length: 1 }

export class ClaimHolder {
  readonly #say: (message: FromChild) => void
  readonly #folder: string
  readonly #files = new Map<string, BlockFile>()
  #state: ClaimHolderState

  constructor({ place, hostId, bootId }: ChildSettings, say: (message: FromChild) => void) {
    this.#say = say
    this.#folder = makeFolders(place)
    this.#state = startClaimHolder(hostId as HostId, bootId)
  }

  start(): void {}

  hear(message: ToChild): void {
    if (message.kind === 'claim') this.#step({ kind: 'job', job: message.job })
    if (message.kind === 'forget') this.#step({ kind: 'forget', uuid: message.uuid as InstanceId })
  }

  #step(event: ClaimHolderEvent): void {
    const step = stepClaimHolder(this.#state, event)
    this.#state = step.state
    for (const action of step.actions) this.#perform(action)
  }

  #perform(action: ClaimHolderAction): void {
    switch (action.kind) {
      case 'lock': {
        const { uuid } = action
        this.#step({ kind: 'lock-answer', uuid, isGranted: this.#lock(uuid) })
        break
      }
      case 'unlock':
        this.#close(action.uuid)
        break
      case 'read-claim': {
        const { uuid } = action
        const read = this.#attempt(uuid, (file) => decodeBlock(file.read(0), 'claim'))
        if (read === null) this.#loseLock(uuid)
        this.#step({ kind: 'claim-read', uuid, read })
        break
      }
      case 'write-claim': {
        const { uuid } = action.claim
        const isOk = this.#attempt(uuid, (file) => file.write(0, encodeBlock(action.claim))) !== null
        if (!isOk) this.#loseLock(uuid)
        this.#step({ kind: 'claim-written', uuid, isOk })
        break
      }
      case 'result':
        this.#say({ kind: 'claim', job: action.job, result: action.result })
        break
      default:
        throw new Error(`no such action: ${action satisfies never}`)
    }
  }

  #lock(uuid: InstanceId): boolean {
    this.#close(uuid)
    return this.#attempt(uuid, ({ fd }) => tryLock(fd, 'write', CLAIM_LOCK)) ?? false
  }

  /** A file that was open under a lock that the storage has dropped answers nothing any more: the next job opens and locks it anew. */
  #loseLock(uuid: InstanceId): void {
    this.#close(uuid)
    this.#step({ kind: 'lock-lost', uuid })
  }

  #close(uuid: string): void {
    this.#files.get(uuid)?.close()
    this.#files.delete(uuid)
  }

  #attempt<Result>(uuid: string, call: (file: BlockFile) => Result): Result | null {
    return attempt(() => {
      const file = this.#files.get(uuid) ?? BlockFile.open(claimFile(this.#folder, uuid), 1)
      this.#files.set(uuid, file)
      return call(file)
    })
  }
}
