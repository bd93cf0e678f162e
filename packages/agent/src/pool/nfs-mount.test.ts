import { mountedAt } from '@vpe/core'
import { describe, expect, test } from 'vitest'
import { type MountTools, mountNfs, nfsDevice, runProgram, unmountNfs } from './nfs-mount.ts'

const source = { server: '10.0.0.5', export: '/srv/vpe', options: 'vers=4.2,hard' }
const path = '/mnt/vpe/a b'
const LINE = String.raw`36 35 0:42 / /mnt/vpe/a\040b rw,nosuid shared:7 - nfs4 10.0.0.5:/srv/vpe rw,vers=4.2`
const OTHER = LINE.replace('/srv/vpe', '/srv/other')
const TMPFS = String.raw`30 35 0:41 / /mnt/vpe/a\040b rw - tmpfs tmpfs rw`

/** A kernel in memory: mount adds a line, umount takes it. */
function world(mounts: string[], onRun: (program: string) => void = () => {}) {
  const ran: string[][] = []
  const folders: string[] = []
  const tools: MountTools = {
    readMounts: async () => mounts.join('\n'),
    makeFolder: async (folder) => void folders.push(folder),
    run: async (program, args) => {
      ran.push([program, ...args])
      onRun(program)
      if (program === 'mount') mounts.push(LINE)
      else mounts.pop()
    },
  }
  return { tools, ran, folders, mounts }
}

describe('what is mounted at a path', () => {
  test.each([
    ['nothing', '', null],
    ['an export', LINE, { root: '/', type: 'nfs4', source: '10.0.0.5:/srv/vpe' }],
    ['the topmost of several', `${TMPFS}\n${LINE}`, { root: '/', type: 'nfs4', source: '10.0.0.5:/srv/vpe' }],
    ['something above or below it only', LINE.replace(String.raw`a\040b`, String.raw`a\040b/c`), null],
  ])('%s', (_, mountinfo, expected) => expect(mountedAt(mountinfo, path)).toEqual(expected))

  test('is read from this kernel as well', async () => {
    const { readFile } = await import('node:fs/promises')
    expect(mountedAt(await readFile('/proc/self/mountinfo', 'utf8'), '/proc')).toMatchObject({ type: 'proc' })
  })
})

describe('an export', () => {
  const mount = (tools: MountTools, at = path) => mountNfs(source, at, '/mnt/vpe', tools)

  test('is mounted once, with no way to bring programs or devices in', async () => {
    const { tools, ran, folders } = world([])
    for (let time = 0; time < 2; time++) await mount(tools)
    expect(folders).toEqual([path])
    expect(ran).toEqual([
      ['mount', '-t', 'nfs', '-o', 'nosuid,nodev,retry=0,vers=4.2,hard', '10.0.0.5:/srv/vpe', path],
    ])
  })

  test('of a server with an IPv6 address is written as mount wants it', () =>
    expect(nfsDevice({ ...source, server: 'fd00::5' })).toBe('[fd00::5]:/srv/vpe'))

  test.each([
    ['another export', OTHER],
    ['another filesystem', TMPFS],
    ['a part of it only', LINE.replace('0:42 /', '0:42 /sub')],
  ])('is not taken to be there where %s is mounted; nothing is done then', async (_, line) => {
    const { tools, ran, folders } = world([line])
    await expect(mount(tools)).rejects.toMatchObject({
      code: 'DISK_POOL_FAILED',
      message: expect.stringContaining(`umount ${path}`),
    })
    expect([ran, folders]).toEqual([[], []])
  })

  test('that cannot be mounted says why, and what to look at', async () => {
    const { tools } = world([], () => {
      throw new Error('mount has not ended within 20 s')
    })
    await expect(mount(tools)).rejects.toMatchObject({
      code: 'DISK_POOL_FAILED',
      message: expect.stringMatching(
        /10\.0\.0\.5:\/srv\/vpe cannot be mounted.*within 20 s; check that the server is up/,
      ),
    })
  })

  test('that another try has mounted meanwhile is there', async () => {
    const { tools, mounts } = world([], () => {
      mounts.push(LINE)
      throw new Error('busy')
    })
    await mount(tools)
  })

  test.each(['/etc', '/mnt/vpe', '/mnt/vpe2/x'])('is not mounted at %s, out of its folder', async (at) => {
    const { tools, ran } = world([])
    await expect(mount(tools, at)).rejects.toThrow('VPE_AGENT_MOUNT_DIR')
    expect(ran).toEqual([])
  })

  test('is unmounted, and nothing else is', async () => {
    const ours = world([LINE])
    await unmountNfs(source, path, ours.tools)
    expect(ours.ran).toEqual([['umount', path]])
    for (const mounts of [[], [OTHER], [TMPFS]]) {
      const other = world(mounts)
      await unmountNfs(source, path, other.tools)
      expect(other.ran).toEqual([])
    }
  })
})

test('a program that hangs is given up', async () => {
  await expect(runProgram('sleep', ['600'], 50)).rejects.toThrow('sleep has not ended within 0.05 s')
})
