// pnpm scale [--hosts N] [--instances N] …: one real controller, and as many simulated hosts and instances as are
// asked for; what it takes, and whether everything comes out as it should. docs/performance.md has the figures.

import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { connectBus } from '@vpe/bus'
import { show } from '../bench/figures.ts'
import { ScaleCluster, type Usage } from './scale-cluster.ts'
import { Scenario } from './scenario.ts'

const HELP = `pnpm scale [options]

  --hosts N        simulated hosts (200)
  --instances N    instances on them (2000)
  --warm-up N      instances that are created before, and not counted (half as many)
  --callers N      creations asked for at a time (256)
  --rest-share N   the part of them that is made through REST (0.05)
  --processes N    over how many processes the hosts are spread (2, or one for each 2500 hosts)
  --seconds N      how long it is watched at rest, and hosts that vanish are away (10)
  --profile DIR    CPU profiles of the controller and the API node, one for each step, go there
  --full           10,000 hosts and 100,000 instances
`

const { values } = parseArgs({
  options: {
    hosts: { type: 'string' },
    instances: { type: 'string' },
    'warm-up': { type: 'string' },
    callers: { type: 'string', default: '256' },
    'rest-share': { type: 'string', default: '0.05' },
    processes: { type: 'string' },
    seconds: { type: 'string', default: '10' },
    profile: { type: 'string' },
    full: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}

const hosts = Number(values.hosts ?? (values.full ? 10_000 : 200))
const instances = Number(values.instances ?? (values.full ? 100_000 : 2_000))
const size = {
  hosts,
  instances,
  warmUp: Number(values['warm-up'] ?? (values.full ? 0 : instances / 2)),
  callers: Number(values.callers),
  restShare: Number(values['rest-share']),
  processes: Number(values.processes ?? Math.max(2, Math.ceil(hosts / 2_500))),
}
const seconds = Number(values.seconds)
const profiles = values.profile === undefined ? null : resolve(values.profile)
if (profiles) mkdirSync(profiles, { recursive: true })

await using cluster = await ScaleCluster.start()
const bus = await connectBus(cluster.nats.url, 'scale')
const scenario = new Scenario(cluster, bus, size, showProgress)
print(
  `${hosts} hosts, ${size.instances} instances after ${size.warmUp}, ${size.callers} callers; logs in ${cluster.dir}`,
)

const registered = await profiled('register', () => scenario.register())
print(
  `registered: ${registered.hostsPerSecond.toFixed(0)} hosts/s; all usable in ${seconds1(registered.readySeconds * 1_000)}`,
)
showUsage('registering', registered.usage)

showUsage('at rest, empty', await profiled('empty', () => scenario.rest(seconds)))

if (size.warmUp > 0) await scenario.create(size.warmUp)
const created = await profiled('create', () => scenario.create(size.instances))
print(
  `accepted:   ${created.acceptedPerSecond.toFixed(0)}/s, ${show(created.acceptMs, 'ms')}; ${created.running} ran by then`,
)
print(`active:     ${created.activePerSecond.toFixed(0)}/s, ${show(created.activeMs, 'ms')}`)
const spentMs = (part: keyof Usage['cpu']) => {
  const { usage, usageAfter } = created
  const spent = usage.cpu[part] * usage.seconds + usageAfter.cpu[part] * usageAfter.seconds
  return `${((1_000 * spent) / size.instances).toFixed(2)} ms`
}
print(
  `CPU for each: controller ${spentMs('controller')} (its event loop ${spentMs('controllerMain')}), hosts ${spentMs('hosts')}, NATS ${spentMs('nats')}, client ${spentMs('client')}`,
)
print(`inventories read meanwhile: ${created.inventories}`)
showUsage('while accepting', created.usage)
showUsage('until all were active', created.usageAfter)

showUsage('at rest, full', await profiled('rest', () => scenario.rest(seconds)))

const vanished = await profiled('vanish', () => scenario.vanish(seconds))
print(
  `a tenth vanished: all down after ${seconds1(vanished.downMs)}; back: all up after ${seconds1(vanished.upMs)}`,
)
showUsage('while they were away', vanished.usageAway)
showUsage('while they came back', vanished.usageBack)

const restarted = await scenario.restart()
print(
  `kill -9 and start: answers after ${seconds1(restarted.answersMs)}, has heard all hosts after ${seconds1(restarted.heardMs)}, settled after ${seconds1(restarted.settledMs)}`,
)
showUsage('after its start', restarted.usage)

const difference = await scenario.compare()
const faults = Object.entries(difference).flatMap(([what, those]) =>
  those.length === 0 ? [] : [`${those.length} ${what}: ${those.slice(0, 5).join(', ')}`],
)
print(
  faults.length === 0
    ? 'every instance has its one domain, and every domain its instance'
    : faults.join('\n'),
)
await bus.close()
process.exitCode = faults.length === 0 ? 0 : 1

async function profiled<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
  if (!profiles) return work()
  const { controller, api } = cluster
  await Promise.all([controller.ask('start'), api.ask('start')])
  const result = await work()
  await Promise.all([
    controller.ask(join(profiles, `${name}.cpuprofile`)),
    api.ask(join(profiles, `${name}-api.cpuprofile`)),
  ])
  return result
}

function showUsage(when: string, { seconds, cpu, controller, nats }: Usage): void {
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`
  const mib = (bytes: number) => `${(bytes / 1024 ** 2).toFixed(0)} MiB`
  const { p50, p99, max } = controller.loopDelayMs
  print(`  ${when} (${seconds.toFixed(0)} s):`)
  print(
    `    CPU: controller ${percent(cpu.controller)} (its event loop ${percent(cpu.controllerMain)}), hosts ${percent(cpu.hosts)}, NATS ${percent(cpu.nats)}, API ${percent(cpu.api)}, client ${percent(cpu.client)}; all of the machine ${percent(cpu.machine)}, stolen ${percent(cpu.stolen)}`,
  )
  print(
    `    controller: ${mib(controller.residentBytes)} resident, ${mib(controller.heapBytes)} heap; event loop late p50 ${p50.toFixed(1)}, p99 ${p99.toFixed(1)}, max ${max.toFixed(0)} ms`,
  )
  print(`    NATS: ${nats.in.toFixed(0)} messages/s in, ${nats.out.toFixed(0)}/s out`)
}

function seconds1(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}

function print(line: string): void {
  if (process.stdout.isTTY) process.stdout.write('\r\x1b[K')
  process.stdout.write(`${line}\n`)
}

/** One line that is written over, where somebody looks. */
function showProgress(what: string, done: number, of: number): void {
  const step = Math.max(1, Math.floor(of / 100))
  if (process.stdout.isTTY && (done % step === 0 || done === of))
    process.stdout.write(`\r\x1b[K${what}: ${done} of ${of}`)
}
