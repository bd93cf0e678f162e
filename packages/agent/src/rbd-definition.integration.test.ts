// The definitions for Ceph, held to the schemas that libvirt itself ships.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, expect, test } from 'vitest'
import { rbdDiskNode, rbdPoolXml } from './rbd-definition.ts'
import { buildXml } from './xml.ts'

const dir = mkdtempSync(join(tmpdir(), 'vpe-rbd-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const uuid = '0a1b2c3d-0000-4000-8000-00000000000c'
const rbd = {
  monitors: ['ceph1.example.org', '10.0.0.5:6789', '[fd00::5]:3300'],
  pool: 'vpe',
  user: 'libvirt',
  secretUuid: '0a1b2c3d-0000-4000-8000-00000000000d',
}

async function validate(xml: string, schema: 'storagepool' | 'domain') {
  const file = join(dir, `${schema}.xml`)
  writeFileSync(file, xml)
  return execa('virt-xml-validate', [file, schema], { reject: false })
}

test('a pool is one to libvirt', async () => {
  const xml = rbdPoolXml(uuid, rbd)
  expect(await validate(xml, 'storagepool')).toMatchObject({ exitCode: 0 })
  expect(xml).toContain('<host name="10.0.0.5" port="6789"')
  expect(xml).toContain('<host name="fd00::5" port="3300"')
  expect(await validate(xml.replace('<name>vpe</name>', ''), 'storagepool')).not.toMatchObject({
    exitCode: 0,
  })
})

test('a disk in it is one to libvirt', async () => {
  const domain = (disk: object) =>
    buildXml({
      domain: {
        '@type': 'kvm',
        name: 'x',
        memory: 1024,
        os: { type: 'hvm' },
        devices: { disk: disk as ReturnType<typeof rbdDiskNode> },
      },
    })
  const disk = rbdDiskNode(rbd, `disk-${uuid}`, 'vdb')
  expect(await validate(domain(disk), 'domain')).toMatchObject({ exitCode: 0 })
  expect(domain(disk)).toContain(`<source protocol="rbd" name="vpe/disk-${uuid}"`)
  expect(await validate(domain({ ...disk, source: {} }), 'domain')).not.toMatchObject({ exitCode: 0 })
})
