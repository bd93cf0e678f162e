// pnpm bench [--rounds N]: the figures of docs/performance.md, measured anew on this machine. It makes a
// cluster of its own and takes it down again.

import { parseArgs } from 'node:util'
import { Cluster } from '../e2e/cluster.ts'
import { measureAcceptedCreates } from './accepted-creates.ts'
import { measureCreateToRunning } from './create-to-running.ts'
import { show } from './figures.ts'
import { measureHaLooks } from './ha-looks.ts'
import { measureList } from './list.ts'
import { measurePlacements } from './placement.ts'
import { measureStart } from './start.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '20' } } })
const print = (line: string) => process.stdout.write(`${line}\n`)

print('placements among 10,000 hosts with 100,000 instances (decision, verdict and reservation, one thread):')
for (const [what, count, isSingled] of [
  ['amounts and pools', 50_000, false],
  ['anti-affinity groups', 2_000, true],
] as const) {
  const { perSecond, perCpuSecond, latencyUs } = measurePlacements(count, isSingled)
  print(
    `  ${what}: ${perSecond.toFixed(0)}/s, ${perCpuSecond.toFixed(0)} a CPU second, ${show(latencyUs, 'µs')}`,
  )
}

print('looks of HA at 10,000 hosts with 100,000 highly available instances:')
const { restMs, lossMs } = measureHaLooks(10_000, 10, 100)
print(`  at rest: ${show(restMs, 'ms')}`)
print(`  from the silence of a host until its instances are given to others: ${show(lossMs, 'ms')}`)

print('start of the controller, until its first answer about an instance:')
for (const [hosts, instances] of [
  [0, 0],
  [10_000, 100_000],
] as const) {
  const { answersMs, cpuSeconds, residentMib } = await measureStart(hosts, instances, 5)
  print(`  ${hosts} hosts, ${instances} instances: ${show(answersMs, 'ms')}`)
  print(`    CPU ${show(cpuSeconds, 's')}; resident ${show(residentMib, 'MiB')}`)
}

print('accepted creations (durable, pretended hosts):')
for (const concurrency of [1, 16, 256]) {
  const { perSecond, latencyMs, commitsPerTransaction } = await measureAcceptedCreates(2_000, concurrency)
  print(
    `  ${concurrency} at a time: ${perSecond.toFixed(0)}/s, ${show(latencyMs, 'ms')}, ${commitsPerTransaction.toFixed(1)} commits a transaction`,
  )
}

print('GET /instances, 1,000 of them, beside other requests (real processes, pretended host):')
const { listMs, parsedMs, othersMs, othersPerSecond } = await measureList(500)
print(`  list:   ${show(listMs, 'ms')}`)
print(`  parsed: ${show(parsedMs, 'ms')}`)
print(`  others: ${show(othersMs, 'ms')}, ${othersPerSecond.toFixed(0)}/s`)

print('POST to domain running (real libvirt and QEMU):')
const cluster = new Cluster()
await cluster.quickstart()
try {
  const { vpeMs, virshMs, ratio, imageImportMs } = await measureCreateToRunning(
    cluster,
    Number(values.rounds),
  )
  print(`  vpe:                        ${show(vpeMs, 'ms')}`)
  print(`  virsh define + virsh start: ${show(virshMs, 'ms')}`)
  print(`  ratio of the medians:       ${ratio.toFixed(2)}`)
  print(`  image import, beside it:    ${show(imageImportMs, 'ms')}`)
} finally {
  await cluster[Symbol.asyncDispose]()
}
