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
import type { SQLiteTable } from 'drizzle-orm/sqlite-core'
import type { LoadedState, StoreBackend } from './backend.ts'
import * as schema from './schema.ts'
import {
  type EncodedState,
  type EncodedWrite,
  RowCodec,
  type RowValues,
  type StoredTable,
  TABLES,
} from './sqlite-rows.ts'
import type { Change } from './tables.ts'

const MIGRATIONS = new URL('./migrations', import.meta.url).pathname

type Db = BetterSQLite3Database<typeof schema>

export class SqliteBackend implements StoreBackend {
  readonly #file: Database.Database
  readonly #db: Db
  readonly #codec = new RowCodec()
  readonly #writers: Readonly<Record<StoredTable, TableWriter>>
  readonly #outboxWriter: TableWriter
  readonly #readEpoch: Database.Statement
  #epoch = 0

  /** Opens or makes the file at `path`, and brings its tables up to date. */
  constructor(path: string) {
    this.#file = new Database(path)
    this.#file.pragma('journal_mode = WAL')
    this.#file.pragma('synchronous = FULL')
    this.#file.pragma('busy_timeout = 5000')
    // Keys are random: with 100,000 instances, what a transaction touches lies all over the indexes. (Pages; KiB.)
    this.#file.pragma('wal_autocheckpoint = 8192')
    this.#file.pragma('cache_size = -65536')
    this.#db = drizzle({ client: this.#file, schema, casing: 'snake_case' })
    migrate(this.#db, { migrationsFolder: MIGRATIONS })
    const writers = Object.entries(TABLES).map(([name, { table, key }]) => [
      name,
      new TableWriter(
        this.#file,
        table,
        key.map((column) => column.name),
      ),
    ])
    this.#writers = Object.fromEntries(writers)
    this.#outboxWriter = new TableWriter(this.#file, schema.outbox, [])
    this.#readEpoch = this.#file.prepare('select epoch from meta').pluck()
  }

  async open(): Promise<LoadedState> {
    return this.#codec.decodeState(await this.openEncoded())
  }

  /** Raises the epoch and reads the state, as `open` does. */
  async openEncoded(): Promise<EncodedState> {
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
        flavors: this.#read(schema.flavors),
        images: this.#read(schema.images),
        diskPools: this.#read(schema.diskPools),
        diskPoolHosts: this.#read(schema.diskPoolHosts, 'order by rowid'),
        disks: this.#read(schema.disks),
        hosts: this.#read(schema.hosts),
        instances: this.#read(schema.instances, 'order by created_at_ms'),
        webhooks: this.#read(schema.webhooks),
        joinTokens: this.#read(schema.joinTokens),
        members: this.#read(schema.members),
        revocations: this.#read(schema.revocations),
        rebalances: this.#read(schema.rebalances),
        poolLeases: this.#read(schema.poolLeases),
        hostFencing: this.#read(schema.hostFencing),
        snapshots: this.#read(schema.snapshots, 'order by created_at_ms'),
        haHosts: this.#read(schema.haHosts),
        haInstances: this.#read(schema.haInstances),
        haDisarms: this.#read(schema.haDisarms),
        haFailovers: this.#read(schema.haFailovers, 'order by rowid'),
      },
      runningOperations: this.#read(schema.operations, "where status = 'running'"),
    }
  }

  async write(changes: readonly Change[], events: readonly StreamEntry[]): Promise<void> {
    await this.writeEncoded(this.#codec.encodeWrite(changes, events))
  }

  /** Writes all of it or nothing, as `write` does. */
  async writeEncoded({ deletes, puts, events }: EncodedWrite): Promise<void> {
    this.#db.transaction(
      () => {
        this.#assertLeader()
        // Deletions go first, so that a name that was given up can be taken again in one transaction.
        for (const { table, key } of deletes) this.#writers[table].delete(key)
        for (const { table, values } of puts) this.#writers[table].put(values)
        for (const values of events) this.#outboxWriter.put(values)
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
        this.#assertLeader()
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
      this.#assertLeader()
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

  /** All rows of a table that a clause leaves. */
  #read(table: SQLiteTable, clause = ''): RowValues[] {
    const select = `select ${namesOf(table).join(', ')} from ${quoted(getTableName(table))} ${clause}`
    return this.#file.prepare(select).raw().all() as RowValues[]
  }

  /** In a transaction. */
  #assertLeader(): void {
    const now = this.#readEpoch.get()
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
  readonly #put: Database.Statement
  readonly #delete: Database.Statement | null

  /** @param key its primary key; empty where no row may be replaced or deleted */
  constructor(file: Database.Database, table: SQLiteTable, key: readonly string[]) {
    const name = quoted(getTableName(table))
    const names = namesOf(table)
    const insert = `insert into ${name} (${names.join(', ')}) values (${names.map(() => '?').join(', ')})`
    if (key.length === 0) {
      this.#put = file.prepare(insert)
      this.#delete = null
      return
    }
    const keyNames = key.map((each) => quoted(snakeCase(each)))
    // Not the key itself, which is the same: its index would be written anew.
    const others = names.filter((each) => !keyNames.includes(each))
    const set = others.map((each) => `${each} = excluded.${each}`).join(', ')
    this.#put = file.prepare(`${insert} on conflict (${keyNames.join(', ')}) do update set ${set}`)
    const isKey = keyNames.map((each) => `${each} = ?`).join(' and ')
    this.#delete = file.prepare(`delete from ${name} where ${isKey}`)
  }

  /** Inserts a row, or replaces the one with its key whole. */
  put(values: RowValues): void {
    this.#put.run(values)
  }

  delete(key: readonly string[]): void {
    if (!this.#delete) throw new Error('rows of this table are not deleted one by one')
    this.#delete.run(key)
  }
}

function namesOf(table: SQLiteTable): string[] {
  return Object.values(getTableColumns(table)).map((column) => quoted(snakeCase(column.name)))
}

function quoted(name: string): string {
  return `"${name}"`
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
