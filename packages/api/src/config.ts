// What the environment sets. Every error names its variable and says what was expected.

import { z } from '@hono/zod-openapi'
import { VpeError } from '@vpe/core'
import { assertLoopback } from '@vpe/proto'

const ADDRESS = /^(\[[0-9a-fA-F:]+\]|[^\s:[\]]+):(\d{1,5})$/

const Address = z.string().refine((value) => Number(ADDRESS.exec(value)?.[2] ?? 65_536) <= 65_535, {
  error: 'expected host:port',
})

const AbsolutePath = z.string().startsWith('/', { error: 'expected an absolute path' })

const Environment = z.object({
  VPE_API_LISTEN: Address.default('127.0.0.1:8080'),
  VPE_CONTROLLER_ADDRESS: Address.default('127.0.0.1:7701'),
  VPE_NATS_URL: z.string().default('nats://127.0.0.1:4222'),
  VPE_TLS_DIR: AbsolutePath.optional(),
  VPE_NATS_CREDS: AbsolutePath.optional(),
  VPE_LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
      error: 'expected fatal, error, warn, info, debug, trace or silent',
    })
    .default('info'),
})

export interface Config {
  readonly listen: { readonly host: string; readonly port: number }
  readonly controllerAddress: string
  readonly natsUrl: string
  /** The folder of its certificate; undefined where the controller is on loopback. */
  readonly tlsDir: string | undefined
  readonly natsCredentials: string | undefined
  readonly logLevel: string
}

/** @throws VpeError INVALID_ARGUMENT with one line for each variable at fault */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const result = Environment.safeParse(environment)
  if (!result.success) {
    const lines = result.error.issues.map((issue) => {
      const name = String(issue.path[0])
      return `${name}=${environment[name] ?? ''}: ${issue.message}`
    })
    throw new VpeError('INVALID_ARGUMENT', lines.join('\n'))
  }
  const { VPE_API_LISTEN, VPE_CONTROLLER_ADDRESS, VPE_NATS_URL, VPE_LOG_LEVEL } = result.data
  assertLoopback(VPE_API_LISTEN, 'VPE_API_LISTEN')
  const colon = VPE_API_LISTEN.lastIndexOf(':')
  return {
    listen: {
      host: VPE_API_LISTEN.slice(0, colon).replace(/^\[(.*)\]$/, '$1'),
      port: Number(VPE_API_LISTEN.slice(colon + 1)),
    },
    controllerAddress: VPE_CONTROLLER_ADDRESS,
    natsUrl: VPE_NATS_URL,
    tlsDir: result.data.VPE_TLS_DIR,
    natsCredentials: result.data.VPE_NATS_CREDS,
    logLevel: VPE_LOG_LEVEL,
  }
}
