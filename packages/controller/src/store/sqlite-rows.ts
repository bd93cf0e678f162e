// Rows as SQLite takes them: the values of a table's columns, in their order. They are made where the records are,
// and pass to the thread of the store as they are: to clone a record whole costs more than all that is done with it.

import type { StreamEntry } from '@vpe/bus'
import type { OperationRecord } from '@vpe/core'
import { getTableColumns } from 'drizzle-orm'
import type { SQLiteTable } from 'drizzle-orm/sqlite-core'
import type { LoadedState } from './backend.ts'
import * as schema from './schema.ts'
import type { Change, TableName } from './tables.ts'

export const TABLES = {
  flavors: { table: schema.flavors, key: schema.flavors.uuid },
  images: { table: schema.images, key: schema.images.uuid },
  diskPools: { table: schema.diskPools, key: schema.diskPools.uuid },
  disks: { table: schema.disks, key: schema.disks.uuid },
  hosts: { table: schema.hosts, key: schema.hosts.uuid },
  instances: { table: schema.instances, key: schema.instances.uuid },
  webhooks: { table: schema.webhooks, key: schema.webhooks.uuid },
  userData: { table: schema.userData, key: schema.userData.instanceUuid },
  snapshots: { table: schema.snapshots, key: schema.snapshots.uuid },
  operations: { table: schema.operations, key: schema.operations.uuid },
  placements: { table: schema.placements, key: schema.placements.uuid },
  idempotencyKeys: { table: schema.idempotencyKeys, key: schema.idempotencyKeys.key },
  joinTokens: { table: schema.joinTokens, key: schema.joinTokens.uuid },
  members: { table: schema.members, key: schema.members.id },
} satisfies Record<TableName, unknown>

/** Null, a number, a text, or bytes. */
export type RowValues = readonly unknown[]

/** What one transaction writes. */
export interface EncodedWrite {
  readonly deletes: readonly { readonly table: TableName; readonly key: string }[]
  readonly puts: readonly { readonly table: TableName; readonly values: RowValues }[]
  readonly events: readonly RowValues[]
}

type LoadedTable = keyof LoadedState['rows']

/** What is read at the start. */
export interface EncodedState extends Omit<LoadedState, 'rows' | 'runningOperations'> {
  readonly rows: { readonly [Name in LoadedTable]: readonly RowValues[] }
  readonly runningOperations: readonly RowValues[]
}

type Encode = (row: object) => RowValues

const ENCODERS = Object.fromEntries(
  Object.entries(TABLES).map(([name, { table }]) => [name, encoder(table)]),
) as Record<TableName, Encode>

const encodeEvent = encoder(schema.outbox)

export function encodeWrite(changes: readonly Change[], events: readonly StreamEntry[]): EncodedWrite {
  const deletes: { table: TableName; key: string }[] = []
  const puts: { table: TableName; values: RowValues }[] = []
  for (const { table, key, row } of changes) {
    if (row === null) deletes.push({ table, key })
    else puts.push({ table, values: ENCODERS[table](row) })
  }
  return {
    deletes,
    puts,
    events: events.map(({ position, atMs, event }) => encodeEvent({ position, atMs, ...event })),
  }
}

export function decodeState({ rows, runningOperations, ...rest }: EncodedState): LoadedState {
  const decoded = Object.entries(rows).map(([name, some]) => [
    name,
    decode(TABLES[name as LoadedTable].table, some),
  ])
  return {
    ...rest,
    rows: Object.fromEntries(decoded) as LoadedState['rows'],
    runningOperations: decode(schema.operations, runningOperations) as OperationRecord[],
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
