// A controller in memory, for tests of the API node: it keeps what it is told, refuses what the real
// one refuses, and remembers the calls it got. It decides nothing that the real one decides better:
// the first host is the one, and an operation ends when the test says so (`settle`).

import { createHash } from 'node:crypto'
import { VpeError } from '@vpe/core'
import {
  type ControllerServiceClient,
  CreateDiskPoolRequest,
  CreateDiskRequest,
  CreateFlavorRequest,
  CreateHostRequest,
  CreateImageRequest,
  CreateInstanceRequest,
  CreateJoinTokenRequest,
  CreateWebhookRequest,
  type Disarm,
  Disk,
  DiskPool,
  DiskPoolHost,
  ExplainPlacementRequest,
  type Failover,
  Flavor,
  type HaScope,
  Host,
  HostDrain,
  HostPowerSettings,
  Image,
  Instance,
  InstanceMetrics,
  type InstanceName,
  type JoinToken,
  JoinTokenRole,
  ListInstancesRequest,
  type Member,
  Operation,
  type Orphan,
  Placement,
  PoolProtection,
  type PoolProtectionSettings,
  Rebalance,
  RebalanceHostsResponse,
  Snapshot,
  UpdateInstanceRequest,
  UpdateWebhookRequest,
  Webhook,
} from '@vpe/proto'
import type { CallOptions } from 'nice-grpc-common'

export interface RecordedCall {
  readonly method: string
  readonly request: unknown
  readonly idempotencyKey: string | undefined
}

export interface FakeController extends ControllerServiceClient {
  /** Consoles that are open: end one, and it says goodbye. */
  readonly consoles: Set<AbortController>
  readonly calls: RecordedCall[]
  /** Errors to fail with, by method. */
  readonly failures: Map<string, unknown>
  /** Methods that never answer. */
  readonly hanging: Set<string>
  readonly instances: Map<string, Instance>
  readonly hosts: Map<string, Host>
  /** Files without an owner, by disk pool. */
  readonly orphans: Map<string, Orphan[]>
  /** What has been uploaded, by image. */
  readonly uploads: Map<string, { id: number; bytes: Buffer }>
  readonly placements: Map<string, Placement & { name?: string }>
  /** What hosts have measured, by instance. */
  readonly metrics: Map<string, InstanceMetrics>
  readiness: { ready: boolean; reasons: string[] }
  readonly failovers: Failover[]
  /** Who has said of which host that it is off. */
  readonly confirmed: { readonly uuid: string; readonly who: string }[]
  /** Ends every operation under way: what was to run runs. */
  settle(): void
}

const CREATED_AT_MS = Date.UTC(2016, 10, 22, 10, 22, 32)

const RESTING = {
  POWER_UNSPECIFIED: 'INSTANCE_STATUS_SHUTOFF',
  POWER_ON: 'INSTANCE_STATUS_ACTIVE',
  POWER_OFF: 'INSTANCE_STATUS_SHUTOFF',
  POWER_PAUSED: 'INSTANCE_STATUS_PAUSED',
} as const satisfies Record<Instance['power'], Instance['status']>

function assertUnlocked({ uuid, locked }: Instance): void {
  if (locked) throw new VpeError('CONFLICT', `instance ${uuid} is locked; unlock it first`)
}

const NEVER_TRIED = {
  poolClass: 'N',
  why: 'its locks have not been tried yet',
  wantedClass: 'auto',
  lostLocks: 'unknown',
  isLinearizable: true,
}

function protect(
  before: PoolProtection,
  given: Partial<PoolProtectionSettings> | undefined,
  slots: number,
): PoolProtection {
  const { wantedClass, lostLocks, isLinearizable } = given ?? {}
  return {
    ...before,
    ...(wantedClass !== undefined && { wantedClass }),
    ...(lostLocks !== undefined && { lostLocks }),
    ...(isLinearizable !== undefined && { isLinearizable }),
    slots: slots || before.slots,
  }
}

/** Ids that a reader of a failed test can tell apart: `d0000000-…-000000000007`. */
function createIds(): (kind: string) => string {
  let last = 0
  return (kind) => `${kind}0000000-0000-4000-8000-${String(++last).padStart(12, '0')}`
}

interface Named {
  readonly uuid: string
  readonly name: string
}

/** One kind of thing that has a name of its own. */
class Shelf<Thing extends Named> {
  readonly things = new Map<string, Thing>()
  readonly kind: string

  constructor(kind: string) {
    this.kind = kind
  }

  get(uuid: string | undefined): Thing {
    const thing = this.things.get(uuid ?? '')
    if (!thing) throw new VpeError('NOT_FOUND', `there is no ${this.kind} ${uuid}`)
    return thing
  }

  list(name: string | undefined): Thing[] {
    return [...this.things.values()].filter((thing) => !name || thing.name === name)
  }

  add(thing: Thing): Thing {
    if (this.list(thing.name).length > 0 && thing.name) {
      throw new VpeError('NAME_TAKEN', `a ${this.kind} is already named ${thing.name}`)
    }
    this.things.set(thing.uuid, thing)
    return thing
  }

  /** What a field of a request names, by uuid or name. */
  resolve(reference: string, field: string): Thing {
    const thing = this.things.get(reference) ?? this.list(reference || '\0')[0]
    if (!thing) {
      const message = `there is no ${this.kind} ${reference}`
      throw new VpeError('INVALID_ARGUMENT', message, { fields: [{ field, message }] })
    }
    return thing
  }

  remove(uuid: string | undefined): Thing {
    const thing = this.get(uuid)
    this.things.delete(thing.uuid)
    return thing
  }
}

export function createFakeController(): FakeController {
  const nextId = createIds()
  let lastEdition = 0
  const calls: RecordedCall[] = []
  const failures = new Map<string, unknown>()
  const hanging = new Set<string>()
  const flavors = new Shelf<Flavor>('flavor')
  const images = new Shelf<Image>('image')
  const pools = new Shelf<DiskPool>('disk pool')
  const hosts = new Shelf<Host>('host')
  const instances = new Shelf<Instance>('instance')
  const snapshots = new Shelf<Snapshot>('snapshot')
  const disks = new Shelf<Disk>('disk')
  const operations = new Shelf<Operation & { name: string }>('operation')
  const placements = new Shelf<Placement & { name: string }>('placement')
  const members = new Map<string, Member>(
    [
      { id: 'agent/h', role: JoinTokenRole.AGENT, name: 'h1', hostId: 'h', joinedAtMs: CREATED_AT_MS },
      { id: 'api/web1', role: JoinTokenRole.API, name: 'web1', hostId: '', joinedAtMs: CREATED_AT_MS },
    ].map((member) => [member.id, member]),
  )
  const joinTokens = new Shelf<JoinToken>('join token')
  const webhooks = new Shelf<Webhook & { name: string }>('webhook')
  const firstAnswers = new Map<string, { readonly request: string; readonly answer: unknown }>()
  const metrics = new Map<string, InstanceMetrics>()
  const waiters = new Set<() => void>()
  const consoles = new Set<AbortController>()
  const tokens = new Set<string>()
  const orphans = new Map<string, Orphan[]>()
  const uploads = new Map<string, { id: number; bytes: Buffer }>()

  function begin(kind: string, resourceUuid: string, isDone: boolean): string {
    const uuid = nextId('0')
    const status = isDone ? 'OPERATION_STATUS_SUCCEEDED' : 'OPERATION_STATUS_RUNNING'
    const operation = Operation.fromPartial({ uuid, kind, resourceUuid, status, createdAtMs: CREATED_AT_MS })
    operations.add({ ...operation, name: '' })
    return uuid
  }

  function hasName(name: string, namespace: string): boolean {
    return [...instances.things.values()].some((it) => it.name === name && it.namespace === namespace)
  }

  /** Every method goes through here: knobs first, then the idempotency key, then the method itself. */
  function serve<Request extends object, Answer>(
    method: string,
    act: (request: Request) => Answer | Promise<Answer>,
  ) {
    return async (request: Request, options: CallOptions = {}): Promise<Answer> => {
      const idempotencyKey = options.metadata?.get('idempotency-key')
      calls.push({ method, request, idempotencyKey })
      if (hanging.has(method)) await aborted(options.signal)
      if (failures.has(method)) throw failures.get(method)
      if (idempotencyKey === undefined) return structuredClone(await act(request))
      const text = `${method} ${JSON.stringify(request)}`
      const first = firstAnswers.get(idempotencyKey)
      if (first && first.request !== text) {
        throw new VpeError('IDEMPOTENCY_KEY_REUSED', 'this Idempotency-Key was used for another request')
      }
      const answer = first ? (first.answer as Answer) : await act(request)
      firstAnswers.set(idempotencyKey, { request: text, answer: structuredClone(answer) })
      return structuredClone(answer)
    }
  }

  async function aborted(signal: AbortSignal | undefined): Promise<never> {
    return await new Promise((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason))
    })
  }

  function named({ uuid, called }: { uuid?: string; called?: Partial<InstanceName> | undefined }): Instance {
    if (uuid || !called) return instances.get(uuid)
    const { name = '', namespace } = called
    const found = [...instances.things.values()].filter(
      (it) => (it.name === name || it.generatedName === name) && (!namespace || it.namespace === namespace),
    )
    if (found.length > 1) throw new VpeError('AMBIGUOUS_NAME', `${found.length} instances are named ${name}`)
    if (!found[0]) throw new VpeError('NOT_FOUND', `there is no instance ${name}`)
    return found[0]
  }

  function uploading(uuid: string | undefined) {
    const { name, status } = images.get(uuid)
    if (status !== 'IMAGE_STATUS_UPLOADING') throw new VpeError('CONFLICT', `image ${name} takes no upload`)
    const upload = uploads.get(uuid ?? '') ?? { id: 0, bytes: Buffer.alloc(0) }
    uploads.set(uuid ?? '', upload)
    return upload
  }

  /** A disk as asked for: whatever was asked is so at once, and its operation ends with `settle`. */
  function changeDisk(uuid: string | undefined, kind: string, change: Partial<Disk>) {
    const disk = { ...disks.get(uuid), ...change }
    disks.things.set(disk.uuid, disk)
    for (const instance of instances.things.values()) {
      const attached = [...disks.things.values()].filter((it) => it.instanceUuid === instance.uuid)
      instance.disks = attached.map(({ uuid, name }) => ({ uuid, name }))
    }
    return { disk, operationUuid: begin(kind, disk.uuid, false) }
  }

  function snapshotOf(instanceUuid: string | undefined, uuid: string | undefined): Snapshot {
    const snapshot = snapshots.get(uuid)
    if (snapshot.instanceUuid === instances.get(instanceUuid).uuid) return snapshot
    throw new VpeError('NOT_FOUND', `instance ${instanceUuid} has no snapshot ${uuid}`)
  }

  function changeInstance(uuid: string | undefined, kind: string, change: Partial<Instance>) {
    const instance = { ...instances.get(uuid), ...change }
    instances.things.set(instance.uuid, instance)
    return { instance, operationUuid: begin(kind, instance.uuid, false) }
  }

  const failovers: Failover[] = []
  const confirmed: { uuid: string; who: string }[] = []
  const disarms = new Map<string, Disarm>()

  /** What a scope names, as a disarm has it. */
  function scopeOf({ hostId = '', instanceUuid = '' }: Partial<HaScope> = {}) {
    const hostName = hostId && hosts.get(hostId).name
    const instanceName = instanceUuid && instances.get(instanceUuid).name
    return { hostId, hostName, instanceUuid, instanceName }
  }

  let rebalance: Rebalance | null = null
  function begunRebalance(): Rebalance {
    if (!rebalance) throw new VpeError('NOT_FOUND', 'there was no rebalance')
    return rebalance
  }

  function setSchedulable(uuid: string | undefined, schedulable: boolean) {
    const host = { ...hosts.get(uuid), schedulable, ...(schedulable && { drain: undefined }) }
    hosts.things.set(host.uuid, host)
    return { host, operationUuid: begin(schedulable ? 'host.uncordon' : 'host.cordon', host.uuid, true) }
  }

  return {
    consoles,
    orphans,
    calls,
    failures,
    hanging,
    instances: instances.things,
    hosts: hosts.things,
    uploads,
    placements: placements.things,
    metrics,
    failovers,
    confirmed,
    readiness: { ready: true, reasons: [] },

    settle() {
      for (const operation of operations.things.values()) {
        if (operation.status !== 'OPERATION_STATUS_RUNNING') continue
        operation.status = 'OPERATION_STATUS_SUCCEEDED'
        operation.endedAtMs = CREATED_AT_MS + 4_000
        const disk = disks.things.get(operation.resourceUuid)
        if (disk) disk.status = disk.instanceUuid ? 'DISK_STATUS_IN_USE' : 'DISK_STATUS_AVAILABLE'
        const snapshot = snapshots.things.get(operation.resourceUuid)
        if (snapshot?.status === 'SNAPSHOT_STATUS_DELETING') snapshots.things.delete(snapshot.uuid)
        else if (snapshot) snapshot.status = 'SNAPSHOT_STATUS_AVAILABLE'
        const instance = instances.things.get(operation.resourceUuid)
        if (!instance) continue
        if (instance.task === 'INSTANCE_TASK_DELETING') instances.things.delete(instance.uuid)
        instance.task = 'INSTANCE_TASK_UNSPECIFIED'
        instance.status = RESTING[instance.power]
      }
      for (const wake of waiters) wake()
    },

    createInstance: serve('createInstance', (partial) => {
      const request = CreateInstanceRequest.fromPartial(partial)
      const namespace = request.namespace || 'default'
      if (hasName(request.name, namespace)) {
        throw new VpeError('NAME_TAKEN', `an instance in ${namespace} is already named ${request.name}`)
      }
      const source = request.sourceUuid ? instances.get(request.sourceUuid) : null
      if (source && source.status !== 'INSTANCE_STATUS_SHUTOFF')
        throw new VpeError('CONFLICT', `instance ${source.uuid} cannot be cloned: stop it`)
      const image = images.resolve(source?.imageUuid ?? request.image, 'image')
      const flavor = flavors.resolve(request.flavor || source?.flavorUuid || 'default', 'flavor')
      const pool = request.diskPool ? pools.resolve(request.diskPool, 'disk_pool') : pools.list('')[0]
      const allowed = request.hostIds.map((id) => hosts.resolve(id, 'host_ids'))
      const given = request.diskUuids.map((it) => disks.resolve(it, 'disks'))
      const host = allowed[0] ?? hosts.list('')[0]
      if (!host || !pool) throw new VpeError('NO_HOST_FITS', 'no host fits: 0 of 0 hosts are up')
      const uuid = nextId('a')
      const instance = Instance.fromPartial({
        uuid,
        name: request.name,
        namespace,
        generatedName: `tnng6qrl9mdt8kjb${uuid.slice(-4)}`,
        flavorUuid: flavor.uuid,
        flavorName: flavor.name,
        imageUuid: image.uuid,
        imageName: image.name,
        diskPoolUuid: pool.uuid,
        diskPoolName: pool.name,
        ha: request.ha,
        haPriority: request.haPriority || 'medium',
        haIsolation: request.haIsolation || 'leave',
        tags: request.tags,
        hostIds: allowed.map((it) => it.uuid),
        shareStorage: request.shareStorage,
        hostname: request.hostname,
        sshKeys: request.sshKeys,
        userDataSha256: request.userData && createHash('sha256').update(request.userData).digest('hex'),
        createdAtMs: CREATED_AT_MS,
        status: 'INSTANCE_STATUS_SHUTOFF',
        task: 'INSTANCE_TASK_CREATING',
        hostId: host.uuid,
        hostName: host.name,
        power: 'POWER_ON',
        generation: 1,
        disks: given.map(({ uuid, name }) => ({ uuid, name })),
      })
      instances.things.set(uuid, instance)
      return { instance, operationUuid: begin('instance.create', uuid, false) }
    }),
    explainPlacement: serve('explainPlacement', (partial) => {
      const { create } = ExplainPlacementRequest.fromPartial(partial)
      images.resolve(create?.image ?? '', 'image')
      const [host] = hosts.list('')
      const [pool] = pools.list('')
      if (!host || !pool) throw new VpeError('NO_HOST_FITS', 'no host fits: no host is registered')
      const { uuid: hostId, name: hostName, schedulable: passed } = host
      const rule = passed ? '' : 'maintenance'
      const reason = passed ? '' : 'the host is cordoned'
      return {
        placement: Placement.fromPartial({
          ...(passed && { hostId, diskPoolUuid: pool.uuid }),
          hosts: [{ hostId, hostName, passed, rule, reason, score: passed ? 3.25 : 0 }],
          hostsTotal: 1,
          hostsPassed: passed ? 1 : 0,
          byRule: passed ? [] : [{ rule, hosts: 1 }],
          refusal: passed ? '' : `no host fits: 1 of 1 are cordoned (${hostName}: ${reason})`,
          createdAtMs: CREATED_AT_MS,
        }),
      }
    }),
    getInstance: serve('getInstance', ({ uuid }) => ({ instance: instances.get(uuid) })),
    findInstance: serve('findInstance', (request) => ({ instance: named(request) })),
    listInstances: serve('listInstances', (partial) => {
      const request = ListInstancesRequest.fromPartial(partial)
      const hostId = request.host && hosts.resolve(request.host, 'host').uuid
      const all = [...instances.things.values()]
      const from = request.marker ? all.findIndex((it) => request.marker.endsWith(it.uuid)) + 1 : 0
      if (request.marker && from === 0) {
        const message = 'expected the next_marker of an earlier answer, or the uuid of an instance'
        throw new VpeError('INVALID_ARGUMENT', message, { fields: [{ field: 'marker', message }] })
      }
      const rest = all
        .slice(from)
        .filter((it) => it.name.includes(request.nameContains))
        .filter((it) => !request.namespace || it.namespace === request.namespace)
        .filter((it) => request.status === 'INSTANCE_STATUS_UNSPECIFIED' || it.status === request.status)
        .filter((it) => !hostId || it.hostId === hostId)
        .filter((it) => request.tags.every((tag) => it.tags.includes(tag)))
      const page = rest.slice(0, request.limit || 1_000)
      const nextMarker = rest.length > page.length ? `${CREATED_AT_MS}.${page.at(-1)?.uuid}` : ''
      const listed = page.map((each) => ({
        edition: ++lastEdition,
        instance: Instance.encode(each).finish(),
      }))
      return { instances: listed, nextMarker, run: 1 }
    }),
    updateInstance: serve('updateInstance', (partial) => {
      const request = UpdateInstanceRequest.fromPartial(partial)
      const instance = named(request)
      const name = request.name ?? instance.name
      if (name !== instance.name && hasName(name, instance.namespace)) {
        throw new VpeError('NAME_TAKEN', `an instance is already named ${name}`)
      }
      const image = images.resolve(request.image ?? instance.imageUuid, 'image')
      if (image.uuid !== instance.imageUuid) assertUnlocked(instance)
      const hostIds = request.hostIds?.values.map((id) => hosts.resolve(id, 'host_ids').uuid)
      const target = hostIds?.includes(instance.hostId) ? undefined : hosts.things.get(hostIds?.[0] ?? '')
      return changeInstance(instance.uuid, 'instance.update', {
        name,
        ha: request.ha ?? instance.ha,
        haPriority: request.haPriority ?? instance.haPriority,
        haIsolation: request.haIsolation ?? instance.haIsolation,
        tags: request.tags?.values ?? instance.tags,
        hostIds: hostIds ?? instance.hostIds,
        imageUuid: image.uuid,
        imageName: image.name,
        ...(target && { hostId: target.uuid, hostName: target.name }),
        task: target ? 'INSTANCE_TASK_MIGRATING' : 'INSTANCE_TASK_UPDATING',
      })
    }),
    deleteInstance: serve('deleteInstance', (request) => {
      const instance = named(request)
      assertUnlocked(instance)
      return changeInstance(instance.uuid, 'instance.delete', { task: 'INSTANCE_TASK_DELETING' })
    }),
    startInstance: serve('startInstance', ({ uuid }) =>
      changeInstance(uuid, 'instance.start', { task: 'INSTANCE_TASK_STARTING', power: 'POWER_ON' }),
    ),
    stopInstance: serve('stopInstance', ({ uuid }) =>
      changeInstance(uuid, 'instance.stop', { task: 'INSTANCE_TASK_STOPPING', power: 'POWER_OFF' }),
    ),

    rebootInstance: serve('rebootInstance', ({ uuid }) => {
      const { status } = instances.get(uuid)
      if (status !== 'INSTANCE_STATUS_ACTIVE')
        throw new VpeError('CONFLICT', `instance ${uuid} cannot reboot: it is ${status}`)
      return changeInstance(uuid, 'instance.reboot', { task: 'INSTANCE_TASK_REBOOTING' })
    }),
    pauseInstance: serve('pauseInstance', ({ uuid }) =>
      changeInstance(uuid, 'instance.pause', { task: 'INSTANCE_TASK_PAUSING', power: 'POWER_PAUSED' }),
    ),
    resumeInstance: serve('resumeInstance', ({ uuid }) =>
      changeInstance(uuid, 'instance.resume', { task: 'INSTANCE_TASK_RESUMING', power: 'POWER_ON' }),
    ),
    rebuildInstance: serve('rebuildInstance', ({ uuid, image: reference }) => {
      assertUnlocked(instances.get(uuid))
      const image = images.resolve(reference ?? instances.get(uuid).imageUuid, 'image')
      const task = 'INSTANCE_TASK_REBUILDING'
      return changeInstance(uuid, 'instance.rebuild', { imageUuid: image.uuid, imageName: image.name, task })
    }),
    resizeInstance: serve('resizeInstance', ({ uuid, flavor: reference, restart }) => {
      const flavor = flavors.resolve(reference ?? '', 'flavor')
      if (instances.get(uuid).status === 'INSTANCE_STATUS_ACTIVE' && !restart)
        throw new VpeError('CONFLICT', 'stop it, or give "restart": true')
      const task = 'INSTANCE_TASK_RESIZING'
      return changeInstance(uuid, 'instance.resize', {
        flavorUuid: flavor.uuid,
        flavorName: flavor.name,
        task,
      })
    }),
    migrateInstance: serve('migrateInstance', ({ uuid, host: reference }) => {
      const host = reference ? hosts.resolve(reference, 'host') : undefined
      return changeInstance(uuid, 'instance.migrate', {
        ...(host && { hostId: host.uuid, hostName: host.name }),
        task: 'INSTANCE_TASK_MIGRATING',
      })
    }),
    cancelMigration: serve('cancelMigration', ({ uuid }) => {
      if (instances.get(uuid).task !== 'INSTANCE_TASK_MIGRATING')
        throw new VpeError('CONFLICT', `instance ${uuid} has no live migration under way`)
      return changeInstance(uuid, 'instance.cancel_migration', { task: 'INSTANCE_TASK_MIGRATING' })
    }),
    lockInstance: serve('lockInstance', ({ uuid }) =>
      changeInstance(uuid, 'instance.lock', { locked: true }),
    ),
    unlockInstance: serve('unlockInstance', ({ uuid }) =>
      changeInstance(uuid, 'instance.unlock', { locked: false }),
    ),

    createSnapshot: serve('createSnapshot', ({ instanceUuid, name = '' }) => {
      const { uuid: of } = instances.get(instanceUuid)
      if (snapshots.list(name).some((each) => each.instanceUuid === of))
        throw new VpeError('NAME_TAKEN', `it already has a snapshot named ${name}`)
      const uuid = nextId('c')
      const made = { uuid, name, instanceUuid: of, sizeBytes: 2 ** 30, createdAtMs: CREATED_AT_MS }
      const snapshot = Snapshot.fromPartial({ ...made, status: 'SNAPSHOT_STATUS_CREATING' })
      snapshots.things.set(uuid, snapshot)
      return { snapshot, operationUuid: begin('snapshot.create', uuid, false) }
    }),
    getSnapshot: serve('getSnapshot', ({ instanceUuid, uuid }) => ({
      snapshot: snapshotOf(instanceUuid, uuid),
    })),
    listSnapshots: serve('listSnapshots', ({ instanceUuid, name }) => {
      const { uuid } = instances.get(instanceUuid)
      return { snapshots: snapshots.list(name).filter((each) => each.instanceUuid === uuid) }
    }),
    revertInstance: serve('revertInstance', ({ uuid, snapshotUuid }) => {
      const { status } = snapshotOf(uuid, snapshotUuid)
      assertUnlocked(instances.get(uuid))
      if (status !== 'SNAPSHOT_STATUS_AVAILABLE') throw new VpeError('CONFLICT', `the snapshot is ${status}`)
      return changeInstance(uuid, 'instance.revert', { task: 'INSTANCE_TASK_REVERTING' })
    }),
    deleteSnapshot: serve('deleteSnapshot', ({ instanceUuid, uuid }) => {
      const snapshot = snapshotOf(instanceUuid, uuid)
      snapshot.status = 'SNAPSHOT_STATUS_DELETING'
      return { snapshot, operationUuid: begin('snapshot.delete', snapshot.uuid, false) }
    }),

    createFlavor: serve('createFlavor', (partial) => {
      const request = CreateFlavorRequest.fromPartial(partial)
      const uuid = nextId('f')
      const flavor = flavors.add(Flavor.fromPartial({ ...request, uuid, createdAtMs: CREATED_AT_MS }))
      return { flavor, operationUuid: begin('flavor.create', uuid, true) }
    }),
    getFlavor: serve('getFlavor', ({ uuid }) => ({ flavor: flavors.get(uuid) })),
    listFlavors: serve('listFlavors', ({ name }) => ({ flavors: flavors.list(name) })),
    deleteFlavor: serve('deleteFlavor', ({ uuid }) => ({
      flavor: flavors.remove(uuid),
      operationUuid: begin('flavor.delete', uuid ?? '', true),
    })),

    createImage: serve('createImage', (partial) => {
      const request = CreateImageRequest.fromPartial(partial)
      const pool = request.diskPool ? pools.resolve(request.diskPool, 'disk_pool') : pools.list('')[0]
      const uuid = nextId('e')
      const image = images.add(
        Image.fromPartial({
          uuid,
          name: request.name,
          url: request.url,
          sha256: request.sha256,
          instanceUuid: request.instanceUuid,
          status: request.url || request.instanceUuid ? 'IMAGE_STATUS_IMPORTING' : 'IMAGE_STATUS_UPLOADING',
          sizeBytes: request.sizeBytes,
          progressPercent: 40,
          createdAtMs: CREATED_AT_MS,
          ...(pool ? { diskPoolUuid: pool.uuid } : {}),
        }),
      )
      return { image, operationUuid: begin('image.create', uuid, false) }
    }),
    getImage: serve('getImage', ({ uuid }) => ({ image: images.get(uuid) })),
    listImages: serve('listImages', ({ name }) => ({ images: images.list(name) })),
    getImageUpload: serve('getImageUpload', ({ uuid }) => ({
      receivedBytes: uploading(uuid).bytes.length,
      sizeBytes: images.get(uuid).sizeBytes,
    })),
    beginImageUpload: serve('beginImageUpload', ({ uuid, offset = 0 }) => {
      const upload = uploading(uuid)
      if (offset > 0 && offset !== upload.bytes.length)
        throw new VpeError('CONFLICT', `${upload.bytes.length} bytes have arrived`)
      upload.bytes = upload.bytes.subarray(0, offset)
      return { upload: ++upload.id }
    }),
    writeImageUpload: serve('writeImageUpload', ({ uuid, upload: id, data = new Uint8Array() }) => {
      const upload = uploading(uuid)
      if (upload.id !== id) throw new VpeError('SUPERSEDED', 'another upload has begun')
      upload.bytes = Buffer.concat([upload.bytes, data])
      return {}
    }),
    finishImageUpload: serve('finishImageUpload', ({ uuid = '' }) => {
      uploading(uuid)
      const image: Image = { ...images.get(uuid), status: 'IMAGE_STATUS_IMPORTING' }
      images.things.set(uuid, image)
      return { image, operationUuid: begin('image.create', uuid, false) }
    }),
    listImageCopies: serve('listImageCopies', ({ uuid }) => {
      const { diskPoolUuid } = images.get(uuid)
      const pool = { diskPoolUuid, diskPoolName: pools.get(diskPoolUuid).name }
      const [host] = hosts.list('')
      const copy = {
        ...pool,
        hostId: host?.uuid ?? '',
        hostName: host?.name ?? '',
        sizeBytes: 1,
        instances: 0,
      }
      return { copies: [copy], silentHosts: [] }
    }),
    deleteImageCopy: serve('deleteImageCopy', ({ uuid, diskPoolUuid }) => {
      pools.get(diskPoolUuid)
      return { image: images.get(uuid), operationUuid: begin('image.evict', uuid ?? '', true) }
    }),
    deleteImage: serve('deleteImage', ({ uuid }) => ({
      image: images.remove(uuid),
      operationUuid: begin('image.delete', uuid ?? '', true),
    })),

    createDiskPool: serve('createDiskPool', (partial) => {
      const { protection, slots, ...request } = CreateDiskPoolRequest.fromPartial(partial)
      const uuid = nextId('d')
      const of =
        request.hosts.length > 0 ? request.hosts.map((it) => hosts.resolve(it, 'hosts')) : hosts.list('')
      const diskPool = pools.add(
        DiskPool.fromPartial({
          ...request,
          uuid,
          createdAtMs: CREATED_AT_MS,
          protection: protect(PoolProtection.fromPartial(NEVER_TRIED), protection, slots),
          hosts: of.map((host) => ({
            hostId: host.uuid,
            state: 'DISK_POOL_HOST_STATE_READY',
            capacityBytes: 2 ** 40,
            availableBytes: 2 ** 39,
          })),
        }),
      )
      return { diskPool, operationUuid: begin('disk_pool.create', uuid, true) }
    }),
    getDiskPool: serve('getDiskPool', ({ uuid }) => ({ diskPool: pools.get(uuid) })),
    listDiskPools: serve('listDiskPools', ({ name }) => ({ diskPools: pools.list(name) })),
    updateDiskPool: serve('updateDiskPool', ({ uuid, protection }) => {
      const diskPool = pools.get(uuid)
      diskPool.protection = protect(diskPool.protection ?? PoolProtection.fromPartial({}), protection, 0)
      return { diskPool, operationUuid: begin('disk_pool.update', diskPool.uuid, true) }
    }),
    deleteDiskPool: serve('deleteDiskPool', ({ uuid }) => ({
      diskPool: pools.remove(uuid),
      operationUuid: begin('disk_pool.delete', uuid ?? '', true),
    })),

    attachDiskPoolHost: serve('attachDiskPoolHost', ({ uuid, host = '' }) => {
      const diskPool = pools.get(uuid)
      const { uuid: hostId } = hosts.resolve(host, 'host')
      diskPool.hosts = [...diskPool.hosts, DiskPoolHost.fromPartial({ hostId })]
      return { diskPool, operationUuid: begin('disk_pool.attach', diskPool.uuid, true) }
    }),
    detachDiskPoolHost: serve('detachDiskPoolHost', ({ uuid, hostUuid = '' }) => {
      const diskPool = pools.get(uuid)
      hosts.get(hostUuid)
      diskPool.hosts = diskPool.hosts.filter(({ hostId }) => hostId !== hostUuid)
      return { diskPool, operationUuid: begin('disk_pool.detach', diskPool.uuid, true) }
    }),
    listOrphans: serve('listOrphans', ({ uuid }) => ({
      orphans: orphans.get(pools.get(uuid).uuid) ?? [],
      foreign: 2,
      silentHosts: [],
    })),
    deleteOrphan: serve('deleteOrphan', ({ uuid, file = '' }) => {
      const diskPool = pools.get(uuid)
      const left = orphans.get(diskPool.uuid) ?? []
      if (!left.some((orphan) => orphan.file === file)) throw new VpeError('NOT_FOUND', `no orphan ${file}`)
      orphans.set(
        diskPool.uuid,
        left.filter((orphan) => orphan.file !== file),
      )
      return { diskPool, operationUuid: begin('disk_pool.delete_orphan', diskPool.uuid, true) }
    }),

    createDisk: serve('createDisk', (partial) => {
      const request = CreateDiskRequest.fromPartial(partial)
      const pool = request.diskPool ? pools.resolve(request.diskPool, 'disk_pool') : pools.list('')[0]
      const host = request.host ? hosts.resolve(request.host, 'host') : hosts.list('')[0]
      const uuid = nextId('9')
      const disk = disks.add(
        Disk.fromPartial({
          uuid,
          name: request.name,
          sizeBytes: request.sizeBytes,
          status: 'DISK_STATUS_CREATING',
          serial: uuid.slice(0, 20),
          createdAtMs: CREATED_AT_MS,
          ...(pool && { diskPoolUuid: pool.uuid, diskPoolName: pool.name }),
          ...(host && !pool?.shared && { hostId: host.uuid, hostName: host.name }),
        }),
      )
      return { disk, operationUuid: begin('disk.create', uuid, false) }
    }),
    getDisk: serve('getDisk', ({ uuid }) => ({ disk: disks.get(uuid) })),
    listDisks: serve('listDisks', ({ name }) => ({ disks: disks.list(name) })),
    updateDisk: serve('updateDisk', ({ uuid, name, sizeBytes }) => {
      const disk = disks.get(uuid)
      if (sizeBytes !== undefined && sizeBytes < disk.sizeBytes) {
        const message = `disk ${disk.name} cannot shrink`
        throw new VpeError('INVALID_ARGUMENT', message, { fields: [{ field: 'size_gib', message }] })
      }
      return changeDisk(uuid, 'disk.update', {
        name: name ?? disk.name,
        sizeBytes: sizeBytes ?? disk.sizeBytes,
      })
    }),
    deleteDisk: serve('deleteDisk', ({ uuid }) => {
      if (disks.get(uuid).instanceUuid) throw new VpeError('CONFLICT', 'an instance has it')
      return { disk: disks.remove(uuid), operationUuid: begin('disk.delete', uuid ?? '', true) }
    }),
    attachDisk: serve('attachDisk', ({ instanceUuid, disk = '' }) => {
      const instance = instances.get(instanceUuid)
      const { uuid, instanceName } = disks.resolve(disk, 'disk')
      if (instanceName) throw new VpeError('CONFLICT', `disk ${disk} is in-use with instance ${instanceName}`)
      return changeDisk(uuid, 'disk.attach', {
        status: 'DISK_STATUS_ATTACHING',
        instanceUuid: instance.uuid,
        instanceName: instance.name,
      })
    }),
    detachDisk: serve('detachDisk', ({ instanceUuid, diskUuid }) => {
      const disk = disks.get(diskUuid)
      if (disk.instanceUuid !== instances.get(instanceUuid).uuid)
        throw new VpeError('NOT_FOUND', `the instance does not have disk ${disk.name}`)
      const gone = { status: 'DISK_STATUS_AVAILABLE', instanceUuid: '', instanceName: '' } as const
      return changeDisk(diskUuid, 'disk.detach', gone)
    }),

    createHost: serve('createHost', (partial) => {
      const request = CreateHostRequest.fromPartial(partial)
      const uuid = nextId('b')
      const host = hosts.add(
        Host.fromPartial({
          ...request,
          uuid,
          state: 'HOST_STATE_UP',
          schedulable: true,
          facts: { hostname: request.name, cpus: 8, memoryMib: 16_384, domainType: 'kvm' },
          createdAtMs: CREATED_AT_MS,
        }),
      )
      return { host, operationUuid: begin('host.create', uuid, true) }
    }),
    getHost: serve('getHost', ({ uuid }) => ({ host: hosts.get(uuid) })),
    listHosts: serve('listHosts', ({ name, state }) => ({
      hosts: hosts
        .list(name)
        .filter((host) => !state || state === 'HOST_STATE_UNSPECIFIED' || host.state === state),
    })),
    updateHost: serve('updateHost', ({ uuid, name, address }) => {
      const host = hosts.get(uuid)
      Object.assign(host, name !== undefined && { name }, address !== undefined && { address })
      return { host, operationUuid: begin('host.update', host.uuid, true) }
    }),
    setHostPower: serve('setHostPower', ({ uuid, power }) => {
      const host = hosts.get(uuid)
      const { secrets, ...shown } = HostPowerSettings.fromPartial(power ?? {})
      host.power = power ? { ...shown, secretNames: Object.keys(secrets) } : undefined
      return { host, operationUuid: begin('host.set_power', host.uuid, true) }
    }),
    drillHost: serve('drillHost', ({ uuid }) => {
      const host = hosts.get(uuid)
      const step = {
        what: 'lease',
        diskPoolUuid: pools.list('')[0]?.uuid ?? '',
        isOk: true,
        message: 'renewed',
      }
      host.drill = { atMs: CREATED_AT_MS, isOk: true, steps: [step] }
      return { host }
    }),
    preflightHost: serve('preflightHost', ({ uuid }) => {
      const host = hosts.get(uuid)
      const kvm = {
        type: 'KvmUsable',
        status: 'CONDITION_STATUS_WARNING',
        message: 'no vmx',
        cure: 'Turn it on',
      } as const
      const nats = {
        type: 'NatsReachable',
        status: 'CONDITION_STATUS_OK',
        message: 'answers',
        cure: '',
        latencyMs: 1,
      } as const
      const times = { sinceMs: CREATED_AT_MS, checkedAtMs: CREATED_AT_MS }
      host.conditions = [
        { ...kvm, ...times },
        { ...nats, ...times },
      ]
      return { host }
    }),
    drainHost: serve('drainHost', ({ uuid, parallel, copyDisks }) => {
      const { host } = setSchedulable(uuid, false)
      const operationUuid = begin('host.drain', host.uuid, false)
      const drain = HostDrain.fromPartial({
        state: 'HOST_DRAIN_STATE_DRAINING',
        operationUuid,
        parallel: parallel || 2,
        copyDisks: copyDisks ?? false,
        startedAtMs: CREATED_AT_MS,
        total: 1,
        remaining: 1,
        stuck: [{ uuid: host.uuid, name: 'db-1', why: 'no host fits' }],
      })
      hosts.things.set(host.uuid, { ...host, drain })
      return { host: { ...host, drain }, operationUuid }
    }),
    cordonHost: serve('cordonHost', ({ uuid }) => setSchedulable(uuid, false)),
    uncordonHost: serve('uncordonHost', ({ uuid }) => setSchedulable(uuid, true)),
    /** Plans to move the first instance to the last host. */
    rebalanceHosts: serve('rebalanceHosts', ({ boundPercent = 20, parallel, dryRun }) => {
      const [instance] = instances.list('')
      const target = hosts.list('').at(-1)
      const spread = { boundPercent, spreadBeforePercent: 60, spreadAfterPercent: 10.5, balanced: true }
      const move = {
        instanceUuid: instance?.uuid ?? '',
        instanceName: instance?.name ?? '',
        fromHostId: instance?.hostId ?? '',
        fromHostName: instance?.hostName ?? '',
        toHostId: target?.uuid ?? '',
        toHostName: target?.name ?? '',
        copiedMib: 256,
        reason: 'takes h1 from 60.0 to 35.0 %',
        spreadPercent: 10.5,
      }
      const explanation = '1 move takes the spread from 60.0 to 10.5 %, within 20 %'
      const moves = instance ? [move] : []
      if (dryRun) return RebalanceHostsResponse.fromPartial({ ...spread, explanation, moves })
      const operationUuid = begin('host.rebalance', target?.uuid ?? '', false)
      rebalance = Rebalance.fromPartial({
        ...{ operationUuid, boundPercent, parallel: parallel || 2, spreadBeforePercent: 60, explanation },
        startedAtMs: CREATED_AT_MS,
        moves: moves.map((each) => ({ ...each, state: 'REBALANCE_MOVE_STATE_MOVING', why: each.reason })),
      })
      return RebalanceHostsResponse.fromPartial({ ...spread, explanation, moves, operationUuid })
    }),
    getRebalance: serve('getRebalance', () => ({ rebalance: begunRebalance() })),
    cancelRebalance: serve('cancelRebalance', () => {
      rebalance = { ...begunRebalance(), cancelled: true }
      return { rebalance, operationUuid: rebalance.operationUuid }
    }),
    deleteHost: serve('deleteHost', ({ uuid }) => {
      if (instances.things.size > 0)
        throw new VpeError('IN_USE', `${instances.things.size} instances are on it`)
      return { host: hosts.remove(uuid), operationUuid: begin('host.delete', uuid ?? '', true) }
    }),

    getOperation: async (request, options = {}) => {
      calls.push({ method: 'getOperation', request, idempotencyKey: undefined })
      const operation = operations.get(request.uuid)
      if (request.waitMs && operation.status === 'OPERATION_STATUS_RUNNING') {
        await new Promise<void>((resolve, reject) => {
          waiters.add(resolve)
          setTimeout(resolve, request.waitMs)
          options.signal?.addEventListener('abort', () => reject(options.signal?.reason))
        })
      }
      return { operation }
    },
    listOperations: serve('listOperations', ({ resourceUuid, limit }) => ({
      operations: [...operations.things.values()]
        .filter((it) => !resourceUuid || it.resourceUuid === resourceUuid)
        .reverse()
        .slice(0, limit || 100),
    })),
    getPlacement: serve('getPlacement', ({ uuid }) => ({ placement: placements.get(uuid) })),

    createConsoleToken: serve('createConsoleToken', ({ uuid }) => {
      const { status } = instances.get(uuid)
      if (status !== 'INSTANCE_STATUS_ACTIVE')
        throw new VpeError('CONFLICT', 'a console needs an active instance')
      const token = `token-${tokens.size}`
      tokens.add(token)
      return { token, validMs: 60_000 }
    }),

    /** Repeats what it is told. */
    async *openConsole(requests, { signal } = {}) {
      const open = new AbortController()
      const messages = requests[Symbol.asyncIterator]()
      const { value: first } = await messages.next()
      calls.push({ method: 'openConsole', request: first, idempotencyKey: undefined })
      if (failures.has('openConsole')) throw failures.get('openConsole')
      const token = first?.message?.$case === 'ticket' ? (first.message.value.token ?? '') : ''
      if (!tokens.delete(token)) throw new VpeError('CONSOLE_TOKEN_REFUSED', 'the token is unknown')
      consoles.add(open)
      try {
        yield { message: { $case: 'opened', value: {} } }
        const ended = aborted(AbortSignal.any([open.signal, ...(signal ? [signal] : [])])).catch(() => null)
        for (;;) {
          const next = await Promise.race([messages.next(), ended])
          if (next === null || next.done) return
          const { message } = next.value
          if (message?.$case === 'data')
            yield { message: { $case: 'data', value: message.value ?? new Uint8Array() } }
        }
      } finally {
        consoles.delete(open)
      }
    },

    getInstanceMetrics: serve('getInstanceMetrics', ({ uuid }) => {
      instances.get(uuid)
      return { metrics: metrics.get(uuid ?? '') ?? InstanceMetrics.fromPartial({ intervalMs: 5_000 }) }
    }),
    createWebhook: serve('createWebhook', (partial) => {
      const { disabled, secret, ...request } = CreateWebhookRequest.fromPartial(partial)
      const uuid = nextId('c')
      const fresh = { uuid, enabled: !disabled, createdAtMs: CREATED_AT_MS }
      const webhook = webhooks.add({ ...Webhook.fromPartial({ ...request, ...fresh }), name: '' })
      const operationUuid = begin('webhook.create', uuid, true)
      return { webhook, operationUuid, secret: secret || `whsec_${'A'.repeat(32)}` }
    }),
    getWebhook: serve('getWebhook', ({ uuid }) => ({ webhook: webhooks.get(uuid) })),
    listWebhooks: serve('listWebhooks', () => ({ webhooks: webhooks.list('') })),
    updateWebhook: serve('updateWebhook', (partial) => {
      const { uuid, url, events, enabled } = UpdateWebhookRequest.fromPartial(partial)
      const webhook = webhooks.get(uuid)
      webhook.url = url ?? webhook.url
      webhook.events = events?.values ?? webhook.events
      webhook.enabled = enabled ?? webhook.enabled
      return { webhook, operationUuid: begin('webhook.update', webhook.uuid, true) }
    }),
    deleteWebhook: serve('deleteWebhook', ({ uuid }) => ({
      webhook: webhooks.remove(uuid),
      operationUuid: begin('webhook.delete', uuid ?? '', true),
    })),
    confirmFenced: serve('confirmFenced', ({ uuid, who = '' }) => {
      const host = hosts.get(uuid)
      if (host.state === 'HOST_STATE_UP') throw new VpeError('CONFLICT', `host ${host.name} is up`)
      confirmed.push({ uuid: host.uuid, who })
      return { operationUuid: begin('host.confirm_fenced', host.uuid, true) }
    }),
    disarmHa: serve('disarmHa', ({ scope, minutes = 0, who = '', why = '' }) => {
      const named = scopeOf(scope)
      const disarm = { ...named, untilMs: CREATED_AT_MS + minutes * 60_000, who, why }
      disarms.set(JSON.stringify(named), disarm)
      return { disarm, operationUuid: begin('ha.disarm', named.hostId || named.instanceUuid, true) }
    }),
    armHa: serve('armHa', ({ scope }) => {
      const named = scopeOf(scope)
      disarms.delete(JSON.stringify(named))
      return { operationUuid: begin('ha.arm', named.hostId || named.instanceUuid, true) }
    }),
    getHa: serve('getHa', () => ({
      armed: !disarms.has(JSON.stringify(scopeOf())),
      whyNoVerdicts: '',
      profile: 'default',
      disarms: [...disarms.values()],
      hosts: [{ word: 'up', count: hosts.things.size }],
      instances: [{ word: 'running', count: instances.things.size }],
      nPlusOne: undefined,
      reservedHosts: 1,
      enforced: false,
    })),
    listFailovers: serve('listFailovers', ({ instanceUuid, limit }) => ({
      failovers: failovers
        .filter((failover) => !instanceUuid || failover.instanceUuid === instanceUuid)
        .slice(0, limit || 100),
    })),
    /** One of two finds a place on the last host. */
    whatIfHostLost: serve('whatIfHostLost', ({ uuid }) => {
      const host = hosts.get(uuid)
      const target = hosts.list('').at(-1)
      const fates = instances.list('').map(({ uuid, name }, index) => ({
        ...{ uuid, name, priority: 'medium', poolClass: 'E' },
        ...(index === 0
          ? { hostId: target?.uuid ?? '', hostName: target?.name ?? '', expectedMs: 14_000 }
          : { hostId: '', hostName: '' }),
        outcome: index === 0 ? 'starts' : 'no-room',
        why: index === 0 ? '' : 'no host fits',
      }))
      return { hostId: host.uuid, hostName: host.name, instances: fates, survives: fates.length < 2 }
    }),
    getControllerMetrics: serve('getControllerMetrics', () => ({ text: 'vpe_ha_armed 1\n' })),
    listMembers: serve('listMembers', () => ({ members: [...members.values()] })),
    deleteMember: serve('deleteMember', ({ id = '' }) => {
      if (!members.delete(id)) throw new VpeError('NOT_FOUND', `there is no member ${id}`)
      return { operationUuid: begin('member.delete', id, true) }
    }),
    createJoinToken: serve('createJoinToken', (partial) => {
      const { role, name, expiresInS = 3_600, uses = 1 } = CreateJoinTokenRequest.fromPartial(partial)
      const uuid = nextId('9')
      const times = { createdAtMs: CREATED_AT_MS, expiresAtMs: CREATED_AT_MS + expiresInS * 1_000 }
      const joinToken = joinTokens.add({ uuid, role, name, uses, usedBy: [], ...times })
      const operationUuid = begin('join_token.create', uuid, true)
      return { joinToken, operationUuid, token: 'vpe1.W10' }
    }),
    listJoinTokens: serve('listJoinTokens', () => ({ joinTokens: joinTokens.list('') })),
    deleteJoinToken: serve('deleteJoinToken', ({ uuid }) => ({
      joinToken: joinTokens.remove(uuid),
      operationUuid: begin('join_token.delete', uuid ?? '', true),
    })),
    countInstances: serve('countInstances', () => {
      const of = Map.groupBy(instances.things.values(), ({ status }) => status)
      return { counts: [...of].map(([status, some]) => ({ status, count: some.length })) }
    }),

    async getReadiness(request, options) {
      const { ready, reasons } = this.readiness
      return await serve('getReadiness', () => ({ ready, reasons }))(request, options)
    },
  }
}
