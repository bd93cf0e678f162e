// What the controller sends, as dialect 1 shows it. The only place where words of the wire become words
// of the API; dialect 2 takes its words from here too.

import type { z } from '@hono/zod-openapi'
import { type InstanceRecord, VpeError } from '@vpe/core'
import { LOST_LOCKS, WANTED_CLASSES } from '@vpe/core/ha'
import {
  type ConditionStatus,
  type Disk,
  type DiskFormat,
  type DiskPool,
  type DiskPoolHostState,
  type DiskStatus,
  type Flavor,
  type Host,
  type HostDrain,
  type HostDrainState,
  type HostDrill,
  type HostState,
  type Image,
  type ImageCopy,
  type ImageStatus,
  type Instance,
  type InstanceStatus,
  type InstanceTask,
  type JoinToken,
  JoinTokenRole,
  type Member,
  type Operation,
  type OperationStatus,
  type Orphan,
  type Placement,
  PoolProtection,
  type Rebalance,
  type RebalanceHostsResponse,
  type RebalanceMoveState,
  type Snapshot,
  type SnapshotStatus,
  SystemDiskKind,
  type Webhook,
} from '@vpe/proto'
import { showHaWish, showHostRecovery, showInstanceRecovery } from './ha-view.ts'
import { moment, momentOrNull } from './moment.ts'
import type { DiskView } from './schemas/disk.ts'
import type { DiskPoolView, OrphanView } from './schemas/disk-pool.ts'
import type { FlavorView } from './schemas/flavor.ts'
import type { HostView, RebalanceAnswer, RebalanceRunAnswer } from './schemas/host.ts'
import type { ImageCopiesAnswer, ImageView } from './schemas/image.ts'
import type { ChangedInstanceView, InstanceView, WholeInstanceView } from './schemas/instance.ts'
import type { JoinTokenView } from './schemas/join-token.ts'
import type { MemberListAnswer } from './schemas/member.ts'
import type { OperationView, PlacementView } from './schemas/operation.ts'
import type { SnapshotView } from './schemas/snapshot.ts'
import type { WebhookView } from './schemas/webhook.ts'

// Unspecified is what nobody has observed yet, so it is shown as the state that promises least.

export const STATUS_WORDS = {
  INSTANCE_STATUS_UNSPECIFIED: 'shutoff',
  INSTANCE_STATUS_ACTIVE: 'active',
  INSTANCE_STATUS_SHUTOFF: 'shutoff',
  INSTANCE_STATUS_PAUSED: 'paused',
  INSTANCE_STATUS_ERROR: 'error',
} as const satisfies Record<InstanceStatus, string>

export const STATUS_CODES = {
  active: 'INSTANCE_STATUS_ACTIVE',
  shutoff: 'INSTANCE_STATUS_SHUTOFF',
  paused: 'INSTANCE_STATUS_PAUSED',
  error: 'INSTANCE_STATUS_ERROR',
} as const satisfies Record<InstanceRecord['status'], InstanceStatus>

export const TASK_WORDS = {
  INSTANCE_TASK_UNSPECIFIED: null,
  INSTANCE_TASK_CREATING: 'creating',
  INSTANCE_TASK_DELETING: 'deleting',
  INSTANCE_TASK_STARTING: 'starting',
  INSTANCE_TASK_STOPPING: 'stopping',
  INSTANCE_TASK_REBOOTING: 'rebooting',
  INSTANCE_TASK_PAUSING: 'pausing',
  INSTANCE_TASK_RESUMING: 'resuming',
  INSTANCE_TASK_REBUILDING: 'rebuilding',
  INSTANCE_TASK_REVERTING: 'reverting',
  INSTANCE_TASK_RESIZING: 'resizing',
  INSTANCE_TASK_MIGRATING: 'migrating',
  INSTANCE_TASK_UPDATING: 'updating',
  INSTANCE_TASK_RECOVERING: 'recovering',
} as const satisfies Record<InstanceTask, string | null>

const IMAGE_STATUS_WORDS = {
  IMAGE_STATUS_UNSPECIFIED: 'importing',
  IMAGE_STATUS_IMPORTING: 'importing',
  IMAGE_STATUS_ACTIVE: 'active',
  IMAGE_STATUS_ERROR: 'error',
  IMAGE_STATUS_UPLOADING: 'uploading',
} as const satisfies Record<ImageStatus, string>

const FORMAT_WORDS = {
  DISK_FORMAT_UNSPECIFIED: null,
  DISK_FORMAT_QCOW2: 'qcow2',
  DISK_FORMAT_RAW: 'raw',
} as const satisfies Record<DiskFormat, string | null>

const SYSTEM_DISK_WORDS = {
  SYSTEM_DISK_KIND_UNSPECIFIED: 'overlay',
  SYSTEM_DISK_KIND_OVERLAY: 'overlay',
  SYSTEM_DISK_KIND_COPY: 'copy',
} as const satisfies Record<SystemDiskKind, string>

const POOL_STATE_WORDS = {
  DISK_POOL_HOST_STATE_UNSPECIFIED: 'pending',
  DISK_POOL_HOST_STATE_PENDING: 'pending',
  DISK_POOL_HOST_STATE_READY: 'ready',
  DISK_POOL_HOST_STATE_ERROR: 'error',
  DISK_POOL_HOST_STATE_LEAVING: 'leaving',
} as const satisfies Record<DiskPoolHostState, string>

const CONDITION_STATUS_WORDS = {
  CONDITION_STATUS_UNSPECIFIED: 'failed',
  CONDITION_STATUS_OK: 'ok',
  CONDITION_STATUS_WARNING: 'warning',
  CONDITION_STATUS_FAILED: 'failed',
} as const satisfies Record<ConditionStatus, string>

const HOST_STATE_WORDS = {
  HOST_STATE_UNSPECIFIED: 'down',
  HOST_STATE_UP: 'up',
  HOST_STATE_DOWN: 'down',
} as const satisfies Record<HostState, string>

const DRAIN_STATE_WORDS = {
  HOST_DRAIN_STATE_UNSPECIFIED: 'draining',
  HOST_DRAIN_STATE_DRAINING: 'draining',
  HOST_DRAIN_STATE_DRAINED: 'drained',
  HOST_DRAIN_STATE_STUCK: 'stuck',
} as const satisfies Record<HostDrainState, string>

const OPERATION_STATUS_WORDS = {
  OPERATION_STATUS_UNSPECIFIED: 'running',
  OPERATION_STATUS_RUNNING: 'running',
  OPERATION_STATUS_SUCCEEDED: 'succeeded',
  OPERATION_STATUS_FAILED: 'failed',
  OPERATION_STATUS_CANCELLED: 'cancelled',
} as const satisfies Record<OperationStatus, string>

/** The kind of system disk that a word of the API asks for. */
export function systemDiskKind(word: 'overlay' | 'copy'): SystemDiskKind {
  return word === 'copy' ? SystemDiskKind.COPY : SystemDiskKind.OVERLAY
}

/** A part that every answer of its kind has; without it, controller and API node are of different versions. */
export function given<Part>(part: Part | undefined, what: string): Part {
  if (part === undefined) throw new VpeError('INTERNAL', `the controller answered without ${what}`)
  return part
}

export function showInstance(instance: Instance): z.input<typeof InstanceView> {
  return {
    uuid: instance.uuid,
    name: instance.name,
    image: instance.imageName,
    image_uuid: instance.imageUuid,
    disk_pool: instance.diskPoolName,
    disk_pool_uuid: instance.diskPoolUuid,
    status: STATUS_WORDS[instance.status],
    task: TASK_WORDS[instance.task],
    flavor_uuid: instance.flavorUuid,
    flavor: instance.flavorName,
    ha: instance.ha,
    tags: instance.tags,
    created_at: moment(instance.createdAtMs),
    disks: instance.disks,
    fault: instance.fault || null,
    host: instance.hostName || null,
    host_uuid: instance.hostId || null,
    namespace: instance.namespace,
    addresses: instance.addresses,
    locked: instance.locked,
    hostname: instance.hostname || null,
    ssh_keys: instance.sshKeys,
    user_data_sha256: instance.userDataSha256 || null,
    unprotected: instance.unprotected || null,
    ...showHaWish(instance),
  }
}

/** One instance alone: with what is too lively for lists. */
export function showWholeInstance(instance: Instance): z.input<typeof WholeInstanceView> {
  const { recovery } = instance
  return { ...showInstance(instance), recovery: recovery ? showInstanceRecovery(recovery) : null }
}

export function showChangedInstance(instance: Instance): z.input<typeof ChangedInstanceView> {
  return {
    uuid: instance.uuid,
    name: instance.name,
    created_at: moment(instance.createdAtMs),
    status: STATUS_WORDS[instance.status],
    task: TASK_WORDS[instance.task],
    flavor_uuid: instance.flavorUuid,
    image_uuid: instance.imageUuid,
    disk_pool: instance.diskPoolUuid,
    ha: instance.ha,
    tags: instance.tags,
    disks: instance.disks,
    fault: instance.fault || null,
  }
}

const SNAPSHOT_STATUS_WORDS = {
  SNAPSHOT_STATUS_UNSPECIFIED: 'creating',
  SNAPSHOT_STATUS_CREATING: 'creating',
  SNAPSHOT_STATUS_AVAILABLE: 'available',
  SNAPSHOT_STATUS_DELETING: 'deleting',
  SNAPSHOT_STATUS_ERROR: 'error',
} as const satisfies Record<SnapshotStatus, string>

export function showSnapshot(snapshot: Snapshot): z.input<typeof SnapshotView> {
  return {
    uuid: snapshot.uuid,
    name: snapshot.name,
    instance_uuid: snapshot.instanceUuid,
    status: SNAPSHOT_STATUS_WORDS[snapshot.status],
    size_bytes: snapshot.sizeBytes,
    fault: snapshot.fault || null,
    created_at: moment(snapshot.createdAtMs),
  }
}

export function showFlavor(flavor: Flavor): z.input<typeof FlavorView> {
  return {
    uuid: flavor.uuid,
    name: flavor.name,
    vcpus: flavor.vcpus,
    memory_mib: flavor.memoryMib,
    disk_gib: flavor.diskGib,
    created_at: moment(flavor.createdAtMs),
  }
}

export function showImage(image: Image): z.input<typeof ImageView> {
  return {
    uuid: image.uuid,
    name: image.name,
    url: image.url || null,
    instance_uuid: image.instanceUuid || null,
    sha256: image.sha256 || null,
    format: FORMAT_WORDS[image.format],
    size_bytes: image.sizeBytes || null,
    virtual_size_bytes: image.virtualSizeBytes || null,
    status: IMAGE_STATUS_WORDS[image.status],
    progress: image.status === 'IMAGE_STATUS_ACTIVE' ? 100 : image.progressPercent,
    fault: image.fault || null,
    instances: image.instances,
    disk_pool_uuid: image.diskPoolUuid || null,
    created_at: moment(image.createdAtMs),
  }
}

export function showImageCopy(copy: ImageCopy): z.input<typeof ImageCopiesAnswer>['copies'][number] {
  return {
    disk_pool_uuid: copy.diskPoolUuid,
    disk_pool: copy.diskPoolName,
    host_uuid: copy.hostId || null,
    host: copy.hostName || null,
    size_bytes: copy.sizeBytes,
    instances: copy.instances,
  }
}

export function showDiskPool(pool: DiskPool): z.input<typeof DiskPoolView> {
  return {
    uuid: pool.uuid,
    name: pool.name,
    kind: pool.kind,
    path: pool.path,
    shared: pool.shared,
    nfs: pool.nfs ? { ...pool.nfs } : null,
    rbd: pool.rbd
      ? {
          monitors: pool.rbd.monitors,
          pool: pool.rbd.pool,
          user: pool.rbd.user,
          secret_uuid: pool.rbd.secretUuid,
        }
      : null,
    orphans: pool.orphans,
    deleting: pool.deleting,
    system_disks: SYSTEM_DISK_WORDS[pool.systemDisks],
    hosts: pool.hosts.map((host) => ({
      host_uuid: host.hostId,
      state: POOL_STATE_WORDS[host.state],
      fault: host.fault || null,
      capacity_bytes: host.capacityBytes,
      available_bytes: host.availableBytes,
    })),
    ...showProtection(pool.protection ?? PoolProtection.fromPartial({})),
    created_at: moment(pool.createdAtMs),
  }
}

function showProtection(protection: PoolProtection) {
  return {
    ha: {
      class: oneOf(['E', 'T', 'N'] as const, protection.poolClass, 'N'),
      reason: protection.why,
      probed_at: momentOrNull(protection.probedAtMs),
      can_revoke: protection.canRevoke,
      slots: protection.slots,
      slots_taken: protection.slotsTaken,
    },
    ha_class: oneOf(WANTED_CLASSES, protection.wantedClass, 'auto'),
    lost_locks: oneOf(LOST_LOCKS, protection.lostLocks, 'unknown'),
    linearizable: protection.isLinearizable,
  }
}

/** A word of the controller's, or what holds where it says another, which an older or newer one may. */
function oneOf<Word extends string>(words: readonly Word[], said: string, otherwise: Word): Word {
  return words.find((word) => word === said) ?? otherwise
}

export function showOrphan(orphan: Orphan): z.input<typeof OrphanView> {
  return {
    file: orphan.file,
    host_uuid: orphan.hostId || null,
    host: orphan.hostName || null,
    kind: orphan.kind as z.input<typeof OrphanView>['kind'],
    owner_uuid: orphan.ownerUuid,
    size_bytes: orphan.sizeBytes,
    modified_at: moment(orphan.modifiedAtMs),
    since: moment(orphan.sinceMs),
  }
}

const DISK_STATUS_WORDS = {
  DISK_STATUS_UNSPECIFIED: 'creating',
  DISK_STATUS_CREATING: 'creating',
  DISK_STATUS_AVAILABLE: 'available',
  DISK_STATUS_ATTACHING: 'attaching',
  DISK_STATUS_IN_USE: 'in-use',
  DISK_STATUS_DETACHING: 'detaching',
  DISK_STATUS_RESIZING: 'resizing',
  DISK_STATUS_DELETING: 'deleting',
  DISK_STATUS_ERROR: 'error',
} as const satisfies Record<DiskStatus, string>

export function showDisk(disk: Disk): z.input<typeof DiskView> {
  return {
    uuid: disk.uuid,
    name: disk.name,
    disk_pool: disk.diskPoolName,
    disk_pool_uuid: disk.diskPoolUuid,
    host: disk.hostName || null,
    host_uuid: disk.hostId || null,
    size_gib: disk.sizeBytes / 1024 ** 3,
    size_bytes: disk.sizeBytes,
    status: DISK_STATUS_WORDS[disk.status],
    fault: disk.fault || null,
    instance: disk.instanceName || null,
    instance_uuid: disk.instanceUuid || null,
    serial: disk.serial,
    created_at: moment(disk.createdAtMs),
  }
}

function showDrain(drain: HostDrain) {
  return {
    state: DRAIN_STATE_WORDS[drain.state],
    operation_uuid: drain.operationUuid,
    parallel: drain.parallel,
    copy_disks: drain.copyDisks,
    started_at: moment(drain.startedAtMs),
    ended_at: drain.endedAtMs === 0 ? null : moment(drain.endedAtMs),
    total: drain.total,
    remaining: drain.remaining,
    stuck: drain.stuck.map(({ uuid, name, why }) => ({ uuid, name, why })),
  }
}

const DRILL_STEPS = ['lease', 'sighting', 'pill', 'watchdog', 'power'] as const

function showDrill({ atMs, isOk, steps }: HostDrill) {
  return {
    at: moment(atMs),
    ok: isOk,
    steps: steps.map(({ what, diskPoolUuid, isOk, message }) => ({
      what: oneOf(DRILL_STEPS, what, 'lease'),
      disk_pool_uuid: diskPoolUuid || null,
      ok: isOk,
      message,
    })),
  }
}

export function showHost(host: Host): z.input<typeof HostView> {
  const { facts } = host
  return {
    uuid: host.uuid,
    name: host.name,
    address: host.address,
    state: HOST_STATE_WORDS[host.state],
    state_since: moment(host.stateSinceMs),
    schedulable: host.schedulable,
    drain: host.drain ? showDrain(host.drain) : null,
    facts: facts
      ? {
          hostname: facts.hostname,
          cpus: facts.cpus,
          memory_mib: facts.memoryMib,
          cpu_model: facts.cpuModel,
          cpu_features: facts.cpuFeatures,
          arch: facts.arch,
          domain_type: facts.domainType,
          libvirt_version: facts.libvirtVersion,
          hypervisor_version: facts.hypervisorVersion,
          agent_version: facts.agentVersion,
          kernel: facts.kernel,
          bridges: facts.bridges,
          boot_id: facts.bootId,
        }
      : null,
    capacity: { vcpus: facts?.cpus ?? 0, memory_mib: facts?.memoryMib ?? 0 },
    allocatable: { vcpus: host.vcpusAllocatable, memory_mib: host.memoryMibAllocatable },
    used: {
      vcpus: host.vcpusUsed,
      memory_mib: host.memoryMibUsed,
      instances: host.instances,
      tasks: host.tasks,
    },
    conditions: host.conditions.map((condition) => ({
      type: condition.type,
      status: CONDITION_STATUS_WORDS[condition.status],
      message: condition.message,
      cure: condition.cure || null,
      latency_ms: condition.latencyMs ?? null,
      since: moment(condition.sinceMs),
      checked_at: moment(condition.checkedAtMs),
    })),
    power: host.power
      ? { agent: host.power.agent, options: host.power.options, secrets: host.power.secretNames }
      : null,
    drill: host.drill ? showDrill(host.drill) : null,
    disk_pools: host.diskPools.map((pool) => ({
      uuid: pool.uuid,
      name: pool.name,
      state: POOL_STATE_WORDS[pool.state],
      fault: pool.fault || null,
      capacity_bytes: pool.capacityBytes,
      available_bytes: pool.availableBytes,
      latency_ms: pool.latencyMs ?? null,
    })),
    unknown_instances: host.unknownInstances,
    recovery: host.recovery ? showHostRecovery(host.recovery) : null,
    last_heartbeat_at: momentOrNull(host.lastHeartbeatMs),
    created_at: moment(host.createdAtMs),
  }
}

export function showOperation(operation: Operation): z.input<typeof OperationView> {
  return {
    uuid: operation.uuid,
    kind: operation.kind,
    resource_uuid: operation.resourceUuid,
    status: OPERATION_STATUS_WORDS[operation.status],
    step: operation.step || null,
    fault: operation.fault || null,
    created_at: moment(operation.createdAtMs),
    ended_at: momentOrNull(operation.endedAtMs),
    placement_uuid: operation.placementUuid || null,
    note: operation.note || null,
  }
}

export function showPlacement(placement: Placement): z.input<typeof PlacementView> {
  return {
    uuid: placement.uuid || null,
    instance_uuid: placement.instanceUuid || null,
    host_uuid: placement.hostId || null,
    disk_pool_uuid: placement.diskPoolUuid || null,
    refusal: placement.refusal || null,
    hosts_total: placement.hostsTotal,
    hosts_passed: placement.hostsPassed,
    by_rule: Object.fromEntries(placement.byRule.map(({ rule, hosts }) => [rule, hosts])),
    is_summary: placement.isSummary,
    hosts: placement.hosts.map((verdict) => ({
      host_uuid: verdict.hostId,
      host: verdict.hostName,
      passed: verdict.passed,
      rule: verdict.rule || null,
      reason: verdict.reason || null,
      score: verdict.passed ? verdict.score : null,
    })),
    created_at: moment(placement.createdAtMs),
  }
}

export function showRebalance(plan: RebalanceHostsResponse): z.input<typeof RebalanceAnswer>['rebalance'] {
  return {
    bound_percent: plan.boundPercent,
    spread_before_percent: plan.spreadBeforePercent,
    spread_after_percent: plan.spreadAfterPercent,
    balanced: plan.balanced,
    explanation: plan.explanation,
    moves: plan.moves.map((move) => ({
      instance_uuid: move.instanceUuid,
      instance: move.instanceName,
      from_host_uuid: move.fromHostId,
      from_host: move.fromHostName,
      to_host_uuid: move.toHostId,
      to_host: move.toHostName,
      copied_mib: move.copiedMib,
      reason: move.reason,
      spread_percent: move.spreadPercent,
    })),
    operation_uuid: plan.operationUuid || null,
  }
}

const MOVE_STATE_WORDS = {
  REBALANCE_MOVE_STATE_UNSPECIFIED: 'waiting',
  REBALANCE_MOVE_STATE_WAITING: 'waiting',
  REBALANCE_MOVE_STATE_MOVING: 'moving',
  REBALANCE_MOVE_STATE_MOVED: 'moved',
  REBALANCE_MOVE_STATE_FAILED: 'failed',
  REBALANCE_MOVE_STATE_REFUSED: 'refused',
  REBALANCE_MOVE_STATE_NEEDLESS: 'needless',
} as const satisfies Record<RebalanceMoveState, string>

export function showRebalanceRun(run: Rebalance): z.input<typeof RebalanceRunAnswer>['rebalance'] {
  return {
    operation_uuid: run.operationUuid,
    state: run.endedAtMs !== 0 ? 'over' : run.cancelled ? 'cancelling' : 'running',
    periodic: run.periodic,
    bound_percent: run.boundPercent,
    parallel: run.parallel,
    spread_before_percent: run.spreadBeforePercent,
    explanation: run.explanation,
    started_at: moment(run.startedAtMs),
    ended_at: momentOrNull(run.endedAtMs),
    moves: run.moves.map((move) => ({
      instance_uuid: move.instanceUuid,
      instance: move.instanceName,
      from_host_uuid: move.fromHostId,
      from_host: move.fromHostName,
      to_host_uuid: move.toHostId,
      to_host: move.toHostName,
      state: MOVE_STATE_WORDS[move.state],
      why: move.why,
    })),
  }
}

export function showWebhook(webhook: Webhook): z.input<typeof WebhookView> {
  return {
    uuid: webhook.uuid,
    url: webhook.url,
    events: webhook.events,
    enabled: webhook.enabled,
    position: webhook.position || null,
    behind: webhook.behind ?? null,
    failures: webhook.failures,
    last_success_at: momentOrNull(webhook.lastSuccessAtMs),
    last_error: webhook.lastError || null,
    next_attempt_at: momentOrNull(webhook.nextAttemptAtMs),
    last_gap: webhook.lastGap || null,
    created_at: moment(webhook.createdAtMs),
  }
}

export function showMember(member: Member): z.input<typeof MemberListAnswer>['members'][number] {
  return {
    id: member.id,
    role: member.role === JoinTokenRole.API ? 'api' : 'agent',
    name: member.name,
    host_uuid: member.hostId || null,
    joined_at: moment(member.joinedAtMs),
  }
}

export function showJoinToken(token: JoinToken): z.input<typeof JoinTokenView> {
  return {
    uuid: token.uuid,
    role: token.role === JoinTokenRole.API ? 'api' : 'agent',
    name: token.name || null,
    uses: token.uses,
    used_by: token.usedBy,
    expires_at: moment(token.expiresAtMs),
    created_at: moment(token.createdAtMs),
  }
}
