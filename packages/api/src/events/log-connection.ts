// This node's way to the event log. NATS may come late and go away: everything but /events works without it.

import { type BusAccess, connectBus, EventLog } from '@vpe/bus'
import type { Logger } from 'pino'

/** What the node asks of the log. */
export type EventLogReader = Pick<EventLog, 'bounds' | 'positionAt' | 'follow'>

export interface LogConnection {
  /** The log, or null while NATS is away. */
  current(): EventLogReader | null
  close(): Promise<void>
}

export function connectToLog(url: string, log: Logger, access: BusAccess = {}): LogConnection {
  let isConnected = false
  let eventLog: EventLog | null = null
  const onStatus = (status: 'disconnect' | 'reconnect') => {
    log.warn({ status }, 'NATS')
    isConnected = status === 'reconnect'
  }
  const connecting = connectBus(url, 'vpe-api', onStatus, access).then(async (connection) => {
    eventLog = await EventLog.open(connection)
    isConnected = true
    log.info('NATS connected')
    return connection
  })
  connecting.catch((error: unknown) => log.error({ err: error, url }, 'no way to NATS; /events answers 503'))
  return {
    current: () => (isConnected ? eventLog : null),
    async close() {
      if (eventLog) await (await connecting).close()
    },
  }
}
