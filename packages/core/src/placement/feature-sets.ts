// Sets of CPU features as small numbers: hosts of one kind share one, so a question is answered once for all of them.

const UNKNOWN = 0

export class FeatureSets {
  readonly #sets: ReadonlySet<string>[] = [new Set()]
  readonly #ids = new Map<string, number>([['', UNKNOWN]])

  /** The number of a set; an empty one is what is not known. */
  intern(features: readonly string[]): number {
    const sorted = [...new Set(features)].sort()
    const key = sorted.join(' ')
    const known = this.#ids.get(key)
    if (known !== undefined) return known
    this.#ids.set(key, this.#sets.length)
    return this.#sets.push(new Set(sorted)) - 1
  }

  /** Which of the features the set does not have; none where it is not known. */
  missing(set: number, features: readonly string[]): string[] {
    if (set === UNKNOWN) return []
    return features.filter((feature) => !this.#sets[set]?.has(feature))
  }

  features(set: number): string[] {
    return [...(this.#sets[set] ?? [])]
  }

  /** For each set, whether it lacks one of the features. */
  lacking(features: readonly string[]): Uint8Array {
    return Uint8Array.from(this.#sets, (_, set) => (this.missing(set, features).length > 0 ? 1 : 0))
  }
}
