import { ClientError, Status } from 'nice-grpc'
import { describe, expect, test } from 'vitest'
import { fromClientError } from './error-status.ts'

describe('a status that is not of our making', () => {
  const codeOf = (code: Status, details: string) =>
    fromClientError(new ClientError('/vpe', code, details)).code

  test('is UNAVAILABLE where nobody answered', () => {
    expect(codeOf(Status.UNAVAILABLE, 'No connection established.')).toBe('UNAVAILABLE')
    expect(codeOf(Status.DEADLINE_EXCEEDED, 'Deadline exceeded')).toBe('UNAVAILABLE')
    expect(codeOf(Status.INTERNAL, 'Received RST_STREAM with code 0 (Call ended without gRPC status)')).toBe(
      'UNAVAILABLE',
    )
  })

  test('is INTERNAL where somebody did', () => {
    expect(codeOf(Status.INTERNAL, 'a defect')).toBe('INTERNAL')
    expect(codeOf(Status.UNIMPLEMENTED, 'no such method')).toBe('INTERNAL')
  })
})
