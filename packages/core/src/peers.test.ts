import fc from 'fast-check'
import { expect, test } from 'vitest'
import { choosePeers, judgePeers } from './peers.ts'

test('in time each host tries every other, and never itself', () => {
  const world = fc.tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 4 }))
  fc.assert(
    fc.property(world, ([size, count]) => {
      const hosts = Array.from({ length: size }, (_, index) => `host-${index}`)
      const tried = new Set<string>()
      for (let round = 0; round < size; round++) {
        const chosen = choosePeers('host-0', hosts, round, count)
        expect(chosen).toHaveLength(Math.min(count, size - 1))
        expect(new Set(chosen).size).toBe(chosen.length)
        for (const each of chosen) tried.add(each)
      }
      expect([...tried].sort()).toEqual(hosts.filter((host) => host !== 'host-0').sort())
    }),
  )
})

test('a round spreads over hosts: none is tried by more than it tries', () => {
  const hosts = ['a', 'b', 'c', 'd', 'e']
  const chosen = hosts.flatMap((host) => choosePeers(host, hosts, 1, 2))
  for (const host of hosts) expect(chosen.filter((each) => each === host)).toHaveLength(2)
})

test('what does not work is said by direction, with a cure', () => {
  const attempts = [
    { peer: 'h2', direction: 'there', faults: [] },
    { peer: 'h2', direction: 'here', faults: ['tcp 10.0.0.1:49215 (timed out)'] },
  ] as const
  expect(judgePeers(attempts.slice(0, 1), 'TCP 16514')).toMatchObject({ status: 'ok', cure: '' })
  expect(judgePeers(attempts, 'TCP 16514')).toMatchObject({
    status: 'failed',
    message: 'no guest can be sent from h2: tcp 10.0.0.1:49215 (timed out)',
    cure: expect.stringContaining('Open TCP 16514 between all hosts, in both directions'),
  })
})
