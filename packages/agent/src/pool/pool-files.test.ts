import { describe, expect, test } from 'vitest'
import {
  imageOfFile,
  instanceOfSystemDisk,
  systemDiskFile,
  temporaryFile,
  temporaryOwner,
} from './pool-files.ts'
import { parseProgress } from './qemu-img.ts'

const uuid = '0a1b2c3d-0000-4000-8000-000000000001'
const owner = { hostId: '0a1b2c3d-0000-4000-8000-00000000000a', pid: 42, startTicks: '1234567' }

describe('names in a pool', () => {
  test('a temporary file tells its owner', () => {
    expect(temporaryOwner(temporaryFile(`image-${uuid}`, owner))).toEqual(owner)
    expect(temporaryOwner(temporaryFile(`instance-${uuid}`, owner, 'json'))).toEqual(owner)
  })

  test.each([
    systemDiskFile(uuid),
    `image-${uuid}.qcow2`,
    'backup.tmp',
    `image-${uuid}.tmp`,
    `x${temporaryFile(`image-${uuid}`, owner)}`,
  ])('%s is nobody’s temporary file', (name) => expect(temporaryOwner(name)).toBeNull())

  test('disks and images are told from other files', () => {
    expect(instanceOfSystemDisk(systemDiskFile(uuid))).toBe(uuid)
    expect(imageOfFile(`image-${uuid}.raw`)).toBe(uuid)
    expect(instanceOfSystemDisk(`instance-${uuid}.qcow2.bak`)).toBeNull()
    expect(imageOfFile(`/elsewhere/image-${uuid}.raw`)).toBeNull()
  })
})

describe('the progress of qemu-img', () => {
  test('is the last that was printed', () =>
    expect(parseProgress('    (1.00/100%)\r    (42.50/100%)\r')).toBe(42.5))
  test('is not guessed', () => expect(parseProgress('    (4')).toBeNull())
})
