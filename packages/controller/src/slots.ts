// A bound on how much is done at once; who comes later waits his turn, in order.

export class Slots {
  readonly #waiting: (() => void)[] = []
  #free: number

  constructor(count: number) {
    this.#free = count
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      // A slot is handed on, not put back, when somebody waits for it.
      if (next) next()
      else this.#free++
    }
  }
}
