// Publishing on NATS when there is a NATS. Connects in the background and for ever; what is published
// while it is away is dropped: a heartbeat is worth something only when it is fresh, and a hint to look
// again is not needed by one who looks at everything when he is back.

import { type BusAccess, connectBus } from '@vpe/bus'
import type { Logger } from 'pino'
import type { Publisher } from './agent.ts'
import { systemClock } from './clock.ts'

/** After a refusal, of which waiting for a server is none: wrong credentials, say. */
const RETRY_MS = 5_000

type Connection = Awaited<ReturnType<typeof connectBus>>

export interface NatsPublisher extends Publisher {
  /** Resolves at the first connection. */
  readonly connected: Promise<void>
  /** How long the server takes to answer, in milliseconds. Rejects while there is no connection. */
  roundTripMs(): Promise<number>
  close(): Promise<void>
}

export function openNatsPublisher(url: string, name: string, log: Logger, access: BusAccess): NatsPublisher {
  let connection: Connection | null = null
  let isUp = false
  const onStatus = (status: 'disconnect' | 'reconnect') => {
    isUp = status === 'reconnect'
    if (isUp) log.info('NATS is back')
    else log.warn('NATS is away; the agent works on without it')
  }
  const connected = connectForEver(() => connectBus(url, name, onStatus, access), log).then((opened) => {
    connection = opened
    isUp = true
    log.info({ natsUrl: url }, 'connected to NATS')
  })
  return {
    connected,
    publish: (subject, payload) => {
      if (isUp) connection?.publish(subject, payload)
    },
    roundTripMs: async () => {
      if (!connection || !isUp) throw new Error('it is not connected')
      return connection.rtt()
    },
    close: async () => {
      isUp = false
      // One that never came up has nothing to close, and its attempts end with the process.
      await connection?.close()
    },
  }
}

async function connectForEver(connect: () => Promise<Connection>, log: Logger): Promise<Connection> {
  for (;;) {
    try {
      return await connect()
    } catch (error) {
      log.error({ err: error }, 'NATS refuses the connection; the agent works without it and tries again')
      await systemClock.sleep(RETRY_MS)
    }
  }
}
