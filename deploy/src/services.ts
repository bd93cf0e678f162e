/**
 * What a cluster of one consists of: a table of processes, in the order of their start. Each names its
 * command, what it is told by its environment, and how one sees that it is ready.
 */
import { join } from 'node:path'
import { imageFolder } from './demo-image.ts'
import { nodeFlags } from './node-flags.ts'
import { isListening, type Ports } from './ports.ts'
import {
  killLeftGuests,
  libvirtDaemons,
  type PrivateLibvirtd,
  preparePrivateLibvirtd,
  privateLibvirtd,
  removeSocketFolder,
} from './private-libvirtd.ts'
import {
  lastLines,
  type ProcessIdentity,
  runningProcess,
  startProcess,
  stopProcess,
} from './process-control.ts'
import {
  cacheFolder,
  inside,
  type LibvirtChoice,
  logFile,
  pidFile,
  type StateFolder,
} from './state-folder.ts'
import { Trouble } from './trouble.ts'
import { waitUntil } from './wait-until.ts'

export const serviceNames = ['nats', 'virtlogd', 'libvirtd', 'controller', 'agent', 'api'] as const
export type ServiceName = (typeof serviceNames)[number]

export interface Service {
  readonly name: ServiceName
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** How people reach it. */
  readonly address: string
  /** Where it listens, when it is ready. */
  readonly port?: number
  /** What else must hold: undefined when it is ready, else what is missing. */
  readonly ready?: () => Promise<string | undefined>
  readonly readyTimeoutMs: number
  /** From SIGTERM to SIGKILL. */
  readonly stopGraceMs: number
}

export interface Layout {
  readonly root: string
  readonly folder: StateFolder
  readonly ports: Ports
  readonly libvirt: LibvirtChoice
  /** Where controller, NATS and agent listen; loopback when there is no network of several hosts. */
  readonly managementAddress?: string
}

// One that ends while it starts is noticed at once: this is for a machine that has much else to do.
const usual = { readyTimeoutMs: 120_000, stopGraceMs: 10_000 } as const

const loopback = '127.0.0.1'

export function addresses({ folder, ports, libvirt, managementAddress = loopback }: Layout) {
  return {
    apiUrl: `http://${loopback}:${ports.api}`,
    natsUrl: `nats://${managementAddress}:${ports.nats}`,
    controllerAddress: `${managementAddress}:${ports.controller}`,
    agentAddress: `${managementAddress}:${ports.agent}`,
    agentMetricsAddress: `${managementAddress}:${ports.agentMetrics}`,
    libvirtUri: libvirt === 'private' ? ourLibvirtd(folder).uri : 'qemu:///system',
  }
}

export function ourLibvirtd(folder: StateFolder): PrivateLibvirtd {
  return privateLibvirtd(join(folder.path, 'libvirt'), folder.id)
}

/** Where disks lie. The machine's own libvirtd runs guests as another user, who cannot look into our homes. */
export function diskFolder({ folder, libvirt }: Pick<Layout, 'folder' | 'libvirt'>): string {
  return libvirt === 'private' ? join(folder.path, 'disks') : join('/var/lib/vpe', folder.id, 'disks')
}

export function agentStateFolder(folder: StateFolder): string {
  return inside(folder, 'agent')
}

export function libvirtServices(folder: StateFolder): readonly Service[] {
  const daemon = ourLibvirtd(folder)
  return libvirtDaemons(daemon).map((service) => ({
    ...service,
    env: {},
    address: service.name === 'libvirtd' ? daemon.uri : '',
    ...usual,
  }))
}

export function services(layout: Layout): readonly Service[] {
  const { folder, ports, libvirt } = layout
  const at = addresses(layout)
  return [
    {
      name: 'nats',
      command: 'nats-server',
      args: [
        '--addr',
        layout.managementAddress ?? loopback,
        '--port',
        `${ports.nats}`,
        '--jetstream',
        '--store_dir',
        inside(folder, 'nats'),
      ],
      env: {},
      address: at.natsUrl,
      port: ports.nats,
      ...usual,
    },
    ...(libvirt === 'private' ? libvirtServices(folder) : []),
    {
      name: 'controller',
      ...nodeProcess(layout, 'controller'),
      env: {
        VPE_CONTROLLER_LISTEN: at.controllerAddress,
        VPE_CONTROLLER_STATE_DIR: inside(folder, 'controller'),
        VPE_NATS_URL: at.natsUrl,
      },
      address: at.controllerAddress,
      port: ports.controller,
      ...usual,
    },
    {
      name: 'agent',
      ...nodeProcess(layout, 'agent'),
      env: {
        VPE_AGENT_LISTEN: at.agentAddress,
        VPE_AGENT_METRICS_LISTEN: at.agentMetricsAddress,
        VPE_AGENT_STATE_DIR: agentStateFolder(folder),
        VPE_AGENT_IMAGE_DIRS: imageFolder(cacheFolder(folder)),
        VPE_LIBVIRT_URI: at.libvirtUri,
        VPE_NATS_URL: at.natsUrl,
        // libvirt's calls wait in libuv's threads; the usual four are too few.
        UV_THREADPOOL_SIZE: '16',
      },
      address: at.agentAddress,
      port: ports.agent,
      ...usual,
    },
    {
      name: 'api',
      ...nodeProcess(layout, 'api'),
      env: {
        VPE_API_LISTEN: `${loopback}:${ports.api}`,
        VPE_CONTROLLER_ADDRESS: at.controllerAddress,
        VPE_NATS_URL: at.natsUrl,
      },
      address: at.apiUrl,
      port: ports.api,
      ready: () => isReady(`${at.apiUrl}/readyz`),
      ...usual,
    },
  ]
}

/** The private libvirtd of a state folder, running. What `virsh -c` takes for it. */
export async function startPrivateLibvirtd(folder: StateFolder): Promise<string> {
  const daemon = ourLibvirtd(folder)
  if (!serviceProcess(folder, 'libvirtd')) preparePrivateLibvirtd(daemon, folder.id)
  for (const service of libvirtServices(folder)) await startService(folder, service)
  return daemon.uri
}

/** Stops it for good, with whatever QEMU processes are left of it. */
export async function stopPrivateLibvirtd(folder: StateFolder): Promise<void> {
  for (const service of libvirtServices(folder).toReversed()) await stopService(folder, service)
  killLeftGuests(ourLibvirtd(folder))
  removeSocketFolder(ourLibvirtd(folder))
}

/** Starts a service unless it runs, and waits until it is ready. Says whether it was started. */
export async function startService(
  folder: StateFolder,
  service: Service,
  { signal, onProgress }: { signal?: AbortSignal | undefined; onProgress?: (text: string) => void } = {},
): Promise<'started' | 'ran already'> {
  const pids = pidFile(folder, service.name)
  const log = logFile(folder, service.name)
  const running = runningProcess(pids)
  if (!running) await startProcess({ ...service, logFile: log, pidFile: pids })
  const check = async () => {
    const process = runningProcess(pids)
    if (!process) {
      throw new Trouble(
        `${service.name} ended while it was starting. The end of ${log}:\n${lastLines(log, 15)}`,
      )
    }
    return readiness(service, process)
  }
  const what = `the start of ${service.name}`
  await waitUntil(check, {
    what,
    timeoutMs: service.readyTimeoutMs,
    signal,
    ...(onProgress && { onProgress }),
  }).catch((error) => {
    if (!(error instanceof Trouble) || error.message.includes(log)) throw error
    throw new Trouble(`${error.message}. The end of ${log}:\n${lastLines(log, 15)}`)
  })
  return running ? 'ran already' : 'started'
}

/** Undefined when the service is ready, else what is missing. */
export async function readiness(service: Service, { pid }: ProcessIdentity): Promise<string | undefined> {
  if (service.port !== undefined && !isListening(pid, service.port)) return 'does not listen yet'
  return service.ready?.()
}

export function stopService(
  folder: StateFolder,
  service: Pick<Service, 'name' | 'stopGraceMs'>,
): Promise<boolean> {
  return stopProcess(pidFile(folder, service.name), service.stopGraceMs)
}

export function serviceProcess(folder: StateFolder, name: ServiceName): ProcessIdentity | undefined {
  return runningProcess(pidFile(folder, name))
}

/** Our Node runs TypeScript as it is; process.execPath is the one of the checkout (bootstrap.sh). */
export function nodeProcess(
  { root }: Pick<Layout, 'root'>,
  name: string,
): { command: string; args: readonly string[]; cwd: string } {
  const main = join(root, 'packages', name, 'src/main.ts')
  return { command: process.execPath, args: [...nodeFlags(name), main], cwd: root }
}

async function isReady(url: string): Promise<string | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5000) })
    const text = await response.text()
    return response.ok ? undefined : `answers ${response.status} ${text.slice(0, 300)}`
  } catch {
    return 'does not answer yet'
  }
}
