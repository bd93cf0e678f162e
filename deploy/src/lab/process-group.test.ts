import { expect, test } from 'vitest'
import { cgroupRoot } from './process-group.ts'

test('a machine without cgroups of version 2 is refused with the cure', () => {
  const mounts = 'proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n'
  expect(() => cgroupRoot(mounts)).toThrow('no cgroups of version 2')
})
