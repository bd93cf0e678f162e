// vpe-guard: wires the real parts together, and listens for the agent.

import { randomUUID } from 'node:crypto'
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRpcServer, GuardServiceDefinition } from '@vpe/proto'
import { pino } from 'pino'
import { upMs } from './boot-time.ts'
import { type GuardConfig, readConfig } from './config.ts'
import { forceUnmount } from './force-unmount.ts'
import { Guard } from './guard.ts'
import { cgroupRoot, KernelGuestProcesses } from './guest-processes.ts'
import { LockProbes } from './lock-probes.ts'
import { PoolChild } from './pool-child.ts'
import { readRecord, writeRecord } from './record-file.ts'
import { guardService } from './service.ts'
import { KernelWatchdog, SocketWatchdog, type Watchdog } from './watchdog.ts'

const config = readConfig(process.env)
const log = pino({ name: 'vpe-guard' })
const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
const { hostId, profile, timings } = config
const memory = readRecord(config.record)

const guard = new Guard(
  {
    nowMs: upMs,
    randomUuid: randomUUID,
    watchdog: makeWatchdog(config),
    guests: new KernelGuestProcesses(cgroupRoot(), config.cgroup),
    startChild: (role, { place }, onMessage) =>
      new PoolChild({
        settings: { role, place, hostId, bootId, timings },
        onMessage,
        log: (text) => log.warn(text),
      }),
    unmount: forceUnmount,
    save: (next) => writeRecord(config.record, next),
    resetHost,
    log: (text) => log.warn(text),
  },
  timings,
  memory,
)
guard.start()

const server = createRpcServer((error, method) => log.error({ err: error, method }, 'a call failed'))
const probes = new LockProbes((place, onMessage) => {
  const settings = { role: 'lock-prober' as const, place, hostId, bootId, timings }
  return new PoolChild({ settings, onMessage, log: (text) => log.warn(text) })
})
server.add(GuardServiceDefinition, guardService(guard, probes, profile))
if (existsSync(config.socket)) rmSync(config.socket)
await server.listen(`unix:${config.socket}`)
chmodSync(config.socket, 0o600)
log.info({ socket: config.socket, pools: memory.pools.length, arms: memory.arms.length }, 'guarding')

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    // Guests run on, and the next guard has to be there before the watchdog's time is over.
    log.info({ signal }, 'ending')
    guard.close()
    probes.close()
    server.forceShutdown()
    process.exit(0)
  })
}

function makeWatchdog({ watchdog }: GuardConfig): Watchdog | null {
  if (watchdog === 'none') return null
  return 'socket' in watchdog ? new SocketWatchdog(watchdog.socket) : new KernelWatchdog(watchdog.device)
}

/** Without a sync, which would write what must not be written any more. */
function resetHost(why: string): void {
  log.fatal({ why }, 'resetting this host')
  // A host without a watchdog is none whose kernel is the guard's to reset.
  if (config.watchdog !== 'none' && 'device' in config.watchdog) writeFileSync('/proc/sysrq-trigger', 'b')
}
