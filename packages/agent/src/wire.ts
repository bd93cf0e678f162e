// Messages to records and back: the one mapping file of this package, and the place where requests are
// judged. A controller is a peer of ours, but one of another version, or with a defect, must not make
// this host do something that nobody meant.

import { createHash } from 'node:crypto'
import {
  type DepartureReport,
  type DesiredDisk,
  type DesiredDiskPool,
  type DesiredImage,
  type DesiredInstance,
  type DesiredSeed,
  type DiskCopy,
  type Finding,
  type FindingStatus,
  type GuestPoint,
  type HostFacts as HostFactsRecord,
  hostnameFault,
  type InstanceRelease,
  type InstanceReport as InstanceReportRecord,
  nfsExportFault,
  nfsOptionsFault,
  nfsServerFault,
  SSH_KEYS_MAX,
  sshKeyFault,
  userDataFault,
  VpeError,
} from '@vpe/core'
import type { ArmedPool } from '@vpe/core/ha'
import {
  type AttachConsoleRequest,
  ConditionStatus,
  ConsoleKind,
  Departure,
  type DepartureReport as DepartureReportMessage,
  type DescribeDisksRequest,
  type DiskCopy as DiskCopyMessage,
  type DiskFile as DiskFileMessage,
  DiskFormat,
  type DiskPoolSpec,
  type DiskSpec,
  type EnsureSnapshotRequest,
  HoldUp,
  type HostCondition,
  type HostFacts,
  type ImageSource,
  type ImportedImage,
  type InstanceMetrics,
  type InstanceReport,
  type InstanceSpec,
  type MemoryFigures,
  type MigrateDomainRequest,
  type MigrationTarget as MigrationTargetMessage,
  type PeerPort as PeerPortMessage,
  PoolClass,
  Power,
  RebootKind,
  type ReleaseInstanceRequest,
  StopCause,
  SystemDiskKind,
  type WriteDiskRequest,
} from '@vpe/proto'
import { z } from 'zod'
import type { SnapshotOf } from './agent.ts'
import type { ConsoleTarget } from './consoles.ts'
import type { CopiedDisks, DiskFile } from './disk-copies.ts'
import type { MigrationTarget } from './hypervisor/hypervisor.ts'
import type { MeasuredInstance } from './metrics/guest-metrics.ts'
import type { MigrationOrder } from './migration.ts'
import type { PeerPort } from './peer-ports.ts'
import type { PoolImage } from './pool/pool-protocol.ts'
import { printable } from './xml.ts'

const STOP_GRACE_MS_DEFAULT = 30_000
const STOP_GRACE_MS_MAX = 24 * 3_600_000

const generation = z.int().positive()
const uuid = z.uuid()

const faultless = (faultOf: (value: string) => string | null) =>
  z.string().check((context) => {
    const message = faultOf(context.value)
    if (message !== null) context.issues.push({ code: 'custom', message, input: context.value })
  })

const nfsSchema = z
  .object({
    server: faultless(nfsServerFault),
    export: faultless(nfsExportFault),
    options: faultless(nfsOptionsFault),
  })
  .optional()
  .transform((nfs) => nfs ?? null)

const rbdSchema = z
  .object({
    monitors: z.array(z.string()).min(1),
    pool: z.string().min(1),
    user: z.string(),
    secretUuid: uuid,
  })
  .optional()
  .transform((rbd) => rbd ?? null)

const diskPoolSchema = z.object({
  uuid,
  // Another kind is a later version's.
  kind: z.enum(['dir', 'nfs', 'rbd']),
  path: z.string(),
  marker: z.string(),
  nfs: nfsSchema,
  rbd: rbdSchema,
  systemDisks: z
    .enum([SystemDiskKind.OVERLAY, SystemDiskKind.COPY])
    .transform((kind) => (kind === SystemDiskKind.OVERLAY ? ('overlay' as const) : ('copy' as const))),
})

const diskSchema = z.object({ uuid, diskPool: diskPoolSchema, sizeBytes: z.int().positive() })

const imageSchema = z.object({
  uuid,
  url: z.string(),
  sha256: z.union([z.literal(''), z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits')]),
})

const POWER_WORDS = { [Power.ON]: 'on', [Power.OFF]: 'off', [Power.PAUSED]: 'paused' } as const

const seedSchema = z
  .object({
    hostname: faultless(hostnameFault),
    sshKeys: z.array(faultless(sshKeyFault)).max(SSH_KEYS_MAX),
    userData: faultless(userDataFault),
  })
  .transform((seed): DesiredSeed => {
    const sha256 = createHash('sha256').update(JSON.stringify(seed)).digest('hex')
    return { ...seed, sha256 }
  })
const stopGraceMs = z
  .int()
  .nonnegative()
  .max(STOP_GRACE_MS_MAX)
  .transform((ms) => ms || STOP_GRACE_MS_DEFAULT)

const releaseSchema = z.object({ uuid, generation, stopGraceMs })

/** Of a pool that has leases: no other class has. */
export const leasedClass = z.enum([PoolClass.ENFORCED, PoolClass.TIMED])

export function classFromWire(poolClass: PoolClass): ArmedPool['poolClass'] {
  return poolClass === PoolClass.ENFORCED ? 'E' : 'T'
}

/** A pool in which a guest needs claim and lease. */
export const armedPoolSchema = z
  .object({
    poolUuid: uuid,
    poolClass: leasedClass,
    canUnmount: z.boolean(),
  })
  .transform(
    ({ poolUuid, poolClass, canUnmount }): ArmedPool => ({
      pool: poolUuid,
      poolClass: classFromWire(poolClass),
      canUnmount,
    }),
  )

const ownershipSchema = z.object({ generation, bootId: z.uuid(), pools: z.array(armedPoolSchema) })

const specSchema = z.object({
  uuid,
  name: z.string().transform(printable),
  generation,
  power: z.enum([Power.ON, Power.OFF, Power.PAUSED]).transform((power) => POWER_WORDS[power]),
  ha: z.boolean(),
  vcpus: z.int().positive(),
  memoryMib: z.int().positive(),
  diskBytes: z.int().nonnegative(),
  image: imageSchema,
  diskPool: diskPoolSchema,
  stopGraceMs,
  rebootGeneration: z.int().nonnegative(),
  // A controller that asks for no reboot need not say how.
  rebootKind: z
    .enum(RebootKind)
    .transform((kind) => (kind === RebootKind.HARD ? ('hard' as const) : ('soft' as const))),
  diskGeneration: z.int().nonnegative(),
  seed: seedSchema.optional().transform((seed) => seed ?? null),
  disks: z.array(z.object({ disk: diskSchema, target: z.string().regex(/^vd[b-z]$/) })),
  hasDisk: z.boolean(),
  diskSnapshotUuid: z.union([z.literal(''), uuid]).transform((text) => text || null),
  diskSource: z
    .object({
      instanceUuid: uuid,
      snapshotUuid: z.union([z.literal(''), uuid]).transform((text) => text || null),
    })
    .optional()
    .transform((source) => source ?? null),
  ownership: ownershipSchema.optional().transform((ownership) => ownership ?? null),
})

/** @throws VpeError INVALID_ARGUMENT, as do the others */
export function desiredFromWire(spec: InstanceSpec | undefined, epoch: number): DesiredInstance {
  const { disks, ...desired } = parse(specSchema, spec, 'spec')
  const dataDisks = disks.map(({ disk: { uuid, diskPool, sizeBytes }, target }) => ({
    uuid,
    diskPoolUuid: diskPool.uuid,
    diskPoolPath: diskPool.path,
    target,
    sizeBytes,
  }))
  return { ...desired, dataDisks, epoch }
}

export function diskFromWire(disk: DiskSpec | undefined): DesiredDisk {
  return parse(diskSchema, disk, 'disk')
}

export function releaseFromWire({ uuid, generation, stopGraceMs }: ReleaseInstanceRequest): InstanceRelease {
  return parse(releaseSchema, { uuid, generation, stopGraceMs }, 'release')
}

const imageUuid = z.union([z.literal(''), uuid]).transform((text) => text || null)

const copySchema = z.object({
  target: z.string().regex(/^vd[a-z]$/),
  diskUuid: z.union([z.literal(''), uuid]).transform((text) => text || null),
  sizeBytes: z.int().positive(),
  allocatedBytes: z.int().nonnegative(),
  imageUuid,
})

export function copiesFromWire(copies: readonly DiskCopyMessage[]): DiskCopy[] {
  return parse(z.array(copySchema), copies, 'copies')
}

export function copyToWire(copy: DiskCopy): DiskCopyMessage {
  return { ...copy, diskUuid: copy.diskUuid ?? '', imageUuid: copy.imageUuid ?? '' }
}

const copiedDisksSchema = z.object({
  uuid,
  diskPool: diskPoolSchema.optional().transform((pool) => pool ?? null),
  disks: z.array(
    z
      .object({ disk: z.object({ uuid, diskPool: diskPoolSchema }), target: z.string() })
      .transform(({ disk, target }) => ({ ...disk, target })),
  ),
})

export function copiedDisksFromWire({
  uuid,
  diskPool,
  disks,
}: Pick<DescribeDisksRequest, 'uuid' | 'diskPool' | 'disks'>): CopiedDisks {
  return parse(copiedDisksSchema, { uuid, diskPool, disks }, 'disks')
}

const diskFileSchema = z
  .object({ instanceUuid: uuid, diskPool: diskPoolSchema, diskUuid: z.union([z.literal(''), uuid]) })
  .transform(({ instanceUuid, diskPool, diskUuid }): DiskFile => {
    const file =
      diskUuid === ''
        ? { kind: 'system' as const, uuid: instanceUuid }
        : { kind: 'data' as const, uuid: diskUuid }
    return { instanceUuid, diskPool, file }
  })

export function diskFileFromWire(file: DiskFileMessage | undefined): DiskFile {
  return parse(diskFileSchema, file, 'file')
}

const newDiskFileSchema = z.object({
  epoch: z.int().nonnegative(),
  file: diskFileSchema,
  fileBytes: z.int().nonnegative(),
})

/** What a stream of parts is for: its first message. */
export function newDiskFileFromWire(first: WriteDiskRequest | undefined) {
  const file = first?.message?.$case === 'file' ? first.message.value : undefined
  return parse(newDiskFileSchema, file, 'file')
}

const migrationTargetSchema = z.object({
  libvirtUri: z.string().min(1),
  memoryUri: z.string().min(1),
  listenAddress: z.string().transform((text) => text || undefined),
  definitionXml: z.string().min(1),
})

const migrationOrderSchema = z.object({
  uuid,
  generation,
  target: migrationTargetSchema,
  bandwidthMibS: z.int().nonnegative(),
  downtimeMaxMs: z.int().nonnegative(),
  copyTargets: z.array(z.string().regex(/^vd[a-z]$/)),
  postCopy: z.boolean(),
})

export function migrationOrderFromWire({
  uuid,
  generation,
  target,
  bandwidthMibS,
  downtimeMs,
  copyTargets,
  postCopy,
}: MigrateDomainRequest): MigrationOrder {
  const limits = { bandwidthMibS, downtimeMaxMs: downtimeMs }
  const order = { uuid, generation, target, ...limits, copyTargets, postCopy }
  return parse(migrationOrderSchema, order, 'migration')
}

export function migrationTargetToWire(target: MigrationTarget): MigrationTargetMessage {
  return { ...target, listenAddress: target.listenAddress ?? '' }
}

const peerPortSchema = z.object({
  libvirtUri: z.url(),
  address: z.string().min(1),
  port: z.int().positive().max(65_535),
  ports: z.string(),
})

export function peerPortFromWire(port: PeerPortMessage | undefined): PeerPort {
  return parse(peerPortSchema, port, 'port')
}

const DEPARTURES = {
  gone: Departure.GONE,
  running: Departure.RUNNING,
  standing: Departure.STANDING,
  off: Departure.OFF,
} as const

export function departureToWire(report: DepartureReport): DepartureReportMessage {
  const { departure, fault, isRefused, downtimeMs, stopCause } = report
  return {
    departure: DEPARTURES[departure],
    fault,
    refused: isRefused,
    ...(downtimeMs !== null && { downtimeMs: Math.round(downtimeMs) }),
    stopCause: stopCause ? STOP_CAUSES[stopCause] : StopCause.UNSPECIFIED,
  }
}

export function diskPoolFromWire(pool: DiskPoolSpec | undefined): DesiredDiskPool {
  return parse(diskPoolSchema, pool, 'disk_pool')
}

export function imageFromWire(image: ImageSource | undefined): DesiredImage {
  return parse(imageSchema, image, 'image')
}

export function snapshotFromWire(request: EnsureSnapshotRequest): [SnapshotOf, DesiredDiskPool] {
  const snapshot = {
    instanceUuid: uuidFromWire(request.instanceUuid, 'instance_uuid'),
    snapshotUuid: uuidFromWire(request.snapshotUuid, 'snapshot_uuid'),
  }
  return [snapshot, diskPoolFromWire(request.diskPool)]
}

export function uuidFromWire(value: string, field: string): string {
  return parse(uuid, value, field)
}

export function generationFromWire(value: number): number {
  return parse(generation, value, 'generation')
}

export function epochFromWire(value: number): number {
  return parse(z.int().nonnegative(), value, 'epoch')
}

/** The console that a stream is opened for: its first message. */
export function consoleTargetFromWire(first: AttachConsoleRequest | undefined): ConsoleTarget {
  const target = first?.message?.$case === 'target' ? first.message.value : undefined
  return parse(consoleTargetSchema, target, 'target')
}

export function reportToWire(report: InstanceReportRecord): InstanceReport {
  return {
    uuid: report.uuid,
    generation: report.generation,
    power: POWER_CODES[report.power],
    stopCause: report.stopCause ? STOP_CAUSES[report.stopCause] : StopCause.UNSPECIFIED,
    fault: report.fault,
    converging: report.converging,
    restarts: report.restarts,
    holdUp: report.holdUp ? HOLD_UPS[report.holdUp] : HoldUp.UNSPECIFIED,
  }
}

export function imageToWire(image: PoolImage): ImportedImage {
  return { ...image, format: image.format === 'qcow2' ? DiskFormat.QCOW2 : DiskFormat.RAW }
}

export function factsToWire(facts: HostFactsRecord): HostFacts {
  return { ...facts, cpuFeatures: [...facts.cpuFeatures], bridges: [...facts.bridges] }
}

const FINDING_STATUSES = {
  ok: ConditionStatus.OK,
  warning: ConditionStatus.WARNING,
  failed: ConditionStatus.FAILED,
} as const satisfies Record<FindingStatus, ConditionStatus>

export function findingToWire({ latencyMs, ...finding }: Finding, checkedAtMs: number): HostCondition {
  return {
    ...finding,
    status: FINDING_STATUSES[finding.status],
    ...(latencyMs !== null && { latencyMs }),
    sinceMs: 0,
    checkedAtMs,
  }
}

export function metricsToWire({ intervalMs, current, series }: MeasuredInstance): InstanceMetrics {
  const totals = current && {
    atMs: current.atMs,
    vcpus: current.sample.vcpus,
    ...(current.sample.cpuTimeNs !== null && { cpuSeconds: current.sample.cpuTimeNs / 1e9 }),
    memory: memoryToWire(current.sample.memory),
    disks: [...current.sample.disks],
    nics: [...current.sample.nics],
  }
  return {
    intervalMs,
    totals: totals ?? undefined,
    latest: current?.point ? pointToWire(current.point) : undefined,
    series: series.map(pointToWire),
  }
}

function pointToWire({ cpuPercent, memory, ...point }: GuestPoint): InstanceMetrics['series'][number] {
  return {
    ...point,
    ...(cpuPercent !== null && { cpuPercent }),
    memory: memoryToWire(memory),
    disks: [...point.disks],
    nics: [...point.nics],
  }
}

function memoryToWire({ assignedBytes, usedBytes, residentBytes }: GuestPoint['memory']): MemoryFigures {
  return {
    ...(assignedBytes !== null && { assignedBytes }),
    ...(usedBytes !== null && { usedBytes }),
    ...(residentBytes !== null && { residentBytes }),
  }
}

const POWER_CODES = { on: Power.ON, off: Power.OFF, paused: Power.PAUSED } as const

const STOP_CAUSES = {
  requested: StopCause.REQUESTED,
  guest: StopCause.GUEST,
  crash: StopCause.CRASH,
} as const

const HOLD_UPS = { 'claim-check': HoldUp.CLAIM_CHECK, 'full-pool': HoldUp.FULL_POOL } as const

const consoleTargetSchema = z.object({
  uuid,
  kind: z
    .enum([ConsoleKind.VNC, ConsoleKind.SERIAL])
    .transform((kind) => (kind === ConsoleKind.VNC ? ('vnc' as const) : ('serial' as const))),
})

export function parse<T>(schema: z.ZodType<T>, value: unknown, at: string): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const fields = parsed.error.issues.map(({ path, message }) => ({ field: [at, ...path].join('.'), message }))
  const words = fields.map(({ field, message }) => `${field}: ${message}`).join('; ')
  throw new VpeError('INVALID_ARGUMENT', words, { fields })
}
