// Records to messages: the one mapping file of this package.

import {
  allocatableOf,
  type DepartureReport as DepartureReportRecord,
  type DiskPoolHost,
  type DiskPoolRecord,
  type DiskRecord,
  type DrainRecord,
  diskSerial,
  FINDING_STATUSES,
  type Finding,
  type FlavorRecord,
  type HostCondition as HostConditionRecord,
  type HostRecord,
  type ImageRecord,
  type InstanceRecord,
  type InstanceReport as InstanceReportRecord,
  type JoinTokenRecord,
  type OperationRecord,
  type Orphan as OrphanRecord,
  type OvercommitPolicy,
  type PlacementResult,
  type PlacementVerdict,
  POOL_FILE_KINDS,
  type PoolFileRecord,
  poolFindingType,
  poolOfFinding,
  type SnapshotRecord,
  VpeError,
  type WebhookRecord,
} from '@vpe/core'
import { DEFAULT_PROTECTION, judgePool, type PoolClassVerdict } from '@vpe/core/ha'
import {
  ConditionStatus,
  Departure,
  type DepartureReport,
  type Disk,
  DiskFormat,
  type DiskPool,
  DiskPoolHostState,
  type DiskPoolSpec,
  type DiskSpec,
  DiskStatus,
  type Flavor,
  type HaHost,
  type HaOwnership,
  HoldUp,
  type Host,
  type HostCondition,
  type HostDiskPool,
  type HostDrain,
  HostDrainState,
  type HostDrill,
  type HostFacts,
  type HostPower,
  HostState,
  type Image,
  type ImageSource,
  ImageStatus,
  type Instance,
  type InstanceReport,
  type InstanceSpec,
  InstanceStatus,
  InstanceTask,
  type JoinToken,
  JoinTokenRole,
  type Operation,
  OperationStatus,
  type Orphan,
  type Placement,
  type PoolFile,
  type PoolProtection,
  Power,
  RebootKind,
  type Snapshot,
  SnapshotStatus,
  StopCause,
  SystemDiskKind,
  type Webhook,
} from '@vpe/proto'
import type { DrillResult, PoolLeasesRecord, PowerSettings } from './ha/records.ts'
import { disksOf } from './instance-disks.ts'
import type { Store } from './store/store.ts'
import type { PlacementRecord } from './store/tables.ts'

/** How long a guest may take to shut down by itself. */
export const STOP_GRACE_MS = 30_000

const POWER = { on: Power.ON, off: Power.OFF, paused: Power.PAUSED } as const
const REBOOT_KIND = { soft: RebootKind.SOFT, hard: RebootKind.HARD } as const
const STATUS = {
  active: InstanceStatus.ACTIVE,
  shutoff: InstanceStatus.SHUTOFF,
  paused: InstanceStatus.PAUSED,
  error: InstanceStatus.ERROR,
} as const
const TASK = {
  creating: InstanceTask.CREATING,
  starting: InstanceTask.STARTING,
  stopping: InstanceTask.STOPPING,
  rebooting: InstanceTask.REBOOTING,
  pausing: InstanceTask.PAUSING,
  resuming: InstanceTask.RESUMING,
  rebuilding: InstanceTask.REBUILDING,
  reverting: InstanceTask.REVERTING,
  resizing: InstanceTask.RESIZING,
  migrating: InstanceTask.MIGRATING,
  updating: InstanceTask.UPDATING,
  recovering: InstanceTask.RECOVERING,
  deleting: InstanceTask.DELETING,
} as const
const SYSTEM_DISKS = { overlay: SystemDiskKind.OVERLAY, copy: SystemDiskKind.COPY } as const

export function instanceToWire(store: Store, instance: InstanceRecord): Instance {
  return {
    uuid: instance.uuid,
    name: instance.name,
    generatedName: instance.generatedName,
    namespace: instance.namespace,
    flavorUuid: instance.flavorUuid,
    flavorName: store.flavors.get(instance.flavorUuid)?.name ?? '',
    imageUuid: instance.imageUuid,
    imageName: store.images.get(instance.imageUuid)?.name ?? '',
    diskPoolUuid: instance.diskPoolUuid,
    diskPoolName: store.diskPools.get(instance.diskPoolUuid)?.name ?? '',
    ha: instance.ha,
    unprotected: unprotectedBy(store, instance),
    haPriority: instance.haPriority,
    haIsolation: instance.haIsolation,
    recovery: undefined,
    tags: [...instance.tags],
    hostIds: [...instance.hostIds],
    shareStorage: instance.shareStorage,
    createdAtMs: instance.createdAtMs,
    status: STATUS[instance.status],
    task: instance.task ? TASK[instance.task] : InstanceTask.UNSPECIFIED,
    fault: instance.fault,
    hostId: instance.hostId,
    hostName: store.hosts.get(instance.hostId)?.name ?? '',
    power: POWER[instance.power],
    generation: instance.generation,
    locked: instance.locked,
    addresses: [...instance.addresses],
    hostname: instance.hostname,
    sshKeys: [...instance.sshKeys],
    userDataSha256: instance.userDataSha256,
    disks: disksOf(store, instance.uuid).map(({ uuid, name }) => ({ uuid, name })),
  }
}

const DISK_STATUS = {
  creating: DiskStatus.CREATING,
  available: DiskStatus.AVAILABLE,
  attaching: DiskStatus.ATTACHING,
  'in-use': DiskStatus.IN_USE,
  detaching: DiskStatus.DETACHING,
  resizing: DiskStatus.RESIZING,
  deleting: DiskStatus.DELETING,
  error: DiskStatus.ERROR,
} as const

export function diskToWire(store: Store, disk: DiskRecord): Disk {
  return {
    uuid: disk.uuid,
    name: disk.name,
    diskPoolUuid: disk.diskPoolUuid,
    diskPoolName: store.diskPools.get(disk.diskPoolUuid)?.name ?? '',
    hostId: disk.hostId ?? '',
    hostName: store.hosts.get(disk.hostId ?? '')?.name ?? '',
    sizeBytes: disk.sizeBytes,
    status: DISK_STATUS[disk.status],
    fault: disk.fault,
    instanceUuid: disk.instanceUuid ?? '',
    instanceName: store.instances.get(disk.instanceUuid ?? '')?.name ?? '',
    serial: diskSerial(disk.uuid),
    createdAtMs: disk.createdAtMs,
  }
}

/** A data disk, as the agent of a host that reaches it needs it. */
export function diskSpecToWire(
  store: Store,
  { uuid, diskPoolUuid, sizeBytes }: DiskRecord,
  hostId: string,
): DiskSpec {
  const pool = store.diskPools.get(diskPoolUuid)
  if (!pool) throw new VpeError('INTERNAL', `disk pool ${diskPoolUuid} of disk ${uuid} has no record`)
  return { uuid, diskPool: diskPoolSpecToWire(store, pool, hostId), sizeBytes }
}

/** The whole desired state of an instance, as its agent needs it. */
export function instanceSpecToWire(
  store: Store,
  instance: InstanceRecord,
  image: ImageRecord,
  pool: DiskPoolRecord,
  userData: string,
  disks: readonly { readonly disk: DiskRecord; readonly target: string }[],
  ownership: HaOwnership | undefined,
): InstanceSpec {
  return {
    uuid: instance.uuid,
    name: instance.name,
    generation: instance.generation,
    power: POWER[instance.power],
    ha: instance.ha,
    vcpus: instance.vcpus,
    memoryMib: instance.memoryMib,
    diskBytes: instance.diskBytes,
    image: imageSourceToWire(image),
    diskPool: diskPoolSpecToWire(store, pool, instance.hostId),
    stopGraceMs: STOP_GRACE_MS,
    rebootGeneration: instance.rebootGeneration,
    rebootKind: REBOOT_KIND[instance.rebootKind],
    diskGeneration: instance.diskGeneration,
    seed: instance.hostname
      ? { hostname: instance.hostname, sshKeys: [...instance.sshKeys], userData }
      : undefined,
    disks: disks.map(({ disk, target }) => ({
      disk: diskSpecToWire(store, disk, instance.hostId),
      target,
    })),
    hasDisk: instance.settledGeneration > 0 && instance.diskGeneration <= instance.settledGeneration,
    ownership,
    diskSnapshotUuid: instance.diskSnapshotUuid ?? '',
    diskSource: instance.diskSource
      ? {
          instanceUuid: instance.diskSource.instanceUuid,
          snapshotUuid: instance.diskSource.snapshotUuid ?? '',
        }
      : undefined,
  }
}

export function imageSourceToWire(image: ImageRecord): ImageSource {
  return { uuid: image.uuid, url: image.url, sha256: image.sha256 }
}

/** A pool, as one of its hosts needs it. */
export function diskPoolSpecToWire(store: Store, pool: DiskPoolRecord, hostId: string): DiskPoolSpec {
  return {
    uuid: pool.uuid,
    kind: pool.kind,
    path: pool.path,
    systemDisks: SYSTEM_DISKS[pool.systemDisks],
    marker: markerOn(store, pool, hostId),
    nfs: pool.nfs ?? undefined,
    rbd: rbdToWire(pool),
  }
}

/** What the pool's marker says on a host: of a shared pool, the same on all. */
export function markerOn(store: Store, pool: DiskPoolRecord, hostId: string): string {
  return pool.shared ? pool.marker : (store.poolHosts.find(pool.uuid, hostId)?.marker ?? '')
}

function rbdToWire({ rbd }: DiskPoolRecord) {
  return rbd ? { ...rbd, monitors: [...rbd.monitors] } : undefined
}

const SNAPSHOT_STATUS = {
  creating: SnapshotStatus.CREATING,
  available: SnapshotStatus.AVAILABLE,
  deleting: SnapshotStatus.DELETING,
  error: SnapshotStatus.ERROR,
} as const

export function snapshotToWire(snapshot: SnapshotRecord): Snapshot {
  return { ...snapshot, status: SNAPSHOT_STATUS[snapshot.status] }
}

export function flavorToWire(flavor: FlavorRecord): Flavor {
  return { ...flavor }
}

const IMAGE_STATUS = {
  uploading: ImageStatus.UPLOADING,
  importing: ImageStatus.IMPORTING,
  active: ImageStatus.ACTIVE,
  error: ImageStatus.ERROR,
} as const
const DISK_FORMAT = { qcow2: DiskFormat.QCOW2, raw: DiskFormat.RAW } as const

export function imageToWire(store: Store, image: ImageRecord, progressPercent: number): Image {
  return {
    ...image,
    format: image.format ? DISK_FORMAT[image.format] : DiskFormat.UNSPECIFIED,
    status: IMAGE_STATUS[image.status],
    instances: store.usage.references(image.uuid),
    progressPercent: image.status === 'active' ? 100 : progressPercent,
  }
}

const POOL_HOST_STATE = {
  pending: DiskPoolHostState.PENDING,
  ready: DiskPoolHostState.READY,
  error: DiskPoolHostState.ERROR,
  leaving: DiskPoolHostState.LEAVING,
} as const

/** @param canRevoke whether there may be a way to shut hosts out of it at the storage */
export function diskPoolToWire(
  pool: DiskPoolRecord,
  leases: PoolLeasesRecord | undefined,
  canRevoke: boolean,
): DiskPool {
  return {
    ...pool,
    protection: protectionToWire(pool, leases, canRevoke),
    nfs: pool.nfs ?? undefined,
    rbd: rbdToWire(pool),
    orphans: pool.orphans.length,
    deleting: pool.deletionUuid !== null,
    systemDisks: SYSTEM_DISKS[pool.systemDisks],
    hosts: pool.hosts.map((host) => ({ ...host, state: POOL_HOST_STATE[host.state] })),
  }
}

/** What keeps a pool from two writers: also of one that has no leases, and never will. */
function verdictOf(pool: DiskPoolRecord, leases: PoolLeasesRecord | undefined): PoolClassVerdict {
  if (leases) return leases
  return judgePool({ ...pool, settings: DEFAULT_PROTECTION, hosts: [], trial: null, trialFault: '' })
}

/** Why an instance stays down when its host is lost, until a person acts; empty where it does not, or is not highly available. */
export function unprotectedBy(store: Store, { uuid, ha, diskPoolUuid }: InstanceRecord): string {
  if (!ha) return ''
  for (const poolUuid of poolsOfDisks(store, uuid, diskPoolUuid)) {
    const pool = store.diskPools.get(poolUuid)
    const verdict = pool && verdictOf(pool, store.poolLeases.get(poolUuid))
    if (verdict?.poolClass === 'N') return `disk pool ${pool?.name}: ${verdict.why}`
  }
  return ''
}

/** The pools that hold an instance's disks. */
export function poolsOfDisks(store: Store, instanceUuid: string, diskPoolUuid: string): ReadonlySet<string> {
  const disks = disksOf(store, instanceUuid)
  return new Set([diskPoolUuid, ...disks.map((disk) => disk.diskPoolUuid)])
}

function protectionToWire(
  pool: DiskPoolRecord,
  leases: PoolLeasesRecord | undefined,
  canRevoke: boolean,
): PoolProtection {
  const settings = leases?.settings ?? DEFAULT_PROTECTION
  const verdict = verdictOf(pool, leases)
  return {
    ...settings,
    ...{ poolClass: verdict.poolClass, why: verdict.why, probedAtMs: leases?.triedAtMs ?? 0 },
    ...{ slots: leases?.slots ?? 0, slotsTaken: leases?.taken.length ?? 0, canRevoke },
  }
}

/** A file of a pool, checked: it comes from another process. */
export function poolFileFromWire(file: PoolFile): PoolFileRecord {
  const kind = POOL_FILE_KINDS.find((known) => known === file.kind)
  if (!kind)
    throw new VpeError('INTERNAL', `the agent says that ${file.name} is a ${JSON.stringify(file.kind)}`)
  const { name, ownerUuid, sizeBytes, modifiedAtMs } = file
  return { name, kind, ownerUuid, sizeBytes, modifiedAtMs }
}

export function orphanToWire(store: Store, { name, hostId, ...orphan }: OrphanRecord): Orphan {
  const hostName = store.hosts.get(hostId ?? '')?.name ?? ''
  return { ...orphan, file: name, hostId: hostId ?? '', hostName }
}

const HOST_STATE = { up: HostState.UP, down: HostState.DOWN } as const

/** What is known of a host beside its record. */
export interface HostSight {
  readonly lastHeartbeatMs: number
  readonly unknownInstances: readonly string[]
  readonly conditions: readonly HostConditionRecord[]
}

export function hostToWire(
  store: Store,
  policy: OvercommitPolicy,
  host: HostRecord,
  { lastHeartbeatMs, unknownInstances, conditions }: HostSight,
  recovery: HaHost | undefined,
): Host {
  const usage = store.usage.ofHost(host.uuid)
  const allocatable = allocatableOf(host.facts, policy)
  return {
    ...host,
    state: HOST_STATE[host.state],
    facts: { ...host.facts, cpuFeatures: [...host.facts.cpuFeatures], bridges: [...host.facts.bridges] },
    vcpusUsed: usage.vcpus,
    memoryMibUsed: usage.memoryMib,
    instances: usage.instances,
    lastHeartbeatMs,
    unknownInstances: [...unknownInstances],
    conditions: conditions.map((condition) => conditionToWire(store, condition)),
    diskPools: poolsOfHost(store, host.uuid).map((pool) => hostDiskPoolToWire(pool, conditions)),
    vcpusAllocatable: allocatable.vcpus,
    memoryMibAllocatable: allocatable.memoryMib,
    tasks: usage.tasks,
    drain: host.drain ? drainToWire(store, host.uuid, host.drain) : undefined,
    power: powerToWire(store.hostFencing.get(host.uuid)?.power ?? null),
    drill: drillToWire(store.hostFencing.get(host.uuid)?.drill ?? null),
    recovery,
  }
}

/** How a host is switched off, without what is secret. */
export function powerToWire(power: PowerSettings | null): HostPower | undefined {
  if (!power) return undefined
  const { agent, options, secrets } = power
  return { agent, options: { ...options }, secretNames: Object.keys(secrets).sort() }
}

function drillToWire(drill: DrillResult | null): HostDrill | undefined {
  if (!drill) return undefined
  const steps = drill.steps.map(({ diskPoolUuid, ...step }) => ({
    ...step,
    diskPoolUuid: diskPoolUuid ?? '',
  }))
  return { ...drill, steps }
}

function drainToWire(store: Store, hostId: string, drain: DrainRecord): HostDrain {
  const over = drain.stuck.length === 0 ? HostDrainState.DRAINED : HostDrainState.STUCK
  return {
    ...drain,
    state: drain.endedAtMs === null ? HostDrainState.DRAINING : over,
    endedAtMs: drain.endedAtMs ?? 0,
    remaining: store.usage.instancesOfHost(hostId).size,
    stuck: drain.stuck.map(({ uuid, why }) => ({ uuid, name: store.instances.get(uuid)?.name ?? '', why })),
  }
}

type PoolOfHost = readonly [pool: DiskPoolRecord, here: DiskPoolHost]

/** The pools of a host, by name. */
function poolsOfHost(store: Store, hostId: string): PoolOfHost[] {
  return [...store.poolHosts.poolsOf(hostId)]
    .flatMap((uuid): PoolOfHost[] => {
      const [pool, here] = [store.diskPools.get(uuid), store.poolHosts.find(uuid, hostId)]
      return pool && here ? [[pool, here]] : []
    })
    .sort(([a], [b]) => (a.name < b.name ? -1 : 1))
}

function hostDiskPoolToWire(
  [{ uuid, name }, { state, fault, capacityBytes, availableBytes }]: PoolOfHost,
  conditions: readonly HostConditionRecord[],
): HostDiskPool {
  const measured = conditions.find(({ type }) => type === poolFindingType(uuid))
  return {
    uuid,
    name,
    state: POOL_HOST_STATE[state],
    fault,
    capacityBytes,
    availableBytes,
    ...(typeof measured?.latencyMs === 'number' && { latencyMs: measured.latencyMs }),
  }
}

const CONDITION_STATUS = {
  ok: ConditionStatus.OK,
  warning: ConditionStatus.WARNING,
  failed: ConditionStatus.FAILED,
} as const

function conditionToWire(store: Store, condition: HostConditionRecord): HostCondition {
  const { status, message, cure, latencyMs, sinceMs, checkedAtMs } = condition
  return {
    type: conditionName(store, condition.type),
    status: CONDITION_STATUS[status],
    message,
    cure,
    ...(latencyMs !== null && { latencyMs }),
    sinceMs,
    checkedAtMs,
  }
}

/** What a condition is called: a pool by its name. */
export function conditionName(store: Store, type: string): string {
  const pool = store.diskPools.get(poolOfFinding(type) ?? '')
  return pool ? poolFindingType(pool.name) : type
}

/** A finding from an agent; null for what another version of it may say and this one does not know. */
export function findingFromWire({ type, status, message, cure, latencyMs }: HostCondition): Finding | null {
  const word = FINDING_STATUSES.find((each) => CONDITION_STATUS[each] === status)
  if (!word || type === '') return null
  return { type, status: word, message, cure, latencyMs: latencyMs ?? null }
}

const OPERATION_STATUS = {
  running: OperationStatus.RUNNING,
  succeeded: OperationStatus.SUCCEEDED,
  failed: OperationStatus.FAILED,
  cancelled: OperationStatus.CANCELLED,
} as const

export function operationToWire(operation: OperationRecord, step: string): Operation {
  return {
    uuid: operation.uuid,
    kind: operation.kind,
    resourceUuid: operation.resourceUuid,
    status: OPERATION_STATUS[operation.status],
    step: operation.status === 'running' ? step : '',
    fault: operation.fault,
    createdAtMs: operation.createdAtMs,
    endedAtMs: operation.endedAtMs ?? 0,
    placementUuid: operation.placementUuid ?? '',
    note: operation.note,
  }
}

export function placementToWire(placement: PlacementRecord): Placement {
  const { verdict, ...rest } = placement
  return { ...rest, ...verdictToWire(verdict), refusal: '' }
}

/** What would become of a placement that is not made. */
export function resultToWire(result: PlacementResult, createdAtMs: number): Placement {
  const chosen = result.hostId === null ? { hostId: '', diskPoolUuid: '' } : result
  return {
    uuid: '',
    instanceUuid: '',
    hostId: chosen.hostId,
    diskPoolUuid: chosen.diskPoolUuid,
    ...verdictToWire(result.verdict),
    createdAtMs,
    refusal: result.hostId === null ? result.refusal : '',
  }
}

function verdictToWire({ hostsTotal, hostsPassed, byRule, hosts, isSummary }: PlacementVerdict) {
  return {
    hosts: hosts.map((host) => ({ ...host })),
    hostsTotal,
    hostsPassed,
    byRule: byRule.map((count) => ({ ...count })),
    isSummary,
  }
}

/** Field by field: the secret must not come along. */
export function webhookToWire(
  webhook: WebhookRecord,
  behind: number | null,
  nextAttemptAtMs: number,
): Webhook {
  return {
    uuid: webhook.uuid,
    url: webhook.url,
    events: [...webhook.events],
    enabled: webhook.enabled,
    createdAtMs: webhook.createdAtMs,
    position: webhook.position,
    behind: behind ?? undefined,
    lastSuccessAtMs: webhook.lastSuccessAtMs ?? 0,
    lastError: webhook.lastError,
    failures: webhook.failures,
    nextAttemptAtMs,
    lastGap: webhook.lastGap,
  }
}

const STOP_CAUSE = {
  [StopCause.UNSPECIFIED]: null,
  [StopCause.REQUESTED]: 'requested',
  [StopCause.GUEST]: 'guest',
  [StopCause.CRASH]: 'crash',
} as const

const HOLD_UPS = {
  [HoldUp.UNSPECIFIED]: null,
  [HoldUp.CLAIM_CHECK]: 'claim-check',
  [HoldUp.FULL_POOL]: 'full-pool',
} as const

const POWER_WORDS = {
  [Power.UNSPECIFIED]: null,
  [Power.ON]: 'on',
  [Power.OFF]: 'off',
  [Power.PAUSED]: 'paused',
} as const

const DEPARTURE_WORDS = {
  [Departure.GONE]: 'gone',
  [Departure.RUNNING]: 'running',
  [Departure.STANDING]: 'standing',
  [Departure.OFF]: 'off',
  [Departure.UNSPECIFIED]: null,
} as const

/** An agent's word on what it was to hand over, checked. */
export function departureFromWire(report: DepartureReport | undefined): DepartureReportRecord {
  const departure = report ? DEPARTURE_WORDS[report.departure] : null
  if (!report || !departure) throw new VpeError('INTERNAL', 'the agent does not say what it has')
  const { fault, refused, downtimeMs, stopCause } = report
  return {
    departure,
    fault,
    isRefused: refused,
    downtimeMs: downtimeMs ?? null,
    stopCause: STOP_CAUSE[stopCause],
  }
}

/** An agent's report, checked: it comes from another process. */
export function reportFromWire(report: InstanceReport): InstanceReportRecord {
  const power = POWER_WORDS[report.power]
  if (power === null) {
    throw new VpeError('INTERNAL', `the agent's report of instance ${report.uuid} has no power`)
  }
  return {
    uuid: report.uuid,
    generation: report.generation,
    power,
    stopCause: STOP_CAUSE[report.stopCause],
    fault: report.fault,
    converging: report.converging,
    restarts: report.restarts,
    holdUp: HOLD_UPS[report.holdUp],
  }
}

export function statusFromWire(status: InstanceStatus): InstanceRecord['status'] | null {
  switch (status) {
    case InstanceStatus.ACTIVE:
      return 'active'
    case InstanceStatus.SHUTOFF:
      return 'shutoff'
    case InstanceStatus.PAUSED:
      return 'paused'
    case InstanceStatus.ERROR:
      return 'error'
    case InstanceStatus.UNSPECIFIED:
      return null
    default:
      throw new Error(`no such status: ${status satisfies never}`)
  }
}

export function systemDisksFromWire(kind: SystemDiskKind): DiskPoolRecord['systemDisks'] {
  return kind === SystemDiskKind.COPY ? 'copy' : 'overlay'
}

export function diskFormatFromWire(format: DiskFormat): ImageRecord['format'] {
  switch (format) {
    case DiskFormat.QCOW2:
      return 'qcow2'
    case DiskFormat.RAW:
      return 'raw'
    case DiskFormat.UNSPECIFIED:
      return null
    default:
      throw new Error(`no such format: ${format satisfies never}`)
  }
}

/** Facts from an agent, checked: placement divides by them. */
export function factsFromWire(facts: HostFacts | undefined): HostRecord['facts'] {
  if (!facts || facts.cpus < 1 || facts.memoryMib < 1 || !facts.bootId) {
    throw new VpeError('INTERNAL', `the agent sent no usable facts: ${JSON.stringify(facts)}`)
  }
  return { ...facts, cpuFeatures: [...facts.cpuFeatures].sort(), bridges: [...facts.bridges].sort() }
}

export function joinTokenToWire(token: JoinTokenRecord): JoinToken {
  return {
    ...token,
    role: token.role === 'agent' ? JoinTokenRole.AGENT : JoinTokenRole.API,
    usedBy: token.usedBy.map(({ memberId }) => memberId.slice(memberId.indexOf('/') + 1)),
  }
}
