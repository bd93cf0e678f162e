/**
 * One host's view of the shared storage: a folder, passed through FUSE, that can be cut off under open files. It
 * behaves as an NFS mount does ("hard", NFS 4):
 *
 * - Nothing is kept in page caches: what one host writes, another reads at once.
 * - Locks are those of the folder itself, so that hosts exclude each other, and two programs of one host do.
 * - Cut off, a call hangs until the view is healed, and then goes on. Only SIGKILL ends who waits.
 * - Cut off for longer than the lease, its locks are freed for others. What was opened under a lost lock
 *   answers EIO from then on: nothing that was in flight is written after somebody else has got the lock.
 *
 * A request is served at once, by synchronous calls; only fsync and the wait for a lock go by the side.
 */
import {
  type BigIntStats,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmdirSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs'
import { constants as osConstants } from 'node:os'
import {
  answer,
  attributesAnswer,
  entryAnswer,
  type FolderEntry,
  folderAnswer,
  initAnswer,
  isFlock,
  lockAnswer,
  numberAnswer,
  type Operation,
  openAnswer,
  Request,
  rootNode,
  spaceAnswer,
  valid,
} from './fuse-protocol.ts'
import { allocate, conflictingLock, linkTo, lockRange, lockWhole, rename, seek } from './linux-calls.ts'

/**
 * `whole`: serves. `hang`: the host is cut off, and nothing is answered. `fail`: it is cut off, and EIO is answered to everything. `outage`: the
 * server is down, and nothing is answered; no lease runs out meanwhile, and locks are as before when it is back.
 */
export type ViewState = 'whole' | 'hang' | 'fail' | 'outage'

const { errno } = osConstants
const openByPath = 0o10000000
const lockRetryMs = 20

interface Node {
  readonly fd: number
  readonly inode: bigint
  /** How often the kernel was told of it, and has not forgotten it. */
  lookups: bigint
  /** Where it was last found: a symbolic link can only be read by its name. Undefined for the root. */
  place: Place | undefined
  /** One open file for each owner of locks. */
  readonly locks: Map<bigint, { readonly fd: number; readonly handle: bigint }>
}

interface Place {
  /** A node. */
  readonly folder: bigint
  readonly name: string
}

interface Handle {
  readonly fd: number
  readonly node: Node
  entries: readonly FolderEntry[]
  /** Its lock was given away while this host was cut off. */
  isLost: boolean
}

/** What the kernel gets: an answer's parts, or nothing at all, now or ever. */
type Answer = readonly Buffer[] | 'later' | 'none'

export interface StorageViewOptions {
  /** Gives one answer to the kernel. */
  readonly send: (bytes: Buffer) => void
  /** From a cut to when its locks go to others. */
  readonly leaseMs: number
  /** Hosts exclude each other by locks; else only programs of one host do. */
  readonly hasLocks?: boolean
}

export class StorageView {
  readonly #send: (bytes: Buffer) => void
  readonly #leaseMs: number
  readonly #hasLocks: boolean
  readonly #nodes = new Map<bigint, Node>()
  readonly #nodeOfInode = new Map<bigint, bigint>()
  readonly #handles = new Map<bigint, Handle>()
  /** Requests that came while the view hangs, in order. */
  #held: { readonly request: Request; readonly bytes: Buffer }[] = []
  readonly #waitingForLock = new Map<bigint, NodeJS.Timeout>()
  #state: ViewState = 'whole'
  #lease: NodeJS.Timeout | undefined
  #nextNode = rootNode
  #nextHandle = 1n

  constructor(folder: string, { send, leaseMs, hasLocks = true }: StorageViewOptions) {
    this.#send = send
    this.#hasLocks = hasLocks
    this.#leaseMs = leaseMs
    this.#adopt(folder)
  }

  get state(): ViewState {
    return this.#state
  }

  set state(state: ViewState) {
    if (state === this.#state) return
    if (state === 'whole' || state === 'outage') {
      clearTimeout(this.#lease)
      this.#lease = undefined
    } else {
      this.#lease ??= setTimeout(() => this.expire(), this.#leaseMs)
    }
    this.#state = state
    if (this.#holds) return
    const held = this.#held
    this.#held = []
    for (const { request } of held) this.#serve(request)
  }

  get #holds(): boolean {
    return this.#state === 'hang' || this.#state === 'outage'
  }

  /**
   * The server has shut this host out, as `expire` of an NFS server does: its locks are free for others, and what was opened under
   * them answers EIO from now on, in whatever state the view is. The host may open and lock anew.
   */
  expire(): void {
    for (const node of this.#nodes.values()) {
      for (const { fd, handle } of node.locks.values()) {
        closeSync(fd)
        const lost = this.#handles.get(handle)
        if (lost) lost.isLost = true
      }
      node.locks.clear()
    }
  }

  /** Takes a request of the kernel; `bytes` may be used again afterwards. */
  receive(bytes: Buffer): void {
    const request = new Request(bytes)
    if (!this.#holds || request.operation === 'init') this.#serve(request)
    else if (request.operation === 'interrupt') this.#interruptHeld(request)
    else {
      const kept = Buffer.from(bytes)
      this.#held.push({ request: new Request(kept), bytes: kept })
    }
  }

  #serve(request: Request): void {
    const { operation, id } = request
    if (operation === undefined) {
      this.#send(answer(id, errno.ENOSYS))
      return
    }
    try {
      const isTold = ['init', 'forget', 'batchForget', 'interrupt', 'release', 'releasedir'].includes(
        operation,
      )
      if (this.#state === 'fail' && !isTold) throw failure('EIO')
      const result = this.#calls[operation](request)
      if (result === 'later' || result === 'none') return
      this.#send(answer(id, 0, ...result))
    } catch (error) {
      this.#send(answer(id, errnoOf(error)))
    }
  }

  /** As an NFS client: who is being killed need not wait any longer, and what it asked for is never done. */
  #interruptHeld(request: Request): void {
    const id = request.u64()
    const held = this.#held.find((each) => each.request.id === id)
    if (!held || !isBeingKilled(held.request.pid)) return
    this.#held = this.#held.filter((each) => each !== held)
    this.#send(answer(id, errno.EINTR))
  }

  readonly #calls: Readonly<Record<Operation, (request: Request) => Answer>> = {
    init: (request) => [initAnswer(request, this.#hasLocks)],
    lookup: (request) => [this.#entry(this.#place(request))],
    forget: (request) => this.#forget(request.node, request.u64()),
    batchForget: (request) => {
      const count = request.u32()
      request.skip(4)
      for (let index = 0; index < count; index++) this.#forget(request.u64(), request.u64())
      return 'none'
    },
    getattr: ({ node }) => [attributesAnswer(this.#stats(node))],
    setattr: (request) => this.#setAttributes(request),
    readlink: ({ node }) => [Buffer.from(readlinkSync(this.#path(this.#placeOf(node))))],
    symlink: (request) => {
      const place = this.#place(request)
      symlinkSync(request.name(), this.#path(place))
      return [this.#entry(place)]
    },
    mknod: (request) => {
      const mode = request.u32()
      const place = this.#place(request.skip(12))
      if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw failure('EPERM')
      closeSync(openSync(this.#path(place), constants.O_CREAT | constants.O_EXCL, mode & 0o7777))
      return [this.#ownedEntry(request, place)]
    },
    mkdir: (request) => {
      const mode = request.u32()
      const place = this.#place(request.skip(4))
      mkdirSync(this.#path(place), mode & 0o7777)
      return [this.#ownedEntry(request, place)]
    },
    unlink: (request) => done(() => unlinkSync(this.#path(this.#place(request)))),
    rmdir: (request) => done(() => rmdirSync(this.#path(this.#place(request)))),
    rename: (request) => this.#rename(request, request.u64(), 0),
    rename2: (request) => {
      const [folder, flags] = [request.u64(), request.u32()]
      return this.#rename(request.skip(4), folder, flags)
    },
    link: (request) => {
      const target = request.u64()
      const place = this.#place(request)
      const { fd } = this.#node(target)
      if (fstatSync(fd).isSymbolicLink()) linkSync(this.#path(this.#placeOf(target)), this.#path(place))
      else linkTo(pathOf(fd), this.#path(place))
      return [this.#entry(place)]
    },
    open: (request) => {
      const flags = request.u32()
      const node = this.#node(request.node)
      return [openAnswer(this.#open(openSync(pathOf(node.fd), backingFlags(flags)), node))]
    },
    create: (request) => {
      const [flags, mode] = [request.u32(), request.u32()]
      const place = this.#place(request.skip(8))
      const fd = openSync(this.#path(place), backingFlags(flags) | constants.O_CREAT, mode & 0o7777)
      const entry = this.#ownedEntry(request, place)
      return [entry, openAnswer(this.#open(fd, this.#node(entry.readBigUInt64LE(0))))]
    },
    read: (request) => {
      const handle = this.#trusted(request.u64())
      const [offset, size] = [request.u64(), request.u32()]
      const bytes = Buffer.allocUnsafe(size)
      return [bytes.subarray(0, readSync(handle.fd, bytes, 0, size, offset))]
    },
    write: (request) => {
      const handle = this.#trusted(request.u64())
      const [offset, size] = [request.u64(), request.u32()]
      const bytes = request.skip(20).bytes(size)
      let written = 0
      while (written < size) {
        written += writeSync(handle.fd, bytes, written, size - written, Number(offset) + written)
      }
      return [numberAnswer(written)]
    },
    statfs: () => [spaceAnswer(statfsSync(pathOf(this.#node(rootNode).fd), { bigint: true }))],
    release: (request) => this.#release(request.u64()),
    flush: (request) => {
      const { node } = this.#handle(request.u64())
      this.#unlock(node, request.skip(8).u64())
      return []
    },
    fsync: (request) => {
      const { fd } = this.#trusted(request.u64())
      const sync = (request.u32() & 1) === 1 ? fdatasync : fsync
      sync(fd, (error) => this.#send(answer(request.id, error ? errnoOf(error) : 0)))
      return 'later'
    },
    opendir: (request) => {
      const node = this.#node(request.node)
      const fd = openSync(pathOf(node.fd), constants.O_RDONLY | constants.O_DIRECTORY)
      return [openAnswer(this.#open(fd, node), { isFolder: true })]
    },
    readdir: (request) => {
      const handle = this.#handle(request.u64())
      const [offset, size] = [Number(request.u64()), request.u32()]
      if (offset === 0) handle.entries = entriesOf(pathOf(handle.fd))
      return [folderAnswer(handle.entries, offset, size)]
    },
    releasedir: (request) => this.#release(request.u64()),
    fsyncdir: (request) => {
      fsync(this.#handle(request.u64()).fd, (error) =>
        this.#send(answer(request.id, error ? errnoOf(error) : 0)),
      )
      return 'later'
    },
    fallocate: (request) => {
      const { fd } = this.#trusted(request.u64())
      const [offset, length, mode] = [request.u64(), request.u64(), request.u32()]
      return done(() => allocate(fd, mode, offset, length))
    },
    lseek: (request) => {
      const { fd } = this.#trusted(request.u64())
      return [numberAnswer(seek(fd, request.u64(), request.u32()))]
    },
    getlk: (request) => {
      const { range, lock } = this.#lockRequest(request)
      return [lockAnswer(conflictingLock(lock, range))]
    },
    setlk: (request) => {
      const { range, lock, isWhole } = this.#lockRequest(request)
      return done(() => (isWhole ? lockWhole(lock, range.type) : lockRange(lock, range)))
    },
    setlkw: (request) => {
      const { range, lock, isWhole } = this.#lockRequest(request)
      const attempt = () => {
        this.#waitingForLock.delete(request.id)
        try {
          if (isWhole) lockWhole(lock, range.type)
          else lockRange(lock, range)
          this.#send(answer(request.id, 0))
        } catch (error) {
          if (errnoOf(error) !== errno.EAGAIN) this.#send(answer(request.id, errnoOf(error)))
          else this.#waitingForLock.set(request.id, setTimeout(attempt, lockRetryMs))
        }
      }
      attempt()
      return 'later'
    },
    interrupt: (request) => {
      const id = request.u64()
      const timer = this.#waitingForLock.get(id)
      if (timer) {
        clearTimeout(timer)
        this.#waitingForLock.delete(id)
        this.#send(answer(id, errno.EINTR))
      }
      return 'none'
    },
  }

  #setAttributes(request: Request): Answer {
    const wanted = request.u32()
    const handle = this.#handles.get(request.skip(4).u64())
    const size = request.u64()
    const [atime, mtime] = [request.skip(8).u64(), request.u64()]
    const [atimeNs, mtimeNs] = [request.skip(8).u32(), request.u32()]
    const mode = request.skip(4).u32()
    const [uid, gid] = [request.skip(4).u32(), request.u32()]
    const { fd } = this.#node(request.node)
    const path = pathOf(fd)
    const has = (bits: number) => (wanted & bits) !== 0
    const before = fstatSync(fd)
    if (has(valid.mode)) chmodSync(path, mode & 0o7777)
    if (has(valid.uid | valid.gid))
      chownSync(path, has(valid.uid) ? uid : before.uid, has(valid.gid) ? gid : before.gid)
    if (has(valid.size)) {
      if (has(valid.handle) && handle) ftruncateSync(this.#trust(handle).fd, Number(size))
      else truncateSync(path, Number(size))
    }
    if (has(valid.atime | valid.mtime)) {
      const now = Date.now() / 1000
      const moment = (isSet: boolean, isNow: boolean, seconds: bigint, ns: number, otherwise: number) =>
        !isSet ? otherwise / 1000 : isNow ? now : Number(seconds) + ns / 1e9
      utimesSync(
        path,
        moment(has(valid.atime), has(valid.atimeNow), atime, atimeNs, before.atimeMs),
        moment(has(valid.mtime), has(valid.mtimeNow), mtime, mtimeNs, before.mtimeMs),
      )
    }
    return [attributesAnswer(this.#stats(request.node))]
  }

  #rename(request: Request, folder: bigint, flags: number): Answer {
    const [from, to] = [this.#place(request), { folder, name: request.name() }]
    return done(() => rename(this.#path(from), this.#path(to), flags))
  }

  #lockRequest(request: Request) {
    const id = request.u64()
    const { node } = this.#trusted(id)
    const owner = request.u64()
    const [start, end, type] = [request.u64(), request.u64(), request.u32()]
    const isWhole = (request.skip(4).u32() & isFlock) !== 0
    let lock = node.locks.get(owner)
    if (!lock) {
      const isReadOnly = !fstatSync(node.fd).isFile()
      const fd = openSync(pathOf(node.fd), isReadOnly ? constants.O_RDONLY : constants.O_RDWR)
      lock = { fd, handle: id }
      node.locks.set(owner, lock)
    }
    return { range: { start, end, type }, lock: lock.fd, isWhole }
  }

  /** A close frees what its process had locked in the file. */
  #unlock(node: Node, owner: bigint): void {
    const lock = node.locks.get(owner)
    if (lock) closeSync(lock.fd)
    node.locks.delete(owner)
  }

  #open(fd: number, node: Node): bigint {
    const id = this.#nextHandle++
    this.#handles.set(id, { fd, node, entries: [], isLost: false })
    return id
  }

  #release(id: bigint): Answer {
    const { fd, node } = this.#handle(id)
    for (const [owner, { handle }] of node.locks) if (handle === id) this.#unlock(node, owner)
    closeSync(fd)
    this.#handles.delete(id)
    return []
  }

  #handle(id: bigint): Handle {
    const handle = this.#handles.get(id)
    if (!handle) throw failure('EBADF')
    return handle
  }

  #trusted(id: bigint): Handle {
    return this.#trust(this.#handle(id))
  }

  #trust(handle: Handle): Handle {
    if (handle.isLost) throw failure('EIO')
    return handle
  }

  #node(id: bigint): Node {
    const node = this.#nodes.get(id)
    if (!node) throw failure('ESTALE')
    return node
  }

  #stats(id: bigint): BigIntStats {
    return fstatSync(this.#node(id).fd, { bigint: true })
  }

  /** What a request is about: a name in its folder. */
  #place(request: Request): Place {
    return { folder: request.node, name: request.name() }
  }

  #placeOf(node: bigint): Place {
    const { place } = this.#node(node)
    if (!place) throw failure('EINVAL')
    return place
  }

  #path({ folder, name }: Place): string {
    return `${pathOf(this.#node(folder).fd)}/${name}`
  }

  #ownedEntry({ uid, gid }: Request, place: Place): Buffer {
    const path = this.#path(place)
    const now = lstatSync(path)
    if (now.uid !== uid || now.gid !== gid) chownSync(path, uid, gid)
    return this.#entry(place)
  }

  #entry(place: Place): Buffer {
    const id = this.#adopt(this.#path(place), place)
    return entryAnswer(id, this.#stats(id))
  }

  /** The node of what lies at a path: the same one for the same file, whatever its name. */
  #adopt(path: string, place?: Place): bigint {
    const fd = openSync(path, openByPath | constants.O_NOFOLLOW)
    const inode = fstatSync(fd, { bigint: true }).ino
    const known = this.#nodeOfInode.get(inode)
    const node = known === undefined ? undefined : this.#nodes.get(known)
    if (known !== undefined && node) {
      closeSync(fd)
      node.lookups += 1n
      node.place = place
      return known
    }
    const id = this.#nextNode++
    this.#nodes.set(id, { fd, inode, lookups: 1n, place, locks: new Map() })
    this.#nodeOfInode.set(inode, id)
    return id
  }

  #forget(id: bigint, lookups: bigint): Answer {
    const node = this.#nodes.get(id)
    if (!node || id === rootNode) return 'none'
    node.lookups -= lookups
    if (node.lookups > 0n) return 'none'
    for (const owner of node.locks.keys()) this.#unlock(node, owner)
    closeSync(node.fd)
    this.#nodes.delete(id)
    this.#nodeOfInode.delete(node.inode)
    return 'none'
  }
}

function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`
}

/**
 * The page cache of the folder itself is as good as its disk. O_APPEND stays: where the end is, the kernel above us
 * does not know when another host has written.
 */
function backingFlags(flags: number): number {
  const { O_DIRECT, O_NOFOLLOW } = constants
  const readWrite = (flags & 3) === constants.O_WRONLY ? (flags & ~3) | constants.O_RDWR : flags
  return readWrite & ~(O_DIRECT | O_NOFOLLOW)
}

function entriesOf(path: string): readonly FolderEntry[] {
  const kindOf = (entry: { isFile(): boolean; isDirectory(): boolean; isSymbolicLink(): boolean }) =>
    entry.isDirectory() ? constants.S_IFDIR : entry.isSymbolicLink() ? constants.S_IFLNK : constants.S_IFREG
  const own = ['.', '..'].map((name) => ({ name, kind: constants.S_IFDIR }))
  const others = readdirSync(`${path}/`, { withFileTypes: true })
  return [...own, ...others.map((entry) => ({ name: entry.name, kind: kindOf(entry) }))]
}

/** Is SIGKILL on its way to this thread's process? */
function isBeingKilled(pid: number): boolean {
  try {
    const status = readSmall(`/proc/${pid}/status`)
    const pending = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)]
    const kill = 1n << BigInt(osConstants.signals.SIGKILL - 1)
    return pending.some(([, mask]) => (BigInt(`0x${mask}`) & kill) !== 0n)
  } catch (error) {
    if (errnoOf(error) === errno.ENOENT || errnoOf(error) === errno.ESRCH) return true
    throw error
  }
}

function readSmall(path: string): string {
  const fd = openSync(path, constants.O_RDONLY)
  try {
    const bytes = Buffer.alloc(8192)
    return bytes.toString('utf8', 0, readSync(fd, bytes))
  } finally {
    closeSync(fd)
  }
}

function done(work: () => void): Answer {
  work()
  return []
}

function failure(code: keyof typeof errno): Error {
  return Object.assign(new Error(code), { code, errno: -errno[code] })
}

function errnoOf(error: unknown): number {
  const number = (error as NodeJS.ErrnoException).errno
  if (typeof number !== 'number') throw error
  return -number
}
