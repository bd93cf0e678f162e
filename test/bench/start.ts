// How long a controller takes to start, and what memory it takes, where it has many hosts and instances. None of the
// hosts answers: what is measured ends with the first answer about an instance.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeLargeStore } from '@vpe/controller/testing/large-store'
import { ControllerServiceDefinition, createRpcChannel, createRpcClientFactory } from '@vpe/proto'
import { until } from '../e2e/cluster.ts'
import { cpuSeconds, ProbedProcess, residentBytes } from '../scale/probed-process.ts'
import { type Distribution, distribution } from './figures.ts'

export interface Start {
  readonly answersMs: Distribution
  readonly cpuSeconds: Distribution
  readonly residentMib: Distribution
}

export async function measureStart(hosts: number, instances: number, rounds: number): Promise<Start> {
  const dir = mkdtempSync(join(tmpdir(), 'vpe-bench-'))
  try {
    if (hosts > 0) await writeLargeStore(join(dir, 'controller.sqlite'), hosts, instances)
    const samples: Sample[] = []
    for (let round = 0; round < rounds; round++) samples.push(await startOnce(dir, instances))
    return {
      answersMs: distribution(samples.map((each) => each.answersMs)),
      cpuSeconds: distribution(samples.map((each) => each.cpuSeconds)),
      residentMib: distribution(samples.map((each) => each.residentMib)),
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

interface Sample {
  readonly answersMs: number
  readonly cpuSeconds: number
  readonly residentMib: number
}

async function startOnce(dir: string, instances: number): Promise<Sample> {
  const fromMs = performance.now()
  const logFile = join(dir, 'controller.log')
  const listen = `127.0.0.1:${7_800 + (process.pid % 2_000)}`
  const controller = new ProbedProcess(
    'controller',
    // No bus either: events, of which there are none, would wait in the outbox.
    { VPE_CONTROLLER_LISTEN: listen, VPE_CONTROLLER_STATE_DIR: dir, VPE_NATS_URL: 'nats://127.0.0.1:9' },
    logFile,
  )
  const channel = createRpcChannel(listen)
  const client = createRpcClientFactory().create(ControllerServiceDefinition, channel)
  try {
    await until('the controller answers', async () => {
      if (!controller.isRunning) throw new Error(`it has ended:\n${readFileSync(logFile, 'utf8')}`)
      const list = await client
        .listInstances({ limit: 1 }, { signal: AbortSignal.timeout(20_000) })
        .catch(() => null)
      return list !== null && list.instances.length === Math.min(1, instances)
    })
    const answersMs = performance.now() - fromMs
    const { all } = cpuSeconds(controller.pid)
    return { answersMs, cpuSeconds: all, residentMib: residentBytes(controller.pid) / 1024 ** 2 }
  } finally {
    channel.close()
    await controller.end('SIGKILL')
  }
}
