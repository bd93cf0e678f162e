import { expect, test } from 'vitest'
import { mountedAt } from './mount-table.ts'

const TABLE = String.raw`30 35 0:41 / /mnt/vpe/a\040b rw,relatime - nfs4 nfs1:/srv rw
31 35 0:42 / /mnt/vpe/c rw - ext4 /dev/sda1 rw`

test.each([
  ['/mnt/vpe/a b', true],
  ['/mnt/vpe/c', true],
  ['/mnt/vpe', false],
  ['/mnt/vpe/a', false],
])('whether %s is mounted', (path, expected) => {
  expect(mountedAt(TABLE, path) !== null).toBe(expected)
})
