// The settings of an agent, from its environment. Judged once, at the start; what is wrong is said with
// the name of the variable.

import { isIP } from 'node:net'
import { assertLoopback } from '@vpe/proto'
import { z } from 'zod'
import type { MigrationSettings } from './definition.ts'

const absolutePath = z.string().startsWith('/', 'must be an absolute path')

const environmentSchema = z.object({
  VPE_AGENT_LISTEN: z
    .string()
    .regex(/^\S+:\d+$/, 'must be host:port')
    .default('127.0.0.1:7702'),
  VPE_AGENT_METRICS_LISTEN: z
    .string()
    .regex(/^\S+:\d+$/, 'must be host:port')
    .optional(),
  VPE_AGENT_STATE_DIR: absolutePath,
  VPE_TLS_DIR: absolutePath.optional(),
  VPE_CONTROLLER_ADDRESS: z
    .string()
    .regex(/^\S+:\d+$/, 'must be host:port')
    .optional(),
  VPE_NATS_CREDS: absolutePath.optional(),
  VPE_LIBVIRT_URI: z.string().min(1).default('qemu:///system'),
  VPE_NATS_URL: z.string().min(1).default('nats://127.0.0.1:4222'),
  VPE_AGENT_IMAGE_DIRS: z
    .string()
    .default('')
    .transform((text) => text.split(':').filter((dir) => dir !== ''))
    .pipe(z.array(absolutePath)),
  VPE_AGENT_IMAGE_GIB_MAX: z.coerce.number().int().min(1).max(16_384).default(2_048),
  VPE_AGENT_MOUNT_DIR: absolutePath.default('/var/lib/vpe/mnt').transform((path) => path.replace(/\/+$/, '')),
  VPE_AGENT_BRIDGE: z
    .string()
    // IFNAMSIZ, and what the kernel takes in the name of an interface.
    .regex(/^[^\s/:]{1,15}$/, 'must be the name of a bridge')
    .optional(),
  VPE_AGENT_MIGRATION_URI: z
    .string()
    .refine(
      (text) => migrationHost(text) !== null,
      'must be a libvirt URI with a host: qemu+tls://10.0.0.11/system',
    )
    .optional(),
  VPE_AGENT_MIGRATION_TLS: z
    .enum(['on', 'off'])
    .optional()
    .transform((text) => text && text === 'on'),
  VPE_AGENT_MIGRATION_PORTS: z
    .string()
    .regex(/^\d{1,5}-\d{1,5}$/, 'must be two ports, as 49152-49215')
    .default('49152-49215')
    .transform((text) => text.split('-').map(Number))
    .refine(
      ([from = 0, to = 0]) => from >= 1024 && from <= to && to <= 65_535,
      'must go from a port of 1024 or more up to one of 65535 or less',
    )
    .transform(([from = 0, to = 0]) => ({ from, to })),
  VPE_AGENT_GUARD_SOCKET: absolutePath.optional(),
  VPE_AGENT_NEVER_PAUSED: z
    .enum(['true', 'false'])
    .default('false')
    .transform((text) => text === 'true'),
  VPE_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).default('info'),
})

export interface AgentConfig {
  readonly listen: string
  /** Where Prometheus may ask; undefined for nowhere. */
  readonly metricsListen: string | undefined
  readonly stateDir: string
  /** The folder of its certificate; undefined for one that stays on loopback. */
  readonly tlsDir: string | undefined
  /** Where the certificate is renewed. */
  readonly controllerAddress: string | undefined
  readonly natsCredentials: string | undefined
  readonly libvirtUri: string
  readonly natsUrl: string
  readonly imageDirs: readonly string[]
  /** The largest virtual size that an image may have. */
  readonly imageBytesMax: number
  /** Below it the exports of disk pools are mounted. */
  readonly mountDir: string
  readonly bridge: string | undefined
  readonly migration: MigrationSettings
  /** Where vpe-guard listens; undefined on a host that has none, and can keep nothing from being written twice. */
  readonly guardSocket: string | undefined
  /** Its operator vouches for it that this host neither suspends nor is paused, whatever it looks like. */
  readonly isNeverPaused: boolean
  readonly logLevel: string
}

/**
 * @throws Error that names each variable at fault
 */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>): AgentConfig {
  // A variable that is set to nothing is taken as not set.
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  const parsed = environmentSchema.safeParse(given)
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => {
      const name = String(path[0])
      return given[name] === undefined ? `${name} is not set` : `${name}=${given[name]}: ${message}`
    })
    throw new Error(faults.join('\n'))
  }
  const { data } = parsed
  if (data.VPE_TLS_DIR === undefined)
    assertLoopback(data.VPE_AGENT_LISTEN, 'VPE_AGENT_LISTEN', 'join a cluster with vpe-agent join <token>')
  if (data.VPE_AGENT_METRICS_LISTEN) assertLoopback(data.VPE_AGENT_METRICS_LISTEN, 'VPE_AGENT_METRICS_LISTEN')
  return {
    listen: data.VPE_AGENT_LISTEN,
    metricsListen: data.VPE_AGENT_METRICS_LISTEN,
    stateDir: data.VPE_AGENT_STATE_DIR,
    tlsDir: data.VPE_TLS_DIR,
    controllerAddress: data.VPE_CONTROLLER_ADDRESS,
    natsCredentials: data.VPE_NATS_CREDS,
    libvirtUri: data.VPE_LIBVIRT_URI,
    natsUrl: data.VPE_NATS_URL,
    imageDirs: data.VPE_AGENT_IMAGE_DIRS,
    imageBytesMax: data.VPE_AGENT_IMAGE_GIB_MAX * 1024 ** 3,
    mountDir: data.VPE_AGENT_MOUNT_DIR,
    bridge: data.VPE_AGENT_BRIDGE,
    migration: {
      receive: receiveAt(
        data.VPE_AGENT_MIGRATION_URI ?? `qemu+tls://${hostOf(data.VPE_AGENT_LISTEN)}/system`,
      ),
      // A member of a cluster has a certificate for it.
      tls: data.VPE_AGENT_MIGRATION_TLS ?? data.VPE_TLS_DIR !== undefined,
      ports: data.VPE_AGENT_MIGRATION_PORTS,
    },
    guardSocket: data.VPE_AGENT_GUARD_SOCKET,
    isNeverPaused: data.VPE_AGENT_NEVER_PAUSED,
    logLevel: data.VPE_LOG_LEVEL,
  }
}

function hostOf(listen: string): string {
  return listen.slice(0, listen.lastIndexOf(':'))
}

/** The host in a libvirt URI, brackets of an IPv6 address included; null where it names none. */
function migrationHost(uri: string): string | null {
  return /^[a-z]+\+[a-z]+:\/\/(?:[^@/]*@)?(\[[^\]]+\]|[^/:?]+)(?::\d+)?(?:[/?].*)?$/.exec(uri)?.[1] ?? null
}

/** What comes here as it runs comes to the address in the URI. An agent that listens everywhere names none. */
function receiveAt(libvirtUri: string): MigrationSettings['receive'] {
  const host = migrationHost(libvirtUri)
  const address = host?.replace(/^\[|\]$/g, '') ?? ''
  if (host === null || address === '0.0.0.0' || address === '::') return undefined
  return {
    libvirtUri,
    memoryUri: `tcp://${host}`,
    listenAddress: isIP(address) === 0 ? undefined : address,
  }
}
