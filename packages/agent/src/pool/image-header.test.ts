import { describe, expect, test } from 'vitest'
import { backingFileOf, HEADER_BYTES, inspectHeader, VIRTUAL_SIZE_MAX } from './image-header.ts'

interface Qcow2 {
  version?: number
  sizeBytes?: bigint
  backingFile?: string
  encryption?: number
  incompatible?: bigint
}

function qcow2({
  version = 3,
  sizeBytes = 1024n ** 2n,
  backingFile,
  encryption = 0,
  incompatible = 0n,
}: Qcow2 = {}) {
  const head = Buffer.alloc(4096)
  head.write('QFI\xfb', 0, 'latin1')
  head.writeUInt32BE(version, 4)
  if (backingFile) {
    head.writeBigUInt64BE(512n, 8)
    head.writeUInt32BE(backingFile.length, 16)
    head.write(backingFile, 512)
  }
  head.writeUInt32BE(16, 20)
  head.writeBigUInt64BE(sizeBytes, 24)
  head.writeUInt32BE(encryption, 32)
  head.writeBigUInt64BE(incompatible, 72)
  return head
}

const inspect = (head: Buffer, sizeBytes = head.length) => inspectHeader(head, sizeBytes)
const startingWith = (bytes: string) => Buffer.concat([Buffer.from(bytes, 'latin1'), Buffer.alloc(512)], 512)

describe('inspectHeader', () => {
  test('passes qcow2 and raw', () => {
    expect(inspect(qcow2())).toEqual({ format: 'qcow2', virtualSizeBytes: 1024 ** 2 })
    expect(inspect(qcow2({ version: 2 }))).toEqual({ format: 'qcow2', virtualSizeBytes: 1024 ** 2 })
    expect(inspect(Buffer.alloc(512), 4096)).toEqual({ format: 'raw', virtualSizeBytes: 4096 })
  })

  test.each<[string, Buffer, number | undefined, string]>([
    ['nothing', Buffer.alloc(0), 0, 'empty'],
    ['a backing file', qcow2({ backingFile: '/etc/passwd' }), undefined, 'backing file'],
    ['a data file', qcow2({ incompatible: 4n }), undefined, 'another file'],
    ['damage', qcow2({ incompatible: 2n }), undefined, 'corrupt'],
    ['encryption', qcow2({ encryption: 2 }), undefined, 'encrypted'],
    ['a later version', qcow2({ version: 9 }), undefined, 'version'],
    ['a header cut short', qcow2().subarray(0, 24), undefined, 'cut short'],
    ['no size', qcow2({ sizeBytes: 0n }), undefined, '0 bytes'],
    ['nonsense for a size', qcow2({ sizeBytes: 2n ** 63n }), undefined, '16384 GiB'],
    ['a raw image beyond measure', Buffer.alloc(512), VIRTUAL_SIZE_MAX + 512, '16384 GiB'],
    ['VMDK', startingWith('KDMV'), undefined, 'VMDK'],
    ['a VMDK descriptor', startingWith('# Disk DescriptorFile\n'), undefined, 'VMDK'],
    ['VHDX', startingWith('vhdxfile'), undefined, 'VHDX'],
    ['VDI', startingWith(`${'\0'.repeat(64)}\x7f\x10\xda\xbe`), undefined, 'VDI'],
    ['LUKS', startingWith('LUKS\xba\xbe'), undefined, 'LUKS'],
    ['gzip', startingWith('\x1f\x8b'), undefined, 'gzip'],
    ['a web page', Buffer.from('<html>not found</html>'), undefined, 'no disk image'],
  ])('refuses %s', (_name, head, sizeBytes, words) => {
    const header = inspect(head, sizeBytes)
    expect('refused' in header && header.refused).toContain(words)
  })

  test('reads no further than the head that it is given', () => {
    const lies = qcow2({ backingFile: 'x' })
    lies.writeUInt32BE(0xffffffff, 16)
    expect(backingFileOf(lies)).toBeNull()
    expect(HEADER_BYTES).toBeGreaterThan(4096)
  })
})

describe('backingFileOf', () => {
  test('finds the name', () =>
    expect(backingFileOf(qcow2({ backingFile: 'image-1.qcow2' }))).toBe('image-1.qcow2'))
  test('finds none', () => {
    expect(backingFileOf(qcow2())).toBeNull()
    expect(backingFileOf(Buffer.alloc(512))).toBeNull()
  })
})
