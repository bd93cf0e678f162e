// Ten thousand histories, each a cluster and its faults by chance, with every invariant looked at after every event that could break it,
// and the end of all faults, after which everything must be well again. A seed that fails plays again with `pnpm sim --seed N --trace`.

import { describe, expect, test } from 'vitest'
import { playHistory } from './history.ts'

const HISTORIES = 10_000
const BATCH = 1_000

describe('no history breaks an invariant', () => {
  const sums = { histories: 0, writes: 0, failovers: 0, kills: 0 }

  test.each(Array.from({ length: HISTORIES / BATCH }, (_, index) => 1 + index * BATCH))(
    `${BATCH} from seed %i on`,
    (first) => {
      const broken: string[] = []
      for (let seed = first; seed < first + BATCH; seed++) {
        const { violation, writes, failovers, kills } = playHistory(seed)
        if (violation) broken.push(`seed ${seed}: ${violation.message}`)
        sums.histories++
        sums.writes += writes
        sums.failovers += failovers
        sums.kills += kills
      }
      expect(broken).toEqual([])
    },
  )

  test('and they are worth playing', () => {
    // Where nothing is ever restarted elsewhere, and nothing killed, nothing was tried.
    expect(sums.failovers).toBeGreaterThan(sums.histories / 4)
    expect(sums.kills).toBeGreaterThan(sums.histories / 10)
    expect(sums.writes).toBeGreaterThan(100 * sums.histories)
  })

  test('the same seed is the same history, to the last line', () => {
    expect(playHistory(77, {}, true).log).toEqual(playHistory(77, {}, true).log)
    expect(playHistory(77, {}, true).log.length).toBeGreaterThan(10)
  })
})
