import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { consoleLogPath, removeConsoleLog } from './console-log.ts'

test('a console log goes with all its parts, and no other does', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'vpe-console-'))
  for (const name of ['a.log', 'a.log.0', 'a.log.1', 'ab.log', 'b.log']) writeFileSync(join(dir, name), '')
  await removeConsoleLog(dir, 'a')
  await removeConsoleLog(dir, 'a')
  expect(readdirSync(dir).sort()).toEqual(['ab.log', 'b.log'])
  rmSync(dir, { recursive: true })
  await removeConsoleLog(dir, 'a')
  expect(consoleLogPath('/state/console', 'a')).toBe('/state/console/a.log')
})
