// What is measured of a guest: from two samples of its counters to the means between them, and from many
// points to fewer. Counters begin at zero when the guest is powered on or a device is plugged in; a rate
// is only made of what both samples have, so that nothing that was not measured is ever made up.

/** Since power-on in a sample, per second in a point. */
export interface DiskFigures {
  readonly name: string
  readonly readBytes: number
  readonly readRequests: number
  readonly writeBytes: number
  readonly writeRequests: number
}

/** Since power-on in a sample, per second in a point; received and sent as the guest sees it. */
export interface NicFigures {
  readonly name: string
  readonly rxBytes: number
  readonly rxPackets: number
  readonly txBytes: number
  readonly txPackets: number
}

/** Null is what hypervisor or guest do not tell. */
export interface MemoryFigures {
  readonly assignedBytes: number | null
  /** As the guest counts. */
  readonly usedBytes: number | null
  /** Of the host's memory. */
  readonly residentBytes: number | null
}

/** What a hypervisor has counted of one running guest. */
export interface GuestSample {
  readonly uuid: string
  readonly vcpus: number
  /** CPU time of the guest's process, its devices included. */
  readonly cpuTimeNs: number | null
  /** CPU time of its vCPUs alone. */
  readonly vcpuTimeNs: number | null
  readonly memory: MemoryFigures
  readonly disks: readonly DiskFigures[]
  readonly nics: readonly NicFigures[]
}

export interface TimedSample {
  readonly sample: GuestSample
  /** The time of day, to be shown. */
  readonly atMs: number
  /** On a clock that never jumps, to measure by. */
  readonly clockMs: number
}

/** Means over a stretch of time that ends at `atMs`. */
export interface GuestPoint {
  readonly atMs: number
  readonly seconds: number
  /** 100 when all vCPUs are busy. */
  readonly cpuPercent: number | null
  readonly memory: MemoryFigures
  readonly disks: readonly DiskFigures[]
  readonly nics: readonly NicFigures[]
}

const NS_PER_SECOND = 1e9

/** The means between two samples of one guest; null when no time lies between them. */
export function pointBetween(before: TimedSample, after: TimedSample): GuestPoint | null {
  const seconds = (after.clockMs - before.clockMs) / 1_000
  if (seconds <= 0) return null
  const [from, to] = [before.sample, after.sample]
  // A guest that was powered off and on in between has begun anew in all its counters, also in those
  // that have overtaken their old values.
  const isAnother =
    (to.cpuTimeNs ?? 0) < (from.cpuTimeNs ?? 0) || (to.vcpuTimeNs ?? 0) < (from.vcpuTimeNs ?? 0)
  const perSecond = (now: number, was: number) => (isAnother || now < was ? now : now - was) / seconds
  return {
    atMs: after.atMs,
    seconds,
    cpuPercent:
      from.vcpuTimeNs === null || to.vcpuTimeNs === null || to.vcpus < 1
        ? null
        : Math.min(100, (100 * perSecond(to.vcpuTimeNs, from.vcpuTimeNs)) / NS_PER_SECOND / to.vcpus),
    memory: to.memory,
    disks: ofBoth(from.disks, to.disks, perSecond),
    nics: ofBoth(from.nics, to.nics, perSecond),
  }
}

/**
 * Points of at least `stepMs`, each the mean of those measured in one step of the clock, so that the same
 * times give the same points whenever one asks. 0 leaves them as they are.
 */
export function inSteps(points: readonly GuestPoint[], stepMs: number): readonly GuestPoint[] {
  if (stepMs <= 0) return points
  const steps = Map.groupBy(points, ({ atMs }) => Math.ceil(atMs / stepMs))
  return [...steps.values()].map(meanOf)
}

type Figures<Device> = { readonly [Key in keyof Device]: Key extends 'name' ? string : number }

/** The devices that are in both, each figure by a rule of its two values. */
function ofBoth<Device extends Figures<Device> & { readonly name: string }>(
  before: readonly Device[],
  after: readonly Device[],
  rule: (now: number, was: number) => number,
): Device[] {
  const old = new Map(before.map((device) => [device.name, device]))
  return after
    .filter(({ name }) => old.has(name))
    .map((device) => mapFigures(device, (key, now) => rule(now, Number(old.get(device.name)?.[key]))))
}

function meanOf(points: readonly GuestPoint[]): GuestPoint {
  const last = points.at(-1)
  if (!last) throw new Error('a mean of nothing was asked for')
  if (points.length === 1) return last
  return {
    atMs: last.atMs,
    seconds: points.reduce((sum, { seconds }) => sum + seconds, 0),
    cpuPercent: weighted(points, ({ cpuPercent }) => cpuPercent),
    memory: {
      assignedBytes: weighted(points, ({ memory }) => memory.assignedBytes),
      usedBytes: weighted(points, ({ memory }) => memory.usedBytes),
      residentBytes: weighted(points, ({ memory }) => memory.residentBytes),
    },
    disks: meanDevices(points, ({ disks }) => disks),
    nics: meanDevices(points, ({ nics }) => nics),
  }
}

function meanDevices<Device extends Figures<Device> & { readonly name: string }>(
  points: readonly GuestPoint[],
  devicesOf: (point: GuestPoint) => readonly Device[],
): Device[] {
  const byName = new Map(points.flatMap(devicesOf).map((device) => [device.name, device]))
  const valueIn = (point: GuestPoint, name: string, key: keyof Device) =>
    (devicesOf(point).find((device) => device.name === name)?.[key] as number | undefined) ?? null
  return [...byName.values()].map((device) =>
    mapFigures(device, (key) => weighted(points, (point) => valueIn(point, device.name, key)) ?? 0),
  )
}

/** A device with other figures. A copy that is written to keeps its shape, and points are kept by the thousand. */
function mapFigures<Device extends { readonly name: string }>(
  device: Device,
  rule: (key: keyof Device, value: number) => number,
): Device {
  const copy: Record<string, unknown> = { ...device }
  for (const [key, value] of Object.entries(device)) {
    if (typeof value === 'number') copy[key] = rule(key as keyof Device, value)
  }
  return copy as Device
}

/** The mean over time of what is known. */
function weighted(
  points: readonly GuestPoint[],
  figureOf: (point: GuestPoint) => number | null,
): number | null {
  let [sum, seconds] = [0, 0]
  for (const point of points) {
    const value = figureOf(point)
    if (value === null) continue
    sum += value * point.seconds
    seconds += point.seconds
  }
  return seconds === 0 ? null : sum / seconds
}
