// What looks at hosts come to: since when a guest runs where, and whether it ever ran on two hosts at once. Values in, values out.
//
// Hosts are looked at one by one, and a look takes its time: only between two looks in a row that have both found a guest has it certainly
// run. Two such times of two hosts that meet are a guest that ran twice.

/** A time for which a guest has certainly run on a host. */
export interface Run {
  readonly uuid: string
  readonly host: string
  /** End of the first look that found it. */
  readonly sinceMs: number
  /** Begin of the last look that found it, or the same. */
  readonly untilMs: number
}

export interface DoubleRun {
  readonly uuid: string
  readonly hosts: readonly [string, string]
  readonly forMs: number
  /** One of them was cut off from its storage, and could write nothing. */
  readonly isExcused: boolean
}

export class Runs {
  /** By host and guest, the one that goes on or was last. */
  readonly #runs = new Map<string, { isOn: boolean; run: Run }>()
  readonly #doubles = new Map<string, DoubleRun>()
  readonly #excused = new Set<string>()

  /** Notes a look: all that it found on a host, from when until when it took. One that failed has found nothing. */
  note(host: string, found: ReadonlySet<string>, fromMs: number, toMs: number): void {
    for (const each of this.#runs.values())
      if (each.run.host === host && !found.has(each.run.uuid)) each.isOn = false
    for (const uuid of found) {
      const key = `${host} ${uuid}`
      const before = this.#runs.get(key)
      const run = before?.isOn
        ? { ...before.run, untilMs: fromMs }
        : { uuid, host, sinceMs: toMs, untilMs: toMs }
      this.#runs.set(key, { isOn: true, run })
      this.#compare(run)
    }
  }

  /** Where it runs, and since when. */
  of(uuid: string): Run[] {
    return [...this.#runs.values()].filter(({ isOn, run }) => isOn && run.uuid === uuid).map(({ run }) => run)
  }

  /** Every pair of times that met. */
  get doubles(): readonly DoubleRun[] {
    return [...this.#doubles.values()]
  }

  /** Until `excuseNobody`, a guest on that host may have a successor elsewhere: the storage takes nothing of what it writes. */
  excuse(host: string): void {
    this.#excused.add(host)
  }

  excuseNobody(): void {
    this.#excused.clear()
  }

  #compare(run: Run): void {
    for (const { run: other } of this.#runs.values()) {
      if (other.uuid !== run.uuid || other.host === run.host) continue
      const forMs = Math.min(run.untilMs, other.untilMs) - Math.max(run.sinceMs, other.sinceMs)
      if (forMs <= 0) continue
      const [one, two] = run.host < other.host ? [run, other] : [other, run]
      const key = [run.uuid, one.host, one.sinceMs, two.host, two.sinceMs].join(' ')
      const known = this.#doubles.get(key)
      const isExcused = this.#excused.has(one.host) || this.#excused.has(two.host)
      this.#doubles.set(key, {
        uuid: run.uuid,
        hosts: [one.host, two.host],
        forMs: Math.max(forMs, known?.forMs ?? 0),
        isExcused: known?.isExcused ?? isExcused,
      })
    }
  }
}
