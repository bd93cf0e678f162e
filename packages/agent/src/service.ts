// AgentService: judges the request, lets the epoch pass or not, hands over, and streams what comes back.

import type {
  AgentServiceImplementation,
  ApplyInstanceResponse,
  AttachConsoleRequest,
  AttachConsoleResponse,
  CaptureImageResponse,
  DiskPart,
  ImportImageResponse,
  MigrateDomainResponse,
  ReadDiskResponse,
  WriteDiskRequest,
} from '@vpe/proto'
import type { Agent } from './agent.ts'
import { carry } from './carry.ts'
import type { Consoles } from './consoles.ts'
import type { EpochLedger } from './epoch-ledger.ts'
import { haReportToWire, leasesFromWire, orderFromWire } from './ha/ha-wire.ts'
import type { PoolImage } from './pool/pool-protocol.ts'
import { Progress, type Running, stepsOf } from './progress.ts'
import {
  consoleTargetFromWire,
  copiedDisksFromWire,
  copiesFromWire,
  copyToWire,
  departureToWire,
  desiredFromWire,
  diskFileFromWire,
  diskFromWire,
  diskPoolFromWire,
  epochFromWire,
  factsToWire,
  findingToWire,
  generationFromWire,
  imageFromWire,
  imageToWire,
  metricsToWire,
  migrationOrderFromWire,
  migrationTargetToWire,
  newDiskFileFromWire,
  peerPortFromWire,
  releaseFromWire,
  reportToWire,
  snapshotFromWire,
  uuidFromWire,
} from './wire.ts'

type ServiceParts = Pick<
  Agent,
  | 'describe'
  | 'diskPools'
  | 'apply'
  | 'remove'
  | 'release'
  | 'migrate'
  | 'endMigration'
  | 'prepareMigration'
  | 'abandonMigration'
  | 'openMigrationPort'
  | 'tryPeer'
  | 'describeDisks'
  | 'readDisk'
  | 'writeDisk'
  | 'removeCopies'
  | 'changeSnapshot'
  | 'inventory'
  | 'importImage'
  | 'writeImagePart'
  | 'captureImage'
  | 'findImage'
  | 'listPoolFiles'
  | 'removePoolFile'
  | 'removeImage'
  | 'makeDisk'
  | 'growDisk'
  | 'removeDisk'
  | 'metrics'
  | 'ha'
>

export function createAgentService(
  agent: ServiceParts,
  epochs: EpochLedger,
  consoles: Consoles,
): AgentServiceImplementation {
  const admit = (epoch: number) => epochs.admit(epochFromWire(epoch))
  return {
    async describeHost({ refresh }) {
      const { hostId, facts, findings, checkedAtMs, digest, clockMs } = await agent.describe(refresh)
      return {
        hostId,
        facts: factsToWire(facts),
        agentVersion: facts.agentVersion,
        findings: findings.map((finding) => findingToWire(finding, checkedAtMs)),
        digest,
        clockMs,
      }
    },

    async ensureDiskPool({ epoch, diskPool, proposedMarker }) {
      const pool = diskPoolFromWire(diskPool)
      await admit(epoch)
      return agent.diskPools.inspect(pool, proposedMarker)
    },

    async removeDiskPool(request) {
      const uuid = uuidFromWire(request.uuid, 'uuid')
      const pool = request.diskPool && diskPoolFromWire(request.diskPool)
      await admit(request.epoch)
      await agent.diskPools.remove(uuid, pool, request.removeMarker)
      return {}
    },

    async *importImage(request, { signal }): AsyncGenerator<ImportImageResponse> {
      const [image, pool] = [imageFromWire(request.image), diskPoolFromWire(request.diskPool)]
      await admit(request.epoch)
      yield* imageUpdates((onProgress) => agent.importImage(pool, image, onProgress, signal), signal)
    },

    async writeImagePart(request) {
      const [uuid, pool] = [uuidFromWire(request.imageUuid, 'image_uuid'), diskPoolFromWire(request.diskPool)]
      await admit(request.epoch)
      const { upload, offset, data } = request
      await agent.writeImagePart(pool, { uuid, upload, offset, data })
      return {}
    },

    async *captureImage(request, { signal }): AsyncGenerator<CaptureImageResponse> {
      const [uuid, pool] = [uuidFromWire(request.imageUuid, 'image_uuid'), diskPoolFromWire(request.diskPool)]
      const instance = uuidFromWire(request.instanceUuid, 'instance_uuid')
      await admit(request.epoch)
      yield* imageUpdates(
        (onProgress) => agent.captureImage(pool, uuid, instance, onProgress, signal),
        signal,
      )
    },

    async findImage(request) {
      const [uuid, pool] = [uuidFromWire(request.imageUuid, 'image_uuid'), diskPoolFromWire(request.diskPool)]
      const { image, partBytes } = await agent.findImage(pool, uuid)
      return { image: image ? imageToWire(image) : undefined, partBytes }
    },

    async removeImage(request) {
      const [uuid, pool] = [uuidFromWire(request.imageUuid, 'image_uuid'), diskPoolFromWire(request.diskPool)]
      await admit(request.epoch)
      await agent.removeImage(pool, uuid)
      return {}
    },

    async listPoolFiles({ diskPool }) {
      return agent.listPoolFiles(diskPoolFromWire(diskPool))
    },

    async removePoolFile({ epoch, diskPool, name, checkOnly }) {
      const pool = diskPoolFromWire(diskPool)
      await admit(epoch)
      await agent.removePoolFile(pool, name, checkOnly)
      return {}
    },

    async ensureDisk(request) {
      const disk = diskFromWire(request.disk)
      await admit(request.epoch)
      await agent.makeDisk(disk)
      return {}
    },

    async growDisk(request) {
      const disk = diskFromWire(request.disk)
      await admit(request.epoch)
      await agent.growDisk(disk)
      return {}
    },

    async removeDisk(request) {
      const disk = diskFromWire(request.disk)
      await admit(request.epoch)
      await agent.removeDisk(disk)
      return {}
    },

    async *applyInstance({ epoch, spec }, { signal }): AsyncGenerator<ApplyInstanceResponse> {
      const desired = desiredFromWire(spec, epochFromWire(epoch))
      await admit(epoch)
      const running = agent.apply(desired)
      for await (const step of stepsOf(running, signal)) yield { update: { $case: 'step', value: step } }
      if (!signal.aborted) yield { update: { $case: 'report', value: reportToWire(await running.result) } }
    },

    async removeInstance(request) {
      const removal = {
        uuid: uuidFromWire(request.uuid, 'uuid'),
        generation: generationFromWire(request.generation),
        diskPool: diskPoolFromWire(request.diskPool),
      }
      await admit(request.epoch)
      await agent.remove(removal).result
      return {}
    },

    async releaseInstance(request) {
      const release = releaseFromWire(request)
      await admit(request.epoch)
      await agent.release(release).result
      return {}
    },

    async prepareMigration({ epoch, spec, copies, postCopy }) {
      const desired = desiredFromWire(spec, epochFromWire(epoch))
      const wish = { copies: copiesFromWire(copies), postCopy }
      await admit(epoch)
      return { target: migrationTargetToWire(await agent.prepareMigration(desired, wish)) }
    },

    async openMigrationPort() {
      return { port: await agent.openMigrationPort() }
    },

    async tryPeer({ port }) {
      return { faults: [...(await agent.tryPeer(peerPortFromWire(port)))] }
    },

    async describeDisks(request) {
      return { copies: (await agent.describeDisks(copiedDisksFromWire(request))).map(copyToWire) }
    },

    async *readDisk({ file }, { signal }): AsyncGenerator<ReadDiskResponse> {
      for await (const part of agent.readDisk(diskFileFromWire(file), signal)) {
        if ('fileBytes' in part) yield { message: { $case: 'fileBytes', value: part.fileBytes } }
        else yield { message: { $case: 'part', value: part } }
      }
    },

    async writeDisk(requests) {
      const messages = requests[Symbol.asyncIterator]()
      const { value: first } = await messages.next()
      const { epoch, file, fileBytes } = newDiskFileFromWire(first)
      await admit(epoch)
      await agent.writeDisk(file, fileBytes, diskPartsOf({ [Symbol.asyncIterator]: () => messages }))
      return {}
    },

    async removeCopies(request) {
      const disks = copiedDisksFromWire({
        ...request,
        disks: request.disks.map((disk) => ({ disk, target: '' })),
      })
      const generation = generationFromWire(request.generation)
      await admit(request.epoch)
      await agent.removeCopies(disks, generation).result
      return {}
    },

    async *migrateDomain(request, { signal }): AsyncGenerator<MigrateDomainResponse> {
      const order = migrationOrderFromWire(request)
      await admit(request.epoch)
      const running = agent.migrate(order)
      for await (const step of stepsOf(running, signal)) yield { update: { $case: 'step', value: step } }
      if (signal.aborted) return
      yield { update: { $case: 'report', value: departureToWire(await running.result) } }
    },

    async endMigration(request) {
      const uuid = uuidFromWire(request.uuid, 'uuid')
      const generation = generationFromWire(request.generation)
      await admit(request.epoch)
      return { report: departureToWire(await agent.endMigration(uuid, generation).result) }
    },

    async abandonMigration(request) {
      const uuid = uuidFromWire(request.uuid, 'uuid')
      const [generation, since] = [request.generation, request.since].map(generationFromWire)
      await admit(request.epoch)
      return agent.abandonMigration(uuid, generation ?? 0, since ?? 0)
    },

    async ensureSnapshot(request) {
      const [snapshot, pool] = snapshotFromWire(request)
      await admit(request.epoch)
      await agent.changeSnapshot('make', snapshot, pool)
      return {}
    },

    async removeSnapshot(request) {
      const [snapshot, pool] = snapshotFromWire(request)
      await admit(request.epoch)
      await agent.changeSnapshot('remove', snapshot, pool)
      return {}
    },

    async getInventory() {
      const { hostId, bootId, reports, addresses, digest } = await agent.inventory()
      const known = [...addresses].map(([uuid, values]) => ({ uuid, addresses: [...values] }))
      return { hostId, bootId, instances: reports.map(reportToWire), addresses: known, digest }
    },

    async *attachConsole(requests, { signal }): AsyncGenerator<AttachConsoleResponse> {
      const messages = requests[Symbol.asyncIterator]()
      const { value: first } = await messages.next()
      const line = await consoles.open(consoleTargetFromWire(first))
      // From here on `carry` sees to it that the line is closed.
      const output = carry(line, dataOf({ [Symbol.asyncIterator]: () => messages }), signal)
      yield { message: { $case: 'opened', value: {} } }
      for await (const value of output) yield { message: { $case: 'data', value } }
    },

    async setLeases({ epoch, pools }) {
      const leases = leasesFromWire(pools)
      await admit(epoch)
      await agent.ha.setLeases(leases)
      return {}
    },

    async getHaReport() {
      return haReportToWire(await agent.ha.report())
    },

    async orderHa(request) {
      const order = orderFromWire(request)
      await admit(request.epoch)
      await agent.ha.order(order)
      return {}
    },

    // The guard judges what it is asked.
    async sightLease(request) {
      return agent.ha.guard.sightLease(request)
    },

    async sendPill(request) {
      await admit(request.pill?.epoch ?? 0)
      return agent.ha.guard.sendPill(request)
    },

    async tryPoolLock(request) {
      return agent.ha.guard.tryPoolLock(request)
    },

    async getMetrics({ uuid, sinceMs, stepMs }) {
      return { metrics: metricsToWire(agent.metrics.of(uuidFromWire(uuid, 'uuid'), sinceMs, stepMs)) }
    },
  }
}

/** How far an image is, and at last what it is. */
async function* imageUpdates(
  bring: (onProgress: (percent: number) => void) => Promise<PoolImage>,
  signal: AbortSignal,
): AsyncGenerator<ImportImageResponse> {
  const progress = new Progress()
  const result = bring((percent) => progress.say(String(percent)))
  result.catch(() => {})
  const running: Running<PoolImage> = { result, progress }
  for await (const percent of stepsOf(running, signal)) {
    yield { update: { $case: 'progressPercent', value: Number(percent) } }
  }
  if (!signal.aborted) yield { update: { $case: 'imported', value: imageToWire(await result) } }
}

async function* diskPartsOf(requests: AsyncIterable<WriteDiskRequest>): AsyncGenerator<DiskPart> {
  for await (const { message } of requests) if (message?.$case === 'part') yield message.value
}

async function* dataOf(requests: AsyncIterable<AttachConsoleRequest>): AsyncGenerator<Uint8Array> {
  for await (const { message } of requests) if (message?.$case === 'data') yield message.value
}
