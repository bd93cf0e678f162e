import { expect, test } from 'vitest'
import { chooseLab } from './lab-settings.ts'

const usual = { haProfile: 'default', hasWatchdog: false, canRevoke: true, hasLocks: true }

test('a new lab is as the environment says', () => {
  expect(chooseLab({}, undefined)).toEqual(usual)
  const env = { VPE_LAB_HA_PROFILE: 'fast', VPE_LAB_WATCHDOG: 'on', VPE_LAB_REVOKE: 'off', VPE_LAB_LOCKS: '' }
  expect(chooseLab(env, undefined)).toEqual({
    haProfile: 'fast',
    hasWatchdog: true,
    canRevoke: false,
    hasLocks: true,
  })
})

test('a storage without locks shuts nobody out', () => {
  expect(chooseLab({ VPE_LAB_LOCKS: 'off' }, undefined)).toEqual({
    ...usual,
    canRevoke: false,
    hasLocks: false,
  })
  expect(() => chooseLab({ VPE_LAB_LOCKS: 'off', VPE_LAB_REVOKE: 'on' }, undefined)).toThrow(
    'shuts nobody out',
  )
})

test('a lab that is there stays as it is, and one that was made before it was asked is as usual', () => {
  const before = { ...usual, haProfile: 'fast' }
  expect(chooseLab({}, before)).toEqual(before)
  expect(chooseLab({ VPE_LAB_HA_PROFILE: 'fast' }, before)).toEqual(before)
  expect(() => chooseLab({ VPE_LAB_HA_PROFILE: 'default', VPE_LAB_WATCHDOG: 'on' }, before)).toThrow(
    'another haProfile, hasWatchdog',
  )
  const old = { subnet: '10.1.1', apiPort: 1, hosts: [] } as unknown as typeof usual
  expect(chooseLab({}, old)).toMatchObject(usual)
  expect(() => chooseLab({ VPE_LAB_WATCHDOG: 'on' }, old)).toThrow('another hasWatchdog')
})

test('nonsense is refused by name', () => {
  expect(() => chooseLab({ VPE_LAB_HA_PROFILE: 'slow' }, undefined)).toThrow(
    'VPE_LAB_HA_PROFILE is one of fast,',
  )
  expect(() => chooseLab({ VPE_LAB_WATCHDOG: '1' }, undefined)).toThrow(
    'VPE_LAB_WATCHDOG is on or off, not 1',
  )
})
