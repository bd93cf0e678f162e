// The embedded default: one SQLite file. WAL, and an fsync for each transaction, since a change is
// acknowledged only once it would survive a power cut.

import { randomUUID } from 'node:crypto'
import type { StreamEntry } from '@vpe/bus'
import { VpeError } from '@vpe/core'
import Database from 'better-sqlite3'
import {
  and,
  asc,
  desc,
  eq,
  getTableColumns,
  getTableName,
  gt,
  isNotNull,
  lt,
  lte,
  max,
  sql,
} from 'drizzle-orm'
import { type BetterSQLite3Database, drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import type { SQLiteColumn, SQLiteTable } from 'drizzle-orm/sqlite-core'
import type { LoadedState, StoreBackend } from './backend.ts'
import * as schema from './schema.ts'
import type { Change, TableName } from './tables.ts'

const MIGRATIONS = new URL('./migrations', import.meta.url).pathname

const TABLES = {
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
  revocations: { table: schema.revocations, key: schema.revocations.keySha256 },
  rebalances: { table: schema.rebalances, key: schema.rebalances.uuid },
} satisfies Record<TableName, unknown>

type Db = BetterSQLite3Database<typeof schema>
type Transaction = Parameters<Parameters<Db['transaction']>[0]>[0]

export class SqliteBackend implements StoreBackend {
  readonly #file: Database.Database
  readonly #db: Db
  readonly #writers: Readonly<Record<TableName, TableWriter>>
  readonly #outboxWriter: TableWriter
  #epoch = 0

  /** Opens or makes the file at `path`, and brings its tables up to date. */
  constructor(path: string) {
    this.#file = new Database(path)
    this.#file.pragma('journal_mode = WAL')
    this.#file.pragma('synchronous = FULL')
    this.#file.pragma('busy_timeout = 5000')
    this.#db = drizzle({ client: this.#file, schema, casing: 'snake_case' })
    migrate(this.#db, { migrationsFolder: MIGRATIONS })
    const writers = Object.entries(TABLES).map(([name, { table, key }]) => [
      name,
      new TableWriter(this.#file, table, key.name),
    ])
    this.#writers = Object.fromEntries(writers)
    this.#outboxWriter = new TableWriter(this.#file, schema.outbox, null)
  }

  async open(): Promise<LoadedState> {
    const identity = this.#db.transaction(
      (tx) =>
        tx
          .insert(schema.meta)
          .values({ id: 1, storeId: randomUUID(), epoch: 1, published: 0 })
          .onConflictDoUpdate({ target: schema.meta.id, set: { epoch: sql`${schema.meta.epoch} + 1` } })
          .returning()
          .get(),
      { behavior: 'immediate' },
    )
    this.#epoch = identity.epoch
    const last = this.#db
      .select({ position: max(schema.outbox.position) })
      .from(schema.outbox)
      .get()
    return {
      storeId: identity.storeId,
      epoch: identity.epoch,
      lastPosition: Math.max(last?.position ?? 0, identity.published),
      rows: {
        flavors: this.#db.select().from(schema.flavors).all(),
        images: this.#db.select().from(schema.images).all(),
        diskPools: this.#db.select().from(schema.diskPools).all(),
        disks: this.#db.select().from(schema.disks).all(),
        hosts: this.#db.select().from(schema.hosts).all(),
        instances: this.#db.select().from(schema.instances).orderBy(asc(schema.instances.createdAtMs)).all(),
        webhooks: this.#db.select().from(schema.webhooks).all(),
        joinTokens: this.#db.select().from(schema.joinTokens).all(),
        members: this.#db.select().from(schema.members).all(),
        revocations: this.#db.select().from(schema.revocations).all(),
        rebalances: this.#db.select().from(schema.rebalances).all(),
        snapshots: this.#db.select().from(schema.snapshots).orderBy(asc(schema.snapshots.createdAtMs)).all(),
      },
      runningOperations: this.#db
        .select()
        .from(schema.operations)
        .where(eq(schema.operations.status, 'running'))
        .all(),
    }
  }

  async write(changes: readonly Change[], events: readonly StreamEntry[]): Promise<void> {
    this.#db.transaction(
      (tx) => {
        this.#assertLeader(tx)
        // Deletions go first, so that a name that was given up can be taken again in one transaction.
        for (const { table, key, row } of changes) if (row === null) this.#writers[table].delete(key)
        for (const { table, row } of changes) if (row !== null) this.#writers[table].put(row)
        for (const { position, atMs, event } of events) {
          this.#outboxWriter.put({ position, atMs, ...event })
        }
      },
      { behavior: 'immediate' },
    )
  }

  async readOutbox(after: number, limit: number): Promise<StreamEntry[]> {
    const rows = this.#db
      .select()
      .from(schema.outbox)
      .where(gt(schema.outbox.position, after))
      .orderBy(asc(schema.outbox.position))
      .limit(limit)
      .all()
    return rows.map(({ position, atMs, ...event }) => ({ position, atMs, event }))
  }

  async trimOutbox(upTo: number): Promise<void> {
    // Remembering how far it got keeps positions from being given out again, also when the stream is wiped.
    this.#db.transaction(
      (tx) => {
        this.#assertLeader(tx)
        tx.delete(schema.outbox).where(lte(schema.outbox.position, upTo)).run()
        tx.update(schema.meta).set({ published: upTo }).run()
      },
      { behavior: 'immediate' },
    )
  }

  async findOperation(uuid: string) {
    return this.#db.select().from(schema.operations).where(eq(schema.operations.uuid, uuid)).get() ?? null
  }

  async listOperations(resourceUuid: string | null, limit: number) {
    return this.#db
      .select()
      .from(schema.operations)
      .where(resourceUuid === null ? undefined : eq(schema.operations.resourceUuid, resourceUuid))
      .orderBy(desc(schema.operations.createdAtMs))
      .limit(limit)
      .all()
  }

  async findUserData(instanceUuid: string) {
    const { userData } = schema
    const row = this.#db.select().from(userData).where(eq(userData.instanceUuid, instanceUuid)).get()
    return row?.text ?? null
  }

  async findPlacement(uuid: string) {
    return this.#db.select().from(schema.placements).where(eq(schema.placements.uuid, uuid)).get() ?? null
  }

  async findIdempotencyKey(key: string) {
    const { idempotencyKeys } = schema
    return this.#db.select().from(idempotencyKeys).where(eq(idempotencyKeys.key, key)).get() ?? null
  }

  async prune(limits: Parameters<StoreBackend['prune']>[0]) {
    const { operations, placements, idempotencyKeys } = schema
    const ended = and(isNotNull(operations.endedAtMs), lt(operations.endedAtMs, limits.operationsBeforeMs))
    return this.#db.transaction((tx) => {
      this.#assertLeader(tx)
      return {
        operations: tx.delete(operations).where(ended).run().changes,
        placements: tx.delete(placements).where(lt(placements.createdAtMs, limits.placementsBeforeMs)).run()
          .changes,
        idempotencyKeys: tx
          .delete(idempotencyKeys)
          .where(lt(idempotencyKeys.createdAtMs, limits.idempotencyKeysBeforeMs))
          .run().changes,
      }
    })
  }

  async close(): Promise<void> {
    this.#file.close()
  }

  #assertLeader(tx: Transaction): void {
    const now = tx.select({ epoch: schema.meta.epoch }).from(schema.meta).get()?.epoch
    if (now === this.#epoch) return
    throw new VpeError(
      'STALE_EPOCH',
      `another controller has opened ${this.#file.name} (epoch ${now}, this one's is ${this.#epoch}); this one must not write any more`,
    )
  }
}

/**
 * Puts and deletes rows of one table. Its statements are made once: most of the time that a query builder takes
 * for a row goes into saying the same again.
 */
class TableWriter {
  readonly #columns: readonly [property: string, column: SQLiteColumn][]
  readonly #put: Database.Statement
  readonly #delete: Database.Statement | null

  /** @param key its primary key; null where no row may be replaced or deleted */
  constructor(file: Database.Database, table: SQLiteTable, key: string | null) {
    this.#columns = Object.entries(getTableColumns(table))
    const name = quoted(getTableName(table))
    const names = this.#columns.map(([, column]) => quoted(snakeCase(column.name)))
    const insert = `insert into ${name} (${names.join(', ')}) values (${names.map(() => '?').join(', ')})`
    if (key === null) {
      this.#put = file.prepare(insert)
      this.#delete = null
      return
    }
    const keyName = quoted(snakeCase(key))
    const set = names.map((each) => `${each} = excluded.${each}`).join(', ')
    this.#put = file.prepare(`${insert} on conflict (${keyName}) do update set ${set}`)
    this.#delete = file.prepare(`delete from ${name} where ${keyName} = ?`)
  }

  /** Inserts a row, or replaces the one with its key whole. */
  put(row: object): void {
    const values = row as Readonly<Record<string, unknown>>
    this.#put.run(
      this.#columns.map(([property, column]) => {
        const value = values[property] ?? null
        return value === null ? null : column.mapToDriverValue(value)
      }),
    )
  }

  delete(key: string): void {
    if (!this.#delete) throw new Error('rows of this table are not deleted one by one')
    this.#delete.run(key)
  }
}

function quoted(name: string): string {
  return `"${name}"`
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
