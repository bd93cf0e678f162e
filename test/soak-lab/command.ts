// test/soak: the command line of a soak. Its own lab is made for it and removed; the one of VPE_LAB_HOME stays.

import { parseArgs } from 'node:util'
import { LabCluster } from '../e2e/lab-cluster.ts'
import { asCount, onLab } from '../e2e/lab-command.ts'
import { soak } from './soak.ts'

const HELP = `test/soak [options]

Random operations against a lab (docs/lab.md), several at once; then the records of the controller, the inventories of the
agents, each libvirt and the files of the pools must agree, and everything is removed. The lab is made for it, or
that of VPE_LAB_HOME, all of whose instances and disks are then removed.

  --operations N   how many (200)
  --seed N         chooses them (the time)
  --hosts N        of the lab (3)
  --parallel N     under way at once (4)
  --faults         hosts, agents and the controller die and are cut off meanwhile
  --keep           a lab that was made for it stays when something is wrong
`

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '200' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` },
    hosts: { type: 'string', default: '3' },
    parallel: { type: 'string', default: '4' },
    faults: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const print = (line: string) => void process.stdout.write(`${line}\n`)

if (values.help) {
  print(HELP)
} else {
  const home = process.env.VPE_LAB_HOME
  const cluster = new LabCluster(home)
  const options = {
    operations: asCount('operations', values.operations),
    seed: asCount('seed', values.seed),
    parallel: asCount('parallel', values.parallel),
    faults: values.faults,
    print,
  }
  print(`seed ${options.seed}, lab ${cluster.home}`)
  await onLab(cluster, home === undefined ? values : null, async () => {
    await soak(cluster, options)
    print(`${options.operations} operations of seed ${options.seed}: everything is as it should be`)
  })
}
