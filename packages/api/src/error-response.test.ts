import { readFileSync } from 'node:fs'
import { ERROR_CODES, VpeError } from '@vpe/core'
import { describe, expect, test } from 'vitest'
import { MEANING_OF_CODE } from './error-response.ts'
import { REQUEST_FAULT_CODES } from './request-fault.ts'
import { createTestBed } from './test-bed.ts'

const ALL_CODES = [...ERROR_CODES, ...REQUEST_FAULT_CODES]
const DOCUMENT = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8')

test('every code has a status, and no status is for a code that is none', () => {
  expect(Object.keys(MEANING_OF_CODE).sort()).toEqual([...ALL_CODES].sort())
})

test.each(ALL_CODES)('docs/errors.md explains %s with its status', (code) => {
  const section = DOCUMENT.split(/^### /m).find((part) => part.startsWith(`${code} `))
  expect(section, `add "### ${code} – ${MEANING_OF_CODE[code].status}" to docs/errors.md`).toBeDefined()
  expect(section).toMatch(new RegExp(`^${code} – ${MEANING_OF_CODE[code].status}\\b`))
  expect(section).toContain('User:')
  expect(section).toContain('Operator:')
})

describe('what the controller refuses', () => {
  test.each(ERROR_CODES)('%s in dialect 1', async (code) => {
    const bed = await createTestBed()
    const fields = [{ field: 'image', message: 'is not there' }]
    bed.controller.failures.set('listFlavors', new VpeError(code, 'the reason', { fields }))
    const answer = await bed.send('GET', '/flavors')
    expect(answer.status).toBe(MEANING_OF_CODE[code].status)
    expect(answer.body).toEqual({
      type: expect.stringMatching(/^urn:vpe:error:[a-z-]+$/),
      title: MEANING_OF_CODE[code].title,
      status: answer.status,
      detail: 'the reason',
      instance: '/flavors',
      code,
      errors: fields,
      request_id: expect.any(String),
    })
    expect(answer.headers.get('retry-after')).toBe(answer.status === 503 ? '1' : null)
  })

  test.each(ERROR_CODES)('%s in dialect 2: HTTP status and code are equal', async (code) => {
    const bed = await createTestBed()
    bed.controller.failures.set('createInstance', new VpeError(code, 'the reason'))
    const answer = await bed.send('POST', '/api/v1/instance', { name: 'a', spec: { image: 'b' } })
    expect(answer.body).toMatchObject({
      code: answer.status,
      message: 'create failed',
      data: { error: expect.any(String) },
    })
  })
})

test('a defect tells its user where to look, and only the log what it was', async () => {
  const bed = await createTestBed()
  bed.controller.failures.set(
    'listFlavors',
    new VpeError('INTERNAL', 'whole', { cause: new TypeError('x is undefined') }),
  )
  await bed.send('GET', '/flavors')
  expect(bed.logLines.at(-1)).toMatchObject({ level: 50, status: 500, code: 'INTERNAL', path: '/flavors' })
})

test('a controller that does not answer in time: 503, and a change says that it may have been made', async () => {
  const bed = await createTestBed({ deadlineMs: 20 })
  bed.controller.hanging.add('listFlavors').add('createFlavor')
  const read = await bed.send('GET', '/flavors')
  expect(read.status).toBe(503)
  expect(read.body.detail).toBe('the controller did not answer within 0.02 s')
  const change = await bed.send('POST', '/flavors', { flavor: { name: 'f', vcpus: 1, memory_mib: 64 } })
  expect(change.status).toBe(503)
  expect(change.body.detail).toContain('the change may have been made')
})

test('one log line for each request, without query or body', async () => {
  const bed = await createTestBed()
  await bed.send('GET', '/instances?name=secret', undefined, { 'x-request-id': 'from-the-client' })
  await bed.send('POST', '/instances', { instance: { name: 'secret' } })
  expect(bed.logLines).toHaveLength(2)
  expect(bed.logLines[0]).toMatchObject({
    request_id: 'from-the-client',
    method: 'GET',
    path: '/instances',
    status: 200,
    ms: expect.any(Number),
  })
  expect(bed.logLines[1]).toMatchObject({ method: 'POST', status: 400, code: 'INVALID_ARGUMENT' })
  expect(JSON.stringify(bed.logLines)).not.toContain('secret')
})
