// Whatever pools become, one after the other: the index says what a scan of them says.

import type { DiskPoolHost, DiskPoolRecord } from '@vpe/core'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PoolHostIndex } from './pool-host-index.ts'

const HOSTS = ['h1', 'h2', 'h3', 'h4']
const POOLS = ['p1', 'p2']
const MARKERS = ['', 'm1', 'm2']

const onHost = (hostId: string, availableBytes: number, marker: string): DiskPoolHost => ({
  hostId,
  state: 'ready',
  fault: '',
  capacityBytes: 10,
  availableBytes,
  leavingBy: null,
  marker,
})

test('says what a scan says, after every change', () => {
  const hosts = fc
    .uniqueArray(fc.tuple(fc.constantFrom(...HOSTS), fc.nat(10), fc.constantFrom(...MARKERS)), {
      selector: ([hostId]) => hostId,
    })
    .map((some) => some.map((each) => onHost(...each)))
  const changes = fc.array(fc.tuple(fc.constantFrom(...POOLS), fc.option(hosts), fc.boolean()))
  fc.assert(
    fc.property(changes, (all) => {
      const index = new PoolHostIndex()
      const pools = new Map<string, DiskPoolRecord>()
      for (const [uuid, next, keepsOld] of all) {
        const before = pools.get(uuid) ?? null
        // What has not changed is the same object, as in the records.
        const kept = next?.map(
          (host) => (keepsOld && before?.hosts.find((old) => old.hostId === host.hostId)) || host,
        )
        const after = kept ? ({ uuid, hosts: kept } as unknown as DiskPoolRecord) : null
        index.replace(before, after)
        if (after) pools.set(uuid, after)
        else pools.delete(uuid)
        for (const poolUuid of POOLS) {
          const seen = pools.get(poolUuid)?.hosts ?? []
          const taken = seen.map(({ capacityBytes, availableBytes }) => capacityBytes - availableBytes)
          expect(index.fullestBytes(poolUuid)).toBe(Math.max(0, ...taken))
          for (const marker of ['m1', 'm2'])
            expect(index.withMarker(poolUuid, marker)).toEqual(
              new Set(seen.filter((host) => host.marker === marker)),
            )
          for (const hostId of HOSTS) {
            expect(index.find(poolUuid, hostId)).toBe(seen.find((host) => host.hostId === hostId) ?? null)
            expect(index.poolsOf(hostId).has(poolUuid)).toBe(seen.some((host) => host.hostId === hostId))
          }
        }
      }
    }),
  )
})
