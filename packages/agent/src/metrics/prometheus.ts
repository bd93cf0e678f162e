// The figures of this host's instances in Prometheus' text format, made when they are asked for. Counters
// are libvirt's own, so that Prometheus makes the rates; what is not known of an instance has no line.

import { Counter, Gauge, Registry } from 'prom-client'
import type { CurrentFigures, GuestMetrics } from './guest-metrics.ts'

type Labels = Record<string, string>

/** One line: the labels beyond the instance's, and a value. */
type Line = readonly [labels: Labels, value: number | null]

interface Family {
  readonly kind: typeof Counter | typeof Gauge
  readonly name: string
  readonly help: string
  readonly labels?: readonly string[]
  readonly lines: (current: CurrentFigures) => readonly Line[]
}

const FAMILIES: readonly Family[] = [
  gauge('vcpus', 'vCPUs', ({ sample }) => sample.vcpus),
  counter('cpu_seconds_total', 'CPU time of the host that it took since power-on', ({ sample }) =>
    sample.cpuTimeNs === null ? null : sample.cpuTimeNs / 1e9,
  ),
  counter('vcpu_seconds_total', 'CPU time of its vCPUs alone since power-on', ({ sample }) =>
    sample.vcpuTimeNs === null ? null : sample.vcpuTimeNs / 1e9,
  ),
  gauge('memory_assigned_bytes', 'Memory that it may use', ({ sample }) => sample.memory.assignedBytes),
  gauge('memory_used_bytes', 'Memory in use, as the guest counts', ({ sample }) => sample.memory.usedBytes),
  gauge(
    'memory_resident_bytes',
    'Memory of the host that it holds',
    ({ sample }) => sample.memory.residentBytes,
  ),
  ofDisks('read_bytes', 'readBytes'),
  ofDisks('read_requests', 'readRequests'),
  ofDisks('write_bytes', 'writeBytes'),
  ofDisks('write_requests', 'writeRequests'),
  ofNics('rx_bytes', 'rxBytes'),
  ofNics('rx_packets', 'rxPackets'),
  ofNics('tx_bytes', 'txBytes'),
  ofNics('tx_packets', 'txPackets'),
]

/** A registry that shows what `metrics` knows whenever it is asked. */
export function instanceRegistry(metrics: Pick<GuestMetrics, 'all'>): Registry {
  const registry = new Registry()
  new Gauge({
    name: 'vpe_instance_running',
    help: 'Whether its guest is measured, that is: runs',
    labelNames: ['uuid', 'name'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { domain, current } of metrics.all()) this.set(instanceLabels(domain), current ? 1 : 0)
    },
  })
  for (const family of FAMILIES) addFamily(registry, family, metrics)
  return registry
}

function addFamily(registry: Registry, family: Family, metrics: Pick<GuestMetrics, 'all'>): void {
  const { kind: Metric, name, help, labels = [], lines } = family
  new Metric({
    name: `vpe_instance_${name}`,
    help,
    labelNames: ['uuid', 'name', ...labels],
    registers: [registry],
    // libvirt counts, not we: each time the line is made anew, with libvirt's count.
    collect(this: Counter | Gauge) {
      this.reset()
      for (const { domain, current } of metrics.all()) {
        for (const [more, value] of current ? lines(current) : []) {
          if (value !== null) this.inc({ ...instanceLabels(domain), ...more }, value)
        }
      }
    },
  })
}

function instanceLabels({
  mark,
}: {
  readonly mark: { readonly uuid: string; readonly name: string }
}): Labels {
  return { uuid: mark.uuid, name: mark.name }
}

function gauge(name: string, help: string, figureOf: (current: CurrentFigures) => number | null): Family {
  return { kind: Gauge, name, help, lines: (current) => [[{}, figureOf(current)]] }
}

function counter(name: string, help: string, figureOf: (current: CurrentFigures) => number | null): Family {
  return { kind: Counter, name, help, lines: (current) => [[{}, figureOf(current)]] }
}

function ofDisks(what: string, key: 'readBytes' | 'readRequests' | 'writeBytes' | 'writeRequests'): Family {
  return {
    kind: Counter,
    name: `disk_${what}_total`,
    help: `Disk ${what.replace('_', ' ')} since power-on`,
    labels: ['disk'],
    lines: ({ sample }) => sample.disks.map((disk) => [{ disk: disk.name }, disk[key]]),
  }
}

function ofNics(what: string, key: 'rxBytes' | 'rxPackets' | 'txBytes' | 'txPackets'): Family {
  return {
    kind: Counter,
    name: `nic_${what}_total`,
    help: `Network ${what.replace('_', ' ')} since power-on, as the guest sees it`,
    labels: ['nic'],
    lines: ({ sample }) => sample.nics.map((nic) => [{ nic: nic.name }, nic[key]]),
  }
}
