// Rules of this repository that a compiler does not know, each with its remedy in the message.

import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)))
const sources = files.filter((file) => file.endsWith('.ts'))
const read = (file: string) => readFileSync(join(root, file), 'utf8')

/** "file: match" for each place in the files where a pattern is found. */
function found(inFiles: readonly string[], pattern: RegExp): string[] {
  return inFiles.flatMap((file) => [...read(file).matchAll(pattern)].map(([match]) => `${file}: ${match}`))
}

function importsOf(file: string): string[] {
  return [...read(file).matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].flatMap(([, name]) => name ?? [])
}

describe('packages/core decides, and does nothing else', () => {
  const core = sources.filter((file) => file.startsWith('packages/core/src/') && !file.endsWith('.test.ts'))

  test('it imports only itself', () => {
    const foreign = core.flatMap((file) =>
      importsOf(file)
        .filter((name) => !name.startsWith('.'))
        .map((name) => `${file}: ${name}`),
    )
    expect(foreign, 'pass what it needs as a value').toEqual([])
  })

  test('it reads no clock, rolls no dice, waits for nothing, and touches no machine', () => {
    const forbidden =
      /\b(Date\.now|new Date\(\)|Math\.random|performance\.|setTimeout|setInterval|setImmediate|queueMicrotask|process\.|fetch\(|console\.|crypto\.|globalThis\.|require\(|async |await )/g
    expect(found(core, forbidden), 'take the time or the random value as an argument').toEqual([])
  })
})

describe('dependencies point one way', () => {
  const allowed: Record<string, readonly string[]> = {
    core: [],
    'node-libvirt': [],
    bus: ['core'],
    pki: ['core', 'proto'],
    guard: ['core', 'proto'],
    controller: ['core', 'bus', 'proto', 'pki'],
    agent: ['core', 'bus', 'proto', 'pki', 'node-libvirt'],
    api: ['core', 'bus', 'proto', 'pki'],
  }

  test.each(Object.keys(allowed))('%s', (name) => {
    const own = sources.filter((file) => file.startsWith(`packages/${name}/src/`))
    const isTest = (file: string) => file.endsWith('.test.ts') || file.includes('/testing/')
    const wrong = own
      .filter((file) => !isTest(file))
      .flatMap((file) => importsOf(file).map((imported) => ({ file, imported })))
      .filter(({ imported }) => imported.startsWith('@vpe/'))
      .filter(({ imported }) => !allowed[name]?.includes(imported.split('/')[1] ?? ''))
    expect(wrong, 'move what is shared down, or hand it in').toEqual([])
  })
})

describe('the tree', () => {
  const words = files.filter((file) => file !== 'test/tidy.test.ts' && !/\.(png|qcow2|ico)$/.test(file))

  test('has no test that is singled out or left out', () => {
    const tests = sources.filter((file) => file.endsWith('.test.ts') && file !== 'test/tidy.test.ts')
    expect(found(tests, /\b(test|it|describe)\.(only|skip|todo)\b/g), 'finish it or take it out').toEqual([])
  })

  test('has no unfinished business in comments', () => {
    expect(
      found(
        sources.filter((file) => file !== 'test/tidy.test.ts'),
        /\b(FIXME|TODO|XXX|HACK)\b/g,
      ),
      'do it, or write an issue',
    ).toEqual([])
  })

  test('names no registry and no machine', () => {
    expect(
      found(words, /https?:\/\/(registry\.[\w.-]+|[\w.-]*artifact[\w.-]*)\S*/g),
      'packages are named, not located',
    ).toEqual([])
    expect(found(words, /\/(home|root|work)\/[a-z][\w.-]*\//g), 'paths are relative, or settings').toEqual([])
  })

  test('keeps generated code out', () => {
    expect(files.filter((file) => file.startsWith('proto/gen/'))).toEqual([])
  })

  test('has no file whose name says nothing', () => {
    const vague = sources.filter((file) => /\/(utils?|helpers?|misc|common|manager\d*)\.ts$/.test(file))
    expect(vague, 'name it for the noun or the rule that it holds').toEqual([])
  })

  test('links in the documentation lead somewhere', () => {
    const broken = files
      .filter((file) => file.endsWith('.md'))
      .flatMap((file) =>
        [...read(file).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].map(([, link]) => ({
          file,
          link: link ?? '',
        })),
      )
      .filter(({ file, link }) => !existsSync(join(root, file, '..', link)))
    expect(broken).toEqual([])
  })
})
