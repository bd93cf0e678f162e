/** Fills a lab's cluster over REST, as any user would: its hosts, a pool that all share and one of each, the demo flavor and image. */
import { ApiClient, type Host, type Image, type Named } from '../api-client.ts'
import { creator, type FillOptions, importedImage } from '../first-instance.ts'
import type { StateFolder } from '../state-folder.ts'
import { waitUntil } from '../wait-until.ts'
import { type HostMachine, ownFolder } from './host-machine.ts'

export interface CatalogueOptions extends FillOptions {
  readonly folder: StateFolder
  readonly apiUrl: string
  readonly sharedFolder: string
  readonly imagePath: string
}

export const names = {
  flavor: 'm1.tiny',
  image: 'demo',
  sharedPool: 'shared',
  localPool: (host: string) => `local-${host}`,
}

export async function fillLab(hosts: readonly HostMachine[], options: CatalogueOptions): Promise<void> {
  const { folder, apiUrl, sharedFolder, imagePath, say, signal } = options
  const api = new ApiClient(apiUrl, signal)
  const create = creator(api, folder, say)
  let records: readonly Host[] = []
  await waitUntil(
    async () => {
      records = (await api.get<{ hosts: Host[] }>('/hosts')).hosts
      const isUp = (host: HostMachine) =>
        records.some(({ name, state }) => name === host.name && state === 'up')
      const away = hosts.filter((host) => !isUp(host)).map(({ name }) => name)
      return away.length === 0 ? undefined : `waiting for ${away.join(', ')}`
    },
    { what: 'the hosts to come up', timeoutMs: 120_000, everyMs: 250, signal, onProgress: say },
  )
  await create<Named>('flavors', 'flavor', { name: names.flavor, vcpus: 1, memory_mib: 256, disk_gib: 1 })
  const common = { kind: 'dir', system_disks: 'overlay' }
  const shared = { ...common, name: names.sharedPool, path: sharedFolder, shared: true, hosts: [] }
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
}
