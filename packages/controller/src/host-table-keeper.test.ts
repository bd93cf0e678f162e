// Whatever is committed, in whatever order: the table is the same as one that is made from the store as it is then.

import { DEFAULT_OVERCOMMIT, type DiskPoolHost, type DiskPoolRecord, type HostRecord } from '@vpe/core'
import { aDisk, anInstance, aSnapshot } from '@vpe/core/testing'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { keepHostTable, reservationOf } from './host-table-keeper.ts'
import type { StoreBackend } from './store/backend.ts'
import { Store } from './store/store.ts'
import { type Change, change } from './store/tables.ts'

const HOSTS = ['h1', 'h2', 'h3'] as const
const POOLS = { local: false, nfs: true } as const
const GIB = 1024 ** 3

/** A database that forgets: only memory is asked. */
async function openStore(): Promise<Store> {
  const rows = { flavors: [], images: [], diskPools: [], disks: [], hosts: [], instances: [], webhooks: [] }
  const loaded = {
    storeId: 's',
    epoch: 1,
    lastPosition: 0,
    rows: {
      ...rows,
      ...{ snapshots: [], joinTokens: [], members: [], rebalances: [], revocations: [] },
      ...{ haHosts: [], haInstances: [], haDisarms: [], haFailovers: [] },
      ...{ poolLeases: [], hostFencing: [] },
    },
    runningOperations: [],
  }
  const backend = { open: async () => loaded, write: async () => {} } as unknown as StoreBackend
  return Store.open(
    backend,
    () => 0,
    () => {},
  )
}

const facts = {
  hostname: '',
  cpuModel: '',
  arch: '',
  domainType: 'kvm',
  libvirtVersion: '',
  hypervisorVersion: '',
  bootId: 'b',
  cpuFeatures: ['aes'],
  agentVersion: '',
  kernel: '',
  bridges: [],
}

const hostIds = fc.constantFrom(...HOSTS)
const poolUuids = fc.constantFrom('local' as const, 'nfs' as const)

const hostChanges = fc
  .record({
    uuid: hostIds,
    state: fc.constantFrom('up' as const, 'down' as const),
    schedulable: fc.boolean(),
    cpus: fc.integer({ min: 1, max: 9 }),
  })
  .map(({ uuid, state, schedulable, cpus }) =>
    change.host({
      ...{ uuid, name: uuid, address: '', state, schedulable, drain: null, createdAtMs: 0 },
      ...{ stateSinceMs: 0, conditions: [] },
      facts: { ...facts, cpus, memoryMib: 1024 * cpus },
    } satisfies HostRecord),
  )

const poolChanges = fc
  .record({
    uuid: poolUuids,
    hosts: fc.uniqueArray(
      fc.record<DiskPoolHost>({
        hostId: hostIds,
        state: fc.constantFrom('pending', 'ready', 'error', 'leaving'),
        leavingBy: fc.constant(null),
        fault: fc.constant(''),
        capacityBytes: fc.constantFrom(0, GIB),
        availableBytes: fc.constantFrom(0, GIB / 2),
        marker: fc.constant(''),
      }),
      { selector: ({ hostId }) => hostId },
    ),
  })
  .map(({ uuid, hosts }) =>
    change.diskPool({
      ...{ uuid, name: uuid, kind: 'dir', path: '/', shared: POOLS[uuid], systemDisks: 'overlay' },
      ...{
        everyHost: false,
        hosts,
        createdAtMs: 0,
        nfs: null,
        rbd: null,
        marker: '',
        orphans: [],
        deletionUuid: null,
      },
    } satisfies DiskPoolRecord),
  )

const instanceChanges = fc
  .record({
    uuid: fc.constantFrom('i1', 'i2', 'i3'),
    hostId: hostIds,
    leavingHostId: fc.constantFrom(null, null, 'h1'),
    diskPoolUuid: poolUuids,
    vcpus: fc.nat(4),
    memoryMib: fc.nat(900),
    diskBytes: fc.nat(GIB),
    ha: fc.boolean(),
    task: fc.constantFrom(null, 'creating' as const),
    tags: fc.subarray(['affinity:a', 'anti-affinity:b', 'plain']),
  })
  .map((over) => {
    const leavingHostId = over.leavingHostId === over.hostId ? null : over.leavingHostId
    return change.instance(anInstance({ ...over, leavingHostId, name: over.uuid, generatedName: over.uuid }))
  })

const diskChanges = fc
  .record({
    uuid: fc.constantFrom('d1', 'd2'),
    pool: poolUuids,
    hostId: hostIds,
    sizeBytes: fc.nat(GIB),
  })
  .map(({ uuid, pool, hostId, sizeBytes }) =>
    change.disk(aDisk({ uuid, diskPoolUuid: pool, hostId: POOLS[pool] ? null : hostId, sizeBytes })),
  )

const snapshotChanges = fc
  .record({ uuid: fc.constantFrom('s1', 's2'), sizeBytes: fc.nat(GIB) })
  .map(({ uuid, sizeBytes }) => change.snapshot(aSnapshot({ uuid, instanceUuid: 'i1', sizeBytes })))

const removals: fc.Arbitrary<Change> = fc.oneof(
  hostIds.map((uuid) => change.remove('hosts', uuid)),
  poolUuids.map((uuid) => change.remove('diskPools', uuid)),
  fc.constantFrom('i1', 'i2', 'i3').map((uuid) => change.remove('instances', uuid)),
  fc.constantFrom('d1', 'd2').map((uuid) => change.remove('disks', uuid)),
  fc.constantFrom('s1', 's2').map((uuid) => change.remove('snapshots', uuid)),
)

const changes = fc.oneof(hostChanges, poolChanges, instanceChanges, diskChanges, snapshotChanges, removals)

test('is what the store says, after every commit', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(changes, { maxLength: 40 }), async (sequence) => {
      const store = await openStore()
      const table = keepHostTable(store, DEFAULT_OVERCOMMIT)
      for (const each of sequence) {
        void store.commit([each])
        const anew = keepHostTable(store, DEFAULT_OVERCOMMIT)
        expect(table.hosts()).toEqual(anew.hosts())
        for (const instance of store.instances.values()) {
          const hosts = [instance.hostId]
          table.without(hosts, reservationOf(instance), () => {})
          expect(table.hosts()).toEqual(anew.hosts())
        }
      }
    }),
    { numRuns: 150 },
  )
})
