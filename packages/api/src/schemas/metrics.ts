// What is measured of an instance. Units are in the names: what ends in `_bytes`, `_requests`, `_packets` or
// `_seconds` is a count since power-on, what ends in `_per_second` or `_percent` is a mean over the last step.

import { z } from '@hono/zod-openapi'
import { Moment, Uuid } from './fields.ts'

const figure = z.number().min(0)
const unknownOr = figure.nullable()

const Memory = {
  memory_assigned_bytes: unknownOr.openapi({ description: 'What the guest may use' }),
  memory_used_bytes: unknownOr.openapi({
    description: 'What the guest uses, as it counts itself; null where it does not tell',
  }),
  memory_resident_bytes: unknownOr.openapi({ description: "What of the host's memory its process holds" }),
}

const DiskCounts = {
  name: z.string().openapi({ example: 'vda' }),
  read_bytes: figure,
  read_requests: figure,
  write_bytes: figure,
  write_requests: figure,
}

const DiskRates = {
  read_bytes_per_second: figure,
  read_requests_per_second: figure,
  write_bytes_per_second: figure,
  write_requests_per_second: figure,
}

const NicCounts = {
  name: z.string().openapi({ example: 'vnet0' }),
  rx_bytes: figure,
  rx_packets: figure,
  tx_bytes: figure,
  tx_packets: figure,
}

const NicRates = {
  rx_bytes_per_second: figure,
  rx_packets_per_second: figure,
  tx_bytes_per_second: figure,
  tx_packets_per_second: figure,
}

const CpuPercent = unknownOr.openapi({ description: 'Of all its vCPUs together: 100 when all are busy' })

const nullable = <Shape extends z.ZodRawShape>(shape: Shape) =>
  Object.fromEntries(Object.entries(shape).map(([name]) => [name, unknownOr])) as Record<
    keyof Shape,
    typeof unknownOr
  >

export const CurrentMetrics = z
  .object({
    at: Moment,
    vcpus: z.int(),
    cpu_percent: CpuPercent,
    cpu_seconds: unknownOr.openapi({ description: 'CPU time of the host since power-on' }),
    ...Memory,
    disks: z.array(z.object({ ...DiskCounts, ...nullable(DiskRates) })),
    nics: z.array(z.object({ ...NicCounts, ...nullable(NicRates) })),
  })
  .openapi('CurrentMetrics')

export const MetricsPoint = z
  .object({
    at: Moment.openapi({ description: 'The end of the time that it is the mean of' }),
    seconds: figure.openapi({ description: 'How long that time is' }),
    cpu_percent: CpuPercent,
    ...Memory,
    disks: z.array(z.object({ name: DiskCounts.name, ...DiskRates })),
    nics: z.array(z.object({ name: NicCounts.name, ...NicRates })),
  })
  .openapi('MetricsPoint')

export const MetricsView = z
  .object({
    instance_uuid: Uuid,
    interval_seconds: figure.openapi({ description: 'How often it is measured' }),
    current: CurrentMetrics.nullable().openapi({ description: 'null while the instance is off' }),
    series: z.array(MetricsPoint).openapi({ description: 'Oldest first' }),
  })
  .openapi('Metrics')

export const MetricsAnswer = z.object({ metrics: MetricsView })
