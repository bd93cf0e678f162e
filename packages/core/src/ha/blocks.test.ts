import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { HostId, InstanceId } from '../ids.ts'
import { BLOCK_BYTES, type Block, decodeBlock, encodeBlock, PILL_SCOPE_MAX } from './blocks.ts'
import { crc32c } from './crc32c.ts'

const count = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const lease = fc.record({
  kind: fc.constant('lease' as const),
  hostId: fc.uuid().map((id) => id as HostId),
  incarnation: fc.uuid(),
  bootId: fc.uuid(),
  seq: count,
  selfMs: count,
  watchdogMs: count,
  isWatchdogArmed: fc.boolean(),
  isManagementOk: fc.boolean(),
  isGuestNetworkOk: fc.boolean(),
  pillAck: fc.option(fc.record({ epoch: count, nonce: count })),
})
const named = fc.record({ uuid: fc.uuid().map((id) => id as InstanceId), generation: count })
const pill = fc.record({
  kind: fc.constant('mailbox' as const),
  epoch: count,
  nonce: count,
  targetIncarnation: fc.uuid(),
  scope: fc.oneof(
    fc.constantFrom('all' as const, 'none' as const),
    fc.array(named, { maxLength: PILL_SCOPE_MAX }),
  ),
})
const claim = fc.record({
  kind: fc.constant('claim' as const),
  uuid: fc.uuid().map((id) => id as InstanceId),
  generation: count,
  hostId: fc.uuid().map((id) => id as HostId),
  bootId: fc.uuid(),
  state: fc.constantFrom('running' as const, 'released' as const),
  epoch: count,
})
const block: fc.Arbitrary<Block> = fc.oneof(lease, pill, claim)

test('what is written is what is read', () => {
  fc.assert(
    fc.property(block, (block) => {
      const bytes = encodeBlock(block)
      expect(bytes).toHaveLength(BLOCK_BYTES)
      expect(decodeBlock(bytes, block.kind)).toEqual({ kind: 'block', block })
    }),
  )
})

test('a block that is torn between two versions is damaged, or one of the two', () => {
  fc.assert(
    fc.property(lease, lease, fc.nat({ max: BLOCK_BYTES }), (before, after, at) => {
      const torn = encodeBlock(before)
      torn.set(encodeBlock(after).subarray(0, at))
      const decoded = decodeBlock(torn, 'lease')
      if (decoded.kind === 'block') expect([before, after]).toContainEqual(decoded.block)
      else expect(decoded.kind).toBe('damaged')
    }),
  )
})

test('no bytes at all make it throw', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: BLOCK_BYTES }),
      block,
      fc.constantFrom('lease' as const, 'mailbox' as const, 'claim' as const),
      (noise, block, kind) => {
        const bytes = encodeBlock(block)
        bytes.set(noise, 0)
        expect(decodeBlock(noise, kind).kind).toBe('damaged')
        expect(['block', 'damaged', 'empty']).toContain(decodeBlock(bytes, kind).kind)
      },
    ),
  )
})

const NOBODY = '00000000-0000-4000-8000-000000000000'

/** A mailbox that says that of its scope, with a checksum that fits. */
function withScopeByte(bytes: Uint8Array, flags: number): Uint8Array {
  bytes[48] = flags
  const header = new DataView(bytes.buffer)
  const head = crc32c(bytes.subarray(0, 12))
  header.setUint32(12, (crc32c(bytes.subarray(16, header.getUint32(8))) ^ head) >>> 0)
  return bytes
}

test('who a pill is for is said, and never guessed', () => {
  const of = (scope: 'all' | 'none') =>
    encodeBlock({ kind: 'mailbox', epoch: 1, nonce: 1, targetIncarnation: NOBODY, scope })
  const decoded = (bytes: Uint8Array) => {
    const read = decodeBlock(bytes, 'mailbox')
    return read.kind === 'block' ? read.block.scope : read.kind
  }
  expect([decoded(of('all')), decoded(of('none'))]).toEqual(['all', 'none'])
  for (let flags = 3; flags < 256; flags++) expect(decoded(withScopeByte(of('all'), flags))).toBe('damaged')
})

test('never written is empty, and another kind or version is told', () => {
  expect(decodeBlock(new Uint8Array(BLOCK_BYTES), 'claim')).toEqual({ kind: 'empty' })
  const [one] = fc.sample(pill, 1)
  if (!one) throw new Error('no sample')
  expect(decodeBlock(encodeBlock(one), 'claim')).toEqual({ kind: 'damaged', why: 'it is no claim' })
  const newer = encodeBlock(one)
  newer[5] = 2
  expect(decodeBlock(newer, 'mailbox')).toEqual({ kind: 'damaged', why: 'its version is 2, not 1' })
})

test('CRC-32C as RFC 3720 has it', () => {
  expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe3069283)
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa)
})
