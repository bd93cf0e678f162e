// What is told of a host.

import type { VpeEvent } from '@vpe/bus'
import type { HostRecord } from '@vpe/core'

export function hostEvent(host: HostRecord, what: string, data: Record<string, unknown>): VpeEvent {
  return { kind: 'host', id: host.uuid, what, data: { uuid: host.uuid, name: host.name, ...data } }
}
