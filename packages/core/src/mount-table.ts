// The kernel's own list of what is mounted (proc(5), /proc/PID/mountinfo): reading it never hangs, whatever the storage does.

export interface Mounted {
  /** What of the filesystem is mounted; "/" for all of it. */
  readonly root: string
  readonly type: string
  readonly source: string
}

/** What is mounted at a path, the topmost if there are several; null for nothing. */
export function mountedAt(mountinfo: string, path: string): Mounted | null {
  let found: Mounted | null = null
  for (const line of mountinfo.split('\n')) {
    const [left = '', right] = line.split(' - ')
    if (right === undefined) continue
    const [, , , root = '', mountPoint = ''] = left.split(' ')
    if (unescapeOctal(mountPoint) !== path) continue
    const [type = '', source = ''] = right.split(' ')
    found = { root: unescapeOctal(root), type, source: unescapeOctal(source) }
  }
  return found
}

/** What a path lies on. */
export interface FileSystem {
  readonly type: string
  /** Of the mount, then of the file system. */
  readonly options: readonly string[]
}

/** The file system that holds a path: that of the longest mount point above it. */
export function fileSystemAt(mountinfo: string, path: string): FileSystem {
  let found = { point: '', type: '', options: [] as readonly string[] }
  for (const line of mountinfo.split('\n')) {
    const [left = '', right] = line.split(' - ')
    if (right === undefined) continue
    const [, , , , mountPoint = '', mountOptions = ''] = left.split(' ')
    const point = unescapeOctal(mountPoint)
    const isAbove = point === '/' || path === point || path.startsWith(`${point}/`)
    if (!isAbove || point.length < found.point.length) continue
    const [type = '', , superOptions = ''] = right.split(' ')
    found = { point, type, options: `${mountOptions},${superOptions}`.split(',') }
  }
  return found
}

/** The kernel writes blanks and backslashes as octal numbers. */
function unescapeOctal(text: string): string {
  return text.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
}
