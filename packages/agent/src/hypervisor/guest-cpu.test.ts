import { expect, test } from 'vitest'
import { guestCpuOf, hostModelOf } from './guest-cpu.ts'

/** As libvirt 9 writes them. */
const capabilities = (mode: string) =>
  `<domainCapabilities><cpu><mode name='host-passthrough' supported='yes'/>${mode}</cpu></domainCapabilities>`
const HOST_MODEL = `<mode name='host-model' supported='yes'>
  <model fallback='forbid'>EPYC</model>
  <vendor>AMD</vendor>
  <feature policy='require' name='umip'/>
  <feature policy='disable' name='vme'/>
</mode>`

test('host-model is a CPU with its features, those that it lacks among them', () => {
  const xml = hostModelOf(capabilities(HOST_MODEL)) ?? ''
  expect(xml).toContain('EPYC')
  expect(guestCpuOf(xml)).toEqual({ model: 'EPYC', features: ['umip'] })
})

test.each([
  capabilities(''),
  capabilities("<mode name='host-model' supported='no'/>"),
  capabilities("<mode name='host-model' supported='yes'/>"),
])('there is none in %s', (text) => {
  expect(hostModelOf(text)).toBe(null)
})

test('features are sorted, and a CPU may have none', () => {
  const feature = (name: string) => `<feature policy='require' name='${name}'/>`
  const cpu = `<cpu mode='custom'><model>qemu64</model>${feature('sse')}${feature('aes')}</cpu>`
  expect(guestCpuOf(cpu)).toEqual({ model: 'qemu64', features: ['aes', 'sse'] })
  expect(guestCpuOf('<cpu><model>arm</model></cpu>')).toEqual({ model: 'arm', features: [] })
})
