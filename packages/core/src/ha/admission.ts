// Room that is kept for the loss of hosts: what is highly available must still have a place without the largest ones. It
// is a sum over hosts, made when an instance is to be powered on; whether each would really find a place, what-if.ts says.

/** How many hosts may be lost, and whether what would not fit then is refused. */
export interface FailoverPolicy {
  readonly hosts: number
  /** Advise: it is shown and told of, and nothing is refused. */
  readonly mode: 'advise' | 'enforce'
}

export const DEFAULT_FAILOVER_POLICY: FailoverPolicy = { hosts: 1, mode: 'advise' }

/** Most hosts that room may be kept for. */
export const FAILOVER_HOSTS_MAX = 8

export interface Amounts {
  readonly vcpus: number
  readonly memoryMib: number
}

/** A host that is up and takes instances. */
export interface AdmissionHost {
  readonly name: string
  /** What may be promised of it. */
  readonly total: Amounts
  /** What is promised of it to instances of all kinds. */
  readonly used: Amounts
  /** Of that, what highly available ones have that are to run. */
  readonly usedByHa: Amounts
}

const RESOURCES = [
  { of: 'memoryMib', unit: 'MiB of memory' },
  { of: 'vcpus', unit: 'vCPUs' },
] as const

/**
 * Why one more highly available instance must not be powered on; null where it may be, or nothing is enforced. A single
 * host has nothing to fail over to, so nothing is kept there.
 * @param hosts as if the instance were nowhere
 * @param needs what it is to take
 */
export function refuseHaStart(
  hosts: readonly AdmissionHost[],
  needs: Amounts,
  policy: FailoverPolicy,
): string | null {
  if (policy.mode === 'advise' || policy.hosts === 0 || hosts.length < 2) return null
  const lostCount = Math.min(policy.hosts, hosts.length - 1)
  for (const { of, unit } of RESOURCES) {
    const largest = [...hosts].sort((a, b) => b.total[of] - a.total[of] || (a.name < b.name ? -1 : 1))
    const [lost, rest] = [largest.slice(0, lostCount), largest.slice(lostCount)]
    const sum = (some: readonly AdmissionHost[], pick: (host: AdmissionHost) => number) =>
      some.reduce((total, host) => total + pick(host), 0)
    const others = sum(rest, ({ used, usedByHa }) => used[of] - usedByHa[of])
    const room = Math.floor(sum(rest, ({ total }) => total[of]) - others)
    const needed = sum(hosts, ({ usedByHa }) => usedByHa[of]) + needs[of]
    if (needed <= room) continue
    const names = lost.map(({ name }) => name).join(', ')
    return `without ${names} there is room for ${Math.max(0, room)} ${unit} of highly available instances, and with this one they would need ${needed}; add hosts, stop others, make it not highly available, or set VPE_HA_ADMISSION=advise`
  }
  return null
}
