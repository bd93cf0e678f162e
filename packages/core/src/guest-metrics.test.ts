import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type GuestPoint, type GuestSample, inSteps, pointBetween } from './guest-metrics.ts'

const MEMORY = { assignedBytes: 1024, usedBytes: null, residentBytes: 512 }
const vda = (readBytes: number, name = 'vda') => ({
  name,
  readBytes,
  readRequests: readBytes / 10,
  writeBytes: 0,
  writeRequests: 0,
})
const vnet0 = (rxBytes: number) => ({
  name: 'vnet0',
  rxBytes,
  rxPackets: 0,
  txBytes: 2 * rxBytes,
  txPackets: 0,
})

function sample(changes: Partial<GuestSample>): GuestSample {
  const nothing = { cpuTimeNs: 0, vcpuTimeNs: 0, memory: MEMORY, disks: [], nics: [] }
  return { uuid: 'u', vcpus: 2, ...nothing, ...changes }
}

const between = (before: Partial<GuestSample>, after: Partial<GuestSample>, ms = 5_000) =>
  pointBetween(
    { sample: sample(before), atMs: 7_000, clockMs: 100 },
    { sample: sample(after), atMs: 12_000, clockMs: 100 + ms },
  )

describe('between two samples', () => {
  test('the CPU is shared by the vCPUs, and counters become rates', () => {
    const before = { cpuTimeNs: 1e9, vcpuTimeNs: 1e9, disks: [vda(1_000)], nics: [vnet0(10)] }
    const after = { cpuTimeNs: 9e9, vcpuTimeNs: 6e9, disks: [vda(6_000)], nics: [vnet0(110)] }
    expect(between(before, after)).toEqual({
      atMs: 12_000,
      seconds: 5,
      cpuPercent: 50,
      memory: MEMORY,
      disks: [{ name: 'vda', readBytes: 1_000, readRequests: 100, writeBytes: 0, writeRequests: 0 }],
      nics: [{ name: 'vnet0', rxBytes: 20, rxPackets: 0, txBytes: 40, txPackets: 0 }],
    })
  })

  test('what took a moment longer to be read than to be measured is not above all of it', () => {
    expect(between({ vcpuTimeNs: 0 }, { vcpuTimeNs: 10.1e9 })?.cpuPercent).toBe(100)
  })

  test('a guest that began anew is counted from zero, in every counter', () => {
    const before = { cpuTimeNs: 100e9, vcpuTimeNs: 90e9, disks: [vda(1_000)] }
    const after = { cpuTimeNs: 2e9, vcpuTimeNs: 1e9, disks: [vda(5_000)] }
    expect(between(before, after)).toMatchObject({ cpuPercent: 10, disks: [{ readBytes: 1_000 }] })
  })

  test('a device that began anew is counted from zero, one that is new from its next sample on', () => {
    const point = between({ disks: [vda(1_000)] }, { disks: [vda(500), vda(9_000, 'vdb')] })
    expect(point?.disks).toEqual([expect.objectContaining({ name: 'vda', readBytes: 100 })])
  })

  test('what is not told is not known', () => {
    expect(between({ vcpuTimeNs: null }, { vcpuTimeNs: 5e9 })?.cpuPercent).toBeNull()
    expect(between({}, { vcpus: 0 })?.cpuPercent).toBeNull()
  })

  test('no time is no point', () => {
    expect(between({}, {}, 0)).toBeNull()
  })

  test('no figure is ever negative, without bound, or no number', () => {
    const count = fc.nat({ max: 2 ** 40 })
    const counters = fc.record({ cpuTimeNs: count, vcpuTimeNs: count, disk: count, nic: count })
    const toSample = ({
      disk,
      nic,
      ...times
    }: {
      cpuTimeNs: number
      vcpuTimeNs: number
      disk: number
      nic: number
    }) => sample({ ...times, disks: [vda(disk)], nics: [vnet0(nic)] })
    fc.assert(
      fc.property(counters, counters, fc.integer({ min: 1, max: 60_000 }), (before, after, ms) => {
        const point = between(toSample(before), toSample(after), ms)
        const figures = [point?.cpuPercent, point?.disks[0]?.readBytes, point?.nics[0]?.txBytes]
        for (const figure of figures) {
          expect(Number.isFinite(figure)).toBe(true)
          expect(figure).toBeGreaterThanOrEqual(0)
        }
        expect(point?.cpuPercent).toBeLessThanOrEqual(100)
      }),
    )
  })
})

describe('in steps', () => {
  const point = (atMs: number, seconds: number, cpuPercent: number | null, readBytes = 0): GuestPoint => ({
    atMs,
    seconds,
    cpuPercent,
    memory: MEMORY,
    disks: [vda(readBytes)],
    nics: [],
  })

  test('each step is the mean over its time', () => {
    const points = [point(5_000, 5, 10, 40), point(20_000, 15, 50, 80), point(25_000, 5, 7)]
    expect(inSteps(points, 20_000)).toEqual([
      { ...point(20_000, 20, 40), disks: [vda(70)] },
      point(25_000, 5, 7),
    ])
  })

  test('of nothing are as they were', () => {
    const points = [point(5_000, 5, 10), point(10_000, 5, 20)]
    expect(inSteps(points, 0)).toBe(points)
    expect(inSteps([], 20_000)).toEqual([])
  })

  test('what is not known counts for nothing', () => {
    expect(inSteps([point(5_000, 5, null), point(10_000, 5, 30)], 60_000)[0]?.cpuPercent).toBe(30)
    expect(inSteps([point(5_000, 5, null), point(10_000, 5, null)], 60_000)[0]?.cpuPercent).toBeNull()
  })

  test('the total of a counter is the same whatever the step', () => {
    const points = fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.nat(1_000)), { minLength: 1 })
    const total = (some: readonly GuestPoint[]) =>
      some.reduce((sum, { seconds, disks }) => sum + seconds * (disks[0]?.readBytes ?? 0), 0)
    fc.assert(
      fc.property(points, fc.integer({ min: 1, max: 100_000 }), (stretches, stepMs) => {
        let atMs = 0
        const series = stretches.map(([seconds, rate]) => {
          atMs += seconds * 1_000
          return point(atMs, seconds, 0, rate)
        })
        expect(total(inSteps(series, stepMs))).toBeCloseTo(total(series), 3)
      }),
    )
  })
})
