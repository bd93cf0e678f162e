// `vpe-agent preflight [folder…]`: whether this machine is fit, before it joins. Folders are those that are to be
// disk pools. The clock is compared once it has joined: it is the controller's that counts.

import { randomUUID } from 'node:crypto'
import { resolve } from 'node:path'
import { type BusAccess, connectBus } from '@vpe/bus'
import { type Finding, worstOf } from '@vpe/core'
import { TlsFolder } from '@vpe/proto'
import { pino } from 'pino'
import { systemClock } from '../clock.ts'
import type { AgentConfig } from '../config.ts'
import type { HypervisorFacts } from '../hypervisor/hypervisor.ts'
import { openLibvirt } from '../hypervisor/libvirt.ts'
import { PoolWorkers } from '../pool/pool-workers.ts'
import { attempt } from './deadline.ts'
import { readMachine } from './machine.ts'
import { PoolProbes, runPreflight } from './run-preflight.ts'

const LIBVIRT_DEADLINE_MS = 10_000
/** The workers have to start, too. */
const POOL_DEADLINE_MS = 15_000

/** Prints what is found. Returns the exit code: 1 when something has failed, which warnings have not. */
export async function preflightCommand(config: AgentConfig, folders: readonly string[]): Promise<number> {
  const { stateDir, libvirtUri, natsUrl, bridge, imageDirs, imageBytesMax, tlsDir } = config
  const access = {
    credentials: config.natsCredentials,
    tls: tlsDir === undefined ? undefined : new TlsFolder(tlsDir).forNats,
  }
  const clock = systemClock
  const log = pino({ level: 'silent' })
  const workers = new PoolWorkers({ hostId: randomUUID(), imageDirs, imageBytesMax, clock, log })
  const findings = await runPreflight({
    machine: await readMachine(stateDir),
    libvirt: askLibvirt(libvirtUri),
    bus: { url: natsUrl, roundTripMs: () => askNats(natsUrl, access) },
    probes: new PoolProbes(workers, clock, POOL_DEADLINE_MS),
    pools: folders.map((folder) => ({ uuid: resolve(folder), path: resolve(folder) })),
    stateDir,
    bridge,
    migrationTls: undefined,
    clock,
  })
  workers.close()
  process.stdout.write(tableOf(findings))
  return worstOf(findings) === 'failed' ? 1 : 0
}

/** Findings for people: a line each, and the cure below it. */
export function tableOf(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ type }) => type.length))
  const lines = findings.flatMap(({ type, status, message, cure }) => [
    `${status.padEnd(7)}  ${type.padEnd(width)}  ${message}`,
    ...(cure ? [`${' '.repeat(width + 9)}  → ${cure}`] : []),
  ])
  return `${lines.join('\n')}\n`
}

async function askLibvirt(uri: string): Promise<HypervisorFacts | { fault: string }> {
  const ask = async () => {
    const hypervisor = await openLibvirt(uri)
    try {
      return await hypervisor.facts()
    } finally {
      await hypervisor.close()
    }
  }
  const answer = await attempt(ask(), LIBVIRT_DEADLINE_MS, systemClock)
  return 'fault' in answer ? answer : answer.value
}

async function askNats(url: string, access: BusAccess): Promise<number> {
  const connection = await connectBus(url, 'vpe-agent preflight', () => {}, access)
  try {
    return await connection.rtt()
  } finally {
    await connection.close()
  }
}
