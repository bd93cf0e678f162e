import { describe, expect, test } from 'vitest'
import { type Admission, admit, InstanceTurns, type Job } from './instance-turns.ts'

const apply = (generation: number): Job => ({ kind: 'apply', generation })
const remove = (generation: number): Job => ({ kind: 'remove', generation })
const release = (generation: number): Job => ({ kind: 'release', generation })
const upkeep: Job = { kind: 'upkeep' }
const capture: Job = { kind: 'capture' }
const snapshot: Job = { kind: 'snapshot' }

describe('admit', () => {
  test.each<[Job | null, Job, Admission | 'refused']>([
    [null, apply(1), 'start'],
    [null, upkeep, 'start'],
    [apply(1), upkeep, 'skip'],
    [upkeep, upkeep, 'skip'],
    [upkeep, apply(1), 'take-over'],
    [apply(2), apply(2), 'join'],
    [apply(2), apply(3), 'take-over'],
    [apply(2), apply(1), 'refused'],
    [apply(2), remove(2), 'take-over'],
    [apply(2), remove(1), 'refused'],
    [remove(2), remove(2), 'join'],
    [remove(2), apply(2), 'refused'],
    [remove(2), apply(3), 'take-over'],
    [null, capture, 'start'],
    [apply(1), capture, 'refused'],
    [upkeep, capture, 'refused'],
    [capture, capture, 'refused'],
    [capture, upkeep, 'skip'],
    [capture, apply(1), 'take-over'],
    [capture, remove(1), 'take-over'],
    [upkeep, release(1), 'take-over'],
    [apply(2), release(3), 'take-over'],
    [apply(2), release(2), 'refused'],
    [release(2), release(2), 'join'],
    [release(2), apply(2), 'refused'],
    [release(2), apply(3), 'take-over'],
    [release(2), remove(2), 'take-over'],
    [null, snapshot, 'start'],
    [snapshot, upkeep, 'skip'],
    [snapshot, apply(1), 'take-over'],
    [snapshot, snapshot, 'refused'],
    [apply(1), snapshot, 'refused'],
    [upkeep, snapshot, 'refused'],
  ])('%j, then %j: %s', (current, next, expected) => {
    const admission = admit(current, next)
    expect(typeof admission === 'object' ? 'refused' : admission).toBe(expected)
  })
})

describe('turns', () => {
  /** Work that ends when it is told to, or at once when it is aborted. */
  function gate() {
    const { promise, resolve } = Promise.withResolvers<string>()
    const work = (signal: AbortSignal) => {
      const aborted = new Promise<never>((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      })
      return Promise.race([promise, aborted])
    }
    return { work, open: () => resolve('done') }
  }

  test('a newer job waits until the one before is at rest; of many, only the last is done', async () => {
    const turns = new InstanceTurns()
    const order: string[] = []
    const started = Promise.withResolvers<void>()
    const first = turns.run('a', apply(1), async (signal) => {
      order.push('first')
      started.resolve()
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
      await Promise.resolve()
      order.push('first at rest')
      signal.throwIfAborted()
    })
    await started.promise
    const second = turns.run('a', apply(2), async () => order.push('second'))
    const third = turns.run('a', apply(3), async () => order.push('third'))
    await expect(first?.result).rejects.toMatchObject({ code: 'SUPERSEDED' })
    await expect(second?.result).rejects.toMatchObject({ code: 'SUPERSEDED' })
    await third?.result
    expect(order).toEqual(['first', 'first at rest', 'third'])
  })

  test('the same job is joined', async () => {
    const turns = new InstanceTurns()
    const { work, open } = gate()
    const one = turns.run('a', apply(1), work)
    const other = turns.run('a', apply(1), () => Promise.reject(new Error('must not run')))
    open()
    expect(await Promise.all([one?.result, other?.result])).toEqual(['done', 'done'])
  })

  test('instances do not wait for each other', async () => {
    const turns = new InstanceTurns()
    const { work, open } = gate()
    const slow = turns.run('a', apply(1), work)
    await turns.run('b', apply(1), async () => 'quick')?.result
    expect(turns.isBusy('a')).toBe(true)
    open()
    await slow?.result
    expect(turns.isBusy('a')).toBe(false)
  })

  test('rest is told once nobody is at work', async () => {
    const rested: string[] = []
    const turns = new InstanceTurns((uuid) => rested.push(uuid))
    const first = turns.run('a', apply(1), gate().work)
    const second = turns.run('a', apply(2), async () => 'done')
    await first?.result.catch(() => {})
    await second?.result
    expect(rested).toEqual(['a'])
  })

  test('a stop ends what runs and takes nothing new', async () => {
    const turns = new InstanceTurns()
    const running = turns.run('a', apply(1), gate().work)
    await turns.stop()
    await expect(running?.result).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(() => turns.run('b', apply(1), gate().work)).toThrow('stopping')
  })
})
