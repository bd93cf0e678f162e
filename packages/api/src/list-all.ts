// Whole lists, put together from the controller's pages: however many instances there are, no message is
// larger than a page, and the controller turns to others in between.

import type { ControllerServiceClient, Instance } from '@vpe/proto'
import type { ControllerCalls } from './controller-calls.ts'

export async function listAll(
  controller: ControllerServiceClient,
  read: ControllerCalls['read'],
  filter: Omit<Parameters<ControllerServiceClient['listInstances']>[0], 'limit' | 'marker'>,
  marker = '',
): Promise<Instance[]> {
  const instances: Instance[] = []
  for (let next = marker; ; ) {
    const page = await read((options) => controller.listInstances({ ...filter, marker: next }, options))
    instances.push(...page.instances)
    if (page.nextMarker === '') return instances
    next = page.nextMarker
  }
}
