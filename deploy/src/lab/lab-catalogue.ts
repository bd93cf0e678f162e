/** Fills a lab's cluster over REST, as any user would: its hosts, a pool that all share and one of each, the demo flavor and image. */
import { ApiClient, type Host, type Image, type Named } from '../api-client.ts'
import { creator, type FillOptions, importedImage } from '../first-instance.ts'
import type { StateFolder } from '../state-folder.ts'
import { waitUntil } from '../wait-until.ts'
import { type HostMachine, ownFolder } from './host-machine.ts'
import type { LabChoices } from './lab-settings.ts'

export interface CatalogueOptions extends FillOptions {
  readonly folder: StateFolder
  readonly apiUrl: string
  readonly sharedFolder: string
  readonly imagePath: string
  /** How the lab was made. */
  readonly choices: LabChoices
}

interface HostInLab extends Host {
  readonly conditions: readonly { readonly type: string; readonly status: string }[]
  readonly disk_pools: readonly {
    readonly name: string
    readonly state: string
    readonly fault: string | null
  }[]
}

export const names = {
  flavor: 'm1.tiny',
  image: 'demo',
  sharedPool: 'shared',
  localPool: (host: string) => `local-${host}`,
}

export async function fillLab(hosts: readonly HostMachine[], options: CatalogueOptions): Promise<void> {
  const { folder, apiUrl, sharedFolder, imagePath, choices, say, signal } = options
  const api = new ApiClient(apiUrl, signal)
  const create = creator(api, folder, say)
  let records: readonly Host[] = []
  await waitUntil(
    async () => {
      records = (await api.get<{ hosts: Host[] }>('/hosts')).hosts
      const isUp = (host: HostMachine) =>
        records.some(({ name, state }) => name === host.name && state === 'up')
      const away = hosts.filter((host) => !isUp(host)).map(({ name }) => name)
      return waitingFor(away)
    },
    { what: 'the hosts to come up', timeoutMs: 120_000, everyMs: 250, signal, onProgress: say },
  )
  await create<Named>('flavors', 'flavor', { name: names.flavor, vcpus: 1, memory_mib: 256, disk_gib: 1 })
  const common = { kind: 'dir', system_disks: 'overlay' }
  // vpe does not know the file system, and has to be told what storage-view.ts does to who has lost locks.
  const shared = {
    ...common,
    name: names.sharedPool,
    path: sharedFolder,
    shared: true,
    hosts: [],
    lost_locks: choices.hasLocks ? 'fenced' : 'unknown',
    linearizable: true,
  }
  const pool = await create<Named>('disk_pools', 'disk_pool', shared)
  for (const { name, uuid } of records) {
    const own = {
      ...common,
      name: names.localPool(name),
      path: `${ownFolder}/disks`,
      shared: false,
      hosts: [uuid],
    }
    await create<Named>('disk_pools', 'disk_pool', own)
  }
  const image = { name: names.image, url: `file://${imagePath}`, disk_pool: pool.uuid }
  await importedImage(api, await create<Image>('images', 'image', image), { say, signal })
  await poolsWork(api, { say, signal })
  if (hosts.length > 1 && (choices.hasLocks || choices.hasWatchdog)) await readiness(api, { say, signal })
}

/** A pool that does not work on a host is tried again, and instances go elsewhere meanwhile. */
async function poolsWork(api: ApiClient, { say, signal }: FillOptions): Promise<void> {
  const check = async () => {
    const { hosts } = await api.get<{ hosts: HostInLab[] }>('/hosts')
    const waiting = hosts.flatMap((host) =>
      host.disk_pools
        .filter(({ state }) => state !== 'ready')
        .map(({ name, fault }) => `${name} on ${host.name}${fault === null ? '' : ` (${fault})`}`),
    )
    return waitingFor(waiting)
  }
  const what = 'the disk pools to work on their hosts'
  await waitUntil(check, { what, timeoutMs: 120_000, everyMs: 500, signal, onProgress: say })
}

/** Waits until hosts have tried the locks of their pool, and have leases in it: only from then on can they run what is highly available. */
async function readiness(api: ApiClient, { say, signal }: FillOptions): Promise<void> {
  const check = async () => {
    const { hosts } = await api.get<{ hosts: HostInLab[] }>('/hosts')
    const waiting = hosts.filter(
      ({ conditions }) => !conditions.some(({ type, status }) => type === 'HaReady' && status === 'ok'),
    )
    return waitingFor(waiting.map(({ name }) => name))
  }
  const what = 'the readiness of hosts for high availability'
  await waitUntil(check, { what, timeoutMs: 120_000, everyMs: 500, signal, onProgress: say })
}

/** What waitUntil is told. */
function waitingFor(names: readonly string[]): string | undefined {
  return names.length === 0 ? undefined : `waiting for ${names.join(', ')}`
}
