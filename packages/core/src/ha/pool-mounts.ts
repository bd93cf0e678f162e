// What the way in which hosts have mounted a pool says of its locks. A type is a promise that the probe has yet to confirm;
// what vpe does not recognise, an operator may vouch for.

/** A pool as one host has it, from /proc/self/mountinfo. */
export interface PoolMount {
  readonly host: string
  readonly fileSystem: string
  readonly options: readonly string[]
}

/** What an operator says of storage that vpe does not recognise: does it refuse writes of who has lost its locks? */
export const LOST_LOCKS = ['unknown', 'fenced'] as const
export type LostLocks = (typeof LOST_LOCKS)[number]

/** What mounts come to, for `classifyPool`. */
export interface MountsVerdict {
  readonly areLostLocksFenced: boolean
  /** With the host that has them. */
  readonly unsafeOptions: readonly string[]
  /** Why hosts cannot be seeing one pool; null where they can. */
  readonly whyNotShared: string | null
}

/** They belong to one host: two that mount them see two pools, or destroy one. */
const OF_ONE_HOST: ReadonlySet<string> = new Set(
  'ext2 ext3 ext4 xfs btrfs zfs f2fs jfs reiserfs vfat tmpfs ramfs overlay squashfs'.split(' '),
)
const FENCED_CLUSTER: ReadonlySet<string> = new Set(['ceph', 'fuse.ceph', 'fuse.ceph-fuse', 'gfs2', 'ocfs2'])

/** Local locks; errors instead of waiting, which a guest takes for a broken disk; locks that come back behind its back. */
const UNSAFE = /^(nolock|soft|softerr|nobrl|local_lock=(?!none$).*|recover_session=(?!no$).*)$/

/** Judges a pool by the mounts of all its hosts: the worst of them counts. */
export function judgeMounts(mounts: readonly PoolMount[], lostLocks: LostLocks): MountsVerdict {
  const local = mounts.find(({ fileSystem }) => OF_ONE_HOST.has(fileSystem))
  return {
    areLostLocksFenced: mounts.length > 0 && mounts.every((mount) => isFenced(mount, lostLocks)),
    unsafeOptions: mounts.flatMap(({ host, options }) =>
      options.filter((option) => UNSAFE.test(option)).map((option) => `${option} on ${host}`),
    ),
    whyNotShared: local
      ? `on ${local.host} it lies in ${local.fileSystem}, which is a file system of one host`
      : null,
  }
}

function isFenced({ fileSystem, options }: PoolMount, lostLocks: LostLocks): boolean {
  if (FENCED_CLUSTER.has(fileSystem)) return true
  // NFS 3 has locks beside it, and 4.0 no sessions: nobody's word makes them fence.
  if (fileSystem === 'nfs' || fileSystem === 'nfs4')
    return options.some((option) => /^vers=4\.[1-9]$/.test(option))
  return lostLocks === 'fenced'
}
