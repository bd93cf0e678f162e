#!/usr/bin/env -S node --disable-warning=ExperimentalWarning
// vpe-api: reads the environment, dials the controller, listens, and stops on SIGTERM or SIGINT.

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { VpeError } from '@vpe/core'
import { keepRenewed } from '@vpe/pki'
import { ControllerServiceDefinition, createRpcChannel, createRpcClientFactory, TlsFolder } from '@vpe/proto'
import { pino } from 'pino'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { createApp } from './app.ts'
import { runCommand } from './commands.ts'
import { type Config, readConfig } from './config.ts'
import { attachConsoleSockets } from './console/console-sockets.ts'
import { connectToLog } from './events/log-connection.ts'
import { createHttpServer, stopHttpServer } from './server.ts'

/** Requests under way may take this long to end after SIGTERM. */
const STOP_GRACE_MS = 10_000

function configOrExit(): Config {
  try {
    return readConfig(process.env)
  } catch (error) {
    if (!(error instanceof VpeError)) throw error
    process.stderr.write(`vpe-api: ${error.message}\n`)
    process.exit(2)
  }
}

function tlsOrExit({ tlsDir }: Config): TlsFolder | undefined {
  try {
    return tlsDir === undefined ? undefined : new TlsFolder(tlsDir)
  } catch (error) {
    if (!(error instanceof VpeError)) throw error
    process.stderr.write(`vpe-api: ${error.message}\n`)
    process.exit(2)
  }
}

if (await runCommand(process.argv)) process.exit(0)

const config = configOrExit()
// At once: what is still on its way to the log when the process ends is lost, and the last words count most.
const log = pino({ name: 'vpe-api', level: config.logLevel }, pino.destination({ sync: true }))
const stopping = new AbortController()
const folder = tlsOrExit(config)
const channel = createRpcChannel(
  config.controllerAddress,
  folder && { folder, expected: { role: 'controller' } },
)
const controller = createRpcClientFactory().create(ControllerServiceDefinition, channel)
const registry = new Registry()
collectDefaultMetrics({ register: registry })
const limits = { stopping: stopping.signal }
const { controllerAddress, natsUrl, natsCredentials } = config
const events = connectToLog(natsUrl, log, { credentials: natsCredentials, tls: folder?.forNats })
const stopRenewing = folder && keepRenewed({ folder, natsCredentials, controllerAddress, now: Date.now, log })
const app = createApp({ controller, log, limits, registry, currentLog: events.current })
const server = createHttpServer(app)
const consoles = attachConsoleSockets(server, { controller, log })

async function stop(signal: string): Promise<void> {
  if (stopping.signal.aborted) return
  log.info({ signal }, 'stopping')
  stopping.abort()
  stopRenewing?.()
  await Promise.all([stopHttpServer(server, STOP_GRACE_MS), consoles.close()])
  await events.close()
  channel.close()
  log.info('stopped')
  process.exit(0)
}

process.on('SIGTERM', (signal) => void stop(signal))
process.on('SIGINT', (signal) => void stop(signal))

try {
  server.listen(config.listen)
  await once(server, 'listening')
} catch (error) {
  log.fatal({ err: error, ...config.listen }, 'cannot listen')
  process.exit(1)
}

const { address, port } = server.address() as AddressInfo
log.info({ address, port, controller: config.controllerAddress }, 'listening')
