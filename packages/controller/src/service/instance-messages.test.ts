import type { FlavorRecord, HostRecord, InstanceRecord } from '@vpe/core'
import { aDisk, anInstance } from '@vpe/core/testing'
import { Instance } from '@vpe/proto'
import { expect, test } from 'vitest'
import { DiskIndex } from '../store/disk-index.ts'
import type { Store } from '../store/store.ts'
import { InstanceMessages } from './instance-messages.ts'

const instance = anInstance({ name: 'vm1', flavorUuid: 'f', hostId: 'h' })

test('an instance is encoded again when it, or what it names, has changed', () => {
  const flavors = new Map([['f', { name: 'tiny' } as FlavorRecord]])
  const hosts = new Map([['h', { name: 'h1' } as HostRecord]])
  const disks = new Map([['d', aDisk({ uuid: 'd', name: 'vol1', instanceUuid: instance.uuid, slot: 1 })]])
  const diskIndex = new DiskIndex()
  const [images, diskPools] = [new Map(), new Map()]
  const store = { flavors, hosts, images, diskPools, disks, diskIndex } as unknown as Store
  const messages = new InstanceMessages(store)
  const shown = (record: InstanceRecord) => {
    const { name, flavorName, hostName } = Instance.decode(messages.encode(record).instance)
    return [name, flavorName, hostName]
  }
  expect(shown(instance)).toEqual(['vm1', 'tiny', 'h1'])
  const first = messages.encode(instance)
  expect(messages.encode(instance)).toBe(first)

  hosts.set('h', { name: 'h2' } as HostRecord)
  expect(shown(instance)).toEqual(['vm1', 'tiny', 'h2'])
  expect(messages.encode(instance).edition).toBeGreaterThan(first.edition)
  const shownDisks = () => Instance.decode(messages.encode(instance).instance).disks
  expect(shownDisks()).toEqual([])
  diskIndex.replace(null, disks.get('d') ?? null)
  expect(shownDisks()).toEqual([{ uuid: 'd', name: 'vol1' }])
  flavors.delete('f')
  expect(shown({ ...instance, name: 'vm2' })).toEqual(['vm2', '', 'h2'])
})
