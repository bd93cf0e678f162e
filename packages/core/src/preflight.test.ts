import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Finding } from './host-conditions.ts'
import {
  judgeAgent,
  judgeBridge,
  judgeClock,
  judgeKvm,
  judgeLibvirt,
  judgeMigrationTls,
  judgeNats,
  judgePool,
  judgePrograms,
  judgeQemu,
  judgeStateFolder,
  poolFindingType,
  poolOfFinding,
  worstOf,
} from './preflight.ts'

const MIB = 1024 ** 2
const pool = { uuid: 'p1', path: '/pool' }
const clock = (offsetMs: number, roundTripMs = 10) => judgeClock({ offsetMs, roundTripMs })
const disk = (latencyMs: number) => judgePool(pool, { latencyMs })
const state = (mib: number) => judgeStateFolder('/state', { availableBytes: mib * MIB })
const nats = (latencyMs: number) => judgeNats('nats://n', { latencyMs })

const tls = {
  folder: '/pki',
  isLaidOut: true,
  conf: '/qemu.conf',
  fault: '',
  configured: '/pki',
  verifies: true,
}

const TABLE: readonly [Finding, Finding['status'], RegExp, RegExp][] = [
  [judgeMigrationTls(null), 'ok', /unencrypted/, /^$/],
  [judgeMigrationTls(tls), 'ok', /cluster's certificate/, /^$/],
  [judgeMigrationTls({ ...tls, isLaidOut: false }), 'failed', /holds no certificate/, /Join/],
  [
    judgeMigrationTls({ ...tls, fault: 'EACCES' }),
    'warning',
    /EACCES/,
    /migrate_tls_x509_cert_dir = "\/pki"/,
  ],
  [
    judgeMigrationTls({ ...tls, configured: '' }),
    'failed',
    /looks for its certificate in nothing/,
    /restart libvirtd/,
  ],
  [
    judgeMigrationTls({ ...tls, verifies: false }),
    'warning',
    /whoever sends them/,
    /migrate_tls_x509_verify = 1/,
  ],
  [judgeKvm({ hasVirtualisation: true, device: null }), 'ok', /on the CPU itself/, /^$/],
  [judgeKvm({ hasVirtualisation: false, device: null }), 'warning', /neither vmx nor svm/, /firmware/],
  [judgeKvm({ hasVirtualisation: true, device: 'EACCES' }), 'warning', /EACCES/, /group kvm/],
  [judgeLibvirt({ version: '9.0.0' }), 'ok', /9\.0\.0/, /^$/],
  [judgeLibvirt({ version: '8.0.0' }), 'ok', /8\.0\.0/, /^$/],
  [judgeLibvirt({ version: '7.10.2' }), 'failed', /older than 8\.0\.0/, /Install libvirt/],
  [judgeLibvirt({ version: '10.1.0' }), 'ok', /10\.1\.0/, /^$/],
  [judgeLibvirt({ fault: 'it is away' }), 'failed', /it is away/, /systemctl start libvirtd/],
  [judgeQemu('7.2.0'), 'ok', /7\.2\.0/, /^$/],
  [judgeQemu('5.2.0'), 'failed', /older than 6\.0\.0/, /Install QEMU/],
  [judgeQemu(''), 'failed', /no QEMU/, /Install qemu-system/],
  [judgePrograms([]), 'ok', /are there/, /^$/],
  [judgePrograms(['genisoimage']), 'warning', /genisoimage/, /Install genisoimage$/],
  [judgePrograms(['qemu-img']), 'failed', /no disk can be made/, /Install qemu-utils$/],
  [judgePrograms(['qemu-img', 'genisoimage']), 'failed', /qemu-img and/, /qemu-utils and genisoimage$/],
  [state(2_000), 'ok', /2000 MiB left/, /^$/],
  [state(1_024), 'ok', /1024 MiB left/, /^$/],
  [state(1_023), 'warning', /1023 MiB left/, /Make room/],
  [state(64), 'warning', /64 MiB left/, /Make room/],
  [state(63), 'failed', /63 MiB left/, /Make room/],
  [judgeStateFolder('/state', { fault: 'EROFS' }), 'failed', /\/state: EROFS/, /VPE_AGENT_STATE_DIR/],
  [disk(3.14), 'ok', /3\.1 ms/, /^$/],
  [disk(500), 'warning', /500 ms, which is more than/, /network/],
  [
    judgePool(pool, { fault: 'it did not answer within 5 s' }),
    'failed',
    /\/pool: it did not answer within 5 s/,
    /mounted/,
  ],
  [nats(1), 'ok', /answers in 1 ms/, /^$/],
  [nats(700), 'warning', /700 ms/, /network/],
  [
    judgeNats('nats://n', { fault: 'refused' }),
    'failed',
    /nats:\/\/n: refused/,
    /nats-server runs at nats:\/\/n/,
  ],
  [judgeBridge('br0', ['br0']), 'ok', /br0/, /^$/],
  [judgeBridge('br0', ['br1', 'br2']), 'failed', /no bridge br0; there are br1, br2/, /VPE_AGENT_BRIDGE/],
  [judgeBridge('br0', []), 'failed', /no bridge br0$/, /ip link add br0/],
  [clock(0), 'ok', /0 ms ahead/, /^$/],
  [clock(1_005), 'ok', /1005 ms ahead/, /^$/],
  [clock(1_006), 'warning', /ahead of/, /chrony/],
  [clock(-2_000), 'warning', /2000 ms behind/, /chrony/],
  [clock(-60_000), 'failed', /60 s behind/, /chrony/],
  // A slow answer is no wrong clock.
  [clock(4_000, 8_000), 'ok', /give or take 4000 ms/, /^$/],
  [judgeAgent('a:1', { latencyMs: 2 }), 'ok', /a:1 answers in 2 ms/, /^$/],
  [judgeAgent('a:1', { fault: 'no' }), 'failed', /a:1: no/, /vpe-agent runs/],
]

test.each(TABLE)('%j is %s', (finding, status, message, cure) => {
  expect(finding.status).toBe(status)
  expect(finding.message).toMatch(message)
  expect(finding.cure).toMatch(cure)
})

test('a clock that agrees is never blamed, however long the answer takes, whichever way took it', () => {
  const anyTrip = fc.record({ thereMs: fc.nat(60_000), backMs: fc.nat(60_000) })
  fc.assert(
    fc.property(anyTrip, ({ thereMs, backMs }) => {
      const roundTripMs = thereMs + backMs
      expect(clock(thereMs - roundTripMs / 2, roundTripMs).status).toBe('ok')
    }),
  )
})

test('a finding on a pool names it', () => {
  expect(poolOfFinding(poolFindingType('p1'))).toBe('p1')
  expect(poolOfFinding('KvmUsable')).toBe(null)
})

test('the worst of several', () => {
  const of = (...statuses: Finding['status'][]) => worstOf(statuses.map((status) => ({ status })))
  expect(of()).toBe('ok')
  expect(of('ok', 'warning')).toBe('warning')
  expect(of('warning', 'failed', 'ok')).toBe('failed')
})
