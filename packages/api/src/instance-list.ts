// Lists of instances. Most of what a list holds is what the one before it held, and the controller sends
// the same bytes for it: so each message is decoded and rendered once, and its text kept by its bytes.

import { type ControllerServiceClient, Instance } from '@vpe/proto'
import { LRUCache } from 'lru-cache'
import type { ControllerCalls } from './controller-calls.ts'

/** Of each dialect; about 2 kB each. */
const TEXTS_KEPT = 5_000

type Query = Parameters<ControllerServiceClient['listInstances']>[0]

/** The JSON array of encoded instances, each as `show` has it: the same for the same message, always. */
export function instanceListRenderer(
  show: (instance: Instance) => object,
): (encoded: readonly Uint8Array[]) => string {
  const texts = new LRUCache<string, string>({ max: TEXTS_KEPT })
  const render = (bytes: Uint8Array) => {
    const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
    const known = texts.get(key)
    if (known !== undefined) return known
    const text = JSON.stringify(show(Instance.decode(bytes)))
    texts.set(key, text)
    return text
  }
  return (encoded) => `[${encoded.map(render).join(',')}]`
}

/**
 * Whole lists, put together from the controller's pages: however many instances there are, no message is
 * larger than a page, and the controller turns to others in between.
 */
export async function listAll(
  controller: ControllerServiceClient,
  read: ControllerCalls['read'],
  filter: Omit<Query, 'limit' | 'marker'>,
  marker = '',
): Promise<Uint8Array[]> {
  const all: Uint8Array[] = []
  for (let next = marker; ; ) {
    const page = await read((options) => controller.listInstances({ ...filter, marker: next }, options))
    all.push(...page.instances)
    if (page.nextMarker === '') return all
    next = page.nextMarker
  }
}
