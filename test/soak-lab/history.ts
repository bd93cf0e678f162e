// What was done to a cluster, in the order in which it began, and what came of it.

export interface Entry {
  readonly number: number
  readonly startedAt: number
  readonly words: string
  endedAt: number | null
  outcome: string
}

export class History {
  readonly #print: (line: string) => void
  readonly #begin = performance.now()
  readonly #entries: Entry[] = []

  constructor(print: (line: string) => void) {
    this.#print = print
  }

  begin(name: string, about: string): Entry {
    const entry: Entry = {
      number: this.#entries.length + 1,
      startedAt: performance.now() - this.#begin,
      words: `${name} ${about}`,
      endedAt: null,
      outcome: 'under way',
    }
    this.#entries.push(entry)
    return entry
  }

  end(entry: Entry, outcome: string): void {
    entry.endedAt = performance.now() - this.#begin
    entry.outcome = outcome
    this.#print(this.#format(entry))
  }

  /** Those that have not come to their end are among them. */
  toString(): string {
    return this.#entries.map((entry) => this.#format(entry)).join('\n')
  }

  #format({ number, startedAt, endedAt, words, outcome }: Entry): string {
    const seconds = (ms: number) => (ms / 1000).toFixed(1)
    const time = `${seconds(startedAt)}${endedAt === null ? '' : `–${seconds(endedAt)}`} s`
    return `#${number}  ${time}  ${words}: ${outcome}`
  }
}
