// From POST to domain running, against `virsh define` + `virsh start` of the same XML, in turns on the same
// machine in the same run. What vpe does more (placement, a durable commit, the system disk, the way
// through three processes) is in its time; copying an image is not, and is measured beside it.
//
// The yardstick gets its disk beforehand and pays nothing for it; it starts two processes of virsh.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '@vpe/node-libvirt'
import { execa } from 'execa'
import type { Cluster } from '../e2e/cluster.ts'
import { type Distribution, distribution } from './figures.ts'

export interface CreateToRunning {
  readonly vpeMs: Distribution
  readonly virshMs: Distribution
  /** Ratio of the medians. */
  readonly ratio: number
  /** Importing the demo image into a pool, whole. */
  readonly imageImportMs: Distribution
}

export async function measureCreateToRunning(cluster: Cluster, rounds: number): Promise<CreateToRunning> {
  const vpe: number[] = []
  const virsh: number[] = []
  const ingredients = await cluster.ingredients()
  await using libvirt = await connect(cluster.libvirtUri)
  const started = new Map<string, (atMs: number) => void>()
  libvirt.on('lifecycle', ({ event, domain }) => {
    if (event === 'started') started.get(domain.uuid)?.(performance.now())
  })
  const work = mkdtempSync(join(tmpdir(), 'vpe-bench-'))
  try {
    for (let round = 0; round < rounds; round++) {
      const fromMs = performance.now()
      const { body, headers } = await cluster.ok('POST', '/instances', {
        instance: { name: `bench-${round}-${randomUUID()}`, ...ingredients },
      })
      const { uuid } = body.instance
      const isRunning = new Promise<number>((resolve) => started.set(uuid, resolve))
      const isDone = cluster.ended(headers.get('operation-id') ?? '')
      const runningAtMs = await isRunning
      vpe.push(runningAtMs - fromMs)
      const { status, fault } = await isDone
      if (status !== 'succeeded') throw new Error(`creation ${status}: ${fault}`)

      const twin = await makeTwin(cluster, uuid, work)
      // Gone before the yardstick is laid on: a guest that boots meanwhile would take its CPU time.
      await cluster.ended(
        (await cluster.ok('DELETE', `/instances/${uuid}`)).headers.get('operation-id') ?? '',
      )
      virsh.push(await defineAndStart(cluster, twin))
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  const vpeMs = distribution(vpe)
  const virshMs = distribution(virsh)
  return { vpeMs, virshMs, ratio: vpeMs.p50 / virshMs.p50, imageImportMs: await measureImport(cluster, 3) }
}

interface Twin {
  readonly uuid: string
  readonly xmlFile: string
}

/** The same XML under another name, with a system disk made in the same way. */
async function makeTwin(cluster: Cluster, original: string, work: string): Promise<Twin> {
  const uuid = randomUUID()
  const xml = await cluster.virsh('dumpxml', '--inactive', original)
  const disk = /<source file='([^']+)'/.exec(xml)?.[1]
  if (!disk) throw new Error('the domain has no disk')
  const twinDisk = join(work, `${uuid}.qcow2`)
  // --force-share: the instance runs on the original.
  const { stdout } = await execa('qemu-img', ['info', '--force-share', '--output=json', disk])
  const info = JSON.parse(stdout)
  const backing = ['-b', info['full-backing-filename'], '-F', info['backing-filename-format']]
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, twinDisk, String(info['virtual-size'])])
  const xmlFile = join(work, `${uuid}.xml`)
  writeFileSync(
    xmlFile,
    xml
      .replace(disk, twinDisk)
      .replaceAll(original, uuid)
      .replace(/<mac address='[^']+'\/>/, ''),
  )
  return { uuid, xmlFile }
}

async function defineAndStart(cluster: Cluster, { uuid, xmlFile }: Twin): Promise<number> {
  const fromMs = performance.now()
  await execa('virsh', ['-c', cluster.libvirtUri, 'define', xmlFile])
  await execa('virsh', ['-c', cluster.libvirtUri, 'start', `vpe-${uuid}`])
  const ms = performance.now() - fromMs
  await cluster.virsh('destroy', uuid)
  await cluster.virsh('undefine', uuid)
  return ms
}

async function measureImport(cluster: Cluster, rounds: number): Promise<Distribution> {
  const samples: number[] = []
  const [image] = (await cluster.ok('GET', '/images')).body.images
  for (let round = 0; round < rounds; round++) {
    const fromMs = performance.now()
    const { body, headers } = await cluster.ok('POST', '/images', {
      image: { name: `bench-${randomUUID()}`, url: image.url },
    })
    const { status, fault } = await cluster.ended(headers.get('operation-id') ?? '')
    if (status !== 'succeeded') throw new Error(`import ${status}: ${fault}`)
    samples.push(performance.now() - fromMs)
    await cluster.ok('DELETE', `/images/${body.image.uuid}`)
  }
  return distribution(samples)
}
