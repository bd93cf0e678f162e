// /instances/{uuid}/metrics: what the instance's host has measured of it.

import type { ControllerServiceClient } from '@vpe/proto'
import type { AddEndpoint } from '../endpoint.ts'
import { showMetrics } from '../metrics-view.ts'
import { MetricsQuery } from '../schemas/list.ts'
import { MetricsAnswer } from '../schemas/metrics.ts'
import { given } from '../view.ts'

const AGO_MS_DEFAULT = 600_000

export function instanceMetricsRoutes(add: AddEndpoint, controller: ControllerServiceClient): void {
  add(
    {
      method: 'get',
      path: '/instances/{uuid}/metrics',
      summary: 'What is measured of an instance: now, and over the last hour at most',
      query: MetricsQuery,
      answer: MetricsAnswer,
      codes: ['CONFLICT', 'HOST_UNREACHABLE'],
    },
    async ({ params: { uuid }, query: { since = { agoMs: AGO_MS_DEFAULT }, step = 0 } }, { read }) => {
      const sinceMs = 'atMs' in since ? since.atMs : Date.now() - since.agoMs
      const request = { uuid, sinceMs: Math.max(0, sinceMs), stepMs: step }
      const answer = await read((options) => controller.getInstanceMetrics(request, options))
      return { metrics: showMetrics(uuid, given(answer.metrics, 'the metrics')) }
    },
  )
}
