// The highest controller epoch that this host has obeyed. A command of a lower epoch comes from a
// leader that has been replaced and does not know it yet. On disk, since the old leader may outlive a
// restart of this agent.

import { join } from 'node:path'
import { VpeError } from '@vpe/core'
import { z } from 'zod'
import { readJson, writeDurably } from './durable-file.ts'

const ledgerSchema = z.object({ epoch: z.int().nonnegative() })

export class EpochLedger {
  readonly #path: string
  #epoch: number
  #written: Promise<void> = Promise.resolve()

  private constructor(path: string, epoch: number) {
    this.#path = path
    this.#epoch = epoch
  }

  static async load(stateDir: string): Promise<EpochLedger> {
    const path = join(stateDir, 'epoch.json')
    const known = await readJson(path)
    const parsed = ledgerSchema.safeParse(known ?? { epoch: 0 })
    if (!parsed.success) throw new Error(`${path} holds no epoch; remove it`, { cause: parsed.error })
    return new EpochLedger(path, parsed.data.epoch)
  }

  get epoch(): number {
    return this.#epoch
  }

  /**
   * Lets a command of this epoch pass; a higher one is on disk before it does.
   * @throws VpeError STALE_EPOCH
   */
  async admit(epoch: number): Promise<void> {
    if (epoch < this.#epoch) {
      throw new VpeError(
        'STALE_EPOCH',
        `a controller of epoch ${this.#epoch} leads; ${epoch} was replaced by it`,
      )
    }
    if (epoch > this.#epoch) {
      this.#epoch = epoch
      this.#written = this.#written.then(() =>
        writeDurably(this.#path, `${JSON.stringify({ epoch: this.#epoch })}\n`),
      )
    }
    await this.#written
  }
}
