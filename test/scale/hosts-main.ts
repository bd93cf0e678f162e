// A process of simulated hosts: told by its parent what to do, one call after the other.

import { connectBus } from '@vpe/bus'
import type { HostsCall } from './hosts-process.ts'
import { SimulatedHosts } from './simulated-hosts.ts'

let hosts: SimulatedHosts | null = null

async function answer(call: HostsCall): Promise<unknown> {
  if (call.what === 'start') {
    hosts = await SimulatedHosts.start(
      await connectBus(call.natsUrl, 'simulated hosts'),
      call.count,
      call.size,
      call.ip,
    )
    return hosts.summaries
  }
  if (!hosts) throw new Error('there are no hosts yet')
  switch (call.what) {
    case 'vanish':
      return hosts.vanish(call.count)
    case 'comeBack':
      return hosts.comeBack()
    case 'inventoriesRead':
      return hosts.inventoriesRead
    case 'resetInventoriesRead':
      return hosts.resetInventoriesRead()
    case 'domains':
      return hosts.domains
  }
}

process.on('message', async ({ id, call }: { id: number; call: HostsCall }) => {
  const result = await answer(call)
  process.send?.({ id, result })
})
// They have no purpose without whoever started them.
process.on('disconnect', () => process.exit(0))
