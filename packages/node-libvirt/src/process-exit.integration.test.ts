// A process that uses libvirt ends when it should: by itself after close(), at once on process.exit() and on an
// uncaught exception, and even with a call that never returns.

import { execFile } from 'node:child_process'
import { expect, test } from 'vitest'

interface Exit {
  readonly code: number
  readonly stderr: string
  readonly seconds: number
}

test('after close() the process exits by itself', async () => {
  const exit = await run(`
    const connection = await connect('test:///default')
    await connection.listDomains()
    await connection.close()`)
  expect(exit).toMatchObject({ code: 0, stderr: '' })
})

test('also when opened and closed again and again, and in parallel', async () => {
  const exit = await run(`
    for (let n = 0; n < 20; n++) await (await connect('test:///default')).close()
    const connections = await Promise.all(Array.from({ length: 8 }, () => connect('test:///default')))
    await Promise.all(connections.map((connection) => connection.close()))
    await connect('nonsense:///').catch(() => {})`)
  expect(exit).toMatchObject({ code: 0, stderr: '' })
})

test('an open connection keeps the process alive until process.exit()', async () => {
  const exit = await run(`
    const connection = await connect('test:///default')
    setTimeout(() => process.exit(3), 500).unref()`)
  expect(exit).toMatchObject({ code: 3, stderr: '' })
})

test('an uncaught exception is printed and ends the process', async () => {
  const exit = await run(`
    const connection = await connect('test:///default')
    throw new Error('uncaught on purpose')`)
  expect(exit.code).toBe(1)
  expect(exit.stderr).toContain('uncaught on purpose')
})

test('a call that hangs does not keep process.exit() from exiting', async () => {
  const exit = await run(`
    const { NativeThread } = await import(${JSON.stringify(import.meta.resolve('./native-threads.ts'))})
    const thread = new NativeThread()
    thread.callSymbol('sleep', ['uint', 'uint'], [60])
    setTimeout(() => process.exit(4), 500)`)
  expect(exit).toMatchObject({ code: 4, stderr: '' })
  expect(exit.seconds).toBeLessThan(50)
})

function run(body: string): Promise<Exit> {
  const program = `import { connect } from ${JSON.stringify(import.meta.resolve('./index.ts'))}\n${body}`
  const startedMs = performance.now()
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ['--input-type=module', '--eval', program],
      { timeout: 100_000, killSignal: 'SIGKILL' },
      (error, _stdout, stderr) => {
        if (error !== null && typeof error.code !== 'number') reject(error)
        else
          resolve({ code: Number(error?.code ?? 0), stderr, seconds: (performance.now() - startedMs) / 1000 })
      },
    )
  })
}
