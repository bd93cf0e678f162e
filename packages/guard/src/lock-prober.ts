// Tries the locks of a pool (the process `lock-prober`), on a file of its own and a byte that QEMU locks of its images, in
// the way that QEMU does: one host holds a read lock, another asks whether a write lock would conflict, and tries to take one.

import { join } from 'node:path'
import { BlockFile } from './block-file.ts'
import type { ChildSettings, FromChild, LockStep, ToChild } from './child-protocol.ts'
import { isLockedAgainst, tryLock, unlock } from './ofd-lock.ts'
import { makeFolders, type PoolPlace } from './pool-objects.ts'

/** QEMU's "nobody else may write": 200 and the number of the permission. */
const PROBED = { start: 201, length: 1 }

export class LockProber {
  readonly #say: (message: FromChild) => void
  readonly #place: PoolPlace
  #file: BlockFile | null = null

  constructor({ place }: ChildSettings, say: (message: FromChild) => void) {
    this.#say = say
    this.#place = place
  }

  start(): void {}

  hear(message: ToChild): void {
    if (message.kind !== 'try-lock') return
    const { id, step } = message
    try {
      this.#say({ kind: 'lock-tried', id, isGranted: this.#carryOut(step), fault: '' })
    } catch (error) {
      this.#say({ kind: 'lock-tried', id, isGranted: false, fault: (error as Error).message })
    }
  }

  #carryOut(step: LockStep): boolean {
    this.#file ??= BlockFile.open(join(makeFolders(this.#place), 'probe'), 1)
    const { fd } = this.#file
    switch (step) {
      case 'hold':
        return tryLock(fd, 'read', PROBED)
      case 'ask':
        return !isLockedAgainst(fd, 'write', PROBED)
      case 'take': {
        const isGranted = tryLock(fd, 'write', PROBED)
        if (isGranted) unlock(fd, PROBED)
        return isGranted
      }
      case 'drop':
        unlock(fd, PROBED)
        return true
      default:
        throw new Error(`no such step: ${step satisfies never}`)
    }
  }
}
