// /metrics for Prometheus: this process, its requests, how many instances the controller has, what lies in disk pools
// without an owner, and what the controller itself has counted. Figures of single instances are at the agents, which
// measure them.

import type { OpenAPIHono } from '@hono/zod-openapi'
import type { ControllerServiceClient } from '@vpe/proto'
import { Gauge, type Registry } from 'prom-client'
import { createControllerCalls } from '../controller-calls.ts'
import type { ApiEnv } from '../endpoint.ts'
import { STATUS_WORDS } from '../view.ts'

/** Prometheus gives up after ten seconds by itself. */
const COUNT_DEADLINE_MS = 3_000

export function metricsRoute(
  app: OpenAPIHono<ApiEnv>,
  controller: ControllerServiceClient,
  registry: Registry,
  stopping: AbortSignal,
): void {
  const registers = [registry]
  const isUp = new Gauge({ name: 'vpe_controller_up', help: 'Whether the controller answers', registers })
  const instances = new Gauge({
    name: 'vpe_instances',
    help: 'Instances by status, as the controller knows them; no line while it does not answer',
    labelNames: ['status'],
    registers,
  })

  const orphans = new Gauge({
    name: 'vpe_disk_pool_orphans',
    help: 'Files of vpe in a disk pool that no record owns, as the last look found them',
    labelNames: ['disk_pool'],
    registers,
  })

  app.get('/metrics', async (context) => {
    const { read } = createControllerCalls(context, { deadlineMs: COUNT_DEADLINE_MS, stopping })
    const [answer, pools, counted] = await Promise.all([
      read((options) => controller.countInstances({}, options)).catch(() => null),
      read((options) => controller.listDiskPools({}, options)).catch(() => null),
      read((options) => controller.getControllerMetrics({}, options)).catch(() => null),
    ])
    orphans.reset()
    for (const pool of pools?.diskPools ?? []) orphans.set({ disk_pool: pool.name }, pool.orphans)
    isUp.set(answer ? 1 : 0)
    instances.reset()
    for (const { status, count } of answer?.counts ?? [])
      instances.set({ status: STATUS_WORDS[status] }, count)
    // No line of the controller's has the name of one of this node's, so that both texts are one.
    const text = `${await registry.metrics()}\n${counted?.text ?? ''}`
    return context.body(text, 200, { 'content-type': registry.contentType })
  })
}
