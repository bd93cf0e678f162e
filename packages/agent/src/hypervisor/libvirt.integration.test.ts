import { randomUUID } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hypervisorContract } from '../testing/hypervisor-contract.ts'
import { TestLab, until } from '../testing/lab.ts'
import type { Hypervisor } from './hypervisor.ts'
import { openLibvirt } from './libvirt.ts'

const openMock = async () => {
  const hypervisor = await openLibvirt('test:///default')
  const dir = mkdtempSync(join(tmpdir(), 'vpe-hypervisor-'))
  return {
    hypervisor,
    dir,
    makeDisk: async () => {},
    snapshotsOf: async () => [],
    dispose: async () => {
      await hypervisor.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

const openQemu = async () => {
  const lab = await TestLab.start()
  const hypervisor = await openLibvirt(lab.libvirtUri)
  return {
    hypervisor,
    dir: lab.folder('disks'),
    makeDisk: async (path: string) => {
      if (!existsSync(path)) await execa('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M'])
    },
    snapshotsOf: async (_uuid: string, path: string) => {
      // QEMU has the disk, and another may only look.
      const { stdout } = await execa('qemu-img', ['info', '--force-share', '--output=json', path])
      const { snapshots } = JSON.parse(stdout) as { snapshots: { name: string }[] }
      return snapshots.map(({ name }) => name)
    },
    dispose: async () => {
      await hypervisor.close()
      await lab[Symbol.asyncDispose]()
    },
  }
}

hypervisorContract("libvirt's mock driver", openMock, {
  obeysPowerButton: true,
  canPlugDisks: false,
  hasSnapshots: false,
})
hypervisorContract('QEMU', openQemu, { obeysPowerButton: false, canPlugDisks: true, hasSnapshots: true })

describe('libvirt', () => {
  let lab: TestLab
  let hypervisor: Hypervisor
  beforeAll(async () => {
    lab = await TestLab.start()
    hypervisor = await openLibvirt(lab.libvirtUri)
  })
  afterAll(async () => {
    await hypervisor.close()
    await lab[Symbol.asyncDispose]()
  })

  test('that is not there is unavailable, with its words', async () => {
    await expect(openLibvirt(`qemu:///system?socket=${lab.dir}/nobody`)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('nobody'),
    })
  })

  test('makes the folder of a pool, starts it, and leaves it out of autostart', async () => {
    const uuid = randomUUID()
    const path = join(lab.dir, 'a', 'new', 'pool')
    await hypervisor.ensurePool(uuid, path)
    expect(statSync(path).mode & 0o777).toBe(0o711)
    expect(await lab.virsh('pool-info', `vpe-${uuid}`)).toMatch(/State:\s+running[\s\S]*Autostart:\s+no/)
  })

  test('follows a pool to another folder', async () => {
    const uuid = randomUUID()
    await hypervisor.ensurePool(uuid, join(lab.dir, 'before'))
    await hypervisor.ensurePool(uuid, join(lab.dir, 'after'))
    expect(await lab.virsh('pool-dumpxml', `vpe-${uuid}`)).toContain(`<path>${lab.dir}/after</path>`)
  })

  test('names the pool of others that a folder belongs to, and what to do', async () => {
    await lab.virsh('pool-create-as', 'theirs', 'dir', '--target', lab.folder('theirs'))
    await expect(hypervisor.ensurePool(randomUUID(), join(lab.dir, 'theirs'))).rejects.toMatchObject({
      code: 'DISK_POOL_FAILED',
      message: expect.stringMatching(/theirs.*virsh pool-destroy theirs/),
    })
  })

  test('says where a pool cannot be', async () => {
    await expect(hypervisor.ensurePool(randomUUID(), '/proc/vpe')).rejects.toMatchObject({
      code: 'DISK_POOL_FAILED',
      message: expect.stringContaining('/proc/vpe'),
    })
    expect(await lab.virsh('pool-list', '--all', '--details')).not.toContain('/proc')
  })

  test('tells when it goes away and when it is back, having lost nothing', async () => {
    const kinds: string[] = []
    hypervisor.onEvent(({ kind }) => kinds.push(kind))
    await lab.killLibvirtd()
    await until('the loss is told', () => kinds.includes('disconnected'))
    await expect(hypervisor.listDomains()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await lab.startDaemons()
    await until('the return is told', () => kinds.includes('connected'))
    expect(await hypervisor.listDomains()).toEqual({ domains: [], unread: [] })
    expect(kinds.filter((kind) => kind !== 'domain')).toEqual(['disconnected', 'connected'])
  })
})
