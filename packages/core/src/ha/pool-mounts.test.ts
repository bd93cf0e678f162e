import { expect, test } from 'vitest'
import { judgeMounts, type LostLocks, type PoolMount } from './pool-mounts.ts'

const mount = (fileSystem: string, ...options: string[]): PoolMount => ({ host: 'a', fileSystem, options })

test.each<[string, PoolMount, LostLocks, boolean]>([
  ['NFS 4.2', mount('nfs4', 'rw', 'vers=4.2', 'hard'), 'unknown', true],
  ['NFS 4.1', mount('nfs4', 'vers=4.1', 'local_lock=none'), 'unknown', true],
  ['NFS 4.0', mount('nfs4', 'vers=4.0'), 'unknown', false],
  ['NFS 3', mount('nfs', 'vers=3'), 'unknown', false],
  ['NFS 3, whatever is said of it', mount('nfs', 'vers=3'), 'fenced', false],
  ['CephFS', mount('ceph'), 'unknown', true],
  ['GFS2', mount('gfs2'), 'unknown', true],
  ['what is not known', mount('fuse.glusterfs'), 'unknown', false],
  ['what an operator knows', mount('fuse.glusterfs'), 'fenced', true],
])('%s', (_, one, lostLocks, isFenced) => {
  expect(judgeMounts([one], lostLocks)).toEqual({
    areLostLocksFenced: isFenced,
    unsafeOptions: [],
    whyNotShared: null,
  })
})

test.each(['nolock', 'soft', 'softerr', 'local_lock=all', 'local_lock=posix', 'recover_session=clean'])(
  '%s is unsafe, and says where',
  (option) => {
    expect(judgeMounts([mount('nfs4', 'vers=4.2', option)], 'unknown').unsafeOptions).toEqual([
      `${option} on a`,
    ])
  },
)

test('the worst of all hosts counts', () => {
  const good = mount('nfs4', 'vers=4.2')
  const old = { ...mount('nfs4', 'vers=4.0'), host: 'b' }
  expect(judgeMounts([good, old], 'unknown').areLostLocksFenced).toBe(false)
  expect(judgeMounts([], 'fenced').areLostLocksFenced).toBe(false)
})

test('a local file system is one host’s, whatever is said of it', () => {
  expect(judgeMounts([mount('ext4', 'rw')], 'fenced').whyNotShared).toMatch(/on a it lies in ext4/)
})
