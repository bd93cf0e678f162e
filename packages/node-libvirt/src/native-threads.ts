// Blocking libvirt calls, made promises by running them on threads of our own.
//
// Threads of our own rather than koffi's `.async`, for three reasons. The error of a call is thread-local in
// libvirt, and koffi gives no way to read it on the thread that made the call. `.async` runs on libuv's pool,
// whose four threads also serve files and DNS: four calls hung on a dead storage pool would stop the process.
// And beyond 256 queued calls koffi throws, inside callbacks too.
//
// A thread costs about 10 MB and 75 ms to start, so threads are made when all others are busy and dismissed
// after a quiet while. How many calls run at once is bounded by each connection (session.ts).

import { Worker } from 'node:worker_threads'
import { type ErrorFields, LibvirtError, ownError } from './error.ts'
import { endExitsInTime } from './exit-deadline.ts'
import { libvirt } from './library.ts'
import { type ArgumentsOf, type FunctionName, nativeFunctions, type SuccessOf } from './native-functions.ts'

type Answer =
  | { readonly kind: 'done'; readonly result: unknown }
  | { readonly kind: 'failed'; readonly error: ErrorFields }
  | { readonly kind: 'missing' }
  | { readonly kind: 'misused'; readonly message: string }

/** How long a thread stays without work before it is dismissed. */
const idleMsMax = 30_000

const idleThreads: NativeThread[] = []
let busyThreads = 0
let isSweepDue = false

/** One thread that makes libvirt calls, one at a time. */
export class NativeThread {
  // execArgv: options and loaders meant for the program are of no use to a thread that only calls C.
  readonly #worker = new Worker(new URL('./native-thread-main.mjs', import.meta.url), {
    name: 'libvirt',
    execArgv: [],
  })
  #waiting: PromiseWithResolvers<Answer> | undefined
  #isDead = false
  /** Since when the thread rests, on the clock of performance.now(). */
  idleSinceMs = 0

  constructor() {
    endExitsInTime(() => busyThreads > 0)
    this.#worker.on('message', (answer: Answer) => this.#waiting?.resolve(answer))
    this.#worker.on('error', (cause) => {
      this.#isDead = true
      this.#waiting?.reject(new Error('a libvirt thread died', { cause }))
    })
    this.#worker.unref()
  }

  get isDead(): boolean {
    return this.#isDead
  }

  /**
   * Calls a libvirt function and resolves to its result. The process stays alive until it returns.
   * Rejects with a LibvirtError when the call fails or the installed libvirt does not have the function.
   */
  async call<N extends FunctionName>(name: N, ...args: ArgumentsOf<N>): Promise<SuccessOf<N>> {
    return (await this.callSymbol(name, nativeFunctions[name], args)) as SuccessOf<N>
  }

  /** `call` by symbol and signature, not bound to the table of native-functions.ts. */
  async callSymbol(name: string, signature: readonly string[], args: readonly unknown[]): Promise<unknown> {
    if (this.#isDead) throw new Error(`this thread is dead, it cannot call ${name}`)
    if (this.#waiting !== undefined) throw new Error(`this thread is busy, it cannot call ${name}`)
    const waiting = Promise.withResolvers<Answer>()
    this.#waiting = waiting
    busyThreads++
    this.#worker.ref()
    try {
      this.#worker.postMessage({ name, signature, args })
      return unwrap(name, await waiting.promise)
    } finally {
      this.#worker.unref()
      busyThreads--
      this.#waiting = undefined
    }
  }

  /** Ends the thread. It must not be in a call, for nothing can interrupt one. */
  async dismiss(): Promise<void> {
    await this.#worker.terminate()
  }
}

/** Calls a libvirt function on a free thread, made if need be. See NativeThread.call. */
export async function callNative<N extends FunctionName>(
  name: N,
  ...args: ArgumentsOf<N>
): Promise<SuccessOf<N>> {
  libvirt()
  const thread = idleThreads.pop() ?? new NativeThread()
  try {
    return await thread.call(name, ...args)
  } finally {
    if (!thread.isDead) rest(thread)
  }
}

// The last thread used is taken first, so that the others fall idle and go. One stays, ready for the next call.
function rest(thread: NativeThread): void {
  thread.idleSinceMs = performance.now()
  idleThreads.push(thread)
  if (!isSweepDue) sweepLater()
}

function sweepLater(): void {
  isSweepDue = true
  setTimeout(sweep, idleMsMax).unref()
}

function sweep(): void {
  const idleBefore = performance.now() - idleMsMax
  while (idleThreads.length > 1 && (idleThreads[0]?.idleSinceMs ?? 0) < idleBefore)
    void idleThreads.shift()?.dismiss()
  isSweepDue = false
  if (idleThreads.length > 1) sweepLater()
}

function unwrap(name: string, answer: Answer): unknown {
  switch (answer.kind) {
    case 'done':
      return answer.result
    case 'failed':
      throw new LibvirtError(answer.error, name)
    case 'missing':
      throw ownError(
        'NO_SUPPORT',
        `the installed libvirt.so.0 has no function ${name}: it is too old for it`,
        name,
      )
    case 'misused':
      throw new TypeError(`${name}: ${answer.message}`)
  }
}
