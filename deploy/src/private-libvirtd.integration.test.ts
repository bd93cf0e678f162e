/** A libvirtd beside the machine's own: it works, survives its own death, and leaves nothing behind. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { ensureDemoImage } from './demo-image.ts'
import { clearHost } from './our-guests.ts'
import { ourLibvirtd, serviceProcess, startPrivateLibvirtd, stopPrivateLibvirtd } from './services.ts'
import { cacheFolder, inside, openStateFolder, type StateFolder } from './state-folder.ts'
import { waitUntil } from './wait-until.ts'

const hostId = '5d0cf3a2-0000-4000-8000-00000000000a'

let work: string
let folder: StateFolder
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'vpe-libvirtd-'))
  folder = openStateFolder(join(work, 'state'))
})
afterEach(async () => {
  await stopPrivateLibvirtd(folder)
  rmSync(work, { recursive: true, force: true })
})

const virsh = async (...args: string[]) =>
  (await execa('virsh', ['-q', '-c', ourLibvirtd(folder).uri, ...args])).stdout.trim()

it('answers, and leaves no process and no mount when it is stopped', async () => {
  const mountsBefore = mounts()
  await startPrivateLibvirtd(folder)
  expect(await virsh('list', '--all', '--name')).toBe('')
  expect(await virsh('capabilities')).toContain(folder.id)
  await stopPrivateLibvirtd(folder)
  expect(processesThatMention(work)).toEqual([])
  expect(mounts()).toEqual(mountsBefore)
})

it('ends our guests and pools, keeps their files, and leaves others alone', async () => {
  await startPrivateLibvirtd(folder)
  const image = await ensureDemoImage(cacheFolder(folder))
  const disks = inside(folder, 'disks')
  await define('ours', image, `<vpe:instance xmlns:vpe="https://vpe.dev/xmlns/instance/1" host="${hostId}"/>`)
  await define('foreign', image, '<other:thing xmlns:other="https://example.org/" host="somebody"/>')
  await virsh('pool-create-as', `vpe-${hostId}`, 'dir', '--target', disks)
  await virsh('pool-create-as', 'theirs', 'dir', '--target', inside(folder, 'agent'))

  // A libvirtd that is killed leaves its guests running, and finds them again.
  process.kill(serviceProcess(folder, 'libvirtd')?.pid ?? 0, 'SIGKILL')
  await waitUntil(() => (serviceProcess(folder, 'libvirtd') ? 'runs' : undefined), {
    what: 'its end',
    timeoutMs: 5000,
  })
  await startPrivateLibvirtd(folder)
  expect((await virsh('list', '--name')).split('\n').sort()).toEqual(['foreign', 'ours'])

  await waitUntil(() => (console('ours').includes('vpe demo guest') ? undefined : 'boots'), {
    what: 'boot',
    timeoutMs: 100_000,
  })
  const said: string[] = []
  const cleared = await clearHost(
    ourLibvirtd(folder).uri,
    { hostId, diskFolder: disks },
    { graceMs: 100_000, say: (line) => said.push(line) },
  )
  expect(cleared).toEqual({ removed: ['ours', `vpe-${hostId}`], foreign: ['foreign'] })
  expect(said.join()).not.toContain('powering off')
  expect(await virsh('list', '--all', '--name')).toBe('foreign')
  expect(await virsh('pool-list', '--name')).toBe('theirs')
  expect(readdirSync(disks).sort()).toEqual(['foreign.log', 'foreign.qcow2', 'ours.log', 'ours.qcow2'])
})

async function define(name: string, image: string, metadata: string): Promise<void> {
  const disk = join(folder.path, 'disks', `${name}.qcow2`)
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', image, disk])
  const xml = `<domain type='qemu'><name>${name}</name><metadata>${metadata}</metadata><memory unit='MiB'>128</memory>
    <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${disk}'/><target dev='vda' bus='virtio'/></disk>
    <serial type='pty'><log file='${join(folder.path, 'disks', `${name}.log`)}'/></serial></devices></domain>`
  const file = join(work, `${name}.xml`)
  writeFileSync(file, xml)
  await virsh('define', file)
  await virsh('start', name)
}

const console = (name: string) => readFileSync(join(folder.path, 'disks', `${name}.log`), 'utf8')

/** All mounts, but for those that other tests have in folders of their own meanwhile. */
function mounts(): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return lines.filter((line) => {
    const point = line.split(' ')[4] ?? ''
    return !point.startsWith(`${tmpdir()}/`) || point.startsWith(work)
  })
}

function processesThatMention(text: string): string[] {
  const lines = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && name !== `${process.pid}`)
  return lines.map(commandLine).filter((line) => line.includes(text))
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}
