// Rows as SQLite takes them: the values of a table's columns, in their order. They are made where the records are,
// and pass to the thread of the store as they are: to clone a record whole costs more than all that is done with it.

import type { StreamEntry } from '@vpe/bus'
import type { DiskPoolHost, DiskPoolRecord, OperationRecord } from '@vpe/core'
import { getTableColumns } from 'drizzle-orm'
import type { SQLiteTable } from 'drizzle-orm/sqlite-core'
import type { LoadedState } from './backend.ts'
import { changedHosts } from './pool-host-index.ts'
import * as schema from './schema.ts'
import type { Change, TableName } from './tables.ts'

/** The tables of the records, and one for what a record has many of. */
export type StoredTable = TableName | 'diskPoolHosts'

export const TABLES = {
  flavors: { table: schema.flavors, key: [schema.flavors.uuid] },
  images: { table: schema.images, key: [schema.images.uuid] },
  diskPools: { table: schema.diskPools, key: [schema.diskPools.uuid] },
  diskPoolHosts: {
    table: schema.diskPoolHosts,
    key: [schema.diskPoolHosts.diskPoolUuid, schema.diskPoolHosts.hostId],
  },
  disks: { table: schema.disks, key: [schema.disks.uuid] },
  hosts: { table: schema.hosts, key: [schema.hosts.uuid] },
  instances: { table: schema.instances, key: [schema.instances.uuid] },
  webhooks: { table: schema.webhooks, key: [schema.webhooks.uuid] },
  userData: { table: schema.userData, key: [schema.userData.instanceUuid] },
  snapshots: { table: schema.snapshots, key: [schema.snapshots.uuid] },
  operations: { table: schema.operations, key: [schema.operations.uuid] },
  placements: { table: schema.placements, key: [schema.placements.uuid] },
  idempotencyKeys: { table: schema.idempotencyKeys, key: [schema.idempotencyKeys.key] },
  joinTokens: { table: schema.joinTokens, key: [schema.joinTokens.uuid] },
  members: { table: schema.members, key: [schema.members.id] },
  revocations: { table: schema.revocations, key: [schema.revocations.keySha256] },
  rebalances: { table: schema.rebalances, key: [schema.rebalances.uuid] },
  haHosts: { table: schema.haHosts, key: [schema.haHosts.hostId] },
  haInstances: { table: schema.haInstances, key: [schema.haInstances.uuid] },
  haDisarms: { table: schema.haDisarms, key: [schema.haDisarms.key] },
  haFailovers: { table: schema.haFailovers, key: [schema.haFailovers.key] },
  poolLeases: { table: schema.poolLeases, key: [schema.poolLeases.diskPoolUuid] },
  hostFencing: { table: schema.hostFencing, key: [schema.hostFencing.hostId] },
} satisfies Record<StoredTable, unknown>

/** Null, a number, a text, or bytes. */
export type RowValues = readonly unknown[]

/** What one transaction writes. */
export interface EncodedWrite {
  readonly deletes: readonly { readonly table: StoredTable; readonly key: readonly string[] }[]
  readonly puts: readonly { readonly table: StoredTable; readonly values: RowValues }[]
  readonly events: readonly RowValues[]
}

type LoadedTable = keyof LoadedState['rows']

/** What is read at the start. */
export interface EncodedState extends Omit<LoadedState, 'rows' | 'runningOperations'> {
  readonly rows: { readonly [Name in LoadedTable | 'diskPoolHosts']: readonly RowValues[] }
  readonly runningOperations: readonly RowValues[]
}

type Encode = (row: object) => RowValues

const ENCODERS = Object.fromEntries(
  Object.entries(TABLES).map(([name, { table }]) => [name, encoder(table)]),
) as Record<StoredTable, Encode>

const encodeEvent = encoder(schema.outbox)

/** For one database: it knows what was written last of what has parts, and writes only the parts that have changed. */
export class RowCodec {
  readonly #diskPools = new Map<string, DiskPoolRecord>()

  decodeState({ rows, runningOperations, ...rest }: EncodedState): LoadedState {
    const { diskPoolHosts, ...others } = rows
    const decoded = Object.entries(others).map(([name, some]) => [
      name,
      decode(TABLES[name as LoadedTable].table, some),
    ])
    const loaded = Object.fromEntries(decoded) as LoadedState['rows']
    const hostsOf = Map.groupBy(
      decode(schema.diskPoolHosts, diskPoolHosts) as (DiskPoolHost & { readonly diskPoolUuid: string })[],
      ({ diskPoolUuid }) => diskPoolUuid,
    )
    const diskPools = loaded.diskPools.map((pool) => {
      const hosts = (hostsOf.get(pool.uuid) ?? []).map(({ diskPoolUuid: _, ...host }): DiskPoolHost => host)
      return { ...pool, hosts }
    })
    for (const pool of diskPools) this.#diskPools.set(pool.uuid, pool)
    return {
      ...rest,
      rows: { ...loaded, diskPools },
      runningOperations: decode(schema.operations, runningOperations) as OperationRecord[],
    }
  }

  /** What is encoded is to be written, in this order. */
  encodeWrite(changes: readonly Change[], events: readonly StreamEntry[]): EncodedWrite {
    const deletes: { table: StoredTable; key: readonly string[] }[] = []
    const puts: { table: StoredTable; values: RowValues }[] = []
    for (const change of changes) {
      const { table, key, row } = change
      if (row === null) deletes.push({ table, key: [key] })
      else puts.push({ table, values: ENCODERS[table](row) })
      if (table !== 'diskPools') continue
      const before = this.#diskPools.get(key) ?? null
      const come = changedHosts(row, before)
      const kept = new Set(come.map(({ hostId }) => hostId))
      for (const { hostId } of changedHosts(before, row))
        if (!kept.has(hostId)) deletes.push({ table: 'diskPoolHosts', key: [key, hostId] })
      for (const host of come)
        puts.push({ table: 'diskPoolHosts', values: ENCODERS.diskPoolHosts({ ...host, diskPoolUuid: key }) })
      if (row) this.#diskPools.set(key, row)
      else this.#diskPools.delete(key)
    }
    return {
      deletes,
      puts,
      events: events.map(({ position, atMs, event }) => encodeEvent({ position, atMs, ...event })),
    }
  }
}

function decode(table: SQLiteTable, rows: readonly RowValues[]): object[] {
  const columns = Object.entries(getTableColumns(table))
  return rows.map((values) => {
    const record: Record<string, unknown> = {}
    for (let index = 0; index < columns.length; index++) {
      const [property, column] = columns[index] as (typeof columns)[number]
      const value = values[index] ?? null
      record[property] = value === null ? null : column.mapFromDriverValue(value)
    }
    return record
  })
}

function encoder(table: SQLiteTable): Encode {
  const columns = Object.entries(getTableColumns(table))
  return (row) => {
    const record = row as Readonly<Record<string, unknown>>
    return columns.map(([property, column]) => {
      const value = record[property] ?? null
      return value === null ? null : column.mapToDriverValue(value)
    })
  }
}
