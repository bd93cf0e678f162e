import { expect, it } from 'vitest'
import { privateLibvirtd, socketFolderFor } from './private-libvirtd.ts'

const id = '0f8a1c2e-1111-4222-8333-444455556666'

it('keeps its socket in its own folder', () => {
  expect(privateLibvirtd('/srv/vpe/libvirt', id)).toMatchObject({
    socketFolder: '/srv/vpe/libvirt/sock',
    uri: 'qemu:///system?socket=/srv/vpe/libvirt/sock/libvirt-sock',
  })
})

it('moves the socket to a short folder when its path would be too long for a socket', () => {
  const deep = `/home/${'x'.repeat(90)}`
  expect(socketFolderFor(deep, id)).toBe('/run/vpe-0f8a1c2e')
})
