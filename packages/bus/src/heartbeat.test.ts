import { expect, test } from 'vitest'
import { decodeHeartbeat, encodeHeartbeat } from './heartbeat.ts'
import { eventSubject, heartbeatSubject, hostOfSubject } from './subjects.ts'

const heartbeat = {
  hostId: '8d0bd581-7df2-4cd5-aa64-db23c3ac25b0',
  bootId: 'b',
  epoch: 3,
  digest: 'd',
  load1: 0.5,
}

test('a heartbeat survives the wire', () => {
  expect(decodeHeartbeat(encodeHeartbeat(heartbeat))).toEqual({ heartbeat })
})

test.each(['', '[]', '{"hostId":"h"}', JSON.stringify({ ...heartbeat, epoch: -1 })])(
  '%j is refused with a reason',
  (text) => {
    expect(decodeHeartbeat(text)).toEqual({ refused: expect.stringMatching(/.+/) })
  },
)

test('subjects name their host', () => {
  expect(hostOfSubject(heartbeatSubject('h1'))).toBe('h1')
  expect(hostOfSubject(eventSubject('instance', 'i', 'started'))).toBeNull()
})
