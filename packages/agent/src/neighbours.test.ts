import { expect, test } from 'vitest'
import { parseNeighbours } from './neighbours.ts'

const TEXT = `IP address       HW type     Flags       HW address            Mask     Device
10.0.0.7         0x1         0x2         52:54:AA:00:00:01     *        br0
10.0.0.8         0x1         0x6         52:54:aa:00:00:01     *        br0
10.0.0.9         0x1         0x0         00:00:00:00:00:00     *        br0
`

test('addresses are found by MAC, those that nobody answered to are not', () => {
  expect([...parseNeighbours(TEXT)]).toEqual([['52:54:aa:00:00:01', ['10.0.0.7', '10.0.0.8']]])
})

test('an empty table has none', () => {
  expect(parseNeighbours('IP address\n').size).toBe(0)
})
