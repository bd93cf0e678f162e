import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type AdmissionHost, refuseHaStart } from './admission.ts'

const ENFORCED = { hosts: 1, mode: 'enforce' } as const
const NOTHING = { vcpus: 0, memoryMib: 0 }

function aHost(name: string, memoryMib: number, over: Partial<AdmissionHost> = {}): AdmissionHost {
  return { name, total: { vcpus: 16, memoryMib }, used: NOTHING, usedByHa: NOTHING, ...over }
}

const wants = (memoryMib: number, vcpus = 1) => ({ memoryMib, vcpus })

test('room of the largest host is kept: what is left bounds what may be powered on', () => {
  const hosts = [aHost('h1', 8_192), aHost('h2', 4_096)]
  expect(refuseHaStart(hosts, wants(4_096), ENFORCED)).toBeNull()
  expect(refuseHaStart(hosts, wants(4_097), ENFORCED)).toMatch(
    /^without h1 there is room for 4096 MiB of memory .* they would need 4097/,
  )
  expect(refuseHaStart(hosts, wants(1, 17), ENFORCED)).toMatch(/room for 16 vCPUs/)
})

test('what others use on the hosts that remain is not to be had', () => {
  const used = { vcpus: 2, memoryMib: 3_000 }
  const hosts = [aHost('h1', 8_192), aHost('h2', 4_096, { used, usedByHa: { vcpus: 1, memoryMib: 1_000 } })]
  expect(refuseHaStart(hosts, wants(1_096), ENFORCED)).toBeNull()
  expect(refuseHaStart(hosts, wants(1_097), ENFORCED)).toMatch(/room for 2096 MiB/)
})

test('nothing is refused where it is only advice, for no host, or on a single host', () => {
  const hosts = [aHost('h1', 1_024), aHost('h2', 0)]
  expect(refuseHaStart(hosts, wants(9_999), ENFORCED)).not.toBeNull()
  expect(refuseHaStart(hosts, wants(9_999), { hosts: 1, mode: 'advise' })).toBeNull()
  expect(refuseHaStart(hosts, wants(9_999), { hosts: 0, mode: 'enforce' })).toBeNull()
  expect(refuseHaStart(hosts.slice(0, 1), wants(9_999), ENFORCED)).toBeNull()
})

test('who keeps room for more hosts is never told yes where fewer are told no', () => {
  const amounts = fc.record({ vcpus: fc.nat(16), memoryMib: fc.nat(8_192) })
  const someHosts = fc
    .array(fc.record({ total: amounts, used: amounts }), { minLength: 2, maxLength: 6 })
    .map((hosts) =>
      hosts.map(({ total, used }, index): AdmissionHost => {
        const within = {
          vcpus: Math.min(used.vcpus, total.vcpus),
          memoryMib: Math.min(used.memoryMib, total.memoryMib),
        }
        return { name: `h${index}`, total, used: within, usedByHa: within }
      }),
    )
  fc.assert(
    fc.property(someHosts, amounts, fc.integer({ min: 1, max: 5 }), (hosts, more, count) => {
      const fewer = refuseHaStart(hosts, more, { hosts: count, mode: 'enforce' })
      if (fewer !== null)
        expect(refuseHaStart(hosts, more, { hosts: count + 1, mode: 'enforce' })).not.toBeNull()
    }),
  )
})
