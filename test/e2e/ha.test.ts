// High availability on real hosts, as far as a lab has them: guests that keep journals, and one fault of each kind that takes no minutes. More of
// them, at random and for as long as one likes: test/nemesis.

import { afterAll, beforeAll, test } from 'vitest'
import { nemesis } from '../nemesis-lab/nemesis.ts'
import { LabCluster } from './lab-cluster.ts'

const cluster = new LabCluster(undefined, { VPE_LAB_HA_PROFILE: 'fast' })

beforeAll(() => cluster.up(3))
afterAll(() => cluster[Symbol.asyncDispose]())

test('whatever happens to hosts and guests, each guest runs on, and on one host', async () => {
  const print = (line: string) => void process.stdout.write(`${line}\n`)
  const cases = ['guest-crash', 'guard-kill', 'agent-kill', 'host-kill', 'isolate']
  await nemesis(cluster, { seed: 1, guests: 2, profile: 'fast', cases, print })
})
