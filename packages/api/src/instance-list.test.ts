// Goal: what is listed is what the controller has, whatever is kept from lists before. Method: a controller
// that leaves out what it is told is kept, and says how much it had to send.

import { Instance, type ListInstancesRequest } from '@vpe/proto'
import { beforeEach, expect, test } from 'vitest'
import type { ControllerCalls } from './controller-calls.ts'
import { InstanceLists } from './instance-list.ts'

/** Name by edition, oldest first. */
let there: Map<number, string>
let run: number
let sent: number[]
/** Called when a question has arrived. */
let onAsked: () => Promise<void>
let lists: InstanceLists

const read = ((call: (options: object) => Promise<unknown>) => call({})) as ControllerCalls['read']

beforeEach(() => {
  there = new Map([
    [1, 'a'],
    [2, 'b'],
  ])
  run = 1
  sent = []
  onAsked = async () => {}
  const listInstances = async ({ kept, keptRun }: ListInstancesRequest) => {
    await onAsked()
    const isKept = (edition: number) => keptRun === run && kept.includes(edition)
    const instances = [...there].map(([edition, name]) =>
      isKept(edition)
        ? { edition }
        : { edition, instance: Instance.encode(Instance.fromPartial({ name })).finish() },
    )
    sent.push(instances.filter(({ instance }) => instance).length)
    return { instances, nextMarker: '', run }
  }
  lists = new InstanceLists({ listInstances } as never, ({ name }) => ({ name }))
})

async function names(): Promise<string[]> {
  return (await lists.all(read, {})).map((text) => JSON.parse(text).name)
}

test('only what has changed is sent again', async () => {
  expect(await names()).toEqual(['a', 'b'])
  expect(await names()).toEqual(['a', 'b'])
  there.delete(1)
  there.set(3, 'c')
  expect(await names()).toEqual(['b', 'c'])
  expect(sent).toEqual([2, 0, 1])
})

test('editions of another controller stand for something else', async () => {
  await names()
  run = 2
  there = new Map([[1, 'other']])
  expect(await names()).toEqual(['other'])
  expect(sent).toEqual([2, 1])
})

test('what was dropped while the question was on its way is asked for once more', async () => {
  await names()
  // Another list comes in between, with more than is kept.
  onAsked = async () => {
    onAsked = async () => {}
    const before = there
    there = new Map(Array.from({ length: 6_000 }, (_, at) => [at + 10, `n${at}`]))
    await names()
    there = before
  }
  expect(await names()).toEqual(['a', 'b'])
  expect(sent).toEqual([2, 6_000, 0, 2])
})
