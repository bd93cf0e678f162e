// What libvirt is told of a pool in a Ceph cluster, and of a disk in it. Nothing is defined from it yet: images,
// snapshots and copies of disks are made by qemu-img on files, and without a cluster to try it on, that part for
// RBD would be guesswork. The definitions are held to libvirt's own schemas.

import type { RbdSource } from '@vpe/core'
import { buildXml, type XmlNode } from './xml.ts'

/** The text for virStoragePoolDefineXML. */
export function rbdPoolXml(uuid: string, rbd: RbdSource): string {
  return buildXml({
    pool: {
      '@type': 'rbd',
      name: `vpe-${uuid}`,
      uuid,
      source: {
        host: rbd.monitors.map(monitorNode),
        name: rbd.pool,
        auth: { '@type': 'ceph', '@username': rbd.user, secret: { '@uuid': rbd.secretUuid } },
      },
    },
  })
}

/** A disk of a domain: `name` is that of the image in the Ceph pool. */
export function rbdDiskNode(rbd: RbdSource, name: string, target: string): XmlNode {
  return {
    '@type': 'network',
    '@device': 'disk',
    driver: { '@name': 'qemu', '@type': 'raw', '@cache': 'none', '@discard': 'unmap' },
    auth: { '@username': rbd.user, secret: { '@type': 'ceph', '@uuid': rbd.secretUuid } },
    source: { '@protocol': 'rbd', '@name': `${rbd.pool}/${name}`, host: rbd.monitors.map(monitorNode) },
    target: { '@dev': target, '@bus': 'virtio' },
  }
}

function monitorNode(monitor: string): XmlNode {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+))(?::(\d+))?$/.exec(monitor) ?? []
  return { '@name': bracketed ?? plain ?? monitor, ...(port ? { '@port': port } : {}) }
}
