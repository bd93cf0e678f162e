// The tables, typed column by column, so that an operator can read them with any SQLite client.
// `outbox` holds the events that JetStream has not acknowledged yet; it is written in the same
// transaction as the rows that caused them.

import type { EventKind } from '@vpe/bus'
import {
  DISK_STATUSES,
  type DiskSource,
  type DrainRecord,
  type HostCondition,
  type HostFacts,
  INSTANCE_STATUSES,
  INSTANCE_TASKS,
  type JoinTokenUse,
  type Migration,
  type NfsSource,
  type Orphan,
  type PlacementVerdict,
  type RbdSource,
  type RebalanceRunMove,
  SNAPSHOT_STATUSES,
} from '@vpe/core'
import {
  DEFAULT_ISOLATION,
  DEFAULT_PRIORITY,
  type FailoverClock,
  HA_INSTANCE_STATES,
  type HaInstance,
  HOST_PHASES,
  type HostPool,
  ISOLATIONS,
  type LeaseSlot,
  type LockTrial,
  PRIORITIES,
  type Proof,
  type ProtectionSettings,
  type Verdict,
} from '@vpe/core/ha'
import { blob, index, integer, primaryKey, real, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import type { DisarmScope, Failover } from '../ha/ports.ts'
import type { DrillResult, PowerSettings } from '../ha/records.ts'

/** One row: who this store is, and which leader writes it. */
export const meta = sqliteTable('meta', {
  id: integer().primaryKey(),
  storeId: text().notNull(),
  epoch: integer().notNull(),
  /** Outbox position up to which the stream has everything. */
  published: integer().notNull(),
})

export const flavors = sqliteTable('flavors', {
  uuid: text().primaryKey(),
  name: text().notNull().unique(),
  vcpus: integer().notNull(),
  memoryMib: integer().notNull(),
  diskGib: integer().notNull(),
  createdAtMs: integer().notNull(),
})

export const images = sqliteTable('images', {
  uuid: text().primaryKey(),
  name: text().notNull().unique(),
  url: text().notNull(),
  instanceUuid: text().notNull(),
  hostId: text().notNull(),
  sha256: text().notNull(),
  format: text({ enum: ['qcow2', 'raw'] }),
  sizeBytes: integer().notNull(),
  virtualSizeBytes: integer().notNull(),
  status: text({ enum: ['uploading', 'importing', 'active', 'error'] }).notNull(),
  fault: text().notNull(),
  diskPoolUuid: text().notNull(),
  createdAtMs: integer().notNull(),
})

export const diskPools = sqliteTable('disk_pools', {
  uuid: text().primaryKey(),
  name: text().notNull().unique(),
  kind: text({ enum: ['dir', 'nfs', 'rbd'] }).notNull(),
  path: text().notNull(),
  nfs: text({ mode: 'json' }).$type<NfsSource | null>(),
  rbd: text({ mode: 'json' }).$type<RbdSource | null>(),
  marker: text().notNull(),
  orphans: text({ mode: 'json' }).$type<readonly Orphan[]>().notNull(),
  shared: integer({ mode: 'boolean' }).notNull(),
  systemDisks: text({ enum: ['overlay', 'copy'] }).notNull(),
  everyHost: integer({ mode: 'boolean' }).notNull(),
  deletionUuid: text(),
  createdAtMs: integer().notNull(),
})

/** A pool as each of its hosts sees it, in the order in which they got it: thousands, of which one changes at a time. */
export const diskPoolHosts = sqliteTable(
  'disk_pool_hosts',
  {
    diskPoolUuid: text().notNull(),
    hostId: text().notNull(),
    state: text({ enum: ['pending', 'ready', 'error', 'leaving'] }).notNull(),
    fault: text().notNull(),
    capacityBytes: integer().notNull(),
    availableBytes: integer().notNull(),
    marker: text().notNull(),
    leavingBy: text(),
  },
  (table) => [primaryKey({ columns: [table.diskPoolUuid, table.hostId] })],
)

export const disks = sqliteTable('disks', {
  uuid: text().primaryKey(),
  name: text().notNull().unique(),
  diskPoolUuid: text().notNull(),
  hostId: text(),
  sizeBytes: integer().notNull(),
  settledBytes: integer().notNull(),
  status: text({ enum: DISK_STATUSES }).notNull(),
  fault: text().notNull(),
  instanceUuid: text(),
  slot: integer().notNull(),
  createdAtMs: integer().notNull(),
})

export const hosts = sqliteTable('hosts', {
  uuid: text().primaryKey(),
  name: text().notNull().unique(),
  address: text().notNull(),
  state: text({ enum: ['up', 'down'] }).notNull(),
  stateSinceMs: integer().notNull(),
  conditions: text({ mode: 'json' }).$type<readonly HostCondition[]>().notNull(),
  schedulable: integer({ mode: 'boolean' }).notNull(),
  drain: text({ mode: 'json' }).$type<DrainRecord>(),
  facts: text({ mode: 'json' }).$type<HostFacts>().notNull(),
  createdAtMs: integer().notNull(),
})

export const instances = sqliteTable(
  'instances',
  {
    uuid: text().primaryKey(),
    name: text().notNull(),
    generatedName: text().notNull().unique(),
    namespace: text().notNull(),
    flavorUuid: text().notNull(),
    imageUuid: text().notNull(),
    diskPoolUuid: text().notNull(),
    hostId: text().notNull(),
    leavingHostId: text(),
    migration: text({ mode: 'json' }).$type<Migration | null>(),
    staleCopies: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
    hostIds: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
    shareStorage: integer({ mode: 'boolean' }).notNull(),
    tags: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
    vcpus: integer().notNull(),
    memoryMib: integer().notNull(),
    diskBytes: integer().notNull(),
    ha: integer({ mode: 'boolean' }).notNull(),
    haPriority: text({ enum: PRIORITIES }).notNull().default(DEFAULT_PRIORITY),
    haIsolation: text({ enum: ISOLATIONS }).notNull().default(DEFAULT_ISOLATION),
    hostname: text().notNull(),
    sshKeys: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
    userDataSha256: text().notNull(),
    power: text({ enum: ['on', 'off', 'paused'] }).notNull(),
    locked: integer({ mode: 'boolean' }).notNull(),
    generation: integer().notNull(),
    rebootGeneration: integer().notNull(),
    rebootKind: text({ enum: ['soft', 'hard'] }).notNull(),
    diskGeneration: integer().notNull(),
    addresses: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
    diskSnapshotUuid: text(),
    diskSource: text({ mode: 'json' }).$type<DiskSource | null>(),
    settledGeneration: integer().notNull(),
    status: text({ enum: INSTANCE_STATUSES }).notNull(),
    task: text({ enum: INSTANCE_TASKS }),
    fault: text().notNull(),
    restarts: integer().notNull(),
    lastDiskSlot: integer().notNull(),
    createdAtMs: integer().notNull(),
  },
  (table) => [index('instances_by_name').on(table.namespace, table.name)],
)

/** Apart from the instances, which are written anew with each of their moves and are held in memory. */
export const userData = sqliteTable('user_data', {
  instanceUuid: text().primaryKey(),
  text: text().notNull(),
})

export const snapshots = sqliteTable('snapshots', {
  uuid: text().primaryKey(),
  name: text().notNull(),
  instanceUuid: text().notNull(),
  status: text({ enum: SNAPSHOT_STATUSES }).notNull(),
  fault: text().notNull(),
  sizeBytes: integer().notNull(),
  createdAtMs: integer().notNull(),
})

export const operations = sqliteTable(
  'operations',
  {
    uuid: text().primaryKey(),
    kind: text().notNull(),
    resourceUuid: text().notNull(),
    generation: integer().notNull(),
    status: text({ enum: ['running', 'succeeded', 'failed', 'cancelled'] }).notNull(),
    fault: text().notNull(),
    createdAtMs: integer().notNull(),
    endedAtMs: integer(),
    placementUuid: text(),
    note: text().notNull(),
  },
  (table) => [
    index('operations_by_status').on(table.status, table.endedAtMs),
    index('operations_by_resource').on(table.resourceUuid, table.createdAtMs),
    index('operations_by_time').on(table.createdAtMs),
  ],
)

export const placements = sqliteTable(
  'placements',
  {
    uuid: text().primaryKey(),
    instanceUuid: text().notNull(),
    hostId: text().notNull(),
    diskPoolUuid: text().notNull(),
    verdict: text({ mode: 'json' }).$type<PlacementVerdict>().notNull(),
    createdAtMs: integer().notNull(),
  },
  (table) => [index('placements_by_time').on(table.createdAtMs)],
)

/** The answer that a mutating call with an Idempotency-Key gave, to be given again. */
export const idempotencyKeys = sqliteTable(
  'idempotency_keys',
  {
    key: text().primaryKey(),
    method: text().notNull(),
    requestSha256: text().notNull(),
    response: blob({ mode: 'buffer' }).notNull(),
    createdAtMs: integer().notNull(),
  },
  (table) => [index('idempotency_keys_by_time').on(table.createdAtMs)],
)

export const webhooks = sqliteTable('webhooks', {
  uuid: text().primaryKey(),
  url: text().notNull(),
  secret: text().notNull(),
  events: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
  enabled: integer({ mode: 'boolean' }).notNull(),
  position: text().notNull(),
  failures: integer().notNull(),
  lastSuccessAtMs: integer(),
  lastError: text().notNull(),
  lastGap: text().notNull(),
  createdAtMs: integer().notNull(),
})

export const joinTokens = sqliteTable('join_tokens', {
  uuid: text().primaryKey(),
  role: text({ enum: ['agent', 'api'] }).notNull(),
  name: text().notNull(),
  uses: integer().notNull(),
  usedBy: text({ mode: 'json' }).$type<readonly JoinTokenUse[]>().notNull(),
  expiresAtMs: integer().notNull(),
  createdAtMs: integer().notNull(),
})

/** Who has joined by a token, and the key that its certificate is for. */
export const members = sqliteTable('members', {
  id: text().primaryKey(),
  keySha256: text().notNull(),
  joinedAtMs: integer().notNull(),
  natsUsers: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
})

/** What members had that were removed, or have another key since. */
export const revocations = sqliteTable('revocations', {
  keySha256: text().primaryKey(),
  memberId: text().notNull(),
  natsUsers: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
  revokedAtMs: integer().notNull(),
})

/** The latest one; see rebalancer.ts. */
export const rebalances = sqliteTable('rebalances', {
  uuid: text().primaryKey(),
  isPeriodic: integer({ mode: 'boolean' }).notNull(),
  boundPercent: real().notNull(),
  parallel: integer().notNull(),
  spreadBeforePercent: real().notNull(),
  explanation: text().notNull(),
  startedAtMs: integer().notNull(),
  endedAtMs: integer(),
  isCancelled: integer({ mode: 'boolean' }).notNull(),
  moves: text({ mode: 'json' }).$type<readonly RebalanceRunMove[]>().notNull(),
})

/** What is believed of hosts; see ha/ha-keeper.ts. Times in proofs are times of day. */
export const haHosts = sqliteTable('ha_hosts', {
  hostId: text().primaryKey(),
  pools: text({ mode: 'json' }).$type<readonly HostPool[]>().notNull(),
  canPowerOff: integer({ mode: 'boolean' }).notNull(),
  phase: text({ enum: HOST_PHASES }).notNull(),
  why: text().notNull(),
  bootId: text().notNull(),
  verdict: text({ mode: 'json' }).$type<Verdict | null>(),
  proofs: text({ mode: 'json' }).$type<readonly Proof[]>().notNull(),
})

/** Who has which instance. Times are times of day. */
export const haInstances = sqliteTable('ha_instances', {
  uuid: text().primaryKey(),
  generation: integer().notNull(),
  lastGeneration: integer().notNull(),
  hostId: text().notNull(),
  bootId: text().notNull(),
  pools: text({ mode: 'json' }).$type<readonly HostPool[]>().notNull(),
  priority: text({ enum: PRIORITIES }).notNull(),
  memoryMib: integer().notNull(),
  isolation: text({ enum: ['leave', 'restart'] }).notNull(),
  isWanted: integer({ mode: 'boolean' }).notNull(),
  isEnding: integer({ mode: 'boolean' }).notNull(),
  state: text({ enum: HA_INSTANCE_STATES }).notNull(),
  why: text().notNull(),
  proofs: text({ mode: 'json' }).$type<readonly Proof[]>().notNull(),
  startedBy: text({ mode: 'json' }).$type<readonly Proof[]>().notNull(),
  relocations: integer().notNull(),
  failedStarts: integer().notNull(),
  avoid: text({ mode: 'json' }).$type<readonly string[]>().notNull(),
  migration: text({ mode: 'json' }).$type<HaInstance['migration']>(),
  clock: text({ mode: 'json' }).$type<FailoverClock>().notNull(),
})

export const haDisarms = sqliteTable('ha_disarms', {
  key: text().primaryKey(),
  scope: text({ mode: 'json' }).$type<DisarmScope>().notNull(),
  untilMs: integer().notNull(),
  who: text().notNull(),
  why: text().notNull(),
})

/** The latest ones; see FAILOVERS_KEPT. */
export const haFailovers = sqliteTable('ha_failovers', {
  key: text().primaryKey(),
  uuid: text().notNull(),
  instanceName: text().notNull(),
  generation: integer().notNull(),
  fromHostId: text().notNull(),
  toHostId: text(),
  why: text().notNull(),
  clock: text({ mode: 'json' }).$type<FailoverClock>().notNull(),
  proofs: text({ mode: 'json' }).$type<Failover['proofs']>().notNull(),
  answeredMs: integer(),
})

/** What protects a shared pool from two writers, and who has which block in its lease files (ha/ha-pools.ts). */
export const poolLeases = sqliteTable('pool_leases', {
  diskPoolUuid: text().primaryKey(),
  slots: integer().notNull(),
  taken: text({ mode: 'json' }).$type<readonly LeaseSlot[]>().notNull(),
  settings: text({ mode: 'json' }).$type<ProtectionSettings>().notNull(),
  poolClass: text({ enum: ['E', 'T', 'N'] }).notNull(),
  why: text().notNull(),
  trial: text({ mode: 'json' }).$type<LockTrial>(),
  triedAtMs: integer(),
  triedOf: text().notNull(),
})

/** How a host is switched off, whether it has a watchdog, why it may be paused, and what the last drill found. */
export const hostFencing = sqliteTable('host_fencing', {
  hostId: text().primaryKey(),
  power: text({ mode: 'json' }).$type<PowerSettings>(),
  hasWatchdog: integer({ mode: 'boolean' }),
  pausable: text(),
  drill: text({ mode: 'json' }).$type<DrillResult>(),
})

export const outbox = sqliteTable('outbox', {
  position: integer().primaryKey(),
  atMs: integer().notNull(),
  kind: text().$type<EventKind>().notNull(),
  id: text().notNull(),
  what: text().notNull(),
  data: text({ mode: 'json' }).$type<Readonly<Record<string, unknown>>>().notNull(),
})
