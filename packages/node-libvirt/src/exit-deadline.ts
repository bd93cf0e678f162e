// Keeps process.exit() and uncaught exceptions from hanging on a libvirt call.
//
// Before Node exits it waits for its threads, and a thread inside a libvirt call cannot be told to stop: with a
// dead storage pool the process would never go. So an exit with calls under way gets a second, time enough to
// print what is to be printed; then a timer of the C library ends the process with the exit code it was about
// to have.

import koffi from 'koffi'
import type { Pointer } from './native-functions.ts'

const deadlineSeconds = 1
/** CLOCK_MONOTONIC of <time.h> and SIGEV_THREAD of <signal.h>: call a function when the timer expires. */
const [clockMonotonic, sigevThread] = [1, 2]

let isInstalled = false

/** From now on an exit during which `isBusy` is true ends within a second. Repeated calls do nothing. */
export function endExitsInTime(isBusy: () => boolean): void {
  if (isInstalled) return
  isInstalled = true
  process.on('exit', (code) => {
    if (isBusy()) exitLater(code)
  })
}

function exitLater(code: number): void {
  const libc = koffi.load(null)
  const createTimer = libc.func('timer_create', 'int', ['int', 'void *', 'void *'])
  const setTimer = libc.func('timer_settime', 'int', ['void *', 'int', 'void *', 'void *'])
  // struct sigevent: the argument, the signal, how to notify, the function to call. Freed by the exit.
  const event = koffi.alloc('uint8_t', 64) as Pointer
  koffi.encode(event, 0, 'int', code)
  koffi.encode(event, 12, 'int', sigevThread)
  koffi.encode(event, 16, 'uint64_t', libc.symbol('_exit'))
  const timer = koffi.alloc('uint64_t', 1) as Pointer
  if (createTimer(clockMonotonic, event, timer) !== 0) return
  // struct itimerspec: the interval, none, then the delay, each in seconds and nanoseconds.
  const delay = koffi.alloc('uint64_t', 4) as Pointer
  koffi.encode(delay, 16, 'uint64_t', deadlineSeconds)
  setTimer(koffi.decode.uint64(timer), 0, delay, null)
}
