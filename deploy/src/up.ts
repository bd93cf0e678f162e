/**
 * From a bare machine to a running guest. Every step first looks whether its work is done already; a run
 * after a crash, a reboot or a Ctrl-C simply goes on where the last one ended.
 */
import { statfsSync } from 'node:fs'
import type { Instance } from './api-client.ts'
import { ensureSystemPackages } from './debian-packages.ts'
import { ensureDemoImage } from './demo-image.ts'
import { type Catalogue, ensureFirstInstance, registerCatalogue } from './first-instance.ts'
import { lockFile } from './kernel-lock.ts'
import { findPorts, type PortName, type Ports, type PortWish, wishedPorts } from './ports.ts'
import { isRunning, libvirtAnswers, preparePrivateLibvirtd } from './private-libvirtd.ts'
import { type Progress, runSteps } from './progress.ts'
import {
  addresses,
  type Layout,
  ourLibvirtd,
  type ServiceName,
  serviceProcess,
  services,
  startService,
} from './services.ts'
import {
  cacheFolder,
  changeSettings,
  type LibvirtChoice,
  lockStateFolder,
  openStateFolder,
  readSettings,
  type StateFolder,
  writeEnvFile,
} from './state-folder.ts'
import { Trouble } from './trouble.ts'

export interface UpResult {
  readonly layout: Layout
  /** Undefined when its user deleted it. */
  readonly instance: Instance | undefined
}

export interface UpOptions {
  readonly root: string
  readonly statePath: string
  readonly signal: AbortSignal
}

/** Machine-wide, whatever the state folder. */
const portsLock = '/run/vpe-quickstart-ports.lock'

const freeBytesMin = 1024 ** 3

export async function up({ root, statePath, signal }: UpOptions): Promise<UpResult> {
  if (process.getuid?.() !== 0) {
    throw new Trouble('libvirt and the guests need root', 'sudo deploy/quickstart')
  }
  const folder = openStateFolder(statePath)
  using _lock = await lockStateFolder(folder)
  checkDiskSpace(folder)

  // What one step finds out and another needs.
  let imagePath = ''
  let layout: Layout | undefined
  let catalogue: Catalogue | undefined
  let instance: Instance | undefined
  let startedAny = false
  const known = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error('a step ran before the one it needs')
    return value
  }

  await runSteps([
    {
      title: 'Debian packages',
      run: async ({ say, conclude }) => {
        const installed = await ensureSystemPackages(say, signal)
        conclude(
          `Debian packages: ${installed.length > 0 ? `installed ${installed.join(', ')}` : 'all there'}`,
        )
      },
    },
    {
      title: 'Demo image and services',
      sideBySide: [
        {
          title: 'Demo image',
          run: async ({ say }) => {
            imagePath = await ensureDemoImage(cacheFolder(folder), { say, signal })
          },
        },
        {
          title: 'Services',
          run: async (progress) => {
            // From the choice of ports until all of them are in use: another quickstart must not choose the same.
            using _lock = await lockFile(portsLock, { waitSeconds: 120, signal })
            layout = await settle(root, folder, progress.say)
            startedAny = await startAll(layout, progress, signal)
            writeEnv(layout)
          },
        },
      ],
    },
    {
      title: 'Host, flavor, disk pool, image',
      run: async ({ say }) => {
        catalogue = await registerCatalogue(known(layout), imagePath, { say, signal })
      },
    },
    {
      title: 'First instance',
      run: async ({ say, conclude }) => {
        const { libvirtUri } = addresses(known(layout))
        const domainRuns = (uuid: string) => isRunning(libvirtUri, uuid)
        const options = { say, signal, comeBackMs: startedAny ? 20_000 : 0, domainRuns }
        instance = await ensureFirstInstance(known(layout), known(catalogue), options)
        conclude(
          instance ? `First instance: ${instance.name} is ${instance.status}` : 'First instance: was deleted',
        )
      },
    },
  ])
  return { layout: known(layout), instance }
}

/** What must be chosen once and then stays: ports, and which libvirtd. */
async function settle(root: string, folder: StateFolder, say: (line: string) => void): Promise<Layout> {
  const settings = readSettings(folder)
  const { ports, moved } = await findPorts(portWishes(folder, settings.ports))
  for (const line of moved) say(line)
  const libvirt = await chooseLibvirt(settings.libvirt)
  changeSettings(folder, { ports, libvirt })
  return { root, folder, ports, libvirt }
}

function portWishes(folder: StateFolder, remembered: Ports | undefined): Record<PortName, PortWish> {
  const wished = wishedPorts()
  const wish = (name: PortName, service: ServiceName): PortWish => ({
    port: remembered?.[name] ?? wished[name],
    held: remembered?.[name] !== undefined && serviceProcess(folder, service) !== undefined,
  })
  return {
    api: wish('api', 'api'),
    controller: wish('controller', 'controller'),
    agent: wish('agent', 'agent'),
    agentMetrics: wish('agentMetrics', 'agent'),
    nats: wish('nats', 'nats'),
  }
}

/**
 * A libvirtd that already runs is used as it is, otherwise there is a private one. Guests live in the one that
 * was chosen: it stays until `down` has removed them. VPE_LIBVIRTD=private (or system) decides beforehand.
 */
async function chooseLibvirt(remembered: LibvirtChoice | undefined): Promise<LibvirtChoice> {
  const wanted = remembered ?? process.env.VPE_LIBVIRTD
  if (wanted === 'private') return 'private'
  const answers = await libvirtAnswers('qemu:///system')
  if (wanted === 'system' && !answers) {
    throw new Trouble(
      "this cluster's guests are in the machine's own libvirtd, which does not answer",
      'systemctl start libvirtd',
    )
  }
  return answers ? 'system' : 'private'
}

/** Starts what does not run, one after the other. Says whether there was anything to start. */
async function startAll(layout: Layout, { say, conclude }: Progress, signal: AbortSignal): Promise<boolean> {
  const { folder } = layout
  if (layout.libvirt === 'private' && !serviceProcess(folder, 'libvirtd')) {
    preparePrivateLibvirtd(ourLibvirtd(folder), folder.id)
  }
  const started: string[] = []
  for (const service of services(layout)) {
    const onProgress = (text: string) => say(`${service.name}: ${text}`)
    const outcome = await startService(folder, service, { signal, onProgress })
    if (outcome === 'started') started.push(service.name)
  }
  conclude(`Services: ${started.length > 0 ? `started ${started.join(', ')}` : 'all run'}`)
  return started.length > 0
}

function writeEnv(layout: Layout): void {
  const { apiUrl, natsUrl, libvirtUri, agentMetricsAddress } = addresses(layout)
  writeEnvFile(layout.folder, {
    VPE_API_URL: apiUrl,
    VPE_NATS_URL: natsUrl,
    VPE_LIBVIRT_URI: libvirtUri,
    VPE_AGENT_METRICS_URL: `http://${agentMetricsAddress}/metrics`,
  })
}

function checkDiskSpace(folder: StateFolder): void {
  const { bavail, bsize } = statfsSync(folder.path)
  if (bavail * bsize < freeBytesMin) {
    const mib = Math.floor((bavail * bsize) / 1024 ** 2)
    throw new Trouble(
      `only ${mib} MiB are free where ${folder.path} lies, 1024 MiB are needed`,
      'df -h, and make room; or set VPE_HOME to a folder elsewhere',
    )
  }
}
