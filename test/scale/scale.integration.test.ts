// The harness of `pnpm scale`, small: a real controller, API node and nats-server, and simulated hosts. It says
// nothing of speed: everything must come to rest, and nothing may be left or doubled.

import { connectBus } from '@vpe/bus'
import { expect, test } from 'vitest'
import { ScaleCluster } from './scale-cluster.ts'
import { Scenario } from './scenario.ts'

const SIZE = { hosts: 100, instances: 500, warmUp: 0, callers: 64, restShare: 0.05, processes: 2 }
/** It takes well under a minute; a machine that has much else to do is no failure. */
const LIMIT_MS = 900_000
const NOTHING = { missing: [], surplus: [], unsettled: [] }

test(
  'a hundred hosts: a tenth vanishes and comes back, the controller is killed, and all is well',
  async () => {
    await using cluster = await ScaleCluster.start()
    const bus = await connectBus(cluster.nats.url, 'test')
    const scenario = new Scenario(cluster, bus, SIZE, () => {})
    await scenario.register()
    await scenario.create(SIZE.instances)
    expect(await scenario.compare()).toEqual(NOTHING)
    await scenario.vanish(0)
    await scenario.restart()
    expect(await scenario.compare()).toEqual(NOTHING)
    await scenario.deleteAll()
    // Nothing is wanted any more, so every domain that is still there would be surplus.
    expect(await scenario.compare()).toEqual(NOTHING)
    await bus.close()
  },
  LIMIT_MS,
)
