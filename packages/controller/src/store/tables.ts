// What the store keeps, by table, and how a change to it is written down.

import type {
  DiskPoolRecord,
  DiskRecord,
  FlavorRecord,
  HostId,
  HostRecord,
  ImageRecord,
  InstanceRecord,
  JoinTokenRecord,
  MemberRecord,
  OperationRecord,
  PlacementVerdict,
  RebalanceRecord,
  RevocationRecord,
  SnapshotRecord,
  WebhookRecord,
} from '@vpe/core'
import type { HostRecord as HaHostRecord, HaInstance } from '@vpe/core/ha'
import type { Disarm, Failover } from '../ha/ports.ts'

import type { HostFencingRecord, PoolLeasesRecord } from '../ha/records.ts'

export interface PlacementRecord {
  readonly uuid: string
  readonly instanceUuid: string
  readonly hostId: HostId
  readonly diskPoolUuid: string
  readonly verdict: PlacementVerdict
  readonly createdAtMs: number
}

export interface UserDataRecord {
  readonly instanceUuid: string
  readonly text: string
}

export interface IdempotencyKeyRecord {
  readonly key: string
  readonly method: string
  readonly requestSha256: string
  readonly response: Buffer
  readonly createdAtMs: number
}

/** A disarm, by what it is for: there is one of each scope. */
export interface DisarmRecord extends Disarm {
  readonly key: string
}

/** A failover, by instance and generation. */
export interface FailoverRecord extends Failover {
  readonly key: string
}

export interface Tables {
  readonly flavors: FlavorRecord
  readonly images: ImageRecord
  readonly diskPools: DiskPoolRecord
  readonly disks: DiskRecord
  readonly hosts: HostRecord
  readonly instances: InstanceRecord
  readonly webhooks: WebhookRecord
  readonly userData: UserDataRecord
  readonly snapshots: SnapshotRecord
  readonly operations: OperationRecord
  readonly placements: PlacementRecord
  readonly idempotencyKeys: IdempotencyKeyRecord
  readonly joinTokens: JoinTokenRecord
  readonly members: MemberRecord
  readonly rebalances: RebalanceRecord
  readonly revocations: RevocationRecord
  readonly haHosts: HaHostRecord
  readonly haInstances: HaInstance
  readonly haDisarms: DisarmRecord
  readonly haFailovers: FailoverRecord
  readonly poolLeases: PoolLeasesRecord
  readonly hostFencing: HostFencingRecord
}

export type TableName = keyof Tables

/** One row put (inserted or replaced whole) or deleted. */
export type Change = {
  [Name in TableName]: { readonly table: Name; readonly key: string; readonly row: Tables[Name] | null }
}[TableName]

export const change = {
  flavor: (row: FlavorRecord): Change => ({ table: 'flavors', key: row.uuid, row }),
  image: (row: ImageRecord): Change => ({ table: 'images', key: row.uuid, row }),
  diskPool: (row: DiskPoolRecord): Change => ({ table: 'diskPools', key: row.uuid, row }),
  disk: (row: DiskRecord): Change => ({ table: 'disks', key: row.uuid, row }),
  host: (row: HostRecord): Change => ({ table: 'hosts', key: row.uuid, row }),
  instance: (row: InstanceRecord): Change => ({ table: 'instances', key: row.uuid, row }),
  webhook: (row: WebhookRecord): Change => ({ table: 'webhooks', key: row.uuid, row }),
  userData: (row: UserDataRecord): Change => ({ table: 'userData', key: row.instanceUuid, row }),
  snapshot: (row: SnapshotRecord): Change => ({ table: 'snapshots', key: row.uuid, row }),
  operation: (row: OperationRecord): Change => ({ table: 'operations', key: row.uuid, row }),
  placement: (row: PlacementRecord): Change => ({ table: 'placements', key: row.uuid, row }),
  idempotencyKey: (row: IdempotencyKeyRecord): Change => ({ table: 'idempotencyKeys', key: row.key, row }),
  joinToken: (row: JoinTokenRecord): Change => ({ table: 'joinTokens', key: row.uuid, row }),
  member: (row: MemberRecord): Change => ({ table: 'members', key: row.id, row }),
  revocation: (row: RevocationRecord): Change => ({ table: 'revocations', key: row.keySha256, row }),
  rebalance: (row: RebalanceRecord): Change => ({ table: 'rebalances', key: row.uuid, row }),
  haHost: (row: HaHostRecord): Change => ({ table: 'haHosts', key: row.hostId, row }),
  haInstance: (row: HaInstance): Change => ({ table: 'haInstances', key: row.uuid, row }),
  haDisarm: (row: DisarmRecord): Change => ({ table: 'haDisarms', key: row.key, row }),
  haFailover: (row: FailoverRecord): Change => ({ table: 'haFailovers', key: row.key, row }),
  poolLeases: (row: PoolLeasesRecord): Change => ({ table: 'poolLeases', key: row.diskPoolUuid, row }),
  hostFencing: (row: HostFencingRecord): Change => ({ table: 'hostFencing', key: row.hostId, row }),
  remove: (table: TableName, key: string): Change => ({ table, key, row: null }) as Change,
}
