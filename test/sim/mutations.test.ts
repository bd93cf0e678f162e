// The gate: each mutation is found within a bounded number of seeds, by an invariant, and the same history is in order without it.

import { describe, expect, test } from 'vitest'
import { type History, playHistory } from './history.ts'
import { mutations } from './mutations.ts'

const SEEDS = 1_000

describe('the simulator finds out every rule that is turned round', () => {
  test.each(Object.entries(mutations))('%s', (name, { rules, focus, what }) => {
    const found = firstViolation(() => rules)
    expect(found, `${SEEDS} seeds, and nobody notices that ${what}`).not.toBeNull()
    process.stdout.write(`${name}: seed ${found?.seed}, ${found?.violation?.message}\n`)
    const sound = playHistory(found?.seed ?? 0, {}, false, focus)
    expect(sound.violation?.message ?? null, 'without the mutation').toBeNull()

    function firstViolation(rulesOf: () => typeof rules): History | null {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const history = playHistory(seed, rulesOf(), false, focus)
        if (history.violation) return history
      }
      return null
    }
  })
})
