// Settings, from the environment. A wrong one is refused with its name, what it is, and what it may be.

import { VpeError } from '@vpe/core'
import { assertLoopback } from '@vpe/proto'
import { z } from 'zod'

const schema = z.object({
  VPE_CONTROLLER_LISTEN: z
    .string()
    .regex(/^.+:\d{1,5}$/, 'must be host:port')
    .default('127.0.0.1:7701'),
  VPE_CONTROLLER_STATE_DIR: z
    .string('must be set: the folder that holds controller.sqlite')
    .startsWith('/', 'must be an absolute path'),
  VPE_NATS_URL: z.string().default('nats://127.0.0.1:4222'),
  VPE_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).default('info'),
})

export interface ControllerConfig {
  readonly listen: string
  readonly stateDir: string
  readonly natsUrl: string
  readonly logLevel: string
}

/** @throws VpeError INVALID_ARGUMENT that names every wrong setting */
export function readConfig(environment: NodeJS.ProcessEnv): ControllerConfig {
  const parsed = schema.safeParse(environment)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
    throw new VpeError('INVALID_ARGUMENT', `wrong settings in the environment: ${faults.join('; ')}`)
  }
  const settings = parsed.data
  assertLoopback(settings.VPE_CONTROLLER_LISTEN, 'VPE_CONTROLLER_LISTEN')
  return {
    listen: settings.VPE_CONTROLLER_LISTEN,
    stateDir: settings.VPE_CONTROLLER_STATE_DIR,
    natsUrl: settings.VPE_NATS_URL,
    logLevel: settings.VPE_LOG_LEVEL,
  }
}
