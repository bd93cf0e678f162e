import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  changeSettings,
  findStateFolder,
  formatEnvFile,
  lockStateFolder,
  openStateFolder,
  purgeStateFolder,
  readSettings,
  stateFolderPath,
  writeEnvFile,
} from './state-folder.ts'

let work: string
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'vpe-state-'))
})
afterEach(() => rmSync(work, { recursive: true, force: true }))

describe('the state folder', () => {
  it('is .vpe in the checkout, or VPE_HOME', () => {
    expect(stateFolderPath('/checkout', {})).toBe('/checkout/.vpe')
    expect(stateFolderPath('/checkout', { VPE_HOME: '/elsewhere' })).toBe('/elsewhere')
  })

  it('keeps its id', () => {
    const path = join(work, 'a/b')
    expect(findStateFolder(path)).toBeUndefined()
    const { id } = openStateFolder(path)
    expect(openStateFolder(path)).toEqual({ path, id })
  })

  it('refuses a folder with files of somebody else', () => {
    writeFileSync(join(work, 'thesis.txt'), 'years of work')
    expect(() => openStateFolder(work)).toThrow(/not made by vpe/)
  })

  it('remembers settings one by one', () => {
    const folder = openStateFolder(join(work, 's'))
    changeSettings(folder, { libvirt: 'private' })
    changeSettings(folder, { firstInstance: 'u' })
    expect(readSettings(folder)).toEqual({ libvirt: 'private', firstInstance: 'u' })
    changeSettings(folder, { libvirt: undefined })
    expect(readSettings(folder)).toEqual({ firstInstance: 'u' })
  })

  it('is purged as a whole', () => {
    const folder = openStateFolder(join(work, 's'))
    changeSettings(folder, {})
    mkdirSync(join(folder.path, 'disks/local'), { recursive: true })
    expect(purgeStateFolder(folder)).toEqual([])
    expect(existsSync(folder.path)).toBe(false)
  })

  it('is purged of our own files only', () => {
    const folder = openStateFolder(join(work, 's'))
    writeFileSync(join(folder.path, 'notes.txt'), 'mine')
    expect(purgeStateFolder(folder)).toEqual(['notes.txt'])
    expect(readFileSync(join(folder.path, 'notes.txt'), 'utf8')).toBe('mine')
  })

  it('is locked by one at a time', async () => {
    const folder = openStateFolder(join(work, 's'))
    const first = await lockStateFolder(folder)
    await expect(lockStateFolder(folder)).rejects.toThrow(/another deploy\/quickstart/)
    first[Symbol.dispose]()
    await expect.poll(() => lockStateFolder(folder).then((lock) => lock[Symbol.dispose]())).toBeUndefined()
  })
})

describe('the env file', () => {
  const variables = {
    VPE_API_URL: 'http://127.0.0.1:8080',
    VPE_LIBVIRT_URI: "qemu:///system?socket=/it's $HOME/sock",
  }

  it('quotes values', () => {
    expect(formatEnvFile({ A: "it's" })).toBe("export A='it'\\''s'\n")
  })

  it('gives a shell exactly what was meant', () => {
    const folder = openStateFolder(join(work, 's'))
    writeEnvFile(folder, variables)
    const script = '. "$0/env"; printf "%s\\n%s" "$VPE_API_URL" "$VPE_LIBVIRT_URI"'
    const out = execFileSync('sh', ['-c', script, folder.path], { encoding: 'utf8' })
    expect(out.split('\n')).toEqual(Object.values(variables))
  })
})
