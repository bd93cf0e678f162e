// Has the storage shut a host out, by a program of the operator's or a folder of them: vpe knows no storage's ways. A hook is
// called as `<hook> <pool name> <pool uuid> <host name> <host uuid> <host address>`, with the class of the pool in VPE_POOL_CLASS. 0: the storage has confirmed that nothing
// of the host is executed any more. 2: it is no affair of this hook. Anything else: it did not succeed, and may be tried again.

import { accessSync, constants, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { DiskPoolRecord, HostRecord } from '@vpe/core'
import type { PoolClass } from '@vpe/core/ha'
import type { Logger } from 'pino'
import { runProgram } from './run-program.ts'

const DEADLINE_MS = 30_000
const NOT_APPLICABLE = 2

export class RevokeHooks {
  readonly #path: string | null
  readonly #log: Logger
  /** Pools, each with the class that it had, that no hook is for, as they said; until there are others. */
  readonly #withoutHook = new Set<string>()
  #hooks: readonly string[] = []

  /** @param path of the program, or of the folder of programs; null for none */
  constructor(path: string | null, log: Logger) {
    this.#path = path
    this.#log = log
    this.look()
  }

  /** Sees what hooks there are now. */
  look(): void {
    const hooks = this.#path === null ? [] : this.#find(this.#path)
    if (hooks.join() !== this.#hooks.join()) this.#withoutHook.clear()
    this.#hooks = hooks
  }

  /** Whether there may be a way to shut a host out of a pool. */
  canRevoke(poolUuid: string, poolClass: PoolClass): boolean {
    return this.#hooks.length > 0 && !this.#withoutHook.has(`${poolUuid} ${poolClass}`)
  }

  /** True when the storage has confirmed it. Never throws: what went wrong is logged. */
  async revoke(
    host: HostRecord,
    pool: DiskPoolRecord,
    poolClass: PoolClass,
    signal: AbortSignal,
  ): Promise<boolean> {
    const address = host.address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
    const within = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)])
    const environment = { VPE_POOL_CLASS: poolClass }
    let isForNone = this.#hooks.length > 0
    for (const hook of this.#hooks) {
      const args = [pool.name, pool.uuid, host.name, host.uuid, address]
      const { exitCode, output } = await runProgram(hook, args, { environment }, within)
      const told = { hook, host: host.uuid, disk_pool: pool.uuid, exit_code: exitCode, output }
      if (exitCode === 0) {
        this.#log.warn(told, 'the storage has shut a host out')
        return true
      }
      if (exitCode !== NOT_APPLICABLE) {
        isForNone = false
        this.#log.error(told, 'a host could not be shut out of its storage')
      }
    }
    if (isForNone) {
      this.#withoutHook.add(`${pool.uuid} ${poolClass}`)
      this.#log.info({ disk_pool: pool.uuid }, 'no hook can shut hosts out of this pool')
    }
    return false
  }

  #find(path: string): string[] {
    try {
      if (!statSync(path).isDirectory()) return isExecutable(path) ? [path] : this.#refuse(path)
      const files = readdirSync(path)
        .sort()
        .map((name) => join(path, name))
      return files.filter((file) => statSync(file).isFile() && isExecutable(file))
    } catch (error) {
      this.#log.error({ path, err: error }, 'VPE_HA_REVOKE_COMMAND cannot be read')
      return []
    }
  }

  #refuse(path: string): string[] {
    this.#log.error({ path }, 'VPE_HA_REVOKE_COMMAND is not executable')
    return []
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
