/**
 * Fills an empty cluster over REST, as any user would: this machine as a host, a flavor, a disk pool, the demo
 * image, and a first instance from these. Each is looked up by its name first, so that a second run changes
 * nothing; and each POST carries a key that is written down before it is sent, so that a run which is cut off
 * before it hears the answer does not make a second one.
 */
import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { hostname } from 'node:os'
import {
  ApiClient,
  type Host,
  type Image,
  type Instance,
  inWords,
  type Named,
  type Operation,
  Refusal,
} from './api-client.ts'
import { addresses, diskFolder, type Layout } from './services.ts'
import { changeSettings, readSettings, type StateFolder } from './state-folder.ts'
import { Trouble } from './trouble.ts'
import { waitUntil } from './wait-until.ts'

export interface FillOptions {
  readonly say: (line: string) => void
  readonly signal?: AbortSignal | undefined
}

export interface FirstInstanceOptions extends FillOptions {
  /** How long a cluster that has just been started may take to bring the instance back. */
  readonly comeBackMs: number
  /** Is there a running domain on this machine? What the API remembers can be older than the last crash. */
  readonly domainRuns: (uuid: string) => Promise<boolean>
}

export interface Catalogue {
  readonly host: Host
  readonly flavor: Named
  readonly pool: Named
  readonly image: Image
}

const names = { flavor: 'm1.tiny', pool: 'local', image: 'demo', instance: 'demo' } as const

/** Host, flavor, disk pool and image; waits until the host is up and the image is imported. */
export async function registerCatalogue(
  layout: Layout,
  imagePath: string,
  { say, signal }: FillOptions,
): Promise<Catalogue> {
  const at = addresses(layout)
  const api = new ApiClient(at.apiUrl, signal)
  const create = creator(api, layout.folder, say)

  const host = await create<Host>('hosts', 'host', { name: hostname(), address: at.agentAddress })
  if (host.address !== undefined && host.address !== at.agentAddress) {
    throw new Trouble(
      `the cluster knows this host at ${host.address}, but that port was taken, and the agent is at ${at.agentAddress}`,
      `stop what listens on ${host.address} (ss -ltnp), then: deploy/quickstart down; deploy/quickstart`,
    )
  }
  await waitUntil(
    async () => {
      const { host: now } = await api.get<{ host: Host }>(`/hosts/${host.uuid}`)
      return now.state === 'up' ? undefined : `host ${host.name} is ${now.state}`
    },
    { what: 'the host to come up', timeoutMs: 60_000, everyMs: 250, signal, onProgress: say },
  )

  const flavor = await create<Named>('flavors', 'flavor', {
    name: names.flavor,
    vcpus: 1,
    memory_mib: 256,
    disk_gib: 1,
  })
  const path = diskFolder(layout)
  mkdirSync(path, { recursive: true, mode: 0o711 })
  const pool = await create<Named>('disk_pools', 'disk_pool', {
    name: names.pool,
    kind: 'dir',
    path,
    shared: false,
    system_disks: 'overlay',
    hosts: [host.uuid],
  })
  const created = await create<Image>('images', 'image', {
    name: names.image,
    url: `file://${imagePath}`,
    disk_pool: pool.uuid,
  })
  const image = await importedImage(api, created, { say, signal })
  return { host, flavor, pool, image }
}

/**
 * The first instance, active. One that was active before belongs to its user: deleted, it stays deleted, and
 * stopped, it stays stopped. Undefined when there is none, on purpose.
 */
export async function ensureFirstInstance(
  layout: Layout,
  { host, flavor, pool, image }: Catalogue,
  { say, signal, comeBackMs, domainRuns }: FirstInstanceOptions,
): Promise<Instance | undefined> {
  const { folder } = layout
  const api = new ApiClient(addresses(layout).apiUrl, signal)
  const known = readSettings(folder).firstInstance
  if (known && !(await api.find(`/instances/${known}`))) {
    say('it was deleted since: not created again')
    return undefined
  }

  let operation: string | null = null
  const post = creator(api, folder, say, (id) => {
    operation = id
  })
  const { uuid } = known
    ? { uuid: known }
    : await post<Instance>('instances', 'instance', {
        name: names.instance,
        flavor_uuid: flavor.uuid,
        image_uuid: image.uuid,
        disk_pool: pool.uuid,
        // So that a guest that goes off, for whatever reason, is seen to come back.
        ha: true,
        tags: ['demo'],
      })
  const instance = await settled(api, uuid, () => operation, {
    say,
    signal,
    stoppedAfterMs: known ? comeBackMs : Number.POSITIVE_INFINITY,
    isReal: async ({ host_uuid }) => host_uuid !== host.uuid || (await domainRuns(uuid)),
  })
  if (instance.status === 'active') changeSettings(folder, { firstInstance: uuid })
  return instance
}

export async function importedImage(
  api: ApiClient,
  { uuid, name }: Image,
  { say, signal }: FillOptions,
): Promise<Image> {
  let image = (await api.get<{ image: Image }>(`/images/${uuid}`)).image
  await waitUntil(
    async () => {
      image = (await api.get<{ image: Image }>(`/images/${uuid}`)).image
      if (image.status === 'error')
        throw new Trouble(`image ${name} could not be imported: ${inWords(image.fault)}`)
      return image.status === 'active'
        ? undefined
        : `importing image ${name}${image.progress == null ? '' : `: ${image.progress} %`}`
    },
    { what: `the import of image ${name}`, timeoutMs: 300_000, everyMs: 200, signal, onProgress: say },
  )
  return image
}

interface SettleOptions extends FillOptions {
  /** When to believe that an instance which is off, with nothing being done about it, is meant to be off. */
  readonly stoppedAfterMs: number
  readonly isReal: (instance: Instance) => Promise<boolean>
}

/** Waits until nothing is being done to the instance; shows the operation's steps as they pass. */
async function settled(
  api: ApiClient,
  uuid: string,
  operationId: () => string | null,
  { say, signal, stoppedAfterMs, isReal }: SettleOptions,
): Promise<Instance> {
  const path = `/instances/${uuid}`
  const deadline = performance.now() + stoppedAfterMs
  let instance = (await api.get<{ instance: Instance }>(path)).instance
  await waitUntil(
    async () => {
      instance = (await api.get<{ instance: Instance }>(path)).instance
      const id = operationId()
      const operation = id
        ? (await api.find<{ operation: Operation }>(`/operations/${id}`))?.operation
        : undefined
      // With a task it goes on by itself: its host has been away for a while, and was not heard again yet.
      if ((instance.status === 'error' && !instance.task) || operation?.status === 'failed') {
        throw new Trouble(
          `instance ${instance.name} is in status ${instance.status}: ${inWords(instance.fault ?? operation?.fault)}`,
          `look into it; to start over: curl -X DELETE ${api.url}${path}, then deploy/quickstart`,
        )
      }
      if (instance.status === 'active' && !instance.task) {
        return (await isReal(instance)) ? undefined : `${instance.name}: the guest is not there yet`
      }
      // Nothing is done to it, and it stays off: stopped by its user. Just after a restart of the cluster it
      // may only be that nothing is done to it YET.
      if (instance.status === 'shutoff' && !instance.task && performance.now() > deadline) return undefined
      const word = operation?.step ?? (instance.fault ? inWords(instance.fault) : '')
      const step = word && ` (${word})`
      return `${instance.name}: ${instance.status}${instance.task ? `, ${instance.task}` : ''}${step}`
    },
    {
      what: `the start of instance ${instance.name}`,
      timeoutMs: 300_000,
      everyMs: 100,
      signal,
      onProgress: say,
    },
  )
  return instance
}

/** `create(collection, key, record)`: the record of that name, posted when there is none yet. */
export function creator(
  api: ApiClient,
  folder: StateFolder,
  say: (line: string) => void,
  onOperation: (id: string | null) => void = () => {},
) {
  return async <T extends Named>(
    collection: string,
    key: string,
    record: { name: string; [field: string]: unknown },
  ): Promise<T> => {
    const found = await api.findByName<T>(collection, record.name)
    if (found) {
      forgetKey(folder, collection)
      return found
    }
    say(`creating ${key} ${record.name}`)
    const idempotencyKey = rememberedKey(folder, collection)
    const { body, operation } = await api
      .post<Record<string, T>>(`/${collection}`, { [key]: record }, idempotencyKey)
      .catch((error) => {
        if (error instanceof Refusal) forgetKey(folder, collection)
        throw error
      })
    const created = body[key]
    if (!created) throw new Trouble(`POST /${collection} answered without a ${key}`)
    forgetKey(folder, collection)
    onOperation(operation)
    return created
  }
}

function rememberedKey(folder: StateFolder, name: string): string {
  const { pendingKeys = {} } = readSettings(folder)
  const key = pendingKeys[name] ?? `quickstart-${randomUUID()}`
  if (!pendingKeys[name]) changeSettings(folder, { pendingKeys: { ...pendingKeys, [name]: key } })
  return key
}

function forgetKey(folder: StateFolder, name: string): void {
  const { pendingKeys = {} } = readSettings(folder)
  if (!pendingKeys[name]) return
  const { [name]: _, ...rest } = pendingKeys
  changeSettings(folder, { pendingKeys: rest })
}
