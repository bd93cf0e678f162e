// What keeps a pool from being written by two hosts: the storage itself (E), time and a watchdog (T), or nothing that vpe may
// rely on (N). Two hosts try the locks on the very pool; what its type promises counts for nothing.

/** The safest last. */
export const POOL_CLASSES = ['N', 'T', 'E'] as const
export type PoolClass = (typeof POOL_CLASSES)[number]

/** An instance is as safe as the least of its pools; null where it has none. */
export function leastClass(pools: readonly { readonly poolClass: PoolClass }[]): PoolClass | null {
  return POOL_CLASSES.find((each) => pools.some(({ poolClass }) => poolClass === each)) ?? null
}

/** What two hosts found when they tried the locks. Null: not tried, or without an answer in time. */
export interface PoolProbe {
  /** While A held a read lock, B asked whether a write lock would conflict, and was told so: the way QEMU asks. */
  readonly isConflictShown: boolean | null
  /** While A held it, B was refused the write lock. */
  readonly isConflictRefused: boolean | null
  /** After A let go, B got it. */
  readonly isReleaseSeen: boolean | null
  /** The storage refuses writes of a client whose locks it has dropped (NFS 4.1, CephFS, RBD, a DLM with fencing). */
  readonly areLostLocksFenced: boolean
  /** Mount options that make locks local, or bring lost locks back behind the guest's back. */
  readonly unsafeOptions: readonly string[]
  /** One server, or one file system: a write that was acknowledged is what every host reads. */
  readonly isLinearizable: boolean
}

/** What a host that uses the pool can be relied on for. */
export interface FencingHost {
  readonly name: string
  /** Opened, and its time read back as what is wanted. */
  readonly hasWatchdog: boolean
  /** Why it may stand still and wake later, without a watchdog that notices; empty where it never does. */
  readonly pausable: string
}

export interface PoolClassVerdict {
  readonly poolClass: PoolClass
  readonly why: string
}

/** The class of a pool for the hosts that use it. */
export function classifyPool(probe: PoolProbe, hosts: readonly FencingHost[]): PoolClassVerdict {
  const notEnforced = whyNotEnforced(probe)
  if (notEnforced === null)
    return { poolClass: 'E', why: 'the storage refuses writes of a host that has lost its locks' }
  const notTimed = whyNotTimed(probe, hosts)
  if (notTimed === null)
    return {
      poolClass: 'T',
      why: `every host has a watchdog; locks do not protect here: ${notEnforced}`,
    }
  return { poolClass: 'N', why: `${notEnforced}; ${notTimed}` }
}

function whyNotEnforced(probe: PoolProbe): string | null {
  if (probe.unsafeOptions.length > 0) return `it is mounted with ${probe.unsafeOptions.join(', ')}`
  if (!probe.areLostLocksFenced) return 'the storage takes writes of a host whose locks it has dropped'
  if (probe.isConflictShown === null || probe.isConflictRefused === null || probe.isReleaseSeen === null)
    return 'its locks were not tried to the end'
  if (!probe.isConflictRefused) return 'two hosts got the same lock'
  if (!probe.isConflictShown)
    return 'asked whether a lock is held by another host, it said no although it was'
  if (!probe.isReleaseSeen) return 'a lock that was let go of was not to be had'
  return null
}

function whyNotTimed(probe: PoolProbe, hosts: readonly FencingHost[]): string | null {
  if (!probe.isLinearizable) return 'it is more than one server, so that leases in it prove nothing'
  const without = hosts.filter(({ hasWatchdog }) => !hasWatchdog)
  if (without.length > 0) return `no watchdog on ${names(without)}`
  const sleeping = hosts
    .filter(({ pausable }) => pausable !== '')
    .map((host) => `${host.name} (${host.pausable})`)
  if (sleeping.length > 0) return `these may be paused, and would write when woken: ${sleeping.join(', ')}`
  return null
}

function names(hosts: readonly FencingHost[]): string {
  return hosts.map(({ name }) => name).join(', ')
}
