import type { ObservedDomain } from '@vpe/core'
import { VpeError } from '@vpe/core'
import { pino } from 'pino'
import { beforeEach, expect, test } from 'vitest'
import { macAddress } from './domain-xml.ts'
import { GuestAddresses } from './guest-addresses.ts'
import type { Neighbours } from './neighbours.ts'

const uuid = 'a'
const domain = { mark: { uuid }, guest: { power: 'on' } } as unknown as ObservedDomain
const off = { mark: { uuid }, guest: { power: 'off' } } as unknown as ObservedDomain

let answer: () => Promise<readonly string[]>
let neighbours: Neighbours
let domains: readonly ObservedDomain[]
let changes: number
let addresses: GuestAddresses

beforeEach(() => {
  answer = async () => ['10.0.0.7', '10.0.0.7', 'fe80::1', '127.0.0.1', '2001:db8::1', 'nonsense']
  neighbours = new Map()
  domains = [domain]
  changes = 0
  addresses = new GuestAddresses({
    hypervisor: { guestAddresses: () => answer() },
    neighbours: async () => neighbours,
    log: pino({ level: 'silent' }),
    domains: () => domains,
    onChange: () => changes++,
  })
})

const known = () => addresses.all().get(uuid)

test('what others reach a guest at is known, and a change is told once', async () => {
  await addresses.look()
  await addresses.look()
  expect([known(), changes]).toEqual([['10.0.0.7', '2001:db8::1'], 1])
})

test('what the host has heard on its bridges counts, too', async () => {
  neighbours = new Map([[macAddress(uuid), ['10.0.0.9', '10.0.0.7']]])
  await addresses.look()
  expect(known()).toEqual(['10.0.0.7', '10.0.0.9', '2001:db8::1'])
})

test('a guest that is off has none', async () => {
  await addresses.look()
  domains = [off]
  await addresses.look()
  expect([known(), changes]).toEqual([undefined, 2])
})

test('what was known stays while libvirt does not answer', async () => {
  await addresses.look()
  answer = () => Promise.reject(new VpeError('UNAVAILABLE', 'away'))
  await addresses.look()
  expect([known(), changes]).toEqual([['10.0.0.7', '2001:db8::1'], 1])
})

test('a guest that claims a thousand is heard in part', async () => {
  answer = async () => Array.from({ length: 1_000 }, (_, at) => `10.0.${at >> 8}.${at & 255}`)
  await addresses.look()
  expect(known()).toHaveLength(32)
})
