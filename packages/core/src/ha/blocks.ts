// What lies in a pool for HA, one block of 4 KiB each, written in place: the lease of each host (only that host
// writes it), its mailbox (where it is told to let go), and a claim for each instance (who may run it).
//
// Decoding is total: whatever a disk returns is a block, or empty, or a reason why not. A block that was torn by a crash
// or a partial write is 'damaged', and a reader keeps what it knew. Fields lie in the first sectors, and the checksum covers
// all of them.

import type { HostId, InstanceId } from '../ids.ts'
import { crc32c } from './crc32c.ts'

export const BLOCK_BYTES = 4096

const MAGIC = 0x76706548 // "vpeH"
const VERSION = 1
const HEADER_BYTES = 16
const kinds = { lease: 1, mailbox: 2, claim: 3 } as const

/** One order, as it is answered: epoch of the controller and a number that it uses once. */
export interface PillAck {
  readonly epoch: number
  readonly nonce: number
}

/** Written by its host alone, again and again: as long as it changes, its guard watches. */
export interface HostLease {
  readonly kind: 'lease'
  readonly hostId: HostId
  /** A uuid, new with each start of the guard. */
  readonly incarnation: string
  readonly bootId: string
  readonly seq: number
  /** What the holder keeps to; readers compute from these, not from their own. */
  readonly selfMs: number
  readonly watchdogMs: number
  readonly isWatchdogArmed: boolean
  readonly isManagementOk: boolean
  readonly isGuestNetworkOk: boolean
  readonly pillAck: PillAck | null
}

/** An owner of an instance: a generation, never just a name. */
export interface InstanceGeneration {
  readonly uuid: InstanceId
  readonly generation: number
}

/** Tells a host, through the storage, to end instances: there may be no other way to it. */
export interface Pill {
  readonly kind: 'mailbox'
  readonly epoch: number
  readonly nonce: number
  readonly targetIncarnation: string
  /** 'none': it is read and answered, and ends nothing (a drill). Always said, never the outcome of an empty list. */
  readonly scope: 'all' | 'none' | readonly InstanceGeneration[]
}

/** Who may run an instance, where hosts can read it without the controller. */
export interface Claim {
  readonly kind: 'claim'
  readonly uuid: InstanceId
  readonly generation: number
  readonly hostId: HostId
  readonly bootId: string
  readonly state: 'running' | 'released'
  readonly epoch: number
}

export type Block = HostLease | Pill | Claim

export type Decoded<Wanted extends Block = Block> =
  | { readonly kind: 'block'; readonly block: Wanted }
  /** Never written. */
  | { readonly kind: 'empty' }
  /** Torn, or not ours: nothing follows from it. */
  | { readonly kind: 'damaged'; readonly why: string }

/** Most instances that one pill names; more are 'all'. */
export const PILL_SCOPE_MAX = 128

/** The 4 KiB of a block. Throws a RangeError where a value does not fit, which is a fault of the caller. */
export function encodeBlock(block: Block): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES)
  const out = new Writer(bytes, HEADER_BYTES)
  switch (block.kind) {
    case 'lease':
      out.uuid(block.hostId).uuid(block.incarnation).uuid(block.bootId).count(block.seq)
      out.count(block.selfMs).count(block.watchdogMs)
      out.flags(block.isWatchdogArmed, block.isManagementOk, block.isGuestNetworkOk, block.pillAck !== null)
      out.count(block.pillAck?.epoch ?? 0).count(block.pillAck?.nonce ?? 0)
      break
    case 'mailbox': {
      out.count(block.epoch).count(block.nonce).uuid(block.targetIncarnation)
      const named = typeof block.scope === 'string' ? [] : block.scope
      if (named.length > PILL_SCOPE_MAX) throw new RangeError(`a pill names ${named.length} instances`)
      out.flags(block.scope === 'all', block.scope === 'none').count(named.length)
      for (const { uuid, generation } of named) out.uuid(uuid).count(generation)
      break
    }
    case 'claim':
      out.uuid(block.uuid).count(block.generation).uuid(block.hostId).uuid(block.bootId)
      out.flags(block.state === 'running').count(block.epoch)
      break
    default:
      throw new RangeError(`no such block: ${block satisfies never}`)
  }
  const header = new DataView(bytes.buffer)
  header.setUint32(0, MAGIC)
  header.setUint16(4, VERSION)
  header.setUint16(6, kinds[block.kind])
  header.setUint32(8, out.offset)
  header.setUint32(12, checksum(bytes, out.offset))
  return bytes
}

/** What a block of that kind says. Never throws, whatever the bytes are. */
export function decodeBlock<Kind extends Block['kind']>(
  bytes: Uint8Array,
  kind: Kind,
): Decoded<Extract<Block, { kind: Kind }>> {
  const decoded = decode(bytes, kind)
  // The kind was compared with what was asked for.
  return decoded as Decoded<Extract<Block, { kind: Kind }>>
}

function decode(bytes: Uint8Array, kind: Block['kind']): Decoded {
  if (bytes.length !== BLOCK_BYTES) return damaged(`${bytes.length} bytes are no block`)
  const header = new DataView(bytes.buffer, bytes.byteOffset, BLOCK_BYTES)
  if (header.getUint32(0) !== MAGIC)
    return bytes.every((byte) => byte === 0) ? { kind: 'empty' } : damaged('it is not of vpe')
  if (header.getUint16(4) !== VERSION) return damaged(`its version is ${header.getUint16(4)}, not ${VERSION}`)
  if (header.getUint16(6) !== kinds[kind]) return damaged(`it is no ${kind}`)
  const end = header.getUint32(8)
  if (end < HEADER_BYTES || end > BLOCK_BYTES) return damaged(`its length is ${end}`)
  if (header.getUint32(12) !== checksum(bytes, end)) return damaged('its checksum is wrong')
  const block = readFields(new Reader(bytes, HEADER_BYTES, end), kind)
  return block ? { kind: 'block', block } : damaged('its fields end too early, or make no sense')
}

function readFields(fields: Reader, kind: Block['kind']): Block | null {
  const block = readBlock(fields, kind)
  return fields.isPastEnd ? null : block
}

/** Null where a field says what there is not. */
function readBlock(fields: Reader, kind: Block['kind']): Block | null {
  switch (kind) {
    case 'lease': {
      const hostId = fields.uuid() as HostId
      const incarnation = fields.uuid()
      const bootId = fields.uuid()
      const [seq, selfMs, watchdogMs] = [fields.count(), fields.count(), fields.count()]
      const flags = fields.byte()
      const ack = { epoch: fields.count(), nonce: fields.count() }
      return {
        kind,
        hostId,
        incarnation,
        bootId,
        seq,
        selfMs,
        watchdogMs,
        isWatchdogArmed: (flags & 1) !== 0,
        isManagementOk: (flags & 2) !== 0,
        isGuestNetworkOk: (flags & 4) !== 0,
        pillAck: flags & 8 ? ack : null,
      }
    }
    case 'mailbox': {
      const [epoch, nonce, targetIncarnation] = [fields.count(), fields.count(), fields.uuid()]
      const flags = fields.byte()
      const named = Math.min(fields.count(), PILL_SCOPE_MAX)
      const instances = Array.from({ length: named }, () => ({
        uuid: fields.uuid() as InstanceId,
        generation: fields.count(),
      }))
      const scope = ([instances, 'all', 'none'] as const)[flags]
      if (scope === undefined || (scope !== instances && named > 0)) return null
      return { kind, epoch, nonce, targetIncarnation, scope }
    }
    case 'claim': {
      const uuid = fields.uuid() as InstanceId
      const generation = fields.count()
      const hostId = fields.uuid() as HostId
      const bootId = fields.uuid()
      const state = fields.byte() ? 'running' : 'released'
      return { kind, uuid, generation, hostId, bootId, state, epoch: fields.count() }
    }
  }
}

function checksum(bytes: Uint8Array, end: number): number {
  const head = crc32c(bytes.subarray(0, 12))
  return (crc32c(bytes.subarray(HEADER_BYTES, end)) ^ head) >>> 0
}

function damaged(why: string): Decoded {
  return { kind: 'damaged', why }
}

class Writer {
  readonly #view: DataView
  offset: number

  constructor(bytes: Uint8Array, offset: number) {
    this.#view = new DataView(bytes.buffer)
    this.offset = offset
  }

  count(value: number): this {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no count`)
    this.#view.setBigUint64(this.offset, BigInt(value))
    this.offset += 8
    return this
  }

  uuid(text: string): this {
    const hex = text.replaceAll('-', '').toLowerCase()
    if (!/^[0-9a-f]{32}$/.test(hex)) throw new RangeError(`"${text}" is no uuid`)
    for (let index = 0; index < 32; index += 2)
      this.#view.setUint8(this.offset++, Number.parseInt(hex.slice(index, index + 2), 16))
    return this
  }

  flags(...bits: readonly boolean[]): this {
    let byte = 0
    bits.forEach((bit, index) => {
      if (bit) byte |= 1 << index
    })
    this.#view.setUint8(this.offset++, byte)
    return this
  }
}

/** Reads on past the end as zeros, and says so afterwards. */
class Reader {
  readonly #view: DataView
  #offset: number
  readonly #end: number
  isPastEnd = false

  constructor(bytes: Uint8Array, offset: number, end: number) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset)
    this.#offset = offset
    this.#end = end
  }

  #take(length: number): number | null {
    const at = this.#offset
    if (at + length > this.#end) {
      this.isPastEnd = true
      return null
    }
    this.#offset += length
    return at
  }

  count(): number {
    const at = this.#take(8)
    return at === null ? 0 : Number(this.#view.getBigUint64(at))
  }

  byte(): number {
    const at = this.#take(1)
    return at === null ? 0 : this.#view.getUint8(at)
  }

  uuid(): string {
    const at = this.#take(16)
    if (at === null) return ''
    let hex = ''
    for (let index = 0; index < 16; index++)
      hex += this.#view
        .getUint8(at + index)
        .toString(16)
        .padStart(2, '0')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  }
}
