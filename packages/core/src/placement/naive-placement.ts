// What placement means, written down once more in the plainest way: every host judged from scratch, rule by rule,
// as a plain object. Too slow for use; tests hold the real one equal to it.

import type { HostCandidate, OvercommitPolicy, PlacementRequest, PoolCandidate } from './rules.ts'

export interface NaiveResult {
  readonly hostId: string | null
  readonly diskPoolUuid: string | null
  /** By host id: the rule that refused it, or null; and its score. */
  readonly judged: Readonly<Record<string, { readonly rule: string | null; readonly score: number }>>
}

export function placeNaively(
  request: PlacementRequest,
  hosts: readonly HostCandidate[],
  policy: OvercommitPolicy,
): NaiveResult {
  const byId = [...hosts].sort((a, b) => (a.id < b.id ? -1 : 1))
  const judged = byId.map((host) => ({
    host,
    rule: ruleThatRefuses(request, host, hosts, policy),
    score: scoreOf(request, host, policy),
  }))
  const passed = judged.filter(({ rule }) => rule === null)
  const best = passed.reduce<(typeof judged)[number] | null>(
    (leader, each) => (leader === null || each.score > leader.score ? each : leader),
    null,
  )
  return {
    hostId: best?.host.id ?? null,
    diskPoolUuid: best ? (bestPool(request, best.host, policy)?.uuid ?? null) : null,
    judged: Object.fromEntries(
      judged.map(({ host, rule, score }) => [host.id, { rule, score: rule === null ? score : 0 }]),
    ),
  }
}

function ruleThatRefuses(
  request: PlacementRequest,
  host: HostCandidate,
  hosts: readonly HostCandidate[],
  policy: OvercommitPolicy,
): string | null {
  const { hostIds, excludeHostIds, cpuFeatures, imageHome, dataDisks, groups } = request
  if (hostIds.length > 0 && !hostIds.includes(host.id)) return 'host-ids'
  if (excludeHostIds.includes(host.id)) return 'excluded'
  if (host.state !== 'up') return 'host-state'
  if (!host.schedulable) return 'maintenance'
  const knowsFeatures = host.cpuFeatures.length > 0
  if (knowsFeatures && !cpuFeatures.every((each) => host.cpuFeatures.includes(each))) return 'cpu-features'
  if (imageHome?.hostId && imageHome.hostId !== host.id) return 'image'
  if (!dataDisks.every((disk) => disk.hostIds.includes(host.id))) return 'data-disks'
  for (const { rule, key } of groups) {
    const isAnywhere = hosts.some((each) => membersOn(each, key) > 0)
    if (rule === 'affinity' && isAnywhere && membersOn(host, key) === 0) return 'affinity'
  }
  for (const { rule, key } of groups) {
    if (rule === 'anti-affinity' && membersOn(host, key) > 0) return 'anti-affinity'
  }
  if (usablePools(request, host).length === 0) return 'disk-pool'
  if (request.memoryMib > Math.floor(memoryTotal(host, policy) - host.memoryMibUsed)) return 'memory'
  if (request.vcpus > host.cpus) return 'vcpus'
  if (request.vcpus > Math.floor(host.cpus * policy.vcpuRatio - host.vcpusUsed)) return 'vcpus'
  return bestPool(request, host, policy) ? null : 'disk-space'
}

function scoreOf(request: PlacementRequest, host: HostCandidate, policy: OvercommitPolicy): number {
  const memory = memoryTotal(host, policy)
  const vcpus = host.cpus * policy.vcpuRatio
  const soft = request.groups.filter(({ rule }) => rule.startsWith('prefer-'))
  const preferences = soft.map(({ rule, key }) => {
    const members = membersOn(host, key)
    return rule === 'prefer-anti-affinity' ? 1 / (1 + members) : members > 0 ? 1 : 0
  })
  const preferred =
    preferences.length === 0 ? 0 : preferences.reduce((sum, each) => sum + each, 0) / preferences.length
  return (
    2 * (memory === 0 ? 0 : 1 - (host.memoryMibUsed + request.memoryMib) / memory) +
    (vcpus === 0 ? 0 : 1 - (host.vcpusUsed + request.vcpus) / vcpus) +
    0.5 / (1 + host.runningTasks) +
    (request.ha ? 1 / (1 + host.haInstances) : 0) +
    5 * preferred
  )
}

function membersOn(host: HostCandidate, key: string): number {
  return host.groups[key] ?? 0
}

function memoryTotal(host: HostCandidate, policy: OvercommitPolicy): number {
  return Math.max(0, (host.memoryMib - policy.hostReservedMib) * policy.memoryRatio)
}

function usablePools(request: PlacementRequest, host: HostCandidate): PoolCandidate[] {
  return host.pools.filter(
    ({ uuid, shared, state }) =>
      state !== 'error' &&
      (request.diskPoolUuid === null || uuid === request.diskPoolUuid) &&
      (request.imageHome === null || uuid === request.imageHome.diskPoolUuid) &&
      (shared || !request.sharedPoolOnly),
  )
}

function bestPool(
  request: PlacementRequest,
  host: HostCandidate,
  policy: OvercommitPolicy,
): PoolCandidate | null {
  const free = ({ capacityBytes, reservedBytes }: PoolCandidate) =>
    capacityBytes === 0 ? Number.POSITIVE_INFINITY : capacityBytes * policy.diskRatio - reservedBytes
  const [best] = usablePools(request, host)
    .filter((pool) => free(pool) >= request.diskBytes)
    .sort((a, b) => {
      if (free(a) !== free(b)) return free(a) > free(b) ? -1 : 1
      return a.uuid < b.uuid ? -1 : 1
    })
  return best ?? null
}
