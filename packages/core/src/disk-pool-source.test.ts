import { describe, expect, test } from 'vitest'
import {
  cephNameFault,
  monitorFault,
  nfsExportFault,
  nfsOptionsFault,
  nfsServerFault,
} from './disk-pool-source.ts'

const CASES = [
  [
    nfsServerFault,
    ['nfs1', 'nfs1.example.org', '10.0.0.5', 'fd00::5', 'fe80::1%eth0'],
    ['', '-o', 'a b', 'a:/b', 'a\n', 'a;b'],
  ],
  [nfsExportFault, ['/', '/srv/vpe', '/srv/a b'], ['', 'srv', '/srv/', '/srv/../etc', '/a\nb']],
  [
    nfsOptionsFault,
    ['', 'hard', 'vers=4.2,hard,timeo=600'],
    ['suid', 'dev', 'remount', 'bind', ',', 'a b', 'x=$(y)', '-o', 'ro'],
  ],
  [
    monitorFault,
    ['ceph1', '10.0.0.5:6789', '[fd00::5]', '[fd00::5]:3300'],
    ['', 'a:', 'a:0', 'a:70000', 'fd00::5:6789', 'a b'],
  ],
  [cephNameFault, ['vpe', 'rbd-1.a_b'], ['', '-x', 'a/b', 'a b', 'x'.repeat(129)]],
] as const

describe.each(CASES)('%o', (faultOf, good, bad) => {
  test.each(good)('takes %j', (value) => expect(faultOf(value)).toBeNull())
  test.each(bad)('refuses %j', (value) => expect(faultOf(value)).toEqual(expect.any(String)))
})
