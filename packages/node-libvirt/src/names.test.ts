// The tables that turn libvirt's numbers into names and back.

import { expect, test } from 'vitest'
import { domainFilter, startFlags } from './domain-flags.ts'
import { domainState } from './domain-state.ts'
import { statsFlags } from './domain-stats.ts'
import { isLibvirtError, LibvirtError, ownError } from './error.ts'
import { flagBits } from './flags.ts'
import { cpuComparison, versionText } from './host.ts'
import { jobStats, jobTypeName } from './job-stats.ts'
import { migrateFlagBits, migrateParameters } from './migration.ts'

test('options become bits', () => {
  expect(flagBits(startFlags)).toBe(0)
  expect(flagBits(startFlags, { paused: true, bypassCache: true, autodestroy: false })).toBe(5)
  expect(flagBits(domainFilter, { active: true, noCheckpoint: true })).toBe(32769)
  // Bit 31 must not make the sum negative.
  expect(flagBits(statsFlags, { active: true, enforce: true })).toBe(0x80000001)
})

test('states and reasons have names, also those not yet invented', () => {
  expect(domainState(5, 3)).toEqual({ state: 'shutoff', reason: 'crashed' })
  expect(domainState(3, 5)).toEqual({ state: 'paused', reason: 'io-error' })
  expect(domainState(3, 14)).toEqual({ state: 'paused', reason: 'api-error' })
  expect(domainState(1, 99)).toEqual({ state: 'running', reason: 'unknown' })
  expect(domainState(99, 1)).toEqual({ state: 'nostate', reason: 'unknown' })
})

test('errors have names, also those not yet invented', () => {
  const error = new LibvirtError(
    { code: 42, domain: 10, level: 2, message: 'gone', str1: 'gone', int1: 3 },
    'virX',
  )
  expect(error).toMatchObject({
    codeName: 'NO_DOMAIN',
    domainName: 'QEMU',
    level: 'error',
    call: 'virX',
    int1: 3,
  })
  expect(String(error)).toBe('LibvirtError: gone')
  const later = new LibvirtError({ code: 9999, domain: 9999, level: 2, message: null })
  expect(later).toMatchObject({ codeName: 'UNKNOWN', domainName: 'UNKNOWN', message: 'libvirt error 9999' })
  expect(isLibvirtError(ownError('NO_CONNECT', 'x'), 'NO_CONNECT')).toBe(true)
  expect(isLibvirtError(new Error('NO_CONNECT'))).toBe(false)
})

test('migration options become flags and parameters', () => {
  const options = {
    live: true,
    peerToPeer: true,
    autoConverge: true,
    bandwidthMibPerSecond: 50,
    disks: ['vda', 'vdb'],
  }
  expect(migrateFlagBits(options)).toBe(0x2003)
  expect(migrateParameters(options)).toEqual([
    { name: 'bandwidth', type: 'ullong', value: 50 },
    { name: 'migrate_disks', type: 'string', value: 'vda' },
    { name: 'migrate_disks', type: 'string', value: 'vdb' },
  ])
})

test('job statistics', () => {
  const values = new Map<string, string | number | boolean>([
    ['operation', 5],
    ['memory_remaining', 7],
    ['success', true],
    ['something_new', 1],
  ])
  expect(jobStats(jobTypeName(3), values)).toMatchObject({
    type: 'completed',
    operation: 'migration-out',
    memoryRemainingBytes: 7,
    memoryTotalBytes: undefined,
    isSuccess: true,
    raw: { something_new: 1 },
  })
})

test('versions and comparisons', () => {
  expect(versionText(9_000_000)).toBe('9.0.0')
  expect(versionText(10_011_002)).toBe('10.11.2')
  expect(cpuComparison(2)).toBe('superset')
  expect(cpuComparison(0)).toBe('incompatible')
})
