// The agent's process: reads the environment, opens what the agent needs, starts it, and stops it in
// reverse. libvirt is waited for, however long; NATS only for a moment, since the agent works without.

import { chmod, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VpeError } from '@vpe/core'
import { keepRenewed } from '@vpe/pki'
import { AgentServiceDefinition, createRpcServer, peerUri, refuseOtherHosts, TlsFolder } from '@vpe/proto'
import { pino } from 'pino'
import { z } from 'zod'
import { Agent } from './agent.ts'
import { systemClock, upMs } from './clock.ts'
import { runCommand } from './commands.ts'
import { type AgentConfig, loadConfig } from './config.ts'
import { Consoles } from './consoles.ts'
import { EpochLedger } from './epoch-ledger.ts'
import { openGuard } from './ha/guard-port.ts'
import { loadHaRecord } from './ha/ha-record.ts'
import { loadHostId, readBootId } from './host-identity.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import { openLibvirt } from './hypervisor/libvirt.ts'
import { serveMetrics } from './metrics/metrics-server.ts'
import { setUpMigrationTls } from './migration-pki.ts'
import { openNatsPublisher } from './nats-publisher.ts'
import { readNeighbours } from './neighbours.ts'
import { choosePlatform, detectKvm, readPausable, readPostCopyFault } from './platform.ts'
import { PoolWorkers } from './pool/pool-workers.ts'
import { readMachine } from './preflight/machine.ts'
import { createAgentService } from './service.ts'
import { settingsOfMember } from './settings-file.ts'

const LIBVIRT_RETRY_MS = 1_000
const NATS_WAIT_MS = 2_000
/** How long calls under way may take to end when the agent stops. */
const STOP_MS = 10_000

if (await runCommand(process.argv)) process.exit(0)

const config = readConfig()
// At once: what is still on its way to the log when the process ends is lost, and the last words count most.
const log = pino(
  { name: 'vpe-agent', level: config.logLevel, timestamp: pino.stdTimeFunctions.isoTime },
  pino.destination({ sync: true }),
)
const stopping = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    log.info({ signal }, 'stopping; guests run on')
    stopping.abort()
  })
}

try {
  await run(config)
  process.exit(0)
} catch (error) {
  if (stopping.signal.aborted) process.exit(0)
  log.fatal({ err: error }, 'the agent cannot go on')
  process.exit(1)
}

async function run(config: AgentConfig): Promise<void> {
  const {
    stateDir,
    libvirtUri,
    natsUrl,
    imageDirs,
    imageBytesMax,
    mountDir,
    bridge,
    listen,
    metricsListen,
    migration,
    guardSocket,
  } = config
  const consoleDir = join(stateDir, 'console')
  await mkdir(consoleDir, { recursive: true })
  // The sockets of the serial lines are in it: a line is a login to its guest.
  await chmod(consoleDir, 0o700)
  const [hostId, bootId, epochs, haRecord, version] = await Promise.all([
    loadHostId(stateDir),
    readBootId(),
    EpochLedger.load(stateDir),
    loadHaRecord(stateDir),
    readVersion(),
  ])
  log.info({ host: hostId, version, epoch: epochs.epoch, stateDir }, 'starting')

  const tls = config.tlsDir === undefined ? undefined : new TlsFolder(config.tlsDir)
  if (tls && (tls.peer.role !== 'agent' || tls.peer.name !== hostId)) {
    throw new VpeError(
      'INVALID_ARGUMENT',
      `the certificate in ${tls.path} is of ${peerUri(tls.peer)}, and this is the agent of host ${hostId}; join again with a new token`,
    )
  }
  const access = { credentials: config.natsCredentials, tls: tls?.forNats }
  const publisher = openNatsPublisher(natsUrl, `vpe-agent ${hostId}`, log, access)
  const migrationTls = async () => (migration.tls ? setUpMigrationTls(config.tlsDir, stateDir) : null)
  // A libvirtd whose configuration names the folder does not start without it.
  await migrationTls()
  const hypervisor = await waitForLibvirt(libvirtUri)
  const { capabilities, libvirtVersion, hypervisorVersion } = await hypervisor.facts()
  const platform = choosePlatform(capabilities, await detectKvm())
  log.info({ libvirtUri, libvirtVersion, hypervisorVersion, ...platform }, 'connected to libvirt')
  await atMost(NATS_WAIT_MS, publisher.connected, () => {
    log.warn({ natsUrl }, 'NATS is away; working on without it and connecting when it comes')
  })

  const clock = systemClock
  const files = new PoolWorkers({ hostId, imageDirs, imageBytesMax, mountDir, clock, log })
  const settings = { platform, consoleDir, bridge, migration }
  const epoch = () => epochs.epoch
  const guard = guardSocket === undefined ? null : openGuard(guardSocket)
  const agent = new Agent({
    hostId,
    bootId,
    version,
    hypervisor,
    files,
    publisher,
    settings,
    stateDir,
    epoch,
    readMachine: () => readMachine(stateDir),
    bus: { url: natsUrl, roundTripMs: publisher.roundTripMs },
    guard,
    haRecord,
    upMs,
    neighbours: readNeighbours,
    migrationTls,
    postCopyFault: readPostCopyFault,
    pausable: config.isNeverPaused ? '' : await readPausable(),
    clock,
    log,
  })
  const consoles = new Consoles({ hostId, hypervisor, settings, log })
  await agent.start()
  const onDefect = (error: unknown, method: string) =>
    log.error({ err: error, method }, 'a call met a defect')
  const clients = 'certified' as const
  const server = createRpcServer(onDefect, tls && { folder: tls, clients }).use(refuseOtherHosts(hostId))
  server.add(AgentServiceDefinition, createAgentService(agent, epochs, consoles))
  const port = await server.listen(listen)
  const metricsServer = metricsListen === undefined ? null : serveMetrics(metricsListen, agent, log)
  log.info({ listen, port, metricsListen, tls: tls !== undefined }, 'ready')
  const stopRenewing = tls && keepCertificateRenewed(tls, config)

  await aborted(stopping.signal)
  stopRenewing?.()
  consoles.close()
  const calls = server.shutdown()
  await agent.stop()
  await atMost(STOP_MS, calls, () => server.forceShutdown())
  guard?.close()
  files.close()
  metricsServer?.close()
  await publisher.close()
  await atMost(STOP_MS, hypervisor.close(), () => log.warn('libvirt does not let go; ending all the same'))
  log.info('stopped')
}

function keepCertificateRenewed(folder: TlsFolder, config: AgentConfig): () => void {
  const { controllerAddress, natsCredentials } = config
  if (controllerAddress === undefined) {
    log.warn('VPE_CONTROLLER_ADDRESS is not set: the certificate is not renewed by itself')
    return () => {}
  }
  return keepRenewed({ folder, natsCredentials, controllerAddress, now: Date.now, log })
}

async function waitForLibvirt(uri: string): Promise<Hypervisor> {
  for (let said = ''; ; ) {
    try {
      return await openLibvirt(uri)
    } catch (error) {
      if (!(error instanceof VpeError)) throw error
      if (error.message !== said) log.warn({ why: error.message }, 'waiting for libvirt')
      said = error.message
    }
    await systemClock.sleep(LIBVIRT_RETRY_MS, stopping.signal)
  }
}

async function atMost(ms: number, work: Promise<unknown>, otherwise: () => void): Promise<void> {
  const over = new AbortController()
  const isLate = systemClock.sleep(ms, over.signal).then(
    () => true,
    () => false,
  )
  if (await Promise.race([work.then(() => false), isLate])) otherwise()
  over.abort()
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

async function readVersion(): Promise<string> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8')
  return z.object({ version: z.string() }).parse(JSON.parse(text)).version
}

function readConfig(): AgentConfig {
  try {
    return loadConfig(settingsOfMember(process.env))
  } catch (error) {
    process.stderr.write(`vpe-agent: ${error instanceof Error ? error.message : error}\n`)
    process.exit(1)
  }
}
