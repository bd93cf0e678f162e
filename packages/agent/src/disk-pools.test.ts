import { describe, expect, test } from 'vitest'
import { judgePath } from './disk-pools.ts'

describe('the path of a disk pool', () => {
  test('is taken as it is', () => expect(judgePath('/var/lib/vpe/disks')).toBe('/var/lib/vpe/disks'))

  test.each([
    ['disks', 'not absolute'],
    ['', 'not absolute'],
    ['/', 'root of the filesystem'],
    ['/a/../etc', 'write it plainly: /etc'],
    ['/a//b', 'write it plainly: /a/b'],
    ['/a/', 'write it plainly: /a'],
    ['/a\nb', 'control characters'],
  ])('%j is refused', (path, words) => {
    const refused = expect.objectContaining({
      code: 'DISK_POOL_FAILED',
      message: expect.stringContaining(words),
    })
    expect(() => judgePath(path)).toThrow(refused)
  })
})
