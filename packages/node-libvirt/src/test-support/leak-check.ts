// Run by leak.integration.test.ts in a process of its own, with --expose-gc: does the same work several times
// over on the test driver and prints, as JSON, the memory in use after each round.

import { randomUUID } from 'node:crypto'
import koffi from 'koffi'
import { connect } from '../connection.ts'
import { testDomainXml } from './xml.ts'

export interface MemoryInUse {
  /** What malloc has handed out and not got back, in all of its arenas. Exact. */
  readonly mallocBytes: number
  /** What the process occupies. Includes the JavaScript heaps and what the allocators keep in reserve. */
  readonly residentBytes: number
}

const [lookupsPerRound, cyclesPerRound, rounds] = [5000, 100, 6]

const collectGarbage = globalThis.gc
if (collectGarbage === undefined) throw new Error('run with --expose-gc')

// struct mallinfo2 of <malloc.h>; uordblks is the memory in use, hblkhd that in blocks of their own.
const fields = [
  'arena',
  'ordblks',
  'smblks',
  'hblks',
  'hblkhd',
  'usmblks',
  'fsmblks',
  'uordblks',
  'fordblks',
  'keepcost',
]
const mallinfo2Type = koffi.struct('mallinfo2', Object.fromEntries(fields.map((field) => [field, 'size_t'])))
const mallinfo2 = koffi.load(null).func('mallinfo2', mallinfo2Type, [])

const connection = await connect('test:///default')
const memory: MemoryInUse[] = []
for (let round = 0; round < rounds; round++) {
  for (let n = 0; n < lookupsPerRound; n++) {
    const domain = await connection.lookupDomainByName('test')
    await domain.state()
    if (n % 10 === 0) {
      await domain.xml()
      await domain.interfaceAddresses('lease')
      await domain.metadata('urn:none')
      await connection.listDomains()
      await connection.allDomainStats()
      await connection.cpuModels('x86_64')
      await connection.lookupDomainByName('nobody').catch(() => {})
    }
  }
  for (let n = 0; n < cyclesPerRound; n++) {
    const domain = await connection.defineDomain(testDomainXml(`leak-${n}`, randomUUID()))
    await domain.start()
    await domain.destroy()
    await domain.undefine()
  }
  await (await connect('test:///default')).close()
  collectGarbage()
  const { uordblks, hblkhd } = mallinfo2() as { uordblks: number; hblkhd: number }
  memory.push({ mallocBytes: uordblks + hblkhd, residentBytes: process.memoryUsage.rss() })
}
await connection.close()
process.stdout.write(JSON.stringify(memory))
