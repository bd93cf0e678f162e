// Publishing on NATS when there is a NATS. Connects in the background and for ever; what is published
// while it is away is dropped: a heartbeat is worth something only when it is fresh, and a hint to look
// again is not needed by one who looks at everything when he is back.

import { connectBus } from '@vpe/bus'
import type { Logger } from 'pino'
import type { Publisher } from './agent.ts'

export interface NatsPublisher extends Publisher {
  /** Resolves at the first connection. */
  readonly connected: Promise<void>
  close(): Promise<void>
}

export function openNatsPublisher(url: string, name: string, log: Logger): NatsPublisher {
  let isUp = false
  const connection = connectBus(url, name, (status) => {
    isUp = status === 'reconnect'
    if (isUp) log.info('NATS is back')
    else log.warn('NATS is away; the agent works on without it')
  })
  let send: ((subject: string, payload: string) => void) | null = null
  const connected = connection.then((nats) => {
    isUp = true
    send = (subject, payload) => nats.publish(subject, payload)
  })
  return {
    connected,
    publish: (subject, payload) => {
      if (isUp) send?.(subject, payload)
    },
    close: async () => {
      isUp = false
      // One that never came up has nothing to close, and its attempts end with the process.
      if (send) await (await connection).close()
    },
  }
}
