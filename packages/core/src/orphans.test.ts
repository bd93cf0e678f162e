import { describe, expect, test } from 'vitest'
import type { InstanceRecord } from './instance.ts'
import { findOrphans, isOwned, type PoolFileRecord, type PoolOwners } from './orphans.ts'
import type { Orphan } from './resources.ts'

const pool = { uuid: 'pool', shared: false }
const shared = { uuid: 'pool', shared: true }

function owners(instance: Partial<InstanceRecord> | null): PoolOwners {
  const record = {
    diskPoolUuid: 'pool',
    hostId: 'h1',
    leavingHostId: null,
    task: null,
    staleCopies: [],
    ...instance,
  }
  return {
    instance: (uuid) => (instance && uuid === 'vm' ? (record as InstanceRecord) : undefined),
    isImage: (uuid) => uuid === 'image',
    disk: (uuid) => (uuid === 'disk' ? { hostId: 'h1', instanceUuid: null } : undefined),
  }
}

function file(kind: PoolFileRecord['kind'], ownerUuid: string): PoolFileRecord {
  return { name: `${kind}-${ownerUuid}`, kind, ownerUuid, sizeBytes: 1, modifiedAtMs: 1 }
}

describe('a file', () => {
  test.each([
    ['of an instance that is there', file('system-disk', 'vm'), pool, 'h1', {}, true],
    ['of one on another host', file('system-disk', 'vm'), pool, 'h2', {}, false],
    [
      'of one on another host that has a task',
      file('system-disk', 'vm'),
      pool,
      'h2',
      { task: 'migrating' },
      true,
    ],
    ['of one that is leaving this host', file('seed', 'vm'), pool, 'h2', { leavingHostId: 'h2' }, true],
    ['of one, in a shared pool', file('system-disk', 'vm'), shared, null, {}, true],
    ['of one in another pool', file('system-disk', 'vm'), shared, null, { diskPoolUuid: 'other' }, false],
    ['that is being made, of an instance', file('part', 'vm'), pool, 'h2', {}, true],
    ['of no instance', file('system-disk', 'gone'), pool, 'h1', null, false],
    ['of an image', file('image', 'image'), pool, 'h1', null, true],
    ['that is being made, of an image', file('part', 'image'), pool, 'h1', null, true],
    ['of no image', file('image', 'gone'), pool, 'h1', null, false],
    ['of a disk', file('data-disk', 'disk'), pool, 'h1', null, true],
    ['of no disk', file('data-disk', 'gone'), pool, 'h1', null, false],
  ] as const)('%s', (_, it, at, hostId, instance, expected) =>
    expect(isOwned(it, at, hostId, owners(instance))).toBe(expected),
  )
})

test('an orphan keeps the time when it was first found, on its host', () => {
  const old: Orphan = { ...file('image', 'gone'), hostId: 'h1', sinceMs: 5, sizeBytes: 9 }
  const files = [file('image', 'gone'), file('image', 'image'), file('data-disk', 'gone')]
  expect(findOrphans(files, pool, 'h1', owners(null), [old], 100)).toEqual([
    { ...file('data-disk', 'gone'), hostId: 'h1', sinceMs: 100 },
    { ...file('image', 'gone'), hostId: 'h1', sinceMs: 5 },
  ])
  expect(findOrphans([file('image', 'gone')], pool, 'h2', owners(null), [old], 100)).toMatchObject([
    { sinceMs: 100 },
  ])
})
