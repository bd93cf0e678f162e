// Calls about what is measured. Series live on the hosts, in their agents' memory: they are passed on, not
// kept here.

import { hostOfGuest, VpeError } from '@vpe/core'
import { type ControllerServiceImplementation, fromClientError, InstanceStatus } from '@vpe/proto'
import type { Agents } from '../agents.ts'
import type { Store } from '../store/store.ts'
import { getOr404 } from './references.ts'

/** Memory answers at once; whoever waits longer waits for a host that is away. */
const AGENT_DEADLINE_MS = 5_000

type MetricsMethods = Pick<ControllerServiceImplementation, 'getInstanceMetrics' | 'countInstances'>

export function metricsMethods(store: Store, agents: Agents): MetricsMethods {
  return {
    async getInstanceMetrics(request, context) {
      await store.durable()
      const instance = getOr404(store.instances, 'instance', request.uuid)
      const host = getOr404(store.hosts, 'host', hostOfGuest(instance))
      const deadline = AbortSignal.timeout(AGENT_DEADLINE_MS)
      const signal = AbortSignal.any([deadline, context.signal])
      try {
        const { metrics } = await agents.client(host).getMetrics(request, { signal })
        return { metrics }
      } catch (cause) {
        const error = fromClientError(cause)
        if (error.code !== 'UNAVAILABLE' && !deadline.aborted) throw error
        throw new VpeError(
          'HOST_UNREACHABLE',
          `host ${host.name}, which measures this instance, does not answer`,
          { cause },
        )
      }
    },
    async countInstances() {
      await store.durable()
      const { usage } = store
      return {
        counts: [
          { status: InstanceStatus.ACTIVE, count: usage.ofStatus('active') },
          { status: InstanceStatus.SHUTOFF, count: usage.ofStatus('shutoff') },
          { status: InstanceStatus.PAUSED, count: usage.ofStatus('paused') },
          { status: InstanceStatus.ERROR, count: usage.ofStatus('error') },
        ],
      }
    },
  }
}
