// How many creations a second a controller accepts: each one placed, durable on disk with its event, and
// answered over gRPC. The hosts behind it are pretended; the SQLite file and its fsyncs are real.

import { FakeAgent } from '@vpe/controller/testing/fake-agent'
import { Harness } from '@vpe/controller/testing/harness'
import { type Distribution, distribution } from './figures.ts'

export interface AcceptedCreates {
  readonly perSecond: number
  readonly latencyMs: Distribution
  /** How many commits shared one transaction, on average. */
  readonly commitsPerTransaction: number
}

export async function measureAcceptedCreates(count: number, concurrency: number): Promise<AcceptedCreates> {
  const agent = await FakeAgent.start({ cpus: 4096, memoryMib: 64 * 1024 ** 2 })
  await using harness = new Harness()
  await harness.start()
  await harness.furnish(agent)
  const before = harness.store.statistics
  const latencies: number[] = []
  let next = 0
  const worker = async () => {
    while (next < count) {
      const fromMs = performance.now()
      await harness.create(`vm${next++}`)
      latencies.push(performance.now() - fromMs)
    }
  }
  const fromMs = performance.now()
  await Promise.all(Array.from({ length: concurrency }, worker))
  const seconds = (performance.now() - fromMs) / 1000
  const { commits, transactions } = harness.store.statistics
  agent.stop()
  return {
    perSecond: count / seconds,
    latencyMs: distribution(latencies),
    commitsPerTransaction: (commits - before.commits) / (transactions - before.transactions),
  }
}
