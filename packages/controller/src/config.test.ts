import { expect, test } from 'vitest'
import { readConfig } from './config.ts'

const LEAST = { VPE_CONTROLLER_STATE_DIR: '/var/lib/vpe/controller' }

test('overcommit is what placement takes for granted, where nothing is set', () => {
  expect(readConfig(LEAST).overcommit).toEqual({
    vcpuRatio: 16,
    memoryRatio: 1,
    diskRatio: 1,
    hostReservedMib: 512,
  })
})

test('each resource has a ratio of its own', () => {
  const settings = {
    VPE_OVERCOMMIT_VCPU: '4',
    VPE_OVERCOMMIT_MEMORY: '1.25',
    VPE_OVERCOMMIT_DISK: '0.9',
    VPE_HOST_RESERVED_MIB: '2048',
  }
  expect(readConfig({ ...LEAST, ...settings }).overcommit).toEqual({
    vcpuRatio: 4,
    memoryRatio: 1.25,
    diskRatio: 0.9,
    hostReservedMib: 2048,
  })
})

test('room for the loss of one host is advised, unless it is set otherwise', () => {
  expect(readConfig(LEAST).failover).toEqual({ hosts: 1, mode: 'advise' })
  const settings = { VPE_HA_FAILOVERS: '2', VPE_HA_ADMISSION: 'enforce' }
  expect(readConfig({ ...LEAST, ...settings }).failover).toEqual({ hosts: 2, mode: 'enforce' })
})

test.each([
  ['VPE_HA_FAILOVERS', '9', 'must be at most 8'],
  ['VPE_HA_FAILOVERS', '-1', 'must be a whole number of hosts'],
  ['VPE_OVERCOMMIT_VCPU', '0', 'must be 0.1 to 100'],
  ['VPE_OVERCOMMIT_MEMORY', '-1', 'must be a number such as 1.5'],
  ['VPE_OVERCOMMIT_DISK', 'Infinity', 'must be a number such as 1.5'],
  ['VPE_OVERCOMMIT_DISK', '101', 'must be 0.1 to 100'],
  ['VPE_HOST_RESERVED_MIB', '1.5', 'must be a whole number of MiB'],
])('%s=%s is refused', (name, value, why) => {
  expect(() => readConfig({ ...LEAST, [name]: value })).toThrow(`${name}: ${why}`)
})
