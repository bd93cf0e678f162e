import { describe, expect, it } from 'vitest'
import { hostInMetadata, isOurPool, targetPathOf } from './our-guests.ts'

describe('ours', () => {
  it('is a domain whose metadata names our host', () => {
    expect(
      hostInMetadata('<vpe:instance xmlns:vpe="https://vpe.dev/xmlns/instance/1" uuid="u" host="h-1"/>'),
    ).toBe('h-1')
    expect(hostInMetadata("<instance ghost='no' host='h-2'/>")).toBe('h-2')
    expect(hostInMetadata('<instance/>')).toBeUndefined()
  })

  it('is a pool with a vpe name in our disk folder', () => {
    const name = 'vpe-0f8a1c2e-1111-4222-8333-444455556666'
    expect(isOurPool(name, '/state/disks', '/state/disks')).toBe(true)
    expect(isOurPool(name, '/state/disks/local', '/state/disks')).toBe(true)
    expect(isOurPool(name, '/state/disks-of-another', '/state/disks')).toBe(false)
    expect(isOurPool('default', '/state/disks', '/state/disks')).toBe(false)
    expect(isOurPool(name, undefined, '/state/disks')).toBe(false)
  })

  it('reads where a pool lies from its XML', () => {
    const xml = '<pool type="dir"><name>x</name><source/><target>\n <path>/state/disks</path></target></pool>'
    expect(targetPathOf(xml)).toBe('/state/disks')
    expect(targetPathOf('<pool/>')).toBeUndefined()
  })
})
