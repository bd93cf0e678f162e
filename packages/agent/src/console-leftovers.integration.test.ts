import { randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { removeConsoleLeftovers } from './console-leftovers.ts'
import type { HypervisorDomain } from './hypervisor/hypervisor.ts'

test('what belongs to no domain goes, and nothing else', async () => {
  const [here, gone, coming, unread] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()]
  const domain = (uuid: string) => ({ uuid }) as HypervisorDomain
  const hypervisor = {
    listDomains: async () => ({
      domains: [domain(here)],
      unread: [{ uuid: unread, name: 'unread', why: 'it is held' }],
    }),
    findDomain: async (uuid: string) => (uuid === coming ? domain(uuid) : null),
  }
  const dir = mkdtempSync(join(tmpdir(), 'vpe-console-'))
  for (const uuid of [here, gone, coming, unread])
    for (const part of ['log', 'log.0', 'sock']) writeFileSync(join(dir, `${uuid}.${part}`), '')
  writeFileSync(join(dir, 'notes'), '')
  expect(await removeConsoleLeftovers(dir, hypervisor)).toEqual([gone])
  expect(await removeConsoleLeftovers(dir, hypervisor)).toEqual([])
  const kept = [here, coming, unread].flatMap((uuid) => [`${uuid}.log`, `${uuid}.log.0`, `${uuid}.sock`])
  expect(readdirSync(dir).sort()).toEqual([...kept, 'notes'].sort())
  rmSync(dir, { recursive: true })
  expect(await removeConsoleLeftovers(dir, hypervisor)).toEqual([])
})
