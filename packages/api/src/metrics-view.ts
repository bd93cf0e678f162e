// What a host has measured, as the API shows it.

import type { z } from '@hono/zod-openapi'
import type { DiskFigures, GuestPoint, InstanceMetrics, MemoryFigures, NicFigures } from '@vpe/proto'
import { moment } from './moment.ts'
import type { CurrentMetrics, MetricsPoint, MetricsView } from './schemas/metrics.ts'

export function showMetrics(uuid: string, metrics: InstanceMetrics): z.input<typeof MetricsView> {
  return {
    instance_uuid: uuid,
    interval_seconds: metrics.intervalMs / 1_000,
    current: showCurrent(metrics),
    series: metrics.series.map(showPoint),
  }
}

function showCurrent({ totals, latest }: InstanceMetrics): z.input<typeof CurrentMetrics> | null {
  if (!totals) return null
  return {
    at: moment(totals.atMs),
    vcpus: totals.vcpus,
    cpu_percent: rounded(latest?.cpuPercent),
    cpu_seconds: rounded(totals.cpuSeconds),
    ...showMemory(totals.memory),
    disks: totals.disks.map((disk) => ({
      name: disk.name,
      read_bytes: disk.readBytes,
      read_requests: disk.readRequests,
      write_bytes: disk.writeBytes,
      write_requests: disk.writeRequests,
      ...ratesOf(latest?.disks, disk.name, diskRates, NO_DISK_RATES),
    })),
    nics: totals.nics.map((nic) => ({
      name: nic.name,
      rx_bytes: nic.rxBytes,
      rx_packets: nic.rxPackets,
      tx_bytes: nic.txBytes,
      tx_packets: nic.txPackets,
      ...ratesOf(latest?.nics, nic.name, nicRates, NO_NIC_RATES),
    })),
  }
}

function showPoint(point: GuestPoint): z.input<typeof MetricsPoint> {
  return {
    at: moment(point.atMs),
    seconds: rounded(point.seconds),
    cpu_percent: rounded(point.cpuPercent),
    ...showMemory(point.memory),
    disks: point.disks.map((disk) => ({ name: disk.name, ...diskRates(disk) })),
    nics: point.nics.map((nic) => ({ name: nic.name, ...nicRates(nic) })),
  }
}

function showMemory(memory: MemoryFigures | undefined) {
  return {
    memory_assigned_bytes: rounded(memory?.assignedBytes),
    memory_used_bytes: rounded(memory?.usedBytes),
    memory_resident_bytes: rounded(memory?.residentBytes),
  }
}

function ratesOf<Device extends { readonly name: string }, Rates, None>(
  devices: readonly Device[] | undefined,
  name: string,
  show: (device: Device) => Rates,
  none: None,
): Rates | None {
  const device = devices?.find((each) => each.name === name)
  return device ? show(device) : none
}

function diskRates(disk: DiskFigures) {
  return {
    read_bytes_per_second: rounded(disk.readBytes),
    read_requests_per_second: rounded(disk.readRequests),
    write_bytes_per_second: rounded(disk.writeBytes),
    write_requests_per_second: rounded(disk.writeRequests),
  }
}

/** Of a disk that has been seen only once. */
const NO_DISK_RATES = {
  read_bytes_per_second: null,
  read_requests_per_second: null,
  write_bytes_per_second: null,
  write_requests_per_second: null,
}

function nicRates(nic: NicFigures) {
  return {
    rx_bytes_per_second: rounded(nic.rxBytes),
    rx_packets_per_second: rounded(nic.rxPackets),
    tx_bytes_per_second: rounded(nic.txBytes),
    tx_packets_per_second: rounded(nic.txPackets),
  }
}

const NO_NIC_RATES = {
  rx_bytes_per_second: null,
  rx_packets_per_second: null,
  tx_bytes_per_second: null,
  tx_packets_per_second: null,
}

/** Two digits behind the point are more than a sample is worth. */
function rounded(figure: number): number
function rounded(figure: number | undefined): number | null
function rounded(figure: number | undefined): number | null {
  return figure === undefined ? null : Math.round(figure * 100) / 100
}
