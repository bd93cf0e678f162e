import { expect, test } from 'vitest'
import { Runs } from './runs.ts'

const GUEST = 'guest'
const [found, none] = [new Set([GUEST]), new Set<string>()]

/** Looks, each from one time to another: `[host, what was found, from, to]`. */
function looks(...all: readonly (readonly [string, ReadonlySet<string>, number, number])[]): Runs {
  const runs = new Runs()
  for (const look of all) runs.note(...look)
  return runs
}

test('a guest runs from the first look that finds it to the last', () => {
  const runs = looks(['h1', none, 0, 10], ['h1', found, 100, 110], ['h1', found, 200, 210])
  expect(runs.of(GUEST)).toEqual([{ uuid: GUEST, host: 'h1', sinceMs: 110, untilMs: 200 }])
  runs.note('h1', none, 300, 310)
  expect(runs.of(GUEST)).toEqual([])
  runs.note('h1', found, 400, 410)
  expect(runs.of(GUEST)).toMatchObject([{ sinceMs: 410 }])
})

test('one that has gone from one host to another between two looks has run once', () => {
  const runs = looks(
    ['h1', found, 0, 10],
    ['h1', found, 100, 110],
    // It ended at 120, and started at 130; h1 is looked at late.
    ['h2', found, 140, 150],
    ['h2', found, 240, 250],
    ['h1', none, 400, 410],
  )
  expect(runs.doubles).toEqual([])
  expect(runs.of(GUEST)).toMatchObject([{ host: 'h2' }])
})

test('one that is found on two hosts in looks that embrace each other has run twice, for as long as is certain', () => {
  const runs = looks(
    ['h2', found, 0, 10],
    ['h1', found, 50, 60],
    ['h2', found, 100, 110],
    ['h1', found, 150, 160],
    ['h2', none, 200, 210],
    ['h1', found, 250, 260],
  )
  expect(runs.doubles).toEqual([{ uuid: GUEST, hosts: ['h1', 'h2'], forMs: 40, isExcused: false }])
})

test('a host that was cut off from its storage is excused, until nobody is; what was no excuse stays none', () => {
  const runs = looks(['h1', found, 0, 10], ['h2', found, 0, 10])
  runs.excuse('h2')
  runs.note('h1', found, 100, 110)
  runs.note('h2', found, 110, 120)
  expect(runs.doubles).toMatchObject([{ isExcused: true }])
  runs.note('h2', none, 200, 210)
  runs.excuseNobody()
  runs.note('h2', found, 300, 310)
  for (const host of ['h1', 'h2']) runs.note(host, found, 400, 410)
  expect(runs.doubles).toMatchObject([{ isExcused: true }, { isExcused: false }])
})
