import { describe, expect, it } from 'vitest'
import { bootId, identify, isRunning, parseStat } from './process-control.ts'

describe('who is behind a pid', () => {
  const stat = (state: string) =>
    `42 (a) evil) name) ${state} 1 42 42 0 -1 4194560 ${'0 '.repeat(12)}987654 0 0`

  it('reads the start time behind any name', () => {
    expect(parseStat(stat('S'))).toBe('987654')
  })

  it('takes a zombie for gone', () => {
    expect(parseStat(stat('Z'))).toBeUndefined()
  })

  it('knows ourselves, and not an earlier owner of our pid', () => {
    const self = identify(process.pid)
    expect(self).toMatchObject({ pid: process.pid, bootId: bootId() })
    if (!self) return
    expect(isRunning(self)).toBe(true)
    expect(isRunning({ ...self, startTime: '1' })).toBe(false)
    expect(isRunning({ ...self, bootId: 'before the reboot' })).toBe(false)
  })

  it('finds nobody behind a pid that is free', () => {
    expect(identify(2 ** 22 + 1)).toBeUndefined()
  })
})
