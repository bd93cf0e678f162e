// libvirt's own event loop: it feeds event callbacks, keep-alive and the closing of lost connections. It runs
// on a thread of its own, is started by the first connection and stopped by the last.
//
// Callbacks registered with koffi on the main thread run on the main thread: the event loop's thread waits
// until they return. Hence the rule that nothing on the main thread may wait for libvirt.

import { setTimeout as delay } from 'node:timers/promises'
import { callLocal, symbolAddress } from './library.ts'
import { NativeThread } from './native-threads.ts'

let users = 0
let running: Promise<void> | undefined
// A timer of the event loop; setting it off makes the loop's poll return. Its callback does nothing.
let wakeTimer: number | undefined

/** Keeps the event loop running until `releaseEventLoop`. Must precede the opening of a connection. */
export function holdEventLoop(): void {
  if (wakeTimer === undefined) {
    callLocal('virEventRegisterDefaultImpl')
    const timer = callLocal('virEventAddTimeout', -1, symbolAddress('virGetLastErrorCode'), null, null)
    // Node waits for its threads when it exits, so an exit with open connections must get the loop out of its poll.
    process.once('exit', () => callLocal('virEventUpdateTimeout', timer, 0))
    wakeTimer = timer
  }
  users++
  callLocal('virEventUpdateTimeout', wakeTimer, -1)
  running ??= run()
}

/** Gives up one hold. Resolves, for the last one, when the loop has stopped. */
export async function releaseEventLoop(): Promise<void> {
  users--
  if (users > 0 || wakeTimer === undefined) return
  callLocal('virEventUpdateTimeout', wakeTimer, 0)
  await running
}

async function run(): Promise<void> {
  let thread = new NativeThread()
  while (users > 0) {
    try {
      await thread.call('virEventRunDefaultImpl')
    } catch (error) {
      // Never seen. Events are hints and calls work without the loop, so say so and go on, but slowly.
      process.emitWarning(error instanceof Error ? error : String(error))
      await delay(1000)
      if (thread.isDead) thread = new NativeThread()
    }
  }
  await thread.dismiss()
  running = users > 0 ? run() : undefined
}
