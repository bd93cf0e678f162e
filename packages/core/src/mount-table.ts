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

/** The kernel writes blanks and backslashes as octal numbers. */
function unescapeOctal(text: string): string {
  return text.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
}
