// What may be said of where a pool comes from. It ends up on the command line of mount, as words of their own, and in
// libvirt's XML: each function names the fault of a value, or null when it has none.

const HOST = /^(?!-)[0-9A-Za-z._-]{1,253}$/
const IPV6 = /^[0-9A-Fa-f:.]{2,45}(%[0-9A-Za-z._-]{1,15})?$/

/** A host name or an address. */
export function nfsServerFault(server: string): string | null {
  if (HOST.test(server) || (server.includes(':') && IPV6.test(server))) return null
  return `${JSON.stringify(server)} is no name or address of a server, such as nfs1.example.org or 10.0.0.5`
}

/** The folder that the server exports. */
export function nfsExportFault(folder: string): string | null {
  if (!folder.startsWith('/')) return 'must be an absolute path on the server, such as /srv/vpe'
  if (folder.length > 1_024 || /[\p{Cc}\p{Cs}]/u.test(folder))
    return 'must be at most 1024 characters, none of them control characters'
  if (folder.split('/').some((part) => part === '.' || part === '..'))
    return 'must not contain . or .. as a folder'
  if (folder.length > 1 && folder.endsWith('/')) return 'must not end with a slash'
  return null
}

const OPTION = /^[a-z][a-z0-9_]{0,31}(=[0-9A-Za-z._:/-]{1,64})?$/
/**
 * Those would undo what every mount of vpe has, go on trying after it was given up, or keep the locks of images
 * to one host.
 */
const REFUSED: ReadonlySet<string> = new Set([
  'suid',
  'dev',
  'bind',
  'rbind',
  'remount',
  'move',
  'ro',
  'user',
  'users',
  'bg',
  'soft',
  'nolock',
  'local_lock',
  'retry',
])

/** What mount -o takes, apart by commas; empty for nothing. */
export function nfsOptionsFault(options: string): string | null {
  if (options === '') return null
  if (options.length > 512) return 'must be at most 512 characters'
  const wrong = options
    .split(',')
    .find((option) => !OPTION.test(option) || REFUSED.has(option.replace(/=.*/, '')))
  return wrong === undefined
    ? null
    : `${JSON.stringify(wrong)} is no option for a pool; write them as in vers=4.2,hard`
}

/** A Ceph monitor: host, host:port or [address]:port. */
export function monitorFault(monitor: string): string | null {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(monitor) ?? []
  const isHost = bracketed === undefined ? HOST.test(plain ?? '') : IPV6.test(bracketed)
  if (isHost && (port === undefined || (Number(port) >= 1 && Number(port) <= 65_535))) return null
  return `${JSON.stringify(monitor)} is no monitor, such as ceph1.example.org or 10.0.0.5:6789`
}

/** The name of a Ceph pool or user. */
export function cephNameFault(name: string): string | null {
  return /^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$/.test(name)
    ? null
    : 'must be 1 to 128 letters, digits, dots, dashes and underlines, the first a letter or digit'
}
