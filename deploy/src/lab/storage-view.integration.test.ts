// Two views of one folder, as two hosts have them: real mounts, real locks, real QEMU.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { waitUntil } from '../wait-until.ts'
import type { ViewState } from './storage-view.ts'

/** A machine that has the disk and does nothing with it; its monitor is its stdin. */
const GUEST = `exec qemu-system-x86_64 -accel tcg -S -nodefaults -display none -monitor stdio \\
  -drive file=disk,format=raw,if=virtio,cache=none,id=d`

let home: string
let folder: string
let views: View[]

beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'vpe-view-'))
  folder = join(home, 'shared')
  mkdirSync(folder)
  views = []
})
afterEach(async () => {
  for (const view of views) await view.kill()
  rmSync(home, { recursive: true })
})

class View {
  readonly #process: ChildProcess
  readonly #ended: Promise<unknown>
  readonly #state: string
  readonly #pid: number

  private constructor(leaseMs: number) {
    this.#state = mkdtempSync(join(home, 'view-'))
    writeFileSync(join(this.#state, 'wanted'), '"whole"')
    const main = join(import.meta.dirname, 'storage-view-main.ts')
    const node = [process.execPath, '--disable-warning=ExperimentalWarning']
    const args = ['--mount', '--propagation', 'private', ...node, main, folder, this.#state, `${leaseMs}`]
    this.#process = spawn('unshare', args, { stdio: 'ignore' })
    this.#ended = once(this.#process, 'exit')
    if (this.#process.pid === undefined) throw new Error('unshare did not start')
    this.#pid = this.#process.pid
    views.push(this)
  }

  static async open(leaseMs = 600_000): Promise<View> {
    const view = new View(leaseMs)
    await view.#reach('whole')
    return view
  }

  /** Runs a script in the folder, as a host that has this view. */
  run(script: string) {
    const enter = ['--target', `${this.#pid}`, '--mount', '--']
    const running = execa('nsenter', [...enter, 'sh', '-ec', `cd ${folder}\n${script}`])
    // Whoever awaits it hears of its end; until then it may end as it likes.
    running.catch(() => {})
    return running
  }

  async output(script: string): Promise<string> {
    return `${(await this.run(script)).stdout}`
  }

  async set(state: ViewState): Promise<void> {
    writeFileSync(join(this.#state, 'wanted'), JSON.stringify(state))
    process.kill(this.#pid, 'SIGHUP')
    await this.#reach(state)
  }

  /** The storage shuts the host out. */
  async expire(): Promise<void> {
    const order = join(this.#state, 'expire-now')
    writeFileSync(order, '')
    process.kill(this.#pid, 'SIGHUP')
    const check = () => (existsSync(order) ? 'the view has not heard of it' : undefined)
    await waitUntil(check, { what: 'the end of its locks', timeoutMs: 50_000, everyMs: 10 })
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#ended
  }

  async #reach(state: ViewState): Promise<void> {
    const actual = () => {
      try {
        return JSON.parse(readFileSync(join(this.#state, 'actual'), 'utf8'))
      } catch {
        return 'not there yet'
      }
    }
    const check = () => (actual() === state ? undefined : `it is ${actual()}`)
    await waitUntil(check, { what: `the view to be ${state}`, timeoutMs: 50_000, everyMs: 10 })
  }
}

test('it is a folder like any other', async () => {
  const view = await View.open()
  expect(
    await view.output(`
      mkdir a; echo one >a/f; mv a/f g; ln g h; ln -s g s; echo two >>h; cat s
      chmod 640 g; touch -d @1000000000 g; stat -c '%a %Y %h %s' g
      truncate -s 3 g; cat g; echo
      echo x >gone; exec 5<gone; rm gone; cat <&5
      rmdir a; rmdir nothing 2>&1 || true; ls -A
    `),
  ).toMatchInlineSnapshot(`
    "one
    two
    640 1000000000 2 8
    one
    x
    rmdir: failed to remove 'nothing': No such file or directory
    g
    h
    s"
  `)
})

test('bytes go through whole, directly and by the page cache, and holes stay holes', async () => {
  const view = await View.open()
  await view.run(`
    head -c 5000001 /dev/urandom >../random; cp ../random copy; cmp ../random copy
    head -c 4194304 /dev/urandom >../blocks
    dd if=../blocks of=direct bs=256k oflag=direct status=none; dd if=direct iflag=direct bs=64k status=none | cmp - ../blocks
    fallocate -l 8M space; fallocate -p -o 0 -l 4M space; test $(du -k space | cut -f1) -le 4200
    qemu-img create -q -f qcow2 disk 64M; qemu-io -t none -c 'write -P 7 1M 2M' -c 'discard 2M 64k' -c flush disk
    qemu-io -t none -c 'read -P 7 1M 1M' disk | grep -v failed; qemu-img check -q disk
  `)
})

test('what one host writes another reads at once', async () => {
  const [a, b] = [await View.open(), await View.open()]
  await a.run('echo first >f')
  expect(await b.output('cat f')).toBe('first')
  const appender = a.run('exec 3>>f; echo ready; read go; echo last >&3')
  await new Promise((resolve) => appender.stdout.once('data', resolve))
  await b.run('echo second >>f; touch new')
  appender.stdin.end('go\n')
  await appender
  expect(await b.output('cat f; ls')).toBe('first\nsecond\nlast\nf\nnew')
})

test('a disk that QEMU has open is locked, for the same host and for others, until it ends', async () => {
  const [a, b] = [await View.open(), await View.open()]
  await a.run('qemu-img create -q -f raw disk 1M')
  const holder = a.run(GUEST)
  const isRefused = async (view: View) => {
    const { stderr, failed } = await view
      .run(`qemu-io -t none -f raw -c 'write 0 512' disk`)
      .catch((error) => error)
    return Boolean(failed) && `${stderr}`.includes('Failed to get "write" lock')
  }
  const check = async () => ((await isRefused(b)) ? undefined : 'not locked')
  await waitUntil(check, { what: 'the lock', timeoutMs: 50_000 })
  // Looking at it, as libvirt and qemu-img do, takes no lock away.
  await a.run('qemu-img info -U disk; cat disk >/dev/null')
  expect([await isRefused(a), await isRefused(b)]).toEqual([true, true])
  holder.stdin?.end('quit\n')
  await holder
  expect([await isRefused(a), await isRefused(b)]).toEqual([false, false])
})

test('flock excludes between hosts, and who waits for it gets it', async () => {
  const [a, b] = [await View.open(), await View.open()]
  const holder = a.run('exec flock lock sh -c "echo got >&2; cat"')
  await new Promise((resolve) => holder.stderr?.once('data', resolve))
  await expect(b.run('flock --nonblock lock true')).rejects.toThrow()
  const waiting = b.output('flock lock echo mine')
  holder.stdin?.end()
  expect(await waiting).toBe('mine')
})

test('cut off, calls wait, and go on when it is healed', async () => {
  const [a, b] = [await View.open(), await View.open()]
  await a.set('hang')
  const write = a.run('echo waited >f')
  expect(await b.output('echo through >g; ls')).toBe('g')
  await a.set('whole')
  await write
  expect(await b.output('cat f')).toBe('waited')
})

test('who waits can be killed, and what it wanted is never done', async () => {
  const view = await View.open()
  await view.run('echo before >f')
  const writer = view.run('exec 3>>f; echo ready >&2; read go; echo never >&3')
  await new Promise((resolve) => writer.stderr?.once('data', resolve))
  await view.set('hang')
  writer.stdin?.write('go\n')
  // Nobody can see from outside that it waits: it is either about to, or does.
  writer.kill('SIGKILL')
  await expect(writer).rejects.toThrow()
  await view.set('whole')
  expect(await view.output('cat f')).toBe('before')
})

test('told to fail, calls fail', async () => {
  const view = await View.open()
  const writer = view.run('exec 3>f; echo ready; read go; echo x >&3')
  await new Promise((resolve) => writer.stdout?.once('data', resolve))
  await view.set('fail')
  writer.stdin?.write('go\n')
  await expect(writer).rejects.toThrow('I/O error')
  await expect(view.run('true')).rejects.toThrow("can't cd")
  await view.set('whole')
  await view.run('echo x >f')
})

test('cut off for longer than the lease, its locks go to others, and it can no longer write', async () => {
  const [a, b] = [await View.open(1), await View.open()]
  await a.run('qemu-img create -q -f raw disk 1M')
  const holder = a.run(GUEST)
  const isLocked = async () =>
    (await b.run(`qemu-io -t none -f raw -c 'write 0 512' disk`).catch((error) => error)).failed
  await waitUntil(async () => ((await isLocked()) ? undefined : 'not yet'), {
    what: 'the lock',
    timeoutMs: 50_000,
  })
  await a.set('hang')
  await waitUntil(async () => ((await isLocked()) ? 'still locked' : undefined), {
    what: 'the lease',
    timeoutMs: 50_000,
  })
  holder.stdin?.end('qemu-io d "write -P 9 0 512"\nquit\n')
  await a.set('whole')
  const { stdout } = await holder.catch((error) => error)
  expect(`${stdout}`).toContain('Input/output error')
  await b.run(`qemu-io -t none -f raw -c 'read -P 9 0 512' disk | grep failed`)
})

test('while the storage is down calls wait, and locks are as before when it is back', async () => {
  const [a, b] = [await View.open(1), await View.open(1)]
  const holder = a.run('exec 3>f; flock 3; echo got; read go; echo written >&3')
  await new Promise((resolve) => holder.stdout?.once('data', resolve))
  await Promise.all([a.set('outage'), b.set('outage')])
  const waiting = b.run('flock --nonblock f true').catch((error) => error)
  holder.stdin?.end('go\n')
  await b.set('whole')
  expect((await waiting).failed).toBe(true)
  await a.set('whole')
  await holder
  expect(await b.output('cat f')).toBe('written')
})

test('shut out by the storage, its locks go to others at once, what was open under them is lost, and it may open anew', async () => {
  const [a, b] = [await View.open(), await View.open()]
  await a.run('qemu-img create -q -f raw disk 1M')
  const holder = a.run(GUEST)
  const isLocked = async () =>
    (await b.run(`qemu-io -t none -f raw -c 'write 0 512' disk`).catch((error) => error)).failed
  await waitUntil(async () => ((await isLocked()) ? undefined : 'not yet'), {
    what: 'the lock',
    timeoutMs: 50_000,
  })
  const other = a.run('exec 3>>other; echo open; read go; echo unlocked >&3')
  await new Promise((resolve) => other.stdout?.once('data', resolve))
  // Also of a host that hangs.
  await a.set('hang')
  await a.expire()
  expect(await isLocked()).toBe(false)
  await a.set('whole')
  holder.stdin?.end('qemu-io d "write -P 9 0 512"\nquit\n')
  const { stdout } = await holder.catch((error) => error)
  expect(`${stdout}`).toContain('Input/output error')
  await b.run(`qemu-io -t none -f raw -c 'read -P 9 0 512' disk | grep failed`)
  other.stdin?.end('go\n')
  await other
  expect(await b.output('cat other')).toBe('unlocked')
  await a.run(`qemu-io -t none -f raw -c 'write -P 7 0 512' disk`)
})

test('when its process is killed, whoever waits is let go', async () => {
  const view = await View.open()
  const reader = view.run('echo ready; read go; ls')
  await new Promise((resolve) => reader.stdout?.once('data', resolve))
  await view.set('hang')
  reader.stdin?.end('go\n')
  await view.kill()
  await expect(reader).rejects.toThrow()
})
