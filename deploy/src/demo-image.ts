/**
 * Builds the demo image: a real Linux guest from Debian packages, offline but for Debian's mirror, with no
 * root, no loop mount and nothing installed into the system. Kernel and tools are extracted from .deb files.
 *
 * The result is cached under a name that holds a hash of this builder and of the guest's files
 * (deploy/guest): a changed builder builds anew. A disk appears under its name only when it is complete.
 */
import { createHash } from 'node:crypto'
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { execa } from 'execa'
import { downloadPackages, resolveMetaPackage, type Say } from './debian-packages.ts'
import { Trouble } from './trouble.ts'

const toolPackages = ['busybox-static', 'syslinux', 'syslinux-common', 'mtools', 'dosfstools'] as const

/** The drivers that the guest loads; what they depend on comes along. */
const kernelModules = [
  'button',
  'evdev',
  'virtio_pci',
  'virtio_blk',
  'virtio_net',
  'virtio_balloon',
  'virtio_scsi',
  'sr_mod',
  'isofs',
] as const

const sectorBytes = 512
const diskSectors = (40 * 1024 * 1024) / sectorBytes
const partitionStart = 2048

const guestFolder = join(import.meta.dirname, '..', 'guest')

export interface DemoImageOptions {
  readonly say?: Say
  readonly signal?: AbortSignal | undefined
}

/** The path of the demo image in the cache, built first when it is not there. */
export async function ensureDemoImage(
  cacheFolder: string,
  { say = () => {}, signal }: DemoImageOptions = {},
): Promise<string> {
  const path = demoImagePath(cacheFolder, await builderHash())
  if (await exists(path)) return path
  if (process.arch !== 'x64')
    throw new Trouble(`the demo image is for amd64 machines, this is ${process.arch}`)
  await mkdir(dirname(path), { recursive: true })
  await removeLeftovers(cacheFolder)
  const work = await mkdtemp(join(cacheFolder, `building-${process.pid}-`))
  try {
    await buildDemoImage(work, join(work, 'demo.qcow2'), say, signal)
    await rename(join(work, 'demo.qcow2'), path)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  return path
}

/** Images lie in a folder of their own: the agent may import from it and see nothing else of the cache. */
export function imageFolder(cacheFolder: string): string {
  return join(cacheFolder, 'images')
}

function demoImagePath(cacheFolder: string, hash: string): string {
  return join(imageFolder(cacheFolder), `demo-${hash.slice(0, 12)}.qcow2`)
}

async function builderHash(): Promise<string> {
  const hash = createHash('sha256').update(await readFile(import.meta.filename))
  const entries = await readdir(guestFolder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  for (const file of files.sort()) hash.update(file.slice(guestFolder.length)).update(await readFile(file))
  return hash.digest('hex')
}

async function buildDemoImage(
  work: string,
  result: string,
  say: Say,
  signal: AbortSignal | undefined,
): Promise<void> {
  const folder = (name: string) => join(work, name)
  for (const name of ['debs', 'system', 'initramfs']) await mkdir(folder(name))

  say('downloading kernel and tools from Debian')
  const kernelPackage = await resolveMetaPackage(
    'linux-image-cloud-amd64',
    /^linux-image-\d.*-cloud-amd64$/,
    signal,
  )
  await downloadPackages([kernelPackage, ...toolPackages], folder('debs'), signal)

  say('unpacking them')
  for (const deb of await readdir(folder('debs'))) {
    await execa('dpkg-deb', ['-x', join(folder('debs'), deb), folder('system')])
  }
  signal?.throwIfAborted()

  say('making the initial RAM disk')
  const kernelVersion = kernelPackage.replace('linux-image-', '')
  await makeInitramfs(folder('system'), folder('initramfs'), kernelVersion, folder('initrd.gz'))
  signal?.throwIfAborted()

  say('making a bootable disk')
  await makeDisk(folder('system'), kernelVersion, folder('initrd.gz'), folder('disk.raw'))
  signal?.throwIfAborted()

  say('compressing it to qcow2')
  await execa('qemu-img', ['convert', '-c', '-O', 'qcow2', folder('disk.raw'), result])
}

async function makeInitramfs(
  system: string,
  tree: string,
  kernelVersion: string,
  result: string,
): Promise<void> {
  for (const name of ['bin', 'proc', 'sys', 'dev', 'tmp', 'root']) await mkdir(join(tree, name))
  const busybox = join(system, 'bin/busybox')
  await copyFile(busybox, join(tree, 'bin/busybox'))
  await symlink('bin/busybox', join(tree, 'init'))
  await cp(join(guestFolder, 'etc'), join(tree, 'etc'), { recursive: true })
  for (const script of ['rc', 'seed', 'udhcpc', 'acpi/PWRF/00000080'])
    await chmod(join(tree, 'etc', script), 0o755)

  const modules = join('lib/modules', kernelVersion)
  const { stdout } = await execa(busybox, ['depmod', '-n', '-b', system, kernelVersion])
  for (const file of modulesWithDependencies(stdout, kernelModules)) {
    await mkdir(dirname(join(tree, modules, file)), { recursive: true })
    await copyFile(join(system, modules, file), join(tree, modules, file))
  }
  await execa(busybox, ['depmod', '-b', tree, kernelVersion])

  const files = await readdir(tree, { recursive: true })
  const archive = await execa(busybox, ['cpio', '-o', '-H', 'newc', '-R', '0:0'], {
    cwd: tree,
    input: `${files.sort().join('\n')}\n`,
    encoding: 'buffer',
    maxBuffer: 256 * 1024 * 1024,
  })
  await writeFile(result, await promisify(gzip)(archive.stdout, { level: 9 }))
}

/** From the text of modules.dep (`a.ko: b.ko c.ko`) to the files that the named modules need. */
export function modulesWithDependencies(modulesDep: string, names: readonly string[]): string[] {
  const needed = new Set<string>()
  for (const name of names) {
    const line = modulesDep.split('\n').find((text) => new RegExp(`(^|/)${name}\\.ko(\\.\\w+)?:`).test(text))
    if (!line) throw new Trouble(`the Debian cloud kernel has no module ${name}`)
    for (const file of line.replace(':', '').trim().split(/\s+/)) needed.add(file)
  }
  return [...needed].sort()
}

/** One FAT partition with kernel, initial RAM disk and the syslinux boot loader, in a raw disk file. */
async function makeDisk(system: string, kernelVersion: string, initrd: string, disk: string): Promise<void> {
  const mtoolsrc = `${disk}.mtoolsrc`
  await writeFile(mtoolsrc, `drive c: file="${disk}" partition=1\n`)
  const path = ['usr/bin', 'usr/sbin', 'sbin'].map((folder) => join(system, folder)).join(':')
  const run = execa({ env: { PATH: `${path}:${process.env.PATH}`, MTOOLSRC: mtoolsrc } })

  const bootCode = await readFile(join(system, 'usr/lib/syslinux/mbr/mbr.bin'))
  const bootSector = `${disk}.mbr`
  await writeFile(bootSector, Buffer.concat([bootCode], sectorBytes))
  await writeFile(disk, '')
  await truncate(disk, diskSectors * sectorBytes)
  const partitionSectors = diskSectors - partitionStart
  const geometry = ['-h', '255', '-s', '63', '-t', '5']
  await run('mpartition', ['-I', '-B', bootSector, 'c:'])
  await run('mpartition', [
    '-c',
    '-a',
    '-T',
    '6',
    ...geometry,
    '-b',
    `${partitionStart}`,
    '-l',
    `${partitionSectors}`,
    'c:',
  ])
  await run('mkfs.fat', [
    '-F',
    '16',
    '-n',
    'VPEDEMO',
    '--offset',
    `${partitionStart}`,
    '-h',
    `${partitionStart}`,
    '-g',
    '255/63',
    disk,
    `${(partitionSectors * sectorBytes) / 1024}`,
  ])
  await run('syslinux', ['--offset', `${partitionStart * sectorBytes}`, '--install', disk])
  await run('mcopy', [join(system, `boot/vmlinuz-${kernelVersion}`), 'c:/vmlinuz'])
  await run('mcopy', [initrd, 'c:/initrd.gz'])
  await run('mcopy', [join(guestFolder, 'syslinux.cfg'), 'c:/syslinux.cfg'])
}

/** Half-made work of a builder that was killed; one that still builds is left alone. */
async function removeLeftovers(cacheFolder: string): Promise<void> {
  for (const name of await readdir(cacheFolder)) {
    const pid = /^building-(\d+)-/.exec(name)?.[1]
    if (pid && !(await exists(`/proc/${pid}`)))
      await rm(join(cacheFolder, name), { recursive: true, force: true })
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
