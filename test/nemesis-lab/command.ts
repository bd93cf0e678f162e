// test/nemesis: the command line of a nemesis. Its own lab is made for it and removed; the one of VPE_LAB_HOME stays.

import { parseArgs } from 'node:util'
import { HA_PROFILES, type HaProfile } from '@vpe/core/ha'
import { LabCluster } from '../e2e/lab-cluster.ts'
import { asCount, onLab } from '../e2e/lab-command.ts'
import { CASES } from './cases.ts'
import { nemesis } from './nemesis.ts'

const HELP = `test/nemesis [options]

Faults from a seed against a lab (docs/lab.md) whose highly available guests write a journal ten times a second, one at a time; after each
everything must be as it should be, and at the end the journals must tell of one life after the other. The lab is made for it,
or that of VPE_LAB_HOME.

  --cases N|NAMES  how many (8), or which in what order: ${CASES.map(({ name }) => name).join(',')}
  --seed N         chooses them (the time)
  --guests N       that keep journals (3)
  --hosts N        of the lab (3)
  --profile NAME   of HA: ${Object.keys(HA_PROFILES).join(', ')} (fast)
  --class E|T      of the shared pool (E); T: its locks do not exclude hosts from each other, and each host has a watchdog
  --duration MIN   no further case begins after so many minutes
  --keep           a lab that was made for it stays when something is wrong
`

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '8' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
    guests: { type: 'string', default: '3' },
    hosts: { type: 'string', default: '3' },
    profile: { type: 'string', default: 'fast' },
    class: { type: 'string', default: 'E' },
    duration: { type: 'string' },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const print = (line: string) => void process.stdout.write(`${line}\n`)

if (values.help) {
  print(HELP)
} else {
  const home = process.env.VPE_LAB_HOME
  const profile = asProfile(values.profile)
  const cluster = new LabCluster(home, { VPE_LAB_HA_PROFILE: profile, ...settingsOfClass(values.class) })
  const options = {
    seed: asCount('seed', values.seed),
    guests: asCount('guests', values.guests),
    profile,
    cases: /^\d+$/.test(values.cases) ? asCount('cases', values.cases) : values.cases.split(','),
    durationMs: values.duration === undefined ? undefined : asCount('duration', values.duration) * 60_000,
    print,
  }
  print(`seed ${options.seed}, lab ${cluster.home}`)
  await onLab(cluster, home === undefined ? values : null, async () => {
    await nemesis(cluster, options)
    print(`seed ${options.seed}: everything is as it should be`)
  })
}

function asProfile(text: string): HaProfile {
  if (!(text in HA_PROFILES))
    throw new Error(`--profile ${text}: expected one of ${Object.keys(HA_PROFILES).join(', ')}`)
  return text as HaProfile
}

function settingsOfClass(text: string): Readonly<Record<string, string>> {
  if (text === 'E') return {}
  if (text === 'T') return { VPE_LAB_LOCKS: 'off', VPE_LAB_WATCHDOG: 'on' }
  throw new Error(`--class ${text}: expected E or T`)
}
