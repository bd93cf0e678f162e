// Guests on their way between the hosts of a lab: that they arrive whole, and what becomes of them when a host or its
// cable dies meanwhile. Part of the lab's tests (lab.test.ts), which give it hosts that are all up.

import { expect, test } from 'vitest'
import { until } from './cluster.ts'
import { COUNTING, CountingGuest, watchedWhile } from './counting-guest.ts'
import type { LabCluster } from './lab-cluster.ts'

const FLAVOR = 'tiny-96'
/** A guest of 96 MiB takes a minute at this speed, so that there is time for anything to happen. */
const SLOWLY = { bandwidth_mib_s: 1 }

export function testMoves(cluster: LabCluster): void {
  const { lab } = cluster

  /** Guests that count, each on the host of that name. */
  async function counting(...hosts: readonly string[]): Promise<CountingGuest[]> {
    const { body } = await cluster.ok('GET', '/flavors')
    if (!body.flavors.some(({ name }: { name: string }) => name === FLAVOR)) {
      const flavor = { name: FLAVOR, vcpus: 1, memory_mib: 96, disk_gib: 0 }
      await cluster.ok('POST', '/flavors', { flavor })
    }
    const guests: CountingGuest[] = []
    for (const host of hosts) {
      guests.push(
        await cluster.onlyOn(host, async () => {
          const instance = {
            name: `counts-${crypto.randomUUID()}`,
            flavor_uuid: FLAVOR,
            image_uuid: 'demo',
            disk_pool: 'shared',
            user_data: COUNTING,
          }
          const { body } = await cluster.ok('POST', '/instances', { instance })
          return new CountingGuest(cluster, body.instance.uuid)
        }),
      )
    }
    await Promise.all(
      guests.map(async (guest, index) => {
        await until('the guest counts', () => guest.numbers().length > 5)
        expect(await cluster.runningOn(guest.uuid)).toEqual([hosts[index]])
      }),
    )
    return guests
  }

  async function migrate({ uuid }: CountingGuest, to: string, limits = {}): Promise<string> {
    const order = { host_uuid: to, mode: 'live', ...limits }
    const { headers } = await cluster.ok('POST', `/instances/${uuid}/migrate`, { migrate: order })
    return headers.get('operation-id') ?? ''
  }

  async function copies(operation: string): Promise<void> {
    await until('it is being copied', async () => {
      const { body } = await cluster.ok('GET', `/operations/${operation}`)
      expect(body.operation).toMatchObject({ status: 'running' })
      return body.operation.step?.startsWith('copied') ?? false
    })
  }

  async function remove(guest: CountingGuest): Promise<void> {
    const { headers } = await cluster.ok('DELETE', `/instances/${guest.uuid}`)
    expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
    guest.close()
  }

  const isAt = (host: string) => ({ status: 'active', task: null, host })

  test('a guest goes from host to host while it counts, and no number is missing', async () => {
    const [guest] = (await counting('h1')) as [CountingGuest]
    const [longestGapMs] = await watchedWhile(cluster, [guest], async () => {
      expect(await cluster.ended(await migrate(guest, 'h2'))).toMatchObject({ status: 'succeeded' })
      await guest.goesOn()
    })
    const events = (await cluster.events()).filter(({ subject }) => subject === `instance/${guest.uuid}`)
    const migrated = events.find(({ type }) => type === 'vpe.instance.migrated')
    const figures = { longestGapMs, ...(migrated?.data.migration as object) }
    process.stdout.write(`migrated: ${JSON.stringify(figures)}\n`)
    guest.expectWhole()
    expect(await cluster.definedOn(guest.uuid)).toEqual(['h2'])
    expect(await cluster.instance(guest.uuid)).toMatchObject(isAt('h2'))
    await remove(guest)
  })

  test('where the other host dies or is cut off meanwhile it stays, and where its own dies it comes back with it', async () => {
    const [toDead, toCut, fromDead] = (await counting('h1', 'h1', 'h3')) as [
      CountingGuest,
      CountingGuest,
      CountingGuest,
    ]
    const operations = await Promise.all([
      migrate(toDead, 'h3', SLOWLY),
      migrate(toCut, 'h2', SLOWLY),
      migrate(fromDead, 'h1', SLOWLY),
    ])
    await Promise.all(operations.map(copies))
    await Promise.all([lab.kill('h3'), lab.partition('h2')])
    expect(await cluster.runningOn(fromDead.uuid)).toEqual([])

    await watchedWhile(cluster, [toDead, toCut], async () => {
      for (const operation of operations.slice(0, 2))
        expect(await cluster.ended(operation)).toMatchObject({ status: 'failed' })
      await Promise.all([toDead.goesOn(), toCut.goesOn()])
    })
    for (const guest of [toDead, toCut]) {
      guest.expectWhole()
      expect(await cluster.runningOn(guest.uuid)).toEqual(['h1'])
    }

    await lab.heal('h2')
    await until('nothing of it is left where it was going', async () => {
      return (await cluster.definedOn(toCut.uuid)).join() === 'h1'
    })
    // Whether it had gone is for its old host to say.
    expect(await cluster.runningOn(fromDead.uuid)).toEqual([])
    await lab.start('h3')
    await until('it runs once', async () => (await cluster.runningOn(fromDead.uuid)).length === 1)
    await until('it is at rest', async () => (await cluster.instance(fromDead.uuid)).task === null)
    await until('no host has two', async () => (await cluster.definedOn(fromDead.uuid)).length === 1)
    for (const guest of [toDead, toCut, fromDead])
      expect(await cluster.instance(guest.uuid)).toMatchObject({ status: 'active', task: null })
    for (const host of ['h2', 'h3']) await until(`${host} is relied on again`, () => cluster.isReliedOn(host))
    await Promise.all([toDead, toCut, fromDead].map(remove))
  })

  test('a host with six guests is drained: all go on elsewhere, each once', async () => {
    const guests = await counting(...Array<string>(6).fill('h1'))
    const host = await cluster.hostId('h1')
    const gaps = await watchedWhile(cluster, guests, async () => {
      const { headers } = await cluster.ok('POST', `/hosts/${host}/drain`, {})
      expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
      await Promise.all(guests.map((guest) => guest.goesOn()))
    })
    process.stdout.write(`drained: ${JSON.stringify({ longestGapsMs: gaps })}\n`)
    expect((await lab.status()).hosts[0]).toMatchObject({ name: 'h1', domains: [] })
    for (const guest of guests) {
      guest.expectWhole()
      const homes = await cluster.definedOn(guest.uuid)
      expect(homes).toHaveLength(1)
      expect(await cluster.instance(guest.uuid)).toMatchObject(isAt(homes.join()))
    }
    expect((await cluster.ok('GET', `/hosts/${host}`)).body.host).toMatchObject({
      schedulable: false,
      drain: { state: 'drained', remaining: 0, stuck: [] },
    })
    await cluster.ok('POST', `/hosts/${host}/uncordon`)
    await Promise.all(guests.map(remove))
  })
}
