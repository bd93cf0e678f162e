// What every filling of the Hypervisor interface must do. Run over the fake, over libvirt's mock driver,
// and over real QEMU.

import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import type { GuestState } from '@vpe/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dataDiskXml, domainName, domainXml, networkXml, type Platform } from '../domain-xml.ts'
import type { Hypervisor, HypervisorEvent } from '../hypervisor/hypervisor.ts'
import { formatMark, parseMark } from '../instance-mark.ts'
import { choosePlatform } from '../platform.ts'
import { dataDiskPath } from '../pool/pool-files.ts'
import { until } from './lab.ts'

export interface ContractWorld {
  readonly hypervisor: Hypervisor
  /** A folder in which files may be made. */
  readonly dir: string
  /** Makes an empty system disk. */
  makeDisk(path: string): Promise<void>
  /** The names of a disk's snapshots. */
  snapshotsOf(uuid: string, path: string): Promise<string[]>
  dispose(): Promise<void>
}

export interface ContractOptions {
  /** A guest without a system shuts down when its power button is pressed; real ones do not. */
  readonly obeysPowerButton: boolean
  readonly canPlugDisks: boolean
  /** libvirt's mock driver has no QEMU to ask. */
  readonly hasSnapshots: boolean
}

const MIB = 1024 ** 2
const NAME = 'R&D <"web"> \u4e2d\u6587 \u{1f600}'

export function hypervisorContract(
  name: string,
  open: () => Promise<ContractWorld>,
  options: ContractOptions,
): void {
  describe(`the hypervisor contract over ${name}`, () => {
    let world: ContractWorld
    let platform: Platform
    const events: HypervisorEvent[] = []
    beforeAll(async () => {
      world = await open()
      world.hypervisor.onEvent((event) => events.push(event))
      platform = choosePlatform((await world.hypervisor.facts()).capabilities, false)
    })
    afterAll(() => world.dispose())

    async function define(changes: { vcpus?: number; uuid?: string } = {}) {
      const mark = {
        uuid: randomUUID() as string,
        hostId: randomUUID(),
        generation: 1,
        epoch: 1,
        name: NAME,
        power: 'on',
        ha: false,
        vcpus: 1,
        memoryMib: 64,
        imageUuid: randomUUID(),
        diskPoolUuid: randomUUID(),
        diskPoolPath: world.dir,
        seedSha256: '',
        dataDisks: [],
        bootId: '',
        stopCause: null,
        fault: '',
        restarts: 0,
        ownership: 0,
        isGuarded: false,
        rebootGeneration: 0,
        diskGeneration: 0,
        diskBytes: 0,
        ...changes,
      } as const
      const systemDiskPath = `${world.dir}/${mark.uuid}.qcow2`
      await world.makeDisk(systemDiskPath)
      const consoleLogPath = `${world.dir}/${mark.uuid}.log`
      await world.hypervisor.defineDomain(
        domainXml({
          mark,
          platform,
          seedPath: undefined,
          systemDiskPath,
          consoleLogPath,
          serialSocketPath: undefined,
          bridge: undefined,
        }),
      )
      return mark
    }

    async function guestOf(uuid: string): Promise<GuestState | undefined> {
      return (await world.hypervisor.findDomain(uuid))?.guest
    }

    async function markOf(uuid: string) {
      const parsed = parseMark((await world.hypervisor.findDomain(uuid))?.markXml ?? '')
      if ('refused' in parsed) throw new Error(parsed.refused)
      return parsed.mark
    }

    test('finds nothing where there is nothing', async () => {
      expect(await world.hypervisor.findDomain(randomUUID())).toBeNull()
    })

    test('defines a domain that keeps its mark, whatever is in it', async () => {
      const mark = await define()
      expect(await markOf(mark.uuid)).toEqual(mark)
      expect(await guestOf(mark.uuid)).toMatchObject({ power: 'off' })
      const listed = (await world.hypervisor.listDomains()).domains.find(({ uuid }) => uuid === mark.uuid)
      expect(listed).toEqual(await world.hypervisor.findDomain(mark.uuid))
      expect(listed?.name).toBe(domainName(mark.uuid))
      await world.hypervisor.undefineDomain(mark.uuid)
    })

    test('starts, destroys and undefines; doing it twice does no harm; events tell', async () => {
      const { uuid } = await define()
      const seen = async (what: string, work: () => Promise<void>) => {
        events.length = 0
        await work()
        const isTold = () => events.some((event) => event.kind === 'domain' && event.uuid === uuid)
        await until(`an event of ${what}`, isTold)
      }
      await seen('start', () => world.hypervisor.startDomain(uuid))
      await world.hypervisor.startDomain(uuid)
      expect(await guestOf(uuid)).toEqual({ power: 'on' })
      await seen('destroy', () => world.hypervisor.destroyDomain(uuid))
      await world.hypervisor.destroyDomain(uuid)
      expect(await guestOf(uuid)).toEqual({ power: 'off', reason: 'destroyed' })
      await seen('undefine', () => world.hypervisor.undefineDomain(uuid))
      await world.hypervisor.undefineDomain(uuid)
      await world.hypervisor.destroyDomain(uuid)
      expect(await world.hypervisor.findDomain(uuid)).toBeNull()
    })

    test('writes the mark of a guest that is off and of one that runs', async () => {
      const mark = await define()
      await world.hypervisor.writeMark(mark.uuid, formatMark({ ...mark, generation: 2 }))
      expect(await markOf(mark.uuid)).toMatchObject({ generation: 2, name: NAME })
      await world.hypervisor.startDomain(mark.uuid)
      await world.hypervisor.writeMark(mark.uuid, formatMark({ ...mark, generation: 3, power: 'off' }))
      expect(await markOf(mark.uuid)).toMatchObject({ generation: 3, power: 'off' })
      await world.hypervisor.destroyDomain(mark.uuid)
      expect(await markOf(mark.uuid)).toMatchObject({ generation: 3, power: 'off' })
      await world.hypervisor.undefineDomain(mark.uuid)
    })

    test('changes the definition of a running guest, and reads the newer mark', async () => {
      const { uuid } = await define()
      await world.hypervisor.startDomain(uuid)
      await define({ uuid, vcpus: 2 })
      expect(await markOf(uuid)).toMatchObject({ vcpus: 2 })
      expect(await guestOf(uuid)).toEqual({ power: 'on' })
      await world.hypervisor.destroyDomain(uuid)
      expect(await markOf(uuid)).toMatchObject({ vcpus: 2 })
      await world.hypervisor.undefineDomain(uuid)
    })

    test('presses the power button', async () => {
      const { uuid } = await define()
      await world.hypervisor.startDomain(uuid)
      await world.hypervisor.shutdownDomain(uuid)
      const expected = options.obeysPowerButton ? { power: 'off', reason: 'guest-shutdown' } : { power: 'on' }
      expect(await guestOf(uuid)).toEqual(expected)
      await world.hypervisor.destroyDomain(uuid)
      await world.hypervisor.shutdownDomain(uuid)
      await world.hypervisor.undefineDomain(uuid)
    })

    test('pauses a guest and lets it go on; doing it twice does no harm', async () => {
      const { uuid } = await define()
      await world.hypervisor.startDomain(uuid)
      for (let time = 0; time < 2; time++) {
        await world.hypervisor.pauseDomain(uuid)
        expect(await guestOf(uuid)).toEqual({ power: 'paused', reason: 'asked' })
      }
      for (let time = 0; time < 2; time++) {
        await world.hypervisor.resumeDomain(uuid)
        expect(await guestOf(uuid)).toEqual({ power: 'on' })
      }
      await world.hypervisor.pauseDomain(uuid)
      await world.hypervisor.destroyDomain(uuid)
      expect(await guestOf(uuid)).toEqual({ power: 'off', reason: 'destroyed' })
      await expect(world.hypervisor.pauseDomain(uuid)).rejects.toMatchObject({ code: 'HYPERVISOR_FAILED' })
      await world.hypervisor.undefineDomain(uuid)
    })

    test.runIf(options.hasSnapshots)(
      'keeps the content of a running guest’s disk, once for each name',
      async () => {
        const { uuid } = await define()
        await expect(world.hypervisor.snapshotSystemDisk(uuid, 'a')).rejects.toMatchObject({
          code: 'HYPERVISOR_FAILED',
        })
        await world.hypervisor.startDomain(uuid)
        for (const name of ['a', 'a', 'b']) await world.hypervisor.snapshotSystemDisk(uuid, name)
        expect(await guestOf(uuid)).toEqual({ power: 'on' })
        for (let time = 0; time < 2; time++) await world.hypervisor.removeSystemDiskSnapshot(uuid, 'b')
        await world.hypervisor.pauseDomain(uuid)
        await world.hypervisor.snapshotSystemDisk(uuid, 'c')
        expect(await world.snapshotsOf(uuid, `${world.dir}/${uuid}.qcow2`)).toEqual(['a', 'c'])
        await world.hypervisor.destroyDomain(uuid)
        await world.hypervisor.undefineDomain(uuid)
      },
    )

    test('says why a domain that is not there cannot be started', async () => {
      await expect(world.hypervisor.startDomain(randomUUID())).rejects.toMatchObject({
        code: 'HYPERVISOR_FAILED',
        message: expect.stringMatching(/^libvirt: .*domain/i),
      })
    })

    test('samples the guests that run, and no others', async () => {
      const { uuid } = await define()
      const off = await define()
      await world.hypervisor.startDomain(uuid)
      const sampled = (await world.hypervisor.sampleGuests()).map((sample) => sample.uuid)
      expect(sampled).toContain(uuid)
      expect(sampled).not.toContain(off.uuid)
      await world.hypervisor.destroyDomain(uuid)
      expect((await world.hypervisor.sampleGuests()).map((sample) => sample.uuid)).not.toContain(uuid)
      for (const each of [uuid, off.uuid]) await world.hypervisor.undefineDomain(each)
    })

    test('gives a running guest a disk, grows it, and asks for it back', async (context) => {
      context.skip(!options.canPlugDisks, 'this driver has no hot-plugging')
      const mark = await define()
      const disk = { uuid: randomUUID(), diskPoolUuid: randomUUID(), diskPoolPath: world.dir }
      const wanted = { ...disk, target: 'vdb', sizeBytes: 2 * MIB }
      const file = dataDiskPath(world.dir, disk.uuid)
      await writeFile(file, Buffer.alloc(MIB))
      expect(await world.hypervisor.guestDisks(mark.uuid)).toEqual([])
      await world.hypervisor.startDomain(mark.uuid)
      const before = await world.hypervisor.guestDisks(mark.uuid)
      expect(before).toEqual([expect.objectContaining({ target: 'vda' })])

      await world.hypervisor.attachDisk(mark.uuid, dataDiskXml(wanted, false))
      await world.hypervisor.attachDisk(mark.uuid, dataDiskXml(wanted, false))
      expect(await world.hypervisor.guestDisks(mark.uuid)).toMatchObject([
        ...before,
        { target: 'vdb', path: file },
      ])
      await world.hypervisor.growDisk(mark.uuid, 'vdb', 2 * MIB)
      await world.hypervisor.growDisk(mark.uuid, 'vdb', MIB)
      // A guest without a system never lets go; that it was asked twice does no harm.
      await world.hypervisor.detachDisk(mark.uuid, 'vdb')
      await world.hypervisor.detachDisk(mark.uuid, 'vdb')
      await world.hypervisor.detachDisk(mark.uuid, 'vdz')
      await world.hypervisor.destroyDomain(mark.uuid)
      expect(await world.hypervisor.guestDisks(mark.uuid)).toEqual([])
      await world.hypervisor.undefineDomain(mark.uuid)
      expect(await world.hypervisor.guestDisks(mark.uuid)).toEqual([])
    })

    test('takes a running guest from its network, and brings it back', async (context) => {
      context.skip(!options.canPlugDisks, 'this driver changes no device of a running guest')
      const { uuid } = await define()
      await world.hypervisor.startDomain(uuid)
      for (const isUp of [false, false, true])
        await world.hypervisor.updateDevice(uuid, networkXml(uuid, undefined, isUp))
      await world.hypervisor.destroyDomain(uuid)
      await expect(
        world.hypervisor.updateDevice(uuid, networkXml(uuid, undefined, true)),
      ).rejects.toMatchObject({ code: 'HYPERVISOR_FAILED' })
      await world.hypervisor.undefineDomain(uuid)
    })

    test('makes a pool ready and forgets it, twice each', async () => {
      const uuid = randomUUID()
      await world.hypervisor.ensurePool(uuid, `${world.dir}/pool-${uuid}`)
      await world.hypervisor.ensurePool(uuid, `${world.dir}/pool-${uuid}`)
      await world.hypervisor.forgetPool(uuid)
      await world.hypervisor.forgetPool(uuid)
    })
  })
}
