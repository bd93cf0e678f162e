// Records for tests, complete and unremarkable: a test names only what it is about.

import type { DiskRecord } from './disk.ts'
import type { InstanceRecord, InstanceReport } from './instance.ts'
import type { OperationRecord } from './operation.ts'
import type { HostCandidate, PlacementRequest, PoolCandidate } from './placement/rules.ts'
import type { SnapshotRecord } from './snapshot.ts'

export function anInstance(over: Partial<InstanceRecord> = {}): InstanceRecord {
  return {
    uuid: '00000000-0000-4000-8000-000000000001',
    name: 'vm1',
    generatedName: 'tnng6qrl9mdt8kjb6rmh',
    namespace: 'default',
    flavorUuid: 'flavor',
    imageUuid: 'image',
    diskPoolUuid: 'pool',
    hostId: 'host',
    leavingHostId: null,
    migration: null,
    staleCopies: [],
    hostIds: [],
    shareStorage: false,
    tags: [],
    vcpus: 1,
    memoryMib: 256,
    diskBytes: 1024 ** 3,
    ha: false,
    haPriority: 'medium',
    haIsolation: 'leave',
    hostname: '',
    sshKeys: [],
    userDataSha256: '',
    power: 'on',
    locked: false,
    generation: 1,
    rebootGeneration: 0,
    rebootKind: 'soft',
    diskGeneration: 0,
    addresses: [],
    diskSnapshotUuid: null,
    diskSource: null,
    settledGeneration: 1,
    status: 'active',
    task: null,
    fault: '',
    restarts: 0,
    lastDiskSlot: 0,
    createdAtMs: 0,
    ...over,
  }
}

export function aDisk(over: Partial<DiskRecord> = {}): DiskRecord {
  return {
    uuid: '00000000-0000-4000-8000-00000000000d',
    name: 'vol1',
    diskPoolUuid: 'pool',
    hostId: 'host',
    sizeBytes: 1024 ** 3,
    settledBytes: 1024 ** 3,
    status: 'available',
    fault: '',
    instanceUuid: null,
    slot: 0,
    createdAtMs: 0,
    ...over,
  }
}

export function aReport(over: Partial<InstanceReport> = {}): InstanceReport {
  return {
    uuid: '00000000-0000-4000-8000-000000000001',
    generation: 1,
    power: 'on',
    stopCause: null,
    fault: '',
    converging: false,
    restarts: 0,
    holdUp: null,
    ...over,
  }
}

export function aSnapshot(over: Partial<SnapshotRecord> = {}): SnapshotRecord {
  return {
    uuid: 'snapshot',
    name: 'first',
    instanceUuid: '00000000-0000-4000-8000-000000000001',
    status: 'available',
    fault: '',
    sizeBytes: 1024 ** 3,
    createdAtMs: 0,
    ...over,
  }
}

export function anOperation(over: Partial<OperationRecord> = {}): OperationRecord {
  return {
    uuid: 'operation',
    kind: 'instance.create',
    resourceUuid: '00000000-0000-4000-8000-000000000001',
    generation: 1,
    status: 'running',
    fault: '',
    createdAtMs: 0,
    endedAtMs: null,
    placementUuid: null,
    note: '',
    ...over,
  }
}

export function aPool(over: Partial<PoolCandidate> = {}): PoolCandidate {
  return {
    uuid: 'pool',
    name: 'local',
    shared: false,
    state: 'ready',
    fault: '',
    capacityBytes: 100 * 1024 ** 3,
    reservedBytes: 0,
    ...over,
  }
}

export function aHost(over: Partial<HostCandidate> = {}): HostCandidate {
  return {
    id: 'host',
    name: 'h1',
    state: 'up',
    cpus: 4,
    memoryMib: 8192,
    vcpusUsed: 0,
    memoryMibUsed: 0,
    schedulable: true,
    cpuFeatures: [],
    runningTasks: 0,
    haInstances: 0,
    pools: [aPool()],
    groups: {},
    ...over,
  }
}

export function aRequest(over: Partial<PlacementRequest> = {}): PlacementRequest {
  return {
    vcpus: 1,
    memoryMib: 512,
    diskBytes: 1024 ** 3,
    hostIds: [],
    excludeHostIds: [],
    diskPoolUuid: null,
    sharedPoolOnly: false,
    imageHome: null,
    dataDisks: [],
    cpuFeatures: [],
    ha: false,
    groups: [],
    ...over,
  }
}
