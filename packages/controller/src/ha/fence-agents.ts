// Switches hosts off by the fence agents of ClusterLabs (Debian: fence-agents): a program for each kind of BMC, switch or hypervisor,
// which is told what to do on its stdin. Always off, then asked until it reads back as off; never a reboot, which
// proves nothing and starts what should be looked at first.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { PowerSettings } from './records.ts'
import { runProgram } from './run-program.ts'

const OFF_MS = 60_000
const STATUS_MS = 20_000
const STATUS_EVERY_MS = 1_000

/** What fence agents end with when they are asked for the status. */
const STATUS = new Map([
  [0, 'on'],
  [2, 'off'],
] as const)

/** As far as it is known. */
export type PowerStatus = 'on' | 'off' | 'unknown'

export class FenceAgents {
  readonly #folder: string
  readonly #log: Logger

  /** @param folder where the agents are */
  constructor(folder: string, log: Logger) {
    this.#folder = folder
    this.#log = log
  }

  /** Whether a host is on. Never throws; why it is not known is beside it. */
  async status(
    power: PowerSettings,
    signal: AbortSignal,
  ): Promise<{ readonly status: PowerStatus; readonly why: string }> {
    const { exitCode, output } = await this.#run(power, 'status', STATUS_MS, signal)
    const status = STATUS.get((exitCode ?? -1) as 0 | 2)
    if (status) return { status, why: '' }
    return { status: 'unknown', why: `${power.agent} ended with ${exitCode ?? 'nothing'}: ${output}` }
  }

  /** True when the host's power was read back as off. Never throws: what went wrong is logged. */
  async off(hostId: string, power: PowerSettings, signal: AbortSignal): Promise<boolean> {
    const off = await this.#run(power, 'off', OFF_MS, signal)
    const told = { host: hostId, agent: power.agent, exit_code: off.exitCode, output: off.output }
    this.#log.warn(told, 'a host is switched off')
    // One that ended badly may have done it all the same: what counts is what is read back.
    const within = AbortSignal.any([signal, AbortSignal.timeout(STATUS_MS)])
    for (;;) {
      const { status, why } = await this.status(power, within)
      if (status === 'off') return true
      if (within.aborted || off.exitCode !== 0) {
        this.#log.error(
          { host: hostId, agent: power.agent, status, why },
          'its power was not read back as off',
        )
        return false
      }
      await sleep(STATUS_EVERY_MS)
    }
  }

  async #run(power: PowerSettings, action: 'off' | 'status', deadlineMs: number, signal: AbortSignal) {
    const options = { ...power.options, ...power.secrets, action }
    const lines = Object.entries(options).map(([name, value]) => `${name}=${value}\n`)
    const within = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)])
    const { exitCode, output } = await runProgram(
      join(this.#folder, power.agent),
      [],
      { text: lines.join('') },
      within,
    )
    return { exitCode, output: withoutSecrets(output, power) }
  }
}

/** Agents that are told to be verbose repeat what they were told. */
function withoutSecrets(text: string, { secrets }: PowerSettings): string {
  return Object.values(secrets)
    .filter((secret) => secret !== '')
    .sort((a, b) => b.length - a.length)
    .reduce((left, secret) => left.replaceAll(secret, '***'), text)
}

const OPTIONS_MAX = 64
const VALUE_MAX = 4_096
const AGENT = /^fence_[a-z0-9_-]{1,64}$/
const OPTION = /^[a-zA-Z][a-zA-Z0-9_-]{0,63}$/
/** What vpe says itself, or what would make it another thing than off. */
const OURS: ReadonlySet<string> = new Set(['action', 'option', 'method', 'o', 'm'])
const LOOKS_SECRET = /pass|secret|token|api_?key/i

/** What is wrong with how a host is to be switched off, and in which field; null when nothing is. */
export function powerFault({
  agent,
  options,
  secrets,
}: PowerSettings): { readonly field: string; readonly message: string } | null {
  const fault = (field: string, message: string) => ({ field, message: `${field}: ${message}` })
  if (!AGENT.test(agent)) return fault('agent', 'expected the name of a fence agent, such as fence_ipmilan')
  for (const [field, given] of Object.entries({ options, secrets })) {
    if (Object.keys(given).length > OPTIONS_MAX) return fault(field, `at most ${OPTIONS_MAX} are taken`)
    for (const [name, value] of Object.entries(given)) {
      if (!OPTION.test(name))
        return fault(field, `${JSON.stringify(name.slice(0, 64))} is no name of an option`)
      if (OURS.has(name))
        return fault(field, `${name} is said by vpe itself: off, then status, and never reboot`)
      if (value.length > VALUE_MAX || /[\p{Cc}]/u.test(value))
        return fault(field, `${name} must be one line of at most ${VALUE_MAX} characters`)
    }
  }
  const open = Object.keys(options).find((name) => LOOKS_SECRET.test(name))
  if (open) return fault('options', `${open} seems to be a secret: options are shown, secrets are not`)
  const twice = Object.keys(secrets).find((name) => Object.hasOwn(options, name))
  if (twice) return fault('secrets', `${twice} is an option, too`)
  return null
}
