// What each step of a plan does: a flat table. Every one is idempotent, for a plan is made anew from what
// is seen and may come to the same step again.

import type { DesiredInstance, HostStep, HostStepKind } from '@vpe/core'
import { removeConsoleLog } from './console-log.ts'
import { definitionXml, type HostSettings } from './definition.ts'
import type { DiskPools } from './disk-pools.ts'
import { dataDiskXml } from './domain-xml.ts'
import type { HaAgent } from './ha/ha-agent.ts'
import type { Hypervisor } from './hypervisor/hypervisor.ts'
import { formatMark } from './instance-mark.ts'
import { growDisk, takeDisk } from './live-disks.ts'
import type { PoolFiles, PoolRef } from './pool/pool-workers.ts'
import { removeSerialSocket } from './serial-socket.ts'
import { type GuestWatch, shutDown } from './shut-down.ts'

export interface StepContext extends GuestWatch {
  readonly ha: HaAgent
  readonly hypervisor: Hypervisor
  readonly diskPools: DiskPools
  readonly files: PoolFiles
  readonly settings: HostSettings
  readonly uuid: string
  readonly pool: PoolRef
  /** Absent when the instance is being removed, or moves to another host. */
  readonly desired: DesiredInstance | null
  readonly signal: AbortSignal
  readonly say: (step: string) => void
  /** Does something while the guest of another instance is off, and stays so. */
  readonly whileOff: <T>(uuid: string, work: (signal: AbortSignal) => Promise<T>) => Promise<T>
}

type Executor<K extends HostStepKind> = (
  step: Extract<HostStep, { kind: K }>,
  context: StepContext,
) => Promise<unknown>

const EXECUTORS: { readonly [K in HostStepKind]: Executor<K> } = {
  'ensure-disk-pool': (_step, { diskPools, pool }) => diskPools.ensure(pool),

  'ensure-image': (_step, { files, pool, desired, signal, say }) =>
    files.request(
      pool,
      'import-image',
      { ...wanted(desired).image },
      {
        signal,
        onProgress: (percent) => say(`importing image ${percent} %`),
      },
    ),

  'make-system-disk': (_step, { files, pool, desired, signal, say }) => {
    const { uuid, image, diskPool, diskBytes } = wanted(desired)
    const disk = { instanceUuid: uuid, imageUuid: image.uuid, kind: diskPool.systemDisks, diskBytes }
    const onProgress = (percent: number) => say(`copying the image ${percent} %`)
    return files.request(pool, 'make-system-disk', disk, { signal, onProgress })
  },

  'copy-system-disk': (_step, { files, pool, desired, say, whileOff }) => {
    const { uuid: instanceUuid, diskSource, diskBytes } = wanted(desired)
    if (!diskSource) throw new Error('this step belongs to a clone')
    const { instanceUuid: sourceUuid, snapshotUuid } = diskSource
    const onProgress = (percent: number) => say(`copying the disk ${percent} %`)
    const copy = { instanceUuid, sourceUuid, snapshotUuid, diskBytes }
    return whileOff(sourceUuid, (signal) =>
      files.request(pool, 'copy-system-disk', copy, { signal, onProgress }),
    )
  },

  'grow-system-disk': (_step, { files, pool, desired, signal }) => {
    const { uuid, diskBytes } = wanted(desired)
    return files.request(pool, 'grow-system-disk', { instanceUuid: uuid, diskBytes }, { signal })
  },

  'make-seed': (_step, { files, pool, desired, uuid, signal }) => {
    const { seed } = wanted(desired)
    if (!seed) throw new Error('this step belongs to an instance with a seed')
    const { hostname, sshKeys, userData } = seed
    const request = { instanceUuid: uuid, hostname, sshKeys: [...sshKeys], userData }
    return files.request(pool, 'make-seed', request, { signal })
  },

  'revert-system-disk': (_step, { files, pool, desired, signal }) => {
    const { uuid: instanceUuid, diskSnapshotUuid: snapshotUuid, diskBytes } = wanted(desired)
    if (snapshotUuid === null) throw new Error('a revert without a snapshot was planned')
    return files.request(pool, 'revert-system-disk', { instanceUuid, snapshotUuid, diskBytes }, { signal })
  },

  define: ({ mark }, { hypervisor, settings, uuid, isOn }) =>
    hypervisor.defineDomain(definitionXml(mark, settings)).then(async () => {
      // A running guest keeps its definition, and with it the old mark, until it stops.
      if (await isOn()) await hypervisor.writeMark(uuid, formatMark(mark))
    }),

  // A guest that is off gets its whole definition anew: what a newer vpe puts there comes with its next start.
  mark: async ({ mark }, { hypervisor, settings, uuid, isOn }) =>
    (await isOn())
      ? hypervisor.writeMark(uuid, formatMark(mark))
      : hypervisor.defineDomain(definitionXml(mark, settings)),

  'attach-disk': ({ disk }, { hypervisor, uuid, desired }) =>
    hypervisor.attachDisk(uuid, dataDiskXml(disk, (desired?.ownership ?? null) !== null)),

  'detach-disk': ({ disk, graceMs }, context) => takeDisk(disk, graceMs, context),

  'grow-disk': ({ disk }, context) => growDisk(disk, context),

  start: (_step, { hypervisor, ha, uuid, desired, signal }) => {
    const create = () => hypervisor.startDomain(uuid)
    return desired?.ownership ? ha.start(desired, { kind: 'start', create }, signal) : create()
  },

  own: (_step, { ha, desired, signal }) => ha.start(wanted(desired), { kind: 'takes-over' }, signal),

  'let-go': (_step, { ha, uuid, signal }) => ha.letGo(uuid, null, signal),

  pause: (_step, { hypervisor, uuid }) => hypervisor.pauseDomain(uuid),

  resume: (_step, { hypervisor, uuid }) => hypervisor.resumeDomain(uuid),

  shutdown: ({ graceMs }, context) => {
    context.ha.hold(context.uuid)
    return shutDown(graceMs, context)
  },

  'power-off': (_step, { hypervisor, ha, uuid }) => {
    ha.hold(uuid)
    return hypervisor.destroyDomain(uuid)
  },

  undefine: (_step, { hypervisor, uuid }) => hypervisor.undefineDomain(uuid),

  'remove-system-disk': (_step, { files, pool, uuid }) =>
    files.request(pool, 'remove-system-disk', { instanceUuid: uuid }),

  'remove-console-log': async (_step, { settings, uuid }) => {
    await removeConsoleLog(settings.consoleDir, uuid)
    await removeSerialSocket(settings.consoleDir, uuid)
  },
}

/** Carries one step out. */
export async function execute(step: HostStep, context: StepContext): Promise<void> {
  // The table's type says that key and argument belong together; the compiler cannot follow through an index.
  const executor = EXECUTORS[step.kind] as Executor<HostStepKind>
  await executor(step, context)
}

const WORDS: { readonly [K in HostStepKind]: string } = {
  'ensure-disk-pool': 'making the disk pool ready',
  'ensure-image': 'making sure of the image',
  'make-system-disk': 'making the system disk',
  'copy-system-disk': 'copying the system disk',
  'grow-system-disk': 'growing the system disk',
  'make-seed': 'writing down what the guest is told',
  'revert-system-disk': 'reverting the system disk',
  define: 'defining the domain',
  mark: 'writing down what is wanted',
  'attach-disk': 'attaching a data disk',
  'detach-disk': 'waiting for the guest to let go of a data disk',
  'grow-disk': 'making a data disk larger',
  start: 'starting the guest',
  own: 'taking the guest into ownership',
  'let-go': 'letting go of claims',
  pause: 'pausing the guest',
  resume: 'letting the guest go on',
  shutdown: 'asking the guest to shut down',
  'power-off': 'powering the guest off',
  undefine: 'removing the domain',
  'remove-system-disk': 'removing the system disk',
  'remove-console-log': 'removing the console log',
}

/** The step, for people. */
export function describeStep(step: HostStep): string {
  return step.kind === 'shutdown'
    ? `${WORDS.shutdown}, for up to ${step.graceMs / 1000} s`
    : `${WORDS[step.kind]}: ${step.why}`
}

function wanted(desired: DesiredInstance | null): DesiredInstance {
  if (!desired) throw new Error('this step belongs to a convergence, not to a removal')
  return desired
}
