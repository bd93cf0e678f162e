// What the first bytes of a disk image say. An image comes from anywhere, and a qcow2 header can name
// other files (a backing file, a data file) that QEMU would open with its own rights; and what vpe took
// for raw, QEMU might take for a format with such powers. So the header is read here before any program
// is let near the file, and only qcow2 and plain raw pass.

/** Enough for a qcow2 header, the name of its backing file in the usual place, and every signature below. */
export const HEADER_BYTES = 64 * 1024

/** Larger than any disk that is meant; guards sums and quotas against nonsense. */
export const VIRTUAL_SIZE_MAX = 16 * 1024 ** 4
const GIB = 1024 ** 3

const SECTOR_BYTES = 512
const QCOW2_MAGIC = 0x514649fb
const EXTERNAL_DATA_FILE = 1n << 2n
const CORRUPT = 1n << 1n

/** Signatures of what is not raw, by offset and text. */
const SIGNATURES: readonly { readonly what: string; readonly at: number; readonly bytes: string }[] = [
  { what: 'a VMDK image', at: 0, bytes: 'KDMV' },
  { what: 'a VMDK image', at: 0, bytes: 'COWD' },
  { what: 'a VMDK descriptor', at: 0, bytes: '# Disk DescriptorFile' },
  { what: 'a VHDX image', at: 0, bytes: 'vhdxfile' },
  { what: 'a VHD image', at: 0, bytes: 'conectix' },
  { what: 'a VDI image', at: 64, bytes: '\x7f\x10\xda\xbe' },
  { what: 'a QED image', at: 0, bytes: 'QED\0' },
  { what: 'a Parallels image', at: 0, bytes: 'WithoutFreeSpace' },
  { what: 'a LUKS volume', at: 0, bytes: 'LUKS\xba\xbe' },
  { what: 'compressed by gzip; unpack it first', at: 0, bytes: '\x1f\x8b' },
  { what: 'compressed by xz; unpack it first', at: 0, bytes: '\xfd7zXZ\0' },
  { what: 'compressed by zstd; unpack it first', at: 0, bytes: '\x28\xb5\x2f\xfd' },
  { what: 'compressed by bzip2; unpack it first', at: 0, bytes: 'BZh' },
]

export type ImageHeader =
  | { readonly format: 'qcow2' | 'raw'; readonly virtualSizeBytes: number }
  | { readonly refused: string }

/**
 * Judges an image by its first HEADER_BYTES (or all, if it is shorter) and its size.
 * @param virtualSizeMax a few bytes of qcow2 can stand for a disk of any size
 */
export function inspectHeader(
  head: Buffer,
  sizeBytes: number,
  virtualSizeMax = VIRTUAL_SIZE_MAX,
): ImageHeader {
  if (sizeBytes === 0) return { refused: 'it is empty' }
  if (head.length >= 4 && head.readUInt32BE(0) === QCOW2_MAGIC) return inspectQcow2(head, virtualSizeMax)
  const known = SIGNATURES.find(({ at, bytes }) => head.toString('latin1', at, at + bytes.length) === bytes)
  if (known) return { refused: `it is ${known.what}; vpe takes qcow2 and raw` }
  if (sizeBytes % SECTOR_BYTES !== 0) {
    return {
      refused: `it is no disk image: neither qcow2, nor raw with whole sectors of ${SECTOR_BYTES} bytes`,
    }
  }
  return sizeBytes > virtualSizeMax
    ? refuseSize(BigInt(sizeBytes), virtualSizeMax)
    : { format: 'raw', virtualSizeBytes: sizeBytes }
}

/** Judges a system disk of ours, which may lie on an image and hold snapshots, by its first HEADER_BYTES. */
export function inspectDisk(head: Buffer, sizeBytes: number): ImageHeader {
  const alone = Buffer.from(head)
  if (alone.length >= 64) alone.fill(0, 8, 20).writeUInt32BE(0, 60)
  return inspectHeader(alone, sizeBytes)
}

/** The name of the backing file that a qcow2 header holds; null when there is none or this is no qcow2. */
export function backingFileOf(head: Buffer): string | null {
  if (head.length < 20 || head.readUInt32BE(0) !== QCOW2_MAGIC) return null
  const offset = Number(head.readBigUInt64BE(8))
  const length = head.readUInt32BE(16)
  return offset === 0 || offset + length > head.length ? null : head.toString('utf8', offset, offset + length)
}

/** How large a disk of vpe's own is for its guest; null for what is no qcow2. */
export function virtualSizeOf(head: Buffer): number | null {
  if (head.length < 32 || head.readUInt32BE(0) !== QCOW2_MAGIC) return null
  return Number(head.readBigUInt64BE(24))
}

function inspectQcow2(head: Buffer, virtualSizeMax: number): ImageHeader {
  const version = head.length >= 72 ? head.readUInt32BE(4) : 0
  if (version !== 2 && version !== 3)
    return { refused: 'its qcow2 header is cut short or of an unknown version' }
  if (head.readBigUInt64BE(8) !== 0n) {
    return {
      refused: 'it needs a backing file; flatten it with: qemu-img convert -O qcow2 <image> <new image>',
    }
  }
  if (head.readUInt32BE(32) !== 0) return { refused: 'it is encrypted' }
  const incompatible = version === 3 && head.length >= 80 ? head.readBigUInt64BE(72) : 0n
  if (incompatible & EXTERNAL_DATA_FILE) {
    return {
      refused:
        'it keeps its data in another file; make it whole with: qemu-img convert -O qcow2 <image> <new image>',
    }
  }
  if (head.readUInt32BE(60) !== 0) {
    return {
      refused:
        'it holds snapshots beside its contents; take them out with: qemu-img convert -O qcow2 <image> <new image>',
    }
  }
  if (incompatible & CORRUPT) return { refused: 'it is marked as corrupt; see: qemu-img check' }
  const size = head.readBigUInt64BE(24)
  if (size === 0n || size > BigInt(virtualSizeMax)) return refuseSize(size, virtualSizeMax)
  return { format: 'qcow2', virtualSizeBytes: Number(size) }
}

function refuseSize(size: bigint, max: number): ImageHeader {
  return {
    refused: `its virtual size is ${size} bytes; this host takes up to ${Math.floor(max / GIB)} GiB (VPE_AGENT_IMAGE_GIB_MAX)`,
  }
}
