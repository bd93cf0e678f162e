// Memory stays flat. After two rounds of warming up, four more rounds of the same work (20,000 look-ups with
// state, 400 define/start/destroy/undefine cycles, thousands of XML texts, lists, statistics and errors) may add
// 500 KiB to what malloc has handed out, 25 bytes per look-up; measured are 50 to 150 KiB, the noise of V8. One
// handle or buffer forgotten per look-up makes 1200 KiB and more. Resident memory is coarser and may add 8 MiB.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import type { MemoryInUse } from './test-support/leak-check.ts'

const [mallocGrowthMax, residentGrowthMax] = [500 * 1024, 8 * 1024 * 1024]

test('20,000 look-ups and 400 life cycles leave no memory behind', { timeout: 120_000 }, async () => {
  const program = fileURLToPath(new URL('./test-support/leak-check.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', program])
  const rounds = JSON.parse(stdout) as MemoryInUse[]
  const [warm, end] = [rounds[1], rounds.at(-1)]
  if (warm === undefined || end === undefined) throw new Error('the leak check measured nothing')
  expect(end.mallocBytes - warm.mallocBytes, stdout).toBeLessThan(mallocGrowthMax)
  expect(end.residentBytes - warm.residentBytes, stdout).toBeLessThan(residentGrowthMax)
})
