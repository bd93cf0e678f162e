// Loaded into a process of vpe before its own main.ts (`node --import`): answers its parent, over the IPC channel,
// how large its heap is and how late its event loop was since the last question, and profiles all of its threads
// when told to.

import { writeFileSync } from 'node:fs'
import { Session } from 'node:inspector/promises'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { BroadcastChannel, isMainThread, threadId } from 'node:worker_threads'
import type { ProbeAnswer, ProbeQuestion } from './probed-process.ts'

/** How often the event loop is asked whether it is on time, which is the least delay that is told. */
const RESOLUTION_MS = 5

const session = new Session()
const threads = new BroadcastChannel('probe')
// It lives as long as what it is loaded into, and no longer.
threads.unref()
threads.onmessage = (event) => void profile((event as { data: string }).data)

async function profile(order: string): Promise<void> {
  if (order === 'start') {
    session.connect()
    await session.post('Profiler.enable')
    await session.post('Profiler.start')
    return
  }
  const { profile: taken } = await session.post('Profiler.stop')
  session.disconnect()
  writeFileSync(order.replace('.cpuprofile', `.${threadId}.cpuprofile`), JSON.stringify(taken))
}

if (isMainThread && process.send) {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  process.on('message', async ({ id, profile: order }: ProbeQuestion) => {
    if (order) {
      threads.postMessage(order)
      await profile(order)
    }
    const late = (percentile: number) => Math.max(0, delay.percentile(percentile) / 1e6 - RESOLUTION_MS)
    const max = Math.max(0, delay.max / 1e6 - RESOLUTION_MS)
    const loopDelayMs = { p50: late(50), p99: late(99), max }
    delay.reset()
    process.send?.({ id, heapBytes: process.memoryUsage().heapUsed, loopDelayMs } satisfies ProbeAnswer)
  })
  process.channel?.unref()
}
