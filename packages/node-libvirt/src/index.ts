// @vpe/node-libvirt: libvirt for Node.js. See README.md.

export type { ConnectionEventName, ConnectionEventPayloads, ConnectOptions } from './connection.ts'
export { Connection, connect } from './connection.ts'
export type { BlockInfo, DomainInfo, InterfaceAddressSource, MemoryStats, SetMetadata } from './domain.ts'
export { Domain } from './domain.ts'
export type {
  AgentLifecycleEvent,
  DeviceEvent,
  DomainEventName,
  DomainEvents,
  IoErrorEvent,
  JobCompletedEvent,
  LifecycleEvent,
  MetadataChangedEvent,
  MigrationIterationEvent,
  RebootEvent,
  WatchdogEvent,
} from './domain-events.ts'
export type * from './domain-flags.ts'
export type { DomainState, DomainStateName } from './domain-state.ts'
export type {
  BalloonStats,
  BlockIoStats,
  BlockStats,
  CpuStats,
  DomainStats,
  DomainStatsOptions,
  NetStats,
  TrafficStats,
  VcpuStats,
  VcpusStats,
} from './domain-stats.ts'
export type { ErrorCodeName, ErrorDomainName, ErrorLevel } from './error.ts'
export { isLibvirtError, LibvirtError } from './error.ts'
export type { CpuComparison, DomainCapabilitiesQuery, NodeInfo } from './host.ts'
export type { DomainIdentity, PoolIdentity, VolumeIdentity } from './identity.ts'
export type { InterfaceAddresses, IpAddress } from './interface-addresses.ts'
export type { JobOperation, JobStats, JobType } from './job-stats.ts'
export type { MigrateOptions } from './migration.ts'
export type { CloseReason } from './session.ts'
export type * from './storage-flags.ts'
export type { StoragePoolInfo, StoragePoolState } from './storage-pool.ts'
export { StoragePool } from './storage-pool.ts'
export type { VolumeInfo, VolumeType } from './volume.ts'
export { Volume } from './volume.ts'
