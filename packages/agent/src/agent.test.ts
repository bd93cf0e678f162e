// Goal: the agent keeps its promises whatever comes in between. Method: the real agent on a fake host, with
// time moved by hand. What real libvirt and QEMU do is tested in agent.integration.test.ts.

import { randomUUID } from 'node:crypto'
import { decodeHeartbeat } from '@vpe/bus'
import { type DesiredInstance, ROOM, VpeError } from '@vpe/core'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Agent } from './agent.ts'
import { markElement } from './hypervisor/fake.ts'
import { desiredInstance, FakeHost, reportFrom } from './testing/fake-host.ts'
import { settle } from './testing/manual-clock.ts'

let host: FakeHost
let agent: Agent
beforeEach(async () => {
  host = new FakeHost()
  agent = await host.startAgent()
})
afterEach(() => agent.stop())

async function restartAgent(): Promise<void> {
  await agent.stop()
  agent = await host.startAgent()
  await settle()
}

describe('a capture', () => {
  const imageUuid = '0a1b2c3d-0000-4000-8000-0000000000cc'
  const capture = (desired: ReturnType<typeof desiredInstance>) =>
    agent.captureImage(desired.diskPool, imageUuid, desired.uuid, () => {}, new AbortController().signal)

  test('takes the disk of a guest that is off, and of no other', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    await expect(capture(desired)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('stop it first'),
    })
    await agent.apply({ ...desired, generation: 2, power: 'off' }).result
    await capture(desired)
    expect(host.files.images).toContain(imageUuid)
  })

  test('gives way to what its controller wants of the instance, and waits for it', async () => {
    const desired = desiredInstance({ power: 'off' })
    await agent.apply(desired).result
    const reading = Promise.withResolvers<void>()
    const mayEnd = Promise.withResolvers<void>()
    host.files.beforeCall = (operation) => {
      if (operation !== 'capture-image') return
      reading.resolve()
      return mayEnd.promise
    }
    const captured = capture(desired)
    await reading.promise
    const started = agent.apply({ ...desired, generation: 2, power: 'on' })
    expect(() => capture(desired)).toThrow(expect.objectContaining({ code: 'UNAVAILABLE' }))
    await settle()
    expect(host.hypervisor.calls.some((call) => call.startsWith('start'))).toBe(false)
    mayEnd.resolve()
    await expect(captured).rejects.toMatchObject({ code: 'SUPERSEDED' })
    expect(await started.result).toMatchObject({ power: 'on' })
    expect(host.files.images).not.toContain(imageUuid)
  })
})

describe('apply', () => {
  test('makes a guest, says what it does, and reports it', async () => {
    const desired = desiredInstance()
    const running = agent.apply(desired)
    const said: string[] = []
    running.progress.listen((step) => said.push(step))
    expect(await running.result).toEqual({
      uuid: desired.uuid,
      generation: 1,
      power: 'on',
      stopCause: null,
      fault: '',
      converging: false,
      restarts: 0,
      holdUp: null,
    })
    expect(host.hypervisor.calls).toEqual([
      `ensure-pool ${desired.diskPool.uuid}`,
      `define ${desired.uuid}`,
      `start ${desired.uuid}`,
    ])
    expect(said).toContain('importing image 50 %')
    expect(host.published.some(({ subject }) => subject === `vpe.host.${host.hostId}.changed`)).toBe(true)
  })

  test('a second time does nothing', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    const before = [...host.hypervisor.calls, ...host.files.calls]
    await agent.apply(desired).result
    expect([...host.hypervisor.calls, ...host.files.calls]).toEqual(before)
  })

  test('of one generation at the same time is done once, and both are told', async () => {
    const desired = desiredInstance()
    const both = [agent.apply(desired), agent.apply(desired)]
    const said: string[][] = [[], []]
    for (const [index, running] of both.entries()) running.progress.listen((step) => said[index]?.push(step))
    const reports = await Promise.all(both.map(({ result }) => result))
    expect(reports[0]).toEqual(reports[1])
    expect(said[0]).toEqual(said[1])
    expect(host.hypervisor.calls.filter((call) => call.startsWith('start'))).toHaveLength(1)
  })

  test('of a newer generation takes over from one that waits for a guest to shut down', async () => {
    host.hypervisor.knobs.ignoresPowerButton = true
    const desired = desiredInstance()
    await agent.apply(desired).result
    const stopping = agent.apply({ ...desired, generation: 2, power: 'off' })
    stopping.result.catch(() => {})
    await settle()
    const report = await agent.apply({ ...desired, generation: 3 }).result
    await expect(stopping.result).rejects.toMatchObject({ code: 'SUPERSEDED' })
    expect(report).toMatchObject({ generation: 3, power: 'on' })
    expect(host.hypervisor.calls.some((call) => call.startsWith('destroy'))).toBe(false)
  })

  test('of a lower generation is refused', async () => {
    const desired = desiredInstance({ generation: 5 })
    await agent.apply(desired).result
    await expect(agent.apply({ ...desired, generation: 4 }).result).rejects.toMatchObject({
      code: 'STALE_GENERATION',
    })
  })

  test('that fails says why, and succeeds when it is called again', async () => {
    const desired = desiredInstance()
    host.hypervisor.knobs.failures.push({ call: 'start', words: 'no memory left' })
    await expect(agent.apply(desired).result).rejects.toMatchObject({
      code: 'HYPERVISOR_FAILED',
      message: 'libvirt: no memory left',
    })
    expect(await agent.apply(desired).result).toMatchObject({ power: 'on' })
  })

  test('whose image cannot be had leaves nothing defined', async () => {
    const desired = desiredInstance()
    host.files.failures.push({
      operation: 'import-image',
      error: new VpeError('IMAGE_INVALID', 'no such image'),
    })
    await expect(agent.apply(desired).result).rejects.toMatchObject({ code: 'IMAGE_INVALID' })
    expect(await reportFrom(agent, desired.uuid)).toBeUndefined()
  })

  test('with another image rebuilds the disk', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    const image = { ...desired.image, uuid: '0a1b2c3d-0000-4000-8000-0000000000bb' }
    expect(await agent.apply({ ...desired, generation: 2, image }).result).toMatchObject({
      generation: 2,
      power: 'on',
    })
    expect(host.files.disks.get(desired.uuid)).toBe(image.uuid)
    expect(host.hypervisor.calls.map((call) => call.split(' ')[0]).slice(3)).toEqual([
      'mark',
      'shutdown',
      'define',
      'start',
    ])
  })

  test('with another size writes the definition, and a running guest’s mark with it', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    await agent.apply({ ...desired, generation: 2, vcpus: 8 }).result
    expect(host.hypervisor.domainXml(desired.uuid)).toContain('<vcpu>8</vcpu>')
    expect(host.hypervisor.calls.slice(-2)).toEqual([`define ${desired.uuid}`, `mark ${desired.uuid}`])
  })

  test('touches no domain of others', async () => {
    const desired = desiredInstance()
    host.hypervisor.addForeign(desired.uuid)
    await expect(agent.apply(desired).result).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(
      agent.remove({ uuid: desired.uuid, generation: 9, diskPool: desired.diskPool }).result,
    ).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(host.hypervisor.calls).toEqual([])
  })

  test('while libvirt is away says so, and works when it is back', async () => {
    const desired = desiredInstance()
    host.hypervisor.setAway(true)
    await expect(agent.apply(desired).result).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    host.hypervisor.setAway(false)
    expect(await agent.apply(desired).result).toMatchObject({ power: 'on' })
  })

  test('of many instances at once does eight of them at a time', async () => {
    let [under, most] = [0, 0]
    host.hypervisor.knobs.beforeCall = async (call) => {
      if (call !== 'start') return
      most = Math.max(most, ++under)
      await settle()
      under--
    }
    const wishes = Array.from({ length: 20 }, () => desiredInstance())
    await Promise.all(wishes.map((desired) => agent.apply(desired).result))
    expect(most).toBe(8)
  })

  test('makes pools ready again after libvirtd was away', async () => {
    await agent.apply(desiredInstance()).result
    host.hypervisor.setAway(true)
    host.hypervisor.setAway(false)
    await agent.apply(desiredInstance()).result
    await agent.apply(desiredInstance()).result
    expect(host.hypervisor.calls.filter((call) => call.startsWith('ensure-pool'))).toHaveLength(2)
  })
})

describe('data disks', () => {
  const aDisk = (sizeBytes = 1024) => ({
    uuid: randomUUID() as string,
    diskPoolUuid: '0a1b2c3d-0000-4000-8000-00000000000c',
    diskPoolPath: '/pool',
    target: 'vdb',
    sizeBytes,
  })
  const live = async (uuid: string) =>
    (await host.hypervisor.guestDisks(uuid)).flatMap(({ path }) => /disk-(.*)\.raw/.exec(path)?.[1] ?? [])

  test('come and go while the guest runs, and stay when it is started anew', async () => {
    const [one, two] = [aDisk(), { ...aDisk(), target: 'vdc' }]
    const wish = desiredInstance({ dataDisks: [one] })
    await agent.apply(wish).result
    expect(await live(wish.uuid)).toEqual([one.uuid])
    await agent.apply({ ...wish, generation: 2, dataDisks: [one, two] }).result
    expect(await live(wish.uuid)).toEqual([one.uuid, two.uuid])
    await agent.apply({ ...wish, generation: 3, dataDisks: [two] }).result
    expect(await live(wish.uuid)).toEqual([two.uuid])
    await agent.apply({ ...wish, generation: 4, power: 'off', dataDisks: [two] }).result
    await agent.apply({ ...wish, generation: 5, dataDisks: [two] }).result
    expect(await live(wish.uuid)).toEqual([two.uuid])
    expect(host.hypervisor.calls.filter((call) => call.startsWith('start'))).toHaveLength(2)
  })

  test('that the guest does not let go of stay: asked thrice, then refused with the cure', async () => {
    const disk = aDisk()
    const wish = desiredInstance({ dataDisks: [disk] })
    await agent.apply(wish).result
    host.hypervisor.knobs.holdsDisks = true
    const { result } = agent.apply({ ...wish, generation: 2, dataDisks: [] })
    const failed = expect(result).rejects.toMatchObject({
      code: 'DEVICE_BUSY',
      message: expect.stringMatching(
        /did not let go .* within 30 s, so it is still attached; .*stop the instance/,
      ),
    })
    await host.clock.advance(31_000)
    await failed
    expect(host.hypervisor.calls.filter((call) => call.startsWith('detach'))).toHaveLength(3)
    expect(await reportFrom(agent, wish.uuid)).toMatchObject({ generation: 1, power: 'on' })
    expect(await live(wish.uuid)).toEqual([disk.uuid])
  })

  test('that the guest lets go of too late are given back', async () => {
    const disk = aDisk()
    const wish = desiredInstance({ dataDisks: [disk] })
    await agent.apply(wish).result
    host.hypervisor.releaseDisk(wish.uuid, 'vdb')
    await settle()
    expect(await live(wish.uuid)).toEqual([disk.uuid])
    expect(host.hypervisor.calls.filter((call) => call.startsWith('attach'))).toHaveLength(1)
  })

  test('grow by way of the guest that has them, else in the pool', async () => {
    const disk = aDisk()
    const wish = desiredInstance({ dataDisks: [disk] })
    await agent.apply(wish).result
    await agent.apply({ ...wish, generation: 2, dataDisks: [{ ...disk, sizeBytes: 2048 }] }).result
    expect(host.hypervisor.calls).toContain(`grow vdb 2048 ${wish.uuid}`)
    const off = { ...wish, power: 'off' as const }
    await agent.apply({ ...off, generation: 3, dataDisks: [{ ...disk, sizeBytes: 2048 }] }).result
    await agent.apply({ ...off, generation: 4, dataDisks: [{ ...disk, sizeBytes: 4096 }] }).result
    expect(host.files.dataDisks.get(disk.uuid)).toBe(4096)
  })

  test('are not removed while a domain has them', async () => {
    const disk = aDisk()
    const wish = desiredInstance({ dataDisks: [disk] })
    await agent.apply(wish).result
    const removal = { uuid: disk.uuid, diskPool: wish.diskPool, sizeBytes: 1024 }
    await expect(agent.removeDisk(removal)).rejects.toMatchObject({ code: 'IN_USE' })
    await agent.remove({ uuid: wish.uuid, generation: 2, diskPool: wish.diskPool }).result
    await agent.removeDisk(removal)
    expect(host.files.calls).toContain('remove-data-disk')
  })
})

describe('a stop', () => {
  test('is graceful with a guest that listens', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    const report = await agent.apply({ ...desired, generation: 2, power: 'off' }).result
    expect(report).toMatchObject({ power: 'off', stopCause: 'requested' })
    expect(host.hypervisor.calls.some((call) => call.startsWith('destroy'))).toBe(false)
  })

  test('presses the button thrice, then pulls the plug', async () => {
    host.hypervisor.knobs.ignoresPowerButton = true
    const desired = desiredInstance({ stopGraceMs: 30_000 })
    await agent.apply(desired).result
    const stopping = agent.apply({ ...desired, generation: 2, power: 'off' })
    const presses = () => host.hypervisor.calls.filter((call) => call.startsWith('shutdown')).length
    await settle()
    expect(presses()).toBe(1)
    await host.clock.advance(29_000)
    expect(presses()).toBe(3)
    expect(host.hypervisor.calls.some((call) => call.startsWith('destroy'))).toBe(false)
    await host.clock.advance(2_000)
    expect(await stopping.result).toMatchObject({ power: 'off', stopCause: 'requested' })
  })

  test('ends at once when the guest goes off, also when no event tells', async () => {
    host.hypervisor.knobs.ignoresPowerButton = true
    const desired = desiredInstance()
    await agent.apply(desired).result
    const stopping = agent.apply({ ...desired, generation: 2, power: 'off' })
    await settle()
    host.hypervisor.goOffSilently(desired.uuid, 'guest-shutdown')
    await host.clock.advance(1_100)
    expect(await stopping.result).toMatchObject({ power: 'off', stopCause: 'requested' })
  })
})

describe('a reboot', () => {
  const names = (from: number) => host.hypervisor.calls.slice(from).map((call) => call.split(' ')[0])

  test('that is soft asks the guest, and starts it when it is off', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    const before = host.hypervisor.calls.length
    const wish = { ...desired, generation: 2, rebootGeneration: 2 }
    expect(await agent.apply(wish).result).toMatchObject({ generation: 2, power: 'on', restarts: 0 })
    expect(names(before)).toEqual(['mark', 'shutdown', 'define', 'start'])
    await agent.apply(wish).result
    await agent.apply({ ...wish, generation: 3 }).result
    expect(names(before).filter((call) => call === 'start')).toHaveLength(1)
  })

  test('that its guest ignores pulls the plug after the grace time', async () => {
    host.hypervisor.knobs.ignoresPowerButton = true
    const desired = desiredInstance()
    await agent.apply(desired).result
    const running = agent.apply({ ...desired, generation: 2, rebootGeneration: 2 })
    await host.clock.advance(31_000)
    expect(await running.result).toMatchObject({ generation: 2, power: 'on' })
    expect(names(0).slice(-3)).toEqual(['destroy', 'define', 'start'])
  })

  test('that is hard does not ask, also when it makes a soft one hard', async () => {
    host.hypervisor.knobs.ignoresPowerButton = true
    const desired = desiredInstance()
    await agent.apply(desired).result
    const soft = agent.apply({ ...desired, generation: 2, rebootGeneration: 2 })
    soft.result.catch(() => {})
    await settle()
    const hard = { ...desired, generation: 3, rebootGeneration: 2, rebootKind: 'hard' } as const
    expect(await agent.apply(hard).result).toMatchObject({ generation: 3, power: 'on' })
    expect(names(0).filter((call) => call === 'destroy' || call === 'start')).toEqual([
      'start',
      'destroy',
      'start',
    ])
  })

  test('happens once, whichever call to libvirt the agent dies at', async () => {
    for (let callsLeft = 0; callsLeft < 8; callsLeft++) {
      const desired = desiredInstance({ ha: true })
      const wish = { ...desired, generation: 2, rebootGeneration: 2 }
      await agent.apply(desired).result
      const before = host.hypervisor.calls.length
      let left = callsLeft
      const isDeed = (call: string) => !['find', 'list', 'facts', 'sample'].includes(call)
      host.hypervisor.knobs.beforeCall = (call) => {
        if (isDeed(call) && left-- <= 0) throw new VpeError('UNAVAILABLE', 'the agent is dead')
      }
      await agent.apply(wish).result.catch(() => {})
      host.hypervisor.knobs.beforeCall = () => {}
      await restartAgent()
      await host.clock.advance(20_000)
      expect(await agent.apply(wish).result).toMatchObject({ generation: 2, power: 'on', fault: '' })
      const calls = host.hypervisor.calls.slice(before).filter((call) => call === `start ${desired.uuid}`)
      expect(calls, `dead after ${callsLeft} calls`).toHaveLength(1)
    }
  })
})

describe('a pause', () => {
  test('stops the guest, and a resume lets it go on', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    expect(await agent.apply({ ...desired, generation: 2, power: 'paused' }).result).toMatchObject({
      generation: 2,
      power: 'paused',
      stopCause: null,
    })
    expect(await agent.apply({ ...desired, generation: 3 }).result).toMatchObject({ power: 'on' })
    expect(host.hypervisor.calls.slice(-4)).toEqual([
      `mark ${desired.uuid}`,
      `pause ${desired.uuid}`,
      `resume ${desired.uuid}`,
      `mark ${desired.uuid}`,
    ])
  })

  test('lasts, also of a highly available guest, and a crash in it is not made good', async () => {
    const desired = desiredInstance({ ha: true, power: 'paused', generation: 2 })
    await agent.apply({ ...desired, power: 'on', generation: 1 }).result
    await agent.apply(desired).result
    await host.clock.advance(60_000)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'paused', restarts: 0 })
    host.hypervisor.goOff(desired.uuid, 'crashed')
    await host.clock.advance(60_000)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off', stopCause: 'crash' })
  })

  test('by somebody else is reported and left alone, whatever else is wanted', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    host.hypervisor.standStill(desired.uuid, 'fault')
    await settle()
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'paused', generation: 1 })
    expect(await agent.apply({ ...desired, generation: 2, name: 'db' }).result).toMatchObject({
      power: 'paused',
    })
    expect(host.hypervisor.calls.some((call) => call.startsWith('resume'))).toBe(false)
  })

  test('ends with a stop: the guest goes on to shut down', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    await agent.apply({ ...desired, generation: 2, power: 'paused' }).result
    const report = await agent.apply({ ...desired, generation: 3, power: 'off' }).result
    expect(report).toMatchObject({ power: 'off', stopCause: 'requested' })
    expect(host.hypervisor.calls.slice(-2)).toEqual([`resume ${desired.uuid}`, `shutdown ${desired.uuid}`])
  })
})

describe('a release', () => {
  const release = (uuid: string, generation: number) => ({ uuid, generation, stopGraceMs: 30_000 })
  const kinds = () => host.hypervisor.calls.map((call) => call.split(' ')[0])

  test('stops the guest gracefully, forgets the domain, and keeps the disk', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    await agent.release(release(desired.uuid, 2)).result
    expect(kinds().slice(3)).toEqual(['mark', 'shutdown', 'undefine'])
    expect(host.files.disks.has(desired.uuid)).toBe(true)
    expect(await reportFrom(agent, desired.uuid)).toBeUndefined()
    const before = [...host.hypervisor.calls]
    await agent.release(release(desired.uuid, 2)).result
    await agent.release(release(desiredInstance().uuid, 1)).result
    await host.clock.advance(60_000)
    expect(host.hypervisor.calls).toEqual(before)
  })

  test('pulls the plug on a guest that does not shut down, and nobody brings it back meanwhile', async () => {
    host.hypervisor.knobs.ignoresPowerButton = true
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    const first = agent.release(release(desired.uuid, 2))
    first.result.catch(() => {})
    await settle()
    await restartAgent()
    await expect(first.result).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    host.hypervisor.goOff(desired.uuid, 'guest-shutdown')
    await host.clock.advance(60_000)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off' })

    await agent.apply({ ...desired, generation: 3 }).result
    const second = agent.release(release(desired.uuid, 4))
    await host.clock.advance(40_000)
    await second.result
    expect(kinds().slice(-2)).toEqual(['destroy', 'undefine'])
    expect(await reportFrom(agent, desired.uuid)).toBeUndefined()
  })

  test('is not undone by an apply that comes late, but by a newer one', async () => {
    const desired = desiredInstance({ hasDisk: false })
    await agent.apply(desired).result
    await agent.release(release(desired.uuid, 3)).result
    for (const generation of [1, 2, 3]) {
      expect(() => agent.apply({ ...desired, generation })).toThrow(
        expect.objectContaining({ code: 'STALE_GENERATION' }),
      )
    }
    const back = { ...desired, generation: 4, hasDisk: true }
    expect(await agent.apply(back).result).toMatchObject({ generation: 4, power: 'on' })
    expect(host.files.calls.filter((call) => call === 'make-system-disk')).toHaveLength(1)
    await expect(agent.release(release(desired.uuid, 3)).result).rejects.toMatchObject({
      code: 'STALE_GENERATION',
    })
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ generation: 4, power: 'on' })
  })

  test('takes over from an apply that is under way', async () => {
    const gate = Promise.withResolvers<void>()
    host.files.beforeCall = (operation) => (operation === 'import-image' ? gate.promise : undefined)
    const desired = desiredInstance()
    const applying = agent.apply(desired)
    applying.result.catch(() => {})
    await settle()
    const releasing = agent.release(release(desired.uuid, 2))
    gate.resolve()
    await releasing.result
    await expect(applying.result).rejects.toMatchObject({ code: 'SUPERSEDED' })
    expect(await reportFrom(agent, desired.uuid)).toBeUndefined()
  })
})

test('a disk that was made and is missing is not made again', async () => {
  const desired = desiredInstance({ hasDisk: true })
  await expect(agent.apply(desired).result).rejects.toMatchObject({
    code: 'DISK_POOL_FAILED',
    message: expect.stringContaining('see that it is mounted on this host'),
  })
  expect([host.files.disks.size, host.hypervisor.calls.length]).toEqual([0, 1])
})

describe('the system disk', () => {
  test('is made anew once, from the same image', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    const made = () => host.files.calls.filter((call) => call === 'make-system-disk').length
    const wish = { ...desired, generation: 2, diskGeneration: 2 }
    expect(await agent.apply(wish).result).toMatchObject({ generation: 2, power: 'on' })
    expect(made()).toBe(2)
    await agent.apply({ ...wish, generation: 3 }).result
    expect(made()).toBe(2)
  })

  test('is not touched, nor its guest, when the image cannot be had', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    const error = new VpeError('DISK_POOL_FAILED', 'the pool is away')
    host.files.failures.push({ operation: 'import-image', error })
    await expect(agent.apply({ ...desired, generation: 2, diskGeneration: 2 }).result).rejects.toBe(error)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on', generation: 1 })
  })

  test('grows while the guest is off, in the middle of the reboot that a resize is', async () => {
    const desired = desiredInstance({ diskBytes: 1e9 })
    await agent.apply(desired).result
    const resized = { ...desired, generation: 2, rebootGeneration: 2, vcpus: 2, diskBytes: 2e9 }
    expect(await agent.apply(resized).result).toMatchObject({ generation: 2, power: 'on' })
    expect(host.files.diskBytes.get(desired.uuid)).toBe(2e9)
    expect(host.hypervisor.domainXml(desired.uuid)).toContain('<vcpu>2</vcpu>')
    expect(host.hypervisor.calls.slice(-4).map((call) => call.split(' ')[0])).toEqual([
      'mark',
      'shutdown',
      'define',
      'start',
    ])
  })
})

describe('a snapshot', () => {
  const snapshotUuid = '0a1b2c3d-0000-4000-8000-0000000000aa'

  test('is QEMU’s to make while the guest has its disk, and the pool’s otherwise', async () => {
    const desired = desiredInstance()
    const snapshot = { instanceUuid: desired.uuid, snapshotUuid }
    await agent.apply(desired).result
    for (let time = 0; time < 2; time++) await agent.changeSnapshot('make', snapshot, desired.diskPool)
    expect([...(host.hypervisor.snapshots.get(desired.uuid) ?? [])]).toEqual([snapshotUuid])
    await agent.changeSnapshot('remove', snapshot, desired.diskPool)
    expect(host.hypervisor.snapshots.get(desired.uuid)?.size).toBe(0)
    expect(host.files.calls).not.toContain('make-snapshot')

    await agent.apply({ ...desired, generation: 2, power: 'off' }).result
    await agent.changeSnapshot('make', snapshot, desired.diskPool)
    expect([...(host.files.snapshots.get(desired.uuid)?.keys() ?? [])]).toEqual([snapshotUuid])
    await agent.changeSnapshot('remove', snapshot, desired.diskPool)
    expect(host.files.snapshots.get(desired.uuid)?.size).toBe(0)
  })

  test('comes while nobody else is at work: what starts or stops the guest waits for it', async () => {
    const desired = desiredInstance()
    const snapshot = { instanceUuid: desired.uuid, snapshotUuid }
    await agent.apply(desired).result
    const [made, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    host.hypervisor.knobs.beforeCall = async (call) => {
      if (call !== 'snapshot') return
      made.resolve()
      await held.promise
    }
    const making = agent.changeSnapshot('make', snapshot, desired.diskPool)
    await made.promise
    const stopping = agent.apply({ ...desired, generation: 2, power: 'off' }).result
    await expect(agent.changeSnapshot('make', snapshot, desired.diskPool)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    })
    expect(host.hypervisor.calls).not.toContain(`shutdown ${desired.uuid}`)
    held.resolve()
    await Promise.all([making, stopping])
    const last = host.hypervisor.calls.map((call) => call.split(' ')[0]).slice(-3)
    expect(last).toEqual(['snapshot', 'mark', 'shutdown'])
  })

  test('is reverted to once, with the guest off, and the guest runs again', async () => {
    const desired = desiredInstance({ power: 'off' })
    const { uuid, diskPool } = desired
    await agent.apply(desired).result
    host.files.content.set(uuid, 'old')
    await agent.changeSnapshot('make', { instanceUuid: uuid, snapshotUuid }, diskPool)
    await agent.apply({ ...desired, generation: 2, power: 'on' }).result
    host.files.content.set(uuid, 'new')
    const wish = {
      ...desired,
      power: 'on',
      generation: 3,
      diskGeneration: 3,
      diskSnapshotUuid: snapshotUuid,
    } as const
    expect(await agent.apply(wish).result).toMatchObject({ generation: 3, power: 'on' })
    expect(host.files.content.get(uuid)).toBe('old')
    host.files.content.set(uuid, 'newer')
    await restartAgent()
    await agent.apply({ ...wish, generation: 4 }).result
    expect(host.files.content.get(uuid)).toBe('newer')
  })
})

describe('a clone', () => {
  const cloneOf = (source: DesiredInstance, snapshotUuid: string | null = null) =>
    desiredInstance({ diskSource: { instanceUuid: source.uuid, snapshotUuid } })

  test('begins with what its source holds, once', async () => {
    const source = desiredInstance({ power: 'off' })
    await agent.apply(source).result
    host.files.content.set(source.uuid, 'written')
    const clone = cloneOf(source)
    expect(await agent.apply(clone).result).toMatchObject({ generation: 1, power: 'on' })
    expect(host.files.content.get(clone.uuid)).toBe('written')
    host.files.content.set(clone.uuid, 'its own')
    await agent.apply({ ...clone, generation: 2 }).result
    expect(host.files.content.get(clone.uuid)).toBe('its own')
  })

  test('of a guest that runs is refused, and nothing is left of it', async () => {
    const source = desiredInstance()
    await agent.apply(source).result
    const clone = cloneOf(source)
    await expect(agent.apply(clone).result).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('stop it first'),
    })
    expect(host.files.disks.has(clone.uuid)).toBe(false)
    expect(await reportFrom(agent, clone.uuid)).toBeUndefined()
  })

  test('gives way to who wants its source to run, and waits for who is at work on that', async () => {
    const source = desiredInstance({ power: 'off' })
    await agent.apply(source).result
    const copying = Promise.withResolvers<void>()
    host.files.beforeCall = async (operation) => {
      if (operation !== 'copy-system-disk') return
      copying.resolve()
      await settle()
    }
    const first = agent.apply(cloneOf(source)).result
    await copying.promise
    const second = agent.apply(cloneOf(source)).result
    const started = agent.apply({ ...source, generation: 2, power: 'on' }).result
    await expect(second).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await expect(first).rejects.toMatchObject({ code: 'SUPERSEDED' })
    expect(await started).toMatchObject({ power: 'on' })
  })
})

describe('a guest that goes off by itself', () => {
  const ends = [
    ['guest-shutdown', 'guest'],
    ['crashed', 'crash'],
  ] as const

  test.each(ends)(
    '(%s) stays off, and is known to after a restart of the agent',
    async (reason, stopCause) => {
      const desired = desiredInstance()
      await agent.apply(desired).result
      host.hypervisor.goOff(desired.uuid, reason)
      await settle()
      const expected = { power: 'off', stopCause, generation: 1, converging: false }
      expect(await reportFrom(agent, desired.uuid)).toMatchObject(expected)
      await restartAgent()
      expect(await reportFrom(agent, desired.uuid)).toMatchObject(expected)
      expect(await agent.apply({ ...desired, generation: 2 }).result).toMatchObject({
        power: 'on',
        stopCause: null,
      })
    },
  )

  test('because somebody destroyed it is off for no cause of its own, and stays wanted on', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    host.hypervisor.goOff(desired.uuid, 'destroyed')
    await settle()
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off', stopCause: null })
    expect(await agent.apply(desired).result).toMatchObject({ power: 'on' })
  })

  test('is found by the periodic pass when no event told', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    host.published.length = 0
    host.hypervisor.goOffSilently(desired.uuid, 'crashed')
    await host.clock.advance(11_000)
    expect(host.published.map(({ subject }) => subject)).toContain(`vpe.host.${host.hostId}.changed`)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ stopCause: 'crash' })
  })
})

describe('a highly available guest', () => {
  const starts = () => host.hypervisor.calls.filter((call) => call.startsWith('start')).length

  test.each(['guest-shutdown', 'crashed', 'destroyed'] as const)(
    'that goes off (%s) is back at once',
    async (reason) => {
      const desired = desiredInstance({ ha: true })
      await agent.apply(desired).result
      host.hypervisor.goOff(desired.uuid, reason)
      await settle()
      expect(await reportFrom(agent, desired.uuid)).toMatchObject({
        power: 'on',
        stopCause: null,
        generation: 1,
      })
    },
  )

  test('that keeps going off is started after growing pauses, then left off with a fault', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    const crash = async () => {
      host.hypervisor.goOff(desired.uuid, 'crashed')
      await settle()
    }
    await crash()
    expect(starts()).toBe(2)
    await crash()
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({
      power: 'off',
      stopCause: 'crash',
      converging: false,
    })
    await host.clock.advance(4_900)
    expect(starts()).toBe(2)
    await host.clock.advance(200)
    expect(starts()).toBe(3)
    await crash()
    await host.clock.advance(10_100)
    expect(starts()).toBe(4)
    await crash()
    await host.clock.advance(60_000)
    expect(starts()).toBe(4)
    const report = await reportFrom(agent, desired.uuid)
    expect(report?.fault).toContain('3 restarts within 10 minutes')
    // The same wish again changes nothing; a newer one starts afresh.
    expect((await agent.apply(desired).result).fault).toBe(report?.fault)
    expect(await agent.apply({ ...desired, generation: 2 }).result).toMatchObject({ power: 'on', fault: '' })
    await crash()
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on' })
  })

  test('whose pool is full goes on when there is room; that it tried before is told to nobody', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    const resumes = () => host.hypervisor.calls.filter((call) => call.startsWith('resume')).length
    host.hypervisor.standStill(desired.uuid, 'full')
    await settle()
    const waiting = { power: 'paused', holdUp: 'full-pool', converging: false }
    expect(await reportFrom(agent, desired.uuid)).toMatchObject(waiting)
    await host.clock.advance(ROOM.everyMs)
    expect(resumes()).toBe(1)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on', converging: true })
    host.hypervisor.standStill(desired.uuid, 'full')
    await host.clock.advance(ROOM.showsMs)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject(waiting)
    await host.clock.advance(ROOM.everyMs + ROOM.showsMs)
    expect(resumes()).toBe(2)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({
      power: 'on',
      holdUp: null,
      converging: false,
      restarts: 0,
    })
  })

  test('whose pool is full, and that is stopped meanwhile, stays off', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    host.hypervisor.standStill(desired.uuid, 'full')
    await host.clock.advance(ROOM.everyMs)
    const off = { ...desired, generation: 2, power: 'off' } as const
    expect(await agent.apply(off).result).toMatchObject({ power: 'off', generation: 2 })
    await host.clock.advance(10 * ROOM.everyMs)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off', converging: false })
  })

  test('that has run for ten minutes has its restarts forgotten', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    for (let crash = 0; crash < 6; crash++) {
      host.hypervisor.goOff(desired.uuid, 'crashed')
      await settle()
      expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on', fault: '' })
      await host.clock.advance(10 * 60_000 + 1)
    }
  })

  test('that does not come up is tried again, and counted', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    host.hypervisor.knobs.failures.push({ call: 'start', words: 'busy' })
    host.hypervisor.goOff(desired.uuid, 'crashed')
    await settle()
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off' })
    await host.clock.advance(5_100)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on' })
  })

  test('that a user stops stays off', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    await agent.apply({ ...desired, generation: 2, power: 'off' }).result
    await host.clock.advance(60_000)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off', stopCause: 'requested' })
  })

  test('that a user stops while it waits to be started stays off', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    for (let crash = 0; crash < 2; crash++) {
      host.hypervisor.goOff(desired.uuid, 'crashed')
      await settle()
    }
    await agent.apply({ ...desired, generation: 2, power: 'off' }).result
    await host.clock.advance(60_000)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off' })
    expect(starts()).toBe(2)
  })

  test('that crashed while the agent was away is back when the agent is', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    await agent.stop()
    host.hypervisor.goOffSilently(desired.uuid, 'crashed')
    agent = await host.startAgent()
    await settle()
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on' })
  })

  test('is not started by its host after a reboot of the host: the controller decides', async () => {
    const desired = desiredInstance({ ha: true })
    await agent.apply(desired).result
    await agent.stop()
    host.hypervisor.goOffSilently(desired.uuid, 'unknown')
    host.bootId = 'another boot'
    agent = await host.startAgent()
    await host.clock.advance(60_000)
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off', stopCause: null })
    expect(await agent.apply(desired).result).toMatchObject({ power: 'on' })
    host.hypervisor.goOff(desired.uuid, 'crashed')
    await settle()
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on' })
  })
})

describe('a removal', () => {
  test('leaves nothing, and absent is success', async () => {
    const desired = desiredInstance()
    await agent.apply(desired).result
    const removal = { uuid: desired.uuid, generation: 2, diskPool: desired.diskPool }
    await agent.remove(removal).result
    await agent.remove(removal).result
    expect(await reportFrom(agent, desired.uuid)).toBeUndefined()
    expect(host.files.disks.size).toBe(0)
  })

  test('takes over from a convergence, and a late one does not bring the instance back', async () => {
    const desired = desiredInstance()
    const gate = Promise.withResolvers<void>()
    host.files.beforeCall = (operation) => (operation === 'import-image' ? gate.promise : undefined)
    const creating = agent.apply(desired)
    creating.result.catch(() => {})
    await settle()
    const removing = agent.remove({ uuid: desired.uuid, generation: 2, diskPool: desired.diskPool })
    gate.resolve()
    await removing.result
    await expect(creating.result).rejects.toMatchObject({ code: 'SUPERSEDED' })
    expect(() => agent.apply(desired)).toThrow(expect.objectContaining({ code: 'STALE_GENERATION' }))
    expect(host.files.disks.size).toBe(0)
  })

  test('of a lower generation is refused', async () => {
    const desired = desiredInstance({ generation: 5 })
    await agent.apply(desired).result
    const removing = agent.remove({ uuid: desired.uuid, generation: 4, diskPool: desired.diskPool })
    await expect(removing.result).rejects.toMatchObject({ code: 'STALE_GENERATION' })
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on' })
  })
})

describe('the inventory', () => {
  test('names one that cannot be read, which is not gone, and says of it nothing to go by', async () => {
    const [one, other] = [desiredInstance(), desiredInstance()]
    await agent.apply(one).result
    await agent.apply(other).result
    const { unreadable } = host.hypervisor.knobs
    unreadable.add(one.uuid)
    // Whether it was known before, or not yet.
    for (const look of ['known', 'new']) {
      if (look === 'new') await restartAgent()
      expect(await reportFrom(agent, one.uuid)).toMatchObject({ converging: true })
      expect(await reportFrom(agent, other.uuid)).toMatchObject({ power: 'on', converging: false })
    }
    const disk = { uuid: randomUUID(), diskPool: one.diskPool, sizeBytes: 1 }
    await expect(agent.removeDisk(disk)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await expect(agent.removePoolFile(one.diskPool, `disk-${disk.uuid}.raw`, false)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    })
    unreadable.clear()
    expect(await reportFrom(agent, one.uuid)).toMatchObject({ power: 'on', converging: false })
    await agent.removeDisk(disk)
  })

  test('knows everything after a restart of the agent', async () => {
    const wishes = [
      desiredInstance(),
      desiredInstance({ power: 'off' }),
      desiredInstance({ ha: true, generation: 7 }),
    ]
    await Promise.all(wishes.map((desired) => agent.apply(desired).result))
    const before = await agent.inventory()
    await restartAgent()
    const after = await agent.inventory()
    expect(after).toEqual(before)
    expect(after.reports).toHaveLength(3)
  })

  test('says of whom somebody is at work on', async () => {
    host.hypervisor.knobs.ignoresPowerButton = true
    const desired = desiredInstance()
    await agent.apply(desired).result
    const stopping = agent.apply({ ...desired, generation: 2, power: 'off' })
    await settle()
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'on', converging: true })
    await host.clock.advance(31_000)
    await stopping.result
    expect(await reportFrom(agent, desired.uuid)).toMatchObject({ power: 'off', converging: false })
  })

  test('leaves out what is not this host’s, and complains of a broken mark once', async () => {
    host.hypervisor.addForeign('0a1b2c3d-0000-4000-8000-0000000000f1')
    host.hypervisor.addForeign('0a1b2c3d-0000-4000-8000-0000000000f2', markElement({ uuid: 'nonsense' }))
    await host.clock.advance(25_000)
    expect((await agent.inventory()).reports).toEqual([])
    expect(host.logs.filter(({ msg }) => msg === 'domain left alone')).toHaveLength(1)
  })

  test('has the digest that heartbeats carry', async () => {
    const digests = () =>
      host.published.flatMap(({ subject, payload }) => {
        if (!subject.endsWith('.heartbeat')) return []
        const decoded = decodeHeartbeat(payload)
        return 'heartbeat' in decoded ? [decoded.heartbeat.digest] : []
      })
    const desired = desiredInstance()
    await agent.apply(desired).result
    await host.clock.advance(1_000)
    const { digest } = await agent.inventory()
    expect(digests().at(-1)).toBe(digest)
    host.hypervisor.goOff(desired.uuid, 'crashed')
    await host.clock.advance(1_000)
    expect(digests().at(-1)).not.toBe(digest)
    expect(digests().at(-1)).toBe((await agent.inventory()).digest)
  })

  test('a heartbeat costs no call to the hypervisor', async () => {
    let calls = 0
    host.hypervisor.knobs.beforeCall = (call) => {
      if (call !== 'sample') calls++
    }
    await host.clock.advance(5_000)
    expect(calls).toBe(0)
  })
})

describe('whatever happens in between', () => {
  const happening = fc.constantFrom(
    'crash',
    'guest-off',
    'destroy',
    'silent',
    'restart-agent',
    'fail',
    'wait',
    'apply',
  )

  test('the last wish comes true', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(happening, { maxLength: 12 }),
        fc.constantFrom('on' as const, 'off' as const),
        fc.boolean(),
        async (happenings, power, ha) => {
          const world = new FakeHost()
          let live = await world.startAgent()
          const desired = desiredInstance({ ha, stopGraceMs: 1_000 })
          let generation = 1
          const apply = (wish = desired) => live.apply({ ...wish, generation: generation++ })
          await apply().result
          for (const what of happenings) {
            if (what === 'crash') world.hypervisor.goOff(desired.uuid, 'crashed')
            if (what === 'guest-off') world.hypervisor.goOff(desired.uuid, 'guest-shutdown')
            if (what === 'destroy') world.hypervisor.goOff(desired.uuid, 'destroyed')
            if (what === 'silent') world.hypervisor.goOffSilently(desired.uuid, 'crashed')
            if (what === 'fail') world.hypervisor.knobs.failures.push({ call: 'start', words: 'bad luck' })
            if (what === 'wait') await world.clock.advance(12_000)
            if (what === 'apply') apply({ ...desired, vcpus: generation }).result.catch(() => {})
            if (what === 'restart-agent') {
              await live.stop()
              live = await world.startAgent()
            }
          }
          world.hypervisor.knobs.failures.length = 0
          const last = apply({ ...desired, power })
          last.result.catch(() => {})
          await world.clock.advance(2_000)
          expect(await last.result).toMatchObject({ power, generation: generation - 1, fault: '' })
          expect(world.files.disks.size).toBe(1)
          await live.stop()
        },
      ),
      { numRuns: 60 },
    )
  }, 60_000)
})
