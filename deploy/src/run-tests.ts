/**
 * test/run: all that must be true before a change lands. Every stage runs, also after one has failed; the end
 * names what failed, and the last line tells the sum: `N passed, N failed`. `test/run unit e2e` runs only these stages; what follows a `--`
 * goes to vitest (`test/run unit -- ports`).
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { execa } from 'execa'
import { ensureSystemPackages, systemPackages, testPackages } from './debian-packages.ts'
import { Trouble } from './trouble.ts'

interface Stage {
  readonly name: string
  readonly command: readonly [string, ...string[]]
  /** A stage of tests is counted by tests, any other as one. */
  readonly isTests: boolean
  readonly timeoutMs: number
}

export interface Count {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

interface Outcome extends Count {
  readonly stage: string
  readonly seconds: number
  /** What failed and why, a line each. */
  readonly failures: readonly string[]
}

/** What is read of vitest's JSON report. */
interface Report {
  readonly numPassedTests?: number
  readonly numFailedTests?: number
  readonly numPendingTests?: number
  readonly testResults?: readonly {
    readonly name: string
    readonly status: string
    readonly message?: string
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: string
      readonly failureMessages?: readonly string[]
    }[]
  }[]
}

const root = join(import.meta.dirname, '..', '..')
const minutes = (count: number) => count * 60_000

const stages: readonly Stage[] = [
  { name: 'lint', command: ['pnpm', 'run', 'lint'], isTests: false, timeoutMs: minutes(5) },
  { name: 'typecheck', command: ['pnpm', 'run', 'typecheck'], isTests: false, timeoutMs: minutes(5) },
  { name: 'unit', command: vitest('unit'), isTests: true, timeoutMs: minutes(10) },
  { name: 'sim', command: vitest('sim'), isTests: true, timeoutMs: minutes(20) },
  { name: 'integration', command: vitest('integration'), isTests: true, timeoutMs: minutes(50) },
  { name: 'e2e', command: vitest('e2e*'), isTests: true, timeoutMs: minutes(55) },
]

/**
 * From vitest's JSON report and exit code to numbers. A file that could not be loaded holds no tests and yet
 * failed; so did a run that broke off, or one without a report.
 */
export function countTests(report: string | undefined, exitCode: number | undefined): Count {
  const {
    numPassedTests = 0,
    numFailedTests = 0,
    numPendingTests = 0,
    testResults = [],
  }: Report = report ? JSON.parse(report) : {}
  const failed = numFailedTests + testResults.filter(isBroken).length
  return {
    passed: numPassedTests,
    failed: exitCode === 0 ? failed : Math.max(failed, 1),
    skipped: numPendingTests,
  }
}

/** A line for each test that failed and each file that could not be loaded: where, which, and how it began. */
export function nameFailures(report: string | undefined): string[] {
  const { testResults = [] }: Report = report ? JSON.parse(report) : {}
  return testResults.flatMap((file) => {
    const path = relative(root, file.name)
    if (isBroken(file)) return [`${path}: ${firstLine(file.message)}`]
    return file.assertionResults
      .filter(({ status }) => status === 'failed')
      .map(({ fullName, failureMessages }) => `${path} > ${fullName}: ${firstLine(failureMessages?.[0])}`)
  })
}

function isBroken(file: NonNullable<Report['testResults']>[number]): boolean {
  return file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed')
}

function firstLine(message = 'no message'): string {
  const [line = ''] = message.trim().split('\n')
  return line.length > 300 ? `${line.slice(0, 300)}…` : line
}

export function formatOutcomes(outcomes: readonly Outcome[]): string {
  const total = { passed: 0, failed: 0 }
  const failures = outcomes.flatMap(({ stage, failures }) => failures.map((line) => `${stage}: ${line}`))
  const lines = outcomes.map(({ stage, passed, failed, skipped, seconds }) => {
    total.passed += passed
    total.failed += failed
    const extra = skipped > 0 ? `, ${skipped} skipped` : ''
    return `${failed > 0 ? 'FAILED' : 'ok    '}  ${stage.padEnd(12)} ${passed} passed, ${failed} failed${extra} (${seconds.toFixed(0)} s)`
  })
  return [...failures, ...lines, `${total.passed} passed, ${total.failed} failed`].join('\n')
}

async function main(args: readonly string[]): Promise<number> {
  const split = args.includes('--') ? args.indexOf('--') : args.length
  const wanted = args.slice(0, split)
  const unknown = wanted.filter((name) => !stages.some((stage) => stage.name === name))
  if (unknown.length > 0) {
    print(
      `test/run [${stages.map(({ name }) => name).join('] [')}] [-- arguments for vitest]: no stage ${unknown.join(', ')}`,
    )
    return 2
  }
  const chosen = stages.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
  const outcomes: Outcome[] = []
  if (chosen.some(({ name }) => name === 'integration' || name === 'e2e')) outcomes.push(...(await prepare()))
  for (const stage of chosen) outcomes.push(await run(stage, args.slice(split + 1)))
  print(`\n${formatOutcomes(outcomes)}`)
  return outcomes.some(({ failed }) => failed > 0) ? 1 : 0
}

/** Installs what the tests need. Counts only when it fails: the other stages still have something to say. */
async function prepare(): Promise<Outcome[]> {
  try {
    await ensureSystemPackages((line) => print(`- ${line}`), undefined, [...systemPackages, ...testPackages])
    return []
  } catch (error) {
    if (!(error instanceof Trouble)) throw error
    print(`error: ${error.message}${error.mend ? `\n  to mend it: ${error.mend}` : ''}`)
    return [{ stage: 'packages', passed: 0, failed: 1, skipped: 0, seconds: 0, failures: [] }]
  }
}

async function run(
  { name, command, isTests, timeoutMs }: Stage,
  vitestArguments: readonly string[],
): Promise<Outcome> {
  print(`\n=== ${name}`)
  const started = performance.now()
  const work = mkdtempSync(join(tmpdir(), 'vpe-test-run-'))
  const reportFile = join(work, 'report.json')
  const [file, ...rest] = command
  const reporting = isTests ? [`--outputFile.json=${reportFile}`, ...vitestArguments] : []
  try {
    const { exitCode, timedOut } = await execa(file, [...rest, ...reporting], {
      cwd: root,
      env: environment(),
      stdin: 'ignore',
      stdout: 'inherit',
      stderr: 'inherit',
      reject: false,
      timeout: timeoutMs,
    })
    if (timedOut) print(`${name} took longer than ${timeoutMs / 60_000} minutes and was ended`)
    const passed = exitCode === 0
    const report = readIfThere(reportFile)
    const count = isTests
      ? countTests(report, exitCode)
      : { passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: 0 }
    const seconds = (performance.now() - started) / 1000
    return { stage: name, ...count, seconds, failures: nameFailures(report) }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Tests never meet the cluster of whoever runs them, nor the machine's own libvirt; they share one cache. */
function environment(): NodeJS.ProcessEnv {
  return {
    VPE_HOME: undefined,
    VPE_PORTS_FROM: undefined,
    VPE_API_URL: undefined,
    VPE_NATS_URL: undefined,
    VPE_LIBVIRT_URI: undefined,
    VPE_LIBVIRTD: 'private',
    VPE_CACHE: process.env.VPE_CACHE ?? join(root, '.tools/cache'),
  }
}

function vitest(project: string): readonly [string, ...string[]] {
  return ['vitest', 'run', '--project', project, '--passWithNoTests', '--reporter=default', '--reporter=json']
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
