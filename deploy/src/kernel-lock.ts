/**
 * A lock between processes that is never left behind: the kernel's (flock), held by a child that lives as long as
 * our end of its stdin. However we end, it is free again.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

/** The lock, or undefined when somebody else has it for longer than `waitSeconds`. */
export async function lockFile(
  path: string,
  { waitSeconds, signal }: { waitSeconds: number; signal?: AbortSignal | undefined },
): Promise<Disposable | undefined> {
  const patience = waitSeconds > 0 ? ['--timeout', `${waitSeconds}`] : ['--nonblock']
  // In a session of its own: Ctrl-C is for us to answer, with the lock still held.
  const child = spawn('flock', [...patience, path, 'sh', '-c', 'echo locked; exec cat >/dev/null'], {
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const giveUp = () => child.kill()
  signal?.addEventListener('abort', giveUp)
  const isLocked = once(child.stdout, 'data').then(() => true)
  const hasEnded = once(child, 'close').then(() => false)
  const got = await Promise.race([isLocked, hasEnded])
  signal?.removeEventListener('abort', giveUp)
  signal?.throwIfAborted()
  if (!got) return undefined
  child.stdout.destroy()
  child.unref()
  return {
    [Symbol.dispose]() {
      child.stdin.destroy()
    },
  }
}
