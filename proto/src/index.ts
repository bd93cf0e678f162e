// @vpe/proto: the wire between the processes, generated from vpe/v1/*.proto, and the one place where
// a VpeError becomes a gRPC status and back.

// Both services have streams, and the generator gives each its own copy of this type.
export type { ServerStreamingMethodResult } from '../gen/vpe/v1/agent.ts'
export * from '../gen/vpe/v1/agent.ts'
export * from '../gen/vpe/v1/console.ts'
export * from '../gen/vpe/v1/controller.ts'
export * from '../gen/vpe/v1/enrolment.ts'
export * from '../gen/vpe/v1/guard.ts'
export * from '../gen/vpe/v1/metrics.ts'
export * from '../gen/vpe/v1/recovery.ts'
export * from '../gen/vpe/v1/resources.ts'
export * from './error-status.ts'
export * from './peer.ts'
export * from './rpc.ts'
export * from './tls.ts'
