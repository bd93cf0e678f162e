// What an agent and the worker of a pool say to each other. Both check what they get: the worker lives
// as close to foreign files as anything of vpe does.

import { ERROR_CODES, POOL_FILE_KINDS } from '@vpe/core'
import { z } from 'zod'

const id = z.int().nonnegative()
const sizeBytes = z.int().nonnegative()

/** The one argument of the worker, as JSON. */
export const workerSettingsSchema = z.object({
  /** What the marker of the folder must say; of a folder that is only tried out, nothing's. */
  poolUuid: z.string(),
  poolPath: z.string().startsWith('/'),
  hostId: z.uuid(),
  /** Folders below which file:// images may lie. */
  imageDirs: z.array(z.string().startsWith('/')),
  /** The largest virtual size that an image may have. */
  imageBytesMax: z.int().positive(),
})
export type WorkerSettings = z.infer<typeof workerSettingsSchema>

export const imageRecordSchema = z.object({
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  format: z.enum(['qcow2', 'raw']),
  sizeBytes,
  virtualSizeBytes: sizeBytes,
})
/** What is known of an image once it is in a pool. */
export type PoolImage = z.infer<typeof imageRecordSchema>

/** The file of a system disk, by its instance, or of a data disk, by its own uuid. */
const diskFile = z.object({ kind: z.enum(['system', 'data']), uuid: z.uuid() })
export type DiskFileName = z.infer<typeof diskFile>

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array)

const snapshotArguments = z.object({ instanceUuid: z.uuid(), snapshotUuid: z.uuid() })

const operations = {
  /** Whether the folder is there, writable, and fit for guests' disks; and how full it is. */
  check: {
    arguments: z.object({
      /** What to mark the folder with if it has no marker; empty where it must have one. */
      proposedMarker: z.string(),
    }),
    result: z.object({ capacityBytes: sizeBytes, availableBytes: sizeBytes, marker: z.string() }),
  },
  /** The pool is no more: its folder may become another's. */
  'remove-marker': { arguments: z.object({}), result: z.object({}) },
  'list-files': {
    arguments: z.object({}),
    result: z.object({
      files: z.array(
        z.object({
          name: z.string(),
          kind: z.enum(POOL_FILE_KINDS),
          ownerUuid: z.uuid(),
          sizeBytes,
          modifiedAtMs: z.number().nonnegative(),
        }),
      ),
      foreign: z.int().nonnegative(),
    }),
  },
  /** Deletes a file that belongs to nobody, unless somebody has it open here or a disk lies on it. */
  'remove-file': {
    arguments: z.object({ name: z.string(), checkOnly: z.boolean() }),
    result: z.object({}),
  },
  /** Writes a little, durably, and reads it back. */
  probe: { arguments: z.object({}), result: z.object({ latencyMs: z.number().nonnegative() }) },
  /** From its URL; without one, from what has been uploaded. */
  'import-image': {
    arguments: z.object({ uuid: z.uuid(), url: z.string(), sha256: z.string() }),
    result: imageRecordSchema,
  },
  'write-image-part': {
    arguments: z.object({
      uuid: z.uuid(),
      upload: z.int().nonnegative(),
      offset: z.int().nonnegative(),
      data: z.custom<Uint8Array>((value) => value instanceof Uint8Array),
    }),
    result: z.object({}),
  },
  'capture-image': {
    arguments: z.object({ uuid: z.uuid(), instanceUuid: z.uuid() }),
    result: imageRecordSchema,
  },
  'find-image': {
    arguments: z.object({ uuid: z.uuid() }),
    result: z.object({ image: imageRecordSchema.nullable(), partBytes: sizeBytes }),
  },
  'remove-image': { arguments: z.object({ uuid: z.uuid() }), result: z.object({}) },
  'find-system-disk': {
    arguments: z.object({ instanceUuid: z.uuid() }),
    result: z.object({ isFound: z.boolean(), imageUuid: z.uuid().nullable() }),
  },
  'make-system-disk': {
    arguments: z.object({
      instanceUuid: z.uuid(),
      imageUuid: z.uuid(),
      kind: z.enum(['overlay', 'copy']),
      diskBytes: sizeBytes,
    }),
    result: z.object({ virtualSizeBytes: sizeBytes }),
  },
  /** Makes the disk as a copy of another instance's, in place of the one that may be there. */
  'copy-system-disk': {
    arguments: z.object({
      instanceUuid: z.uuid(),
      sourceUuid: z.uuid(),
      snapshotUuid: z.uuid().nullable(),
      diskBytes: sizeBytes,
    }),
    result: z.object({}),
  },
  'grow-system-disk': {
    arguments: z.object({ instanceUuid: z.uuid(), diskBytes: sizeBytes }),
    result: z.object({ virtualSizeBytes: sizeBytes }),
  },
  /** Writes the seed of an instance, in place of the one that may be there. */
  'make-seed': {
    arguments: z.object({
      instanceUuid: z.uuid(),
      hostname: z.string(),
      sshKeys: z.array(z.string()),
      userData: z.string(),
    }),
    result: z.object({}),
  },
  /** Of a disk that no guest has: gives it a snapshot. One that is there stays as it is. */
  'make-snapshot': { arguments: snapshotArguments, result: z.object({}) },
  'remove-snapshot': { arguments: snapshotArguments, result: z.object({}) },
  /** Gives the disk the content of a snapshot, and at least a size. */
  'revert-system-disk': {
    arguments: snapshotArguments.extend({ diskBytes: sizeBytes }),
    result: z.object({}),
  },
  /** With the seed. */
  'remove-system-disk': { arguments: z.object({ instanceUuid: z.uuid() }), result: z.object({}) },
  'make-data-disk': { arguments: z.object({ diskUuid: z.uuid(), sizeBytes }), result: z.object({}) },
  'grow-data-disk': { arguments: z.object({ diskUuid: z.uuid(), sizeBytes }), result: z.object({}) },
  'remove-data-disk': { arguments: z.object({ diskUuid: z.uuid() }), result: z.object({}) },
  /** Also of one whose guest runs. */
  'describe-disk': {
    arguments: diskFile,
    result: z.object({
      /** What its guest sees. */
      sizeBytes,
      /** What it takes of the pool. */
      allocatedBytes: sizeBytes,
      /** The image that a system disk lies on. */
      imageUuid: z.uuid().nullable(),
    }),
  },
  /** Makes a disk that a migration fills, empty, in place of the file that may be there. */
  'make-copy-target': {
    arguments: z.object({ disk: diskFile, sizeBytes, imageUuid: z.uuid().nullable() }),
    result: z.object({}),
  },
  /** A part of a file, shorter than asked for at its end, and empty where it is all zeros; and how long the file is. */
  'read-disk': {
    arguments: z.object({ disk: diskFile, offset: sizeBytes, length: sizeBytes }),
    result: z.object({ data: bytes, fileBytes: sizeBytes }),
  },
  /** Begins a file of that length that has no name yet; what is not written of it is zeros. */
  'begin-disk-copy': { arguments: z.object({ disk: diskFile, fileBytes: sizeBytes }), result: z.object({}) },
  'write-disk-part': {
    arguments: z.object({ disk: diskFile, offset: sizeBytes, data: bytes }),
    result: z.object({}),
  },
  /** Gives it its name, in place of the file that may be there; or gives it up. */
  'end-disk-copy': {
    arguments: z.object({ disk: diskFile, isWhole: z.boolean() }),
    result: z.object({}),
  },
} as const

export type PoolOperation = keyof typeof operations
export type PoolArguments<O extends PoolOperation> = z.infer<(typeof operations)[O]['arguments']>
export type PoolResult<O extends PoolOperation> = z.infer<(typeof operations)[O]['result']>

/** What an operation may answer; the worker is not trusted to have got it right. */
export function parseResult<O extends PoolOperation>(operation: O, value: unknown): PoolResult<O> {
  return operations[operation].result.parse(value) as PoolResult<O>
}

/** One operation to carry out. */
export type PoolRequest = {
  [O in PoolOperation]: {
    readonly id: number
    readonly operation: O
    /** What the pool's marker is known to say; empty while that is not known. */
    readonly marker: string
    readonly arguments: PoolArguments<O>
  }
}[PoolOperation]

function requestOf<O extends PoolOperation>(operation: O): z.ZodType<Extract<PoolRequest, { operation: O }>> {
  const schema = z.object({
    id,
    operation: z.literal(operation),
    marker: z.string(),
    arguments: operations[operation].arguments,
  })
  // The table above says what the compiler cannot follow through a type parameter.
  return schema as unknown as z.ZodType<Extract<PoolRequest, { operation: O }>>
}

/** Agent to worker. */
export const toWorkerSchema = z.union([
  requestOf('check'),
  requestOf('probe'),
  requestOf('remove-marker'),
  requestOf('list-files'),
  requestOf('remove-file'),
  requestOf('import-image'),
  requestOf('write-image-part'),
  requestOf('capture-image'),
  requestOf('find-image'),
  requestOf('remove-image'),
  requestOf('find-system-disk'),
  requestOf('make-system-disk'),
  requestOf('copy-system-disk'),
  requestOf('grow-system-disk'),
  requestOf('make-seed'),
  requestOf('make-snapshot'),
  requestOf('remove-snapshot'),
  requestOf('revert-system-disk'),
  requestOf('remove-system-disk'),
  requestOf('make-data-disk'),
  requestOf('grow-data-disk'),
  requestOf('remove-data-disk'),
  requestOf('describe-disk'),
  requestOf('make-copy-target'),
  requestOf('read-disk'),
  requestOf('begin-disk-copy'),
  requestOf('write-disk-part'),
  requestOf('end-disk-copy'),
  z.object({ id, operation: z.literal('cancel') }),
])
export type ToWorker = z.infer<typeof toWorkerSchema>

/** Worker to agent. */
export const fromWorkerSchema = z.discriminatedUnion('kind', [
  z.object({ id, kind: z.literal('progress'), percent: z.number().min(0).max(100) }),
  z.object({ id, kind: z.literal('done'), result: z.unknown() }),
  z.object({ id, kind: z.literal('failed'), code: z.enum(ERROR_CODES), message: z.string() }),
])
export type FromWorker = z.infer<typeof fromWorkerSchema>
