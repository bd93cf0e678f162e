// Each folder of test/scenarios is a test: what happens after the commands is what log.expect says, line by line. A new scenario is a new
// folder. `pnpm vitest run --project sim scenarios -u` writes the logs anew; they are reviewed like code.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { playScenario } from './scenario.ts'

const folder = join(import.meta.dirname, '..', 'scenarios')

test.each(readdirSync(folder))('%s', async (name) => {
  const log = playScenario(readFileSync(join(folder, name, 'commands.txt'), 'utf8'))
  expect(log).not.toContain('VIOLATION')
  await expect(log).toMatchFileSnapshot(join(folder, name, 'log.expect'))
})
