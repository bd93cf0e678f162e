import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { identify, lastLines, runningProcess, startProcess, stopProcess } from './process-control.ts'

let work: string
let files: { logFile: string; pidFile: string }
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'vpe-process-'))
  files = { logFile: join(work, 'p.log'), pidFile: join(work, 'p.json') }
})
afterEach(async () => {
  await stopProcess(files.pidFile, 0)
  rmSync(work, { recursive: true, force: true })
})

const shell = (script: string) => startProcess({ command: 'sh', args: ['-c', script], ...files })

it('starts a process in a session of its own, finds it again, and stops it', async () => {
  const identity = await shell('echo "I am here"; exec sleep 1000')
  expect(runningProcess(files.pidFile)).toEqual(identity)
  const session = readFileSync(`/proc/${identity.pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3]
  expect(session).toBe(`${identity.pid}`)
  await expect.poll(() => lastLines(files.logFile, 5)).toBe('I am here')
  expect(await stopProcess(files.pidFile, 5000)).toBe(true)
  expect(identify(identity.pid)).toBeUndefined()
  expect(runningProcess(files.pidFile)).toBeUndefined()
})

it('kills what does not listen to SIGTERM', async () => {
  const identity = await shell('trap "" TERM; echo deaf; while :; do sleep 0.1; done')
  await expect.poll(() => lastLines(files.logFile, 1)).toBe('deaf')
  expect(await stopProcess(files.pidFile, 200)).toBe(true)
  expect(identify(identity.pid)).toBeUndefined()
})

it('never touches who has the pid by now', async () => {
  const innocent = await shell('exec sleep 1000')
  const stale = join(work, 'stale.json')
  writeFileSync(stale, JSON.stringify({ ...innocent, startTime: '1' }))
  expect(await stopProcess(stale, 0)).toBe(false)
  expect(runningProcess(files.pidFile)).toEqual(innocent)
})

it('has nothing to stop when the process died, or never was', async () => {
  await shell('true')
  await expect.poll(() => runningProcess(files.pidFile)).toBeUndefined()
  expect(await stopProcess(files.pidFile, 0)).toBe(false)
  expect(await stopProcess(join(work, 'none.json'), 0)).toBe(false)
})

it('names a command that does not exist', async () => {
  await expect(startProcess({ command: 'no-such-command', args: [], ...files })).rejects.toThrow(
    /no-such-command/,
  )
})
