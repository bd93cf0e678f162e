// Virtual time: what is due next, in order of time and, at one time, of asking.

interface Due {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
}

export class Timeline {
  nowMs = 0
  #order = 0
  readonly #heap: Due[] = []

  after(delayMs: number, run: () => void): void {
    this.#push({ atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, run })
  }

  /** Runs what is due up to a time, and stops there. */
  runUntil(endMs: number): void {
    for (;;) {
      const first = this.#heap[0]
      if (!first || first.atMs > endMs) break
      this.#pop()
      this.nowMs = first.atMs
      first.run()
    }
    this.nowMs = Math.max(this.nowMs, endMs)
  }

  #push(due: Due): void {
    const heap = this.#heap
    let index = heap.length
    heap.push(due)
    while (index > 0) {
      const parent = (index - 1) >> 1
      const above = heap[parent]
      if (!above || !isBefore(due, above)) break
      heap[index] = above
      index = parent
    }
    heap[index] = due
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (!last || heap.length === 0) return
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      const right = heap[child + 1]
      const left = heap[child]
      if (!left) break
      let least = left
      if (right && isBefore(right, left)) {
        least = right
        child++
      }
      if (!isBefore(least, last)) break
      heap[index] = least
      index = child
    }
    heap[index] = last
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}
