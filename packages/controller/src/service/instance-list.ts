// Lists of instances: filters, and pages that neither repeat nor leave out an instance that is there all
// the time, whatever is created or deleted between two of them. A marker therefore says where in the order
// a page ended, not which instance was its last: that one may be gone. Only the records of the page become
// messages.

import type { InstanceRecord } from '@vpe/core'
import type { ListInstancesRequest } from '@vpe/proto'
import type { InstancePosition } from '../store/instance-order.ts'
import type { Store } from '../store/store.ts'
import { statusFromWire } from '../wire.ts'
import { invalid, refer } from './references.ts'

export const PAGE_MAX = 1_000

export interface InstancePage {
  readonly instances: readonly InstanceRecord[]
  /** Empty when nothing comes after. */
  readonly nextMarker: string
}

type Listed = Pick<Store, 'instances' | 'instanceOrder' | 'hosts'>

/** @throws VpeError INVALID_ARGUMENT when the limit, the marker or the host is none */
export function listInstances(store: Listed, request: ListInstancesRequest): InstancePage {
  const { limit } = request
  if (limit < 0 || limit > PAGE_MAX) throw invalid('limit', `expected a whole number from 1 to ${PAGE_MAX}`)
  const matches = filterOf(store, request)
  const begin = request.marker === '' ? null : parseMarker(store, request.marker)
  const instances: InstanceRecord[] = []
  for (const position of store.instanceOrder.after(begin)) {
    const instance = store.instances.get(position.uuid)
    if (!instance || !matches(instance)) continue
    const last = instances.at(-1)
    if (last && instances.length === (limit || PAGE_MAX)) return { instances, nextMarker: markerOf(last) }
    instances.push(instance)
  }
  return { instances, nextMarker: '' }
}

function filterOf(store: Listed, request: ListInstancesRequest): (instance: InstanceRecord) => boolean {
  const { nameContains, namespace, tags } = request
  const status = statusFromWire(request.status)
  const hostId = request.host === '' ? null : refer(store.hosts, 'host', 'host', request.host).uuid
  return (instance) =>
    (namespace === '' || instance.namespace === namespace) &&
    (status === null || instance.status === status) &&
    (hostId === null || instance.hostId === hostId) &&
    instance.name.includes(nameContains) &&
    tags.every((tag) => instance.tags.includes(tag))
}

const MARKER = /^(\d{1,15})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/

function markerOf({ createdAtMs, uuid }: InstancePosition): string {
  return `${createdAtMs}.${uuid}`
}

/** A uuid does for people and for clients of other clouds, as long as there is such an instance. */
function parseMarker(store: Listed, marker: string): InstancePosition {
  const instance = store.instances.get(marker.toLowerCase())
  if (instance) return instance
  const [, createdAtMs, uuid] = MARKER.exec(marker) ?? []
  if (createdAtMs !== undefined && uuid !== undefined) return { createdAtMs: Number(createdAtMs), uuid }
  throw invalid('marker', 'expected the next_marker of an earlier answer, or the uuid of an instance')
}
