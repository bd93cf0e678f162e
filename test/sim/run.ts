// pnpm sim [--seed N] [--histories N] [--mutation NAME] [--trace]: plays histories of the HA protocol. The first one that breaks an
// invariant is printed, and its seed plays it again.

import { parseArgs } from 'node:util'
import { playHistory } from './history.ts'
import { mutations } from './mutations.ts'

const HELP = `pnpm sim [options]

  --seed N         the first history (1)
  --histories N    how many (1000; 1 with --trace)
  --mutation NAME  with one rule turned round: ${Object.keys(mutations).join(', ')}
  --trace          prints what happens
  --all            goes on after a violation, and prints one line for each
`

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    histories: { type: 'string' },
    mutation: { type: 'string' },
    trace: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function main(): number {
  if (values.help) {
    print(HELP)
    return 0
  }
  const mutation = values.mutation === undefined ? null : mutations[values.mutation]
  if (mutation === undefined) {
    print(`no mutation ${values.mutation}; there are: ${Object.keys(mutations).join(', ')}`)
    return 2
  }
  const first = Number(values.seed)
  const count = Number(values.histories ?? (values.trace ? 1 : 1_000))
  const began = process.cpuUsage()
  const sums = { virtualMs: 0, writes: 0, failovers: 0, kills: 0, violations: 0 }
  for (let seed = first; seed < first + count; seed++) {
    const history = playHistory(seed, mutation?.rules, values.trace, mutation?.focus)
    sums.virtualMs += history.virtualMs
    sums.writes += history.writes
    sums.failovers += history.failovers
    sums.kills += history.kills
    if (values.trace) print(history.log.join('\n'))
    if (!history.violation) continue
    sums.violations++
    print(`seed ${seed} (pools ${history.classes}): ${history.violation.message}`)
    if (!values.all) {
      print(
        `again: pnpm sim --seed ${seed} --trace${values.mutation ? ` --mutation ${values.mutation}` : ''}`,
      )
      break
    }
  }
  const { user, system } = process.cpuUsage(began)
  const ms = (user + system) / 1_000
  print(
    `${count} histories, ${sums.violations} with a violation; ${(ms / count).toFixed(1)} ms of CPU each; ` +
      `${Math.round(sums.virtualMs / 3_600_000)} virtual hours, ${sums.writes} writes, ${sums.failovers} restarts elsewhere, ${sums.kills} kills`,
  )
  return sums.violations > 0 ? 1 : 0
}

process.exitCode = main()
