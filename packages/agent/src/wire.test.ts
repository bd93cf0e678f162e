import { DiskPoolSpec, type InstanceSpec, PoolClass, Power, RebootKind, SystemDiskKind } from '@vpe/proto'
import { describe, expect, test } from 'vitest'
import { desiredFromWire } from './wire.ts'

const spec: InstanceSpec = {
  uuid: '0a1b2c3d-0000-4000-8000-000000000001',
  name: 'web',
  generation: 1,
  power: Power.ON,
  ha: false,
  vcpus: 1,
  memoryMib: 128,
  diskBytes: 0,
  image: { uuid: '0a1b2c3d-0000-4000-8000-00000000000b', url: 'http://images/1', sha256: '' },
  diskPool: {
    ...DiskPoolSpec.create(),
    uuid: '0a1b2c3d-0000-4000-8000-00000000000c',
    kind: 'dir',
    path: '/pool',
    systemDisks: SystemDiskKind.OVERLAY,
  },
  stopGraceMs: 0,
  rebootGeneration: 0,
  rebootKind: RebootKind.UNSPECIFIED,
  diskGeneration: 0,
  seed: undefined,
  disks: [],
  hasDisk: false,
  ownership: undefined,
  diskSnapshotUuid: '',
  diskSource: undefined,
}

describe('a spec from the wire', () => {
  test('becomes a record', () => {
    expect(desiredFromWire(spec, 4)).toMatchObject({
      epoch: 4,
      power: 'on',
      stopGraceMs: 30_000,
      rebootGeneration: 0,
      rebootKind: 'soft',
      diskGeneration: 0,
      dataDisks: [],
      diskPool: { systemDisks: 'overlay' },
    })
  })

  test('tells what the guest is told by its digest, and refuses what no guest can be told', () => {
    const seed = { hostname: 'web', sshKeys: [], userData: '#!/bin/sh\n' }
    const digest = (changes: Partial<typeof seed>) =>
      desiredFromWire({ ...spec, seed: { ...seed, ...changes } }, 1).seed?.sha256
    expect(desiredFromWire(spec, 1).seed).toBeNull()
    expect(digest({})).toMatch(/^[0-9a-f]{64}$/)
    expect(new Set([digest({}), digest({ hostname: 'db' }), digest({ userData: '' })]).size).toBe(3)
    expect(() => digest({ hostname: 'a b' })).toThrow('spec.seed.hostname: expected a host name')
    expect(() => digest({ userData: '\0' })).toThrow('spec.seed.userData')
  })

  test('loses from its name what no definition can hold', () => {
    expect(desiredFromWire({ ...spec, name: 'a\nb\0c\ud800' }, 1).name).toBe('a b c ')
  })

  test.each<[string, Partial<InstanceSpec>]>([
    ['spec.uuid', { uuid: '../../etc/passwd' }],
    ['spec.generation', { generation: 0 }],
    ['spec.power', { power: Power.UNSPECIFIED }],
    ['spec.vcpus', { vcpus: -1 }],
    ['spec.memoryMib', { memoryMib: 0 }],
    ['spec.diskBytes', { diskBytes: -1 }],
    ['spec.image', { image: undefined }],
    ['spec.diskPool', { diskPool: undefined }],
    ['spec.image.sha256', { image: { uuid: spec.uuid, url: 'x', sha256: 'ABC' } }],
    ['spec.ownership.bootId', { ownership: { generation: 1, bootId: '', pools: [] } }],
    [
      'spec.ownership.pools.0.poolClass',
      {
        ownership: {
          generation: 1,
          bootId: spec.uuid,
          pools: [{ poolUuid: spec.uuid, poolClass: PoolClass.UNSPECIFIED, canUnmount: false }],
        },
      },
    ],
    ['spec.diskPool.kind', { diskPool: { ...spec.diskPool, kind: 'iscsi' } as InstanceSpec['diskPool'] }],
  ])('is refused for its %s', (field, changes) => {
    const refused = () => desiredFromWire({ ...spec, ...changes }, 1)
    expect(refused).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', fields: [expect.objectContaining({ field })] }),
    )
  })

  test('is refused when it is not there', () => {
    expect(() => desiredFromWire(undefined, 1)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})
