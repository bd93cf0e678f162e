/** The image is only good when it boots: with plain QEMU, no libvirt, on both machine types. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ensureDemoImage } from './demo-image.ts'
import { waitUntil } from './wait-until.ts'

let work: string
let image: string
beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'vpe-image-'))
  const cache = process.env.VPE_CACHE ?? join(work, 'cache')
  mkdirSync(cache, { recursive: true })
  image = await ensureDemoImage(cache)
})
afterAll(() => rmSync(work, { recursive: true, force: true }))

it('is small, and built once', async () => {
  const { stdout } = await execa('qemu-img', ['info', '--output=json', image])
  const info = JSON.parse(stdout)
  expect(info.format).toBe('qcow2')
  expect(info['actual-size']).toBeLessThan(16 * 1024 * 1024)
  const { mtimeMs } = statSync(image)
  expect(await ensureDemoImage(process.env.VPE_CACHE ?? join(work, 'cache'))).toBe(image)
  expect(statSync(image).mtimeMs).toBe(mtimeMs)
})

it.each(['q35', 'pc'])('boots on %s, says who it is, and hears the power button', async (machine) => {
  const uuid = '1a2b3c4d-1111-4222-8333-444455556666'
  const disk = join(work, `${machine}.qcow2`)
  const serial = join(work, `${machine}.serial`)
  const monitor = join(work, `${machine}.monitor`)
  await execa('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', image, disk])
  const args = [
    '-machine',
    machine,
    '-m',
    '256',
    '-uuid',
    uuid,
    '-display',
    'none',
    '-serial',
    `file:${serial}`,
  ]
  const devices = ['-drive', `file=${disk},if=virtio`, '-monitor', `unix:${monitor},server,nowait`]
  const qemu = spawn('qemu-system-x86_64', [...args, ...devices, '-nic', 'user,model=virtio-net-pci'])
  try {
    const words = () => readIfThere(serial)
    await waitUntil(() => (words().includes('vpe demo guest:') ? undefined : `said: ${words()}`), {
      what: 'the banner',
      timeoutMs: 100_000,
    })
    expect(words()).toContain(`vpe demo guest: hostname vpe-1a2b3c4d, instance ${uuid}, up in `)
    const ended = once(qemu, 'exit', { signal: AbortSignal.timeout(100_000) })
    connect(monitor).end('system_powerdown\n')
    expect(await ended).toEqual([0, null])
  } finally {
    await kill(qemu)
  }
})

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
