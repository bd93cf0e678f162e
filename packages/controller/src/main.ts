#!/usr/bin/env node
// vpe-controller: reads the environment, opens the store, the bus and the port, and ends on a signal.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { connectBus } from '@vpe/bus'
import { makePrivateFolder } from '@vpe/pki'
import { pino } from 'pino'
import { runCommand } from './commands.ts'
import { type ControllerConfig, readConfig } from './config.ts'
import { createController } from './controller.ts'
import { openSecurity } from './security/open-security.ts'
import { BackendThread } from './store/backend-thread.ts'
import { Store } from './store/store.ts'

function configOrExit(): ControllerConfig {
  try {
    return readConfig(process.env)
  } catch (error) {
    process.stderr.write(`vpe-controller: ${(error as Error).message}\n`)
    process.exit(2)
  }
}

/** Rejects when something listens at host:port already. */
async function assertPortFree(address: string): Promise<void> {
  const { hostname, port } = new URL(`tcp://${address}`)
  // Clients that wait for a controller take this for it: one that were let in would wait here, and be waited for.
  const server = createServer((socket) => socket.destroy())
  server.listen(Number(port), hostname.replace(/[[\]]/g, ''))
  await once(server, 'listening')
  server.close()
  await once(server, 'close')
}

if (await runCommand(process.argv)) process.exit(0)

const config = configOrExit()
const log = pino({ name: 'vpe-controller', level: config.logLevel }, pino.destination({ sync: true }))

function die(error: unknown): never {
  log.fatal({ err: error }, 'memory and disk may differ: ending, to be started again from the disk')
  process.exit(1)
}
process.on('uncaughtException', die)
process.on('unhandledRejection', die)

// A second controller started by mistake must find that out before it raises the epoch and ends the first.
await assertPortFree(config.listen).catch((error: Error) => {
  log.fatal(`${config.listen} cannot be listened on: ${error.message}`)
  process.exit(1)
})

await makePrivateFolder(config.stateDir)
const file = join(config.stateDir, 'controller.sqlite')
log.info({ file }, 'opening the store')
const store = await Store.open(new BackendThread(file), Date.now, die)
log.info({ epoch: store.epoch, hosts: store.hosts.size, instances: store.instances.size }, 'store open')

const security = config.isTls ? await openSecurity(config, Date.now()) : null
const addresses = config.advertised
const controller = createController({
  store,
  now: Date.now,
  log,
  onFatal: die,
  security,
  addresses,
  policy: config.overcommit,
  rebalancePolicy: config.rebalance,
  haPoolSettings: config.haPools,
  failoverPolicy: config.failover,
})
await controller.listen(config.listen)
log.info({ address: config.listen, tls: config.isTls }, 'listening')
if (config.enrolmentListen !== undefined) {
  await controller.listenForEnrolment(config.enrolmentListen)
  log.info({ address: config.enrolmentListen }, 'listening for enrolment')
}

log.info({ url: config.natsUrl }, 'connecting to NATS')
const onBusStatus = (status: 'disconnect' | 'reconnect') => {
  log.warn({ status }, 'NATS')
  controller.noteBus(status === 'reconnect')
}
const access = { credentials: config.natsCredentials, tls: security?.folder.forNats }
const bus = connectBus(config.natsUrl, 'vpe-controller', onBusStatus, access)
void bus.then((connection) => {
  controller.attachBus(connection)
  log.info('NATS connected')
})

if (security && config.natsCredentials !== undefined) {
  const access = { credentials: security.systemCredentialsFile, tls: security.folder.forNats }
  const system = connectBus(
    config.natsUrl,
    'vpe-controller-system',
    // One that was started anew may have an old configuration.
    (status) => void (status === 'reconnect' && system.then(controller.attachSystemBus)),
    access,
  )
  void system.then(controller.attachSystemBus)
}

let isEnding = false
async function end(signal: NodeJS.Signals): Promise<void> {
  if (isEnding) return
  isEnding = true
  log.info({ signal }, 'ending')
  await controller.close()
  process.exit(0)
}
process.on('SIGTERM', end)
process.on('SIGINT', end)
