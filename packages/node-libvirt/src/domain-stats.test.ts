import { expect, test } from 'vitest'
import { domainStats } from './domain-stats.ts'
import type { TypedValue } from './typed-parameters.ts'

const domain = { uuid: 'u', name: 'n' }

function stats(values: Record<string, TypedValue>) {
  return domainStats(domain, new Map(Object.entries(values)))
}

test('flat names become nested objects', () => {
  const { state, cpu, balloon, vcpu, net, block } = stats({
    'state.state': 1,
    'state.reason': 5,
    'cpu.time': 10,
    'cpu.user': 4,
    'balloon.current': 1024,
    'balloon.maximum': 2048,
    'balloon.last-update': 99,
    'vcpu.current': 2,
    'vcpu.maximum': 4,
    'vcpu.0.state': 1,
    'vcpu.0.time': 7,
    'vcpu.0.halted': 'yes',
    'vcpu.2.state': 0,
    'net.count': 1,
    'net.0.name': 'vnet0',
    'net.0.rx.bytes': 1,
    'net.0.tx.drop': 2,
    'block.count': 1,
    'block.0.name': 'vda',
    'block.0.path': '/disk',
    'block.0.rd.reqs': 3,
    'block.0.wr.bytes': 4,
    'block.0.fl.times': 5,
    'block.0.capacity': 6,
  })
  expect(state).toEqual({ state: 'running', reason: 'unpaused' })
  expect(cpu).toEqual({ timeNs: 10, userNs: 4, systemNs: undefined })
  expect(balloon).toMatchObject({
    currentKib: 1024,
    maximumKib: 2048,
    lastUpdateSeconds: 99,
    rssKib: undefined,
  })
  expect(vcpu).toMatchObject({
    current: 2,
    maximum: 4,
    vcpus: [
      { number: 0, state: 'running', timeNs: 7, isHalted: true },
      { number: 2, state: 'offline', timeNs: undefined, isHalted: undefined },
    ],
  })
  expect(net).toMatchObject([{ name: 'vnet0', received: { bytes: 1 }, transmitted: { drops: 2 } }])
  expect(block).toMatchObject([
    {
      name: 'vda',
      path: '/disk',
      read: { requests: 3 },
      write: { bytes: 4 },
      flush: { timesNs: 5 },
      capacityBytes: 6,
    },
  ])
})

test('what libvirt did not report is undefined, not zero', () => {
  expect(stats({})).toMatchObject({
    state: undefined,
    cpu: undefined,
    vcpu: undefined,
    net: undefined,
    block: undefined,
  })
  expect(stats({ 'net.count': 0 }).net).toEqual([])
})

test('everything stays reachable under its own name', () => {
  expect(stats({ 'perf.cmt': 5, 'vm.halt_exits.sum': 6 }).raw).toEqual({
    'perf.cmt': 5,
    'vm.halt_exits.sum': 6,
  })
})
