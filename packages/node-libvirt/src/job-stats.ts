// The statistics of a domain's job, above all of a migration: VIR_DOMAIN_JOB_* of <libvirt/libvirt-domain.h>.

import type { TypedValue } from './typed-parameters.ts'

const jobTypes = ['none', 'bounded', 'unbounded', 'completed', 'failed', 'cancelled'] as const
const operations = [
  'unknown',
  'start',
  'save',
  'restore',
  'migration-in',
  'migration-out',
  'snapshot',
  'snapshot-revert',
  'dump',
  'backup',
  'snapshot-delete',
] as const

/** `bounded` knows its end, `unbounded` does not; `none` is no job at all. */
export type JobType = (typeof jobTypes)[number]
export type JobOperation = (typeof operations)[number]

/** Every number is absent when the hypervisor does not report it. */
export interface JobStats {
  readonly type: JobType
  readonly operation: JobOperation
  readonly timeElapsedMs: number | undefined
  readonly timeRemainingMs: number | undefined
  readonly downtimeMs: number | undefined
  readonly setupTimeMs: number | undefined
  readonly dataTotalBytes: number | undefined
  readonly dataProcessedBytes: number | undefined
  readonly dataRemainingBytes: number | undefined
  readonly memoryTotalBytes: number | undefined
  readonly memoryProcessedBytes: number | undefined
  readonly memoryRemainingBytes: number | undefined
  readonly memoryBytesPerSecond: number | undefined
  readonly memoryDirtyPagesPerSecond: number | undefined
  readonly memoryPageSizeBytes: number | undefined
  readonly memoryIteration: number | undefined
  readonly diskTotalBytes: number | undefined
  readonly diskProcessedBytes: number | undefined
  readonly diskRemainingBytes: number | undefined
  readonly diskBytesPerSecond: number | undefined
  readonly autoConvergeThrottlePercent: number | undefined
  /** Of a completed job. */
  readonly isSuccess: boolean | undefined
  readonly errorMessage: string | undefined
  /** Every value libvirt reported, under libvirt's own names. */
  readonly raw: Readonly<Record<string, TypedValue>>
}

export function jobTypeName(type: number): JobType {
  return jobTypes[type] ?? 'none'
}

/** Arranges libvirt's named values. */
export function jobStats(type: JobType, values: ReadonlyMap<string, TypedValue>): JobStats {
  const numeric = (name: string): number | undefined => {
    const value = values.get(name)
    return typeof value === 'number' ? value : undefined
  }
  const success = values.get('success')
  const errorMessage = values.get('errmsg')
  return {
    type,
    operation: operations[numeric('operation') ?? 0] ?? 'unknown',
    timeElapsedMs: numeric('time_elapsed'),
    timeRemainingMs: numeric('time_remaining'),
    downtimeMs: numeric('downtime'),
    setupTimeMs: numeric('setup_time'),
    dataTotalBytes: numeric('data_total'),
    dataProcessedBytes: numeric('data_processed'),
    dataRemainingBytes: numeric('data_remaining'),
    memoryTotalBytes: numeric('memory_total'),
    memoryProcessedBytes: numeric('memory_processed'),
    memoryRemainingBytes: numeric('memory_remaining'),
    memoryBytesPerSecond: numeric('memory_bps'),
    memoryDirtyPagesPerSecond: numeric('memory_dirty_rate'),
    memoryPageSizeBytes: numeric('memory_page_size'),
    memoryIteration: numeric('memory_iteration'),
    diskTotalBytes: numeric('disk_total'),
    diskProcessedBytes: numeric('disk_processed'),
    diskRemainingBytes: numeric('disk_remaining'),
    diskBytesPerSecond: numeric('disk_bps'),
    autoConvergeThrottlePercent: numeric('auto_converge_throttle'),
    isSuccess: typeof success === 'boolean' ? success : undefined,
    errorMessage: typeof errorMessage === 'string' ? errorMessage : undefined,
    raw: Object.fromEntries(values),
  }
}
