// What the cluster says that it has, by its API.

import type { LabCluster } from '../e2e/lab-cluster.ts'

export interface InstanceSeen {
  readonly uuid: string
  readonly name: string
  readonly status: 'active' | 'shutoff' | 'paused' | 'error'
  readonly task: string | null
  readonly fault: string | null
  readonly flavor_uuid: string
  readonly disk_pool_uuid: string
  readonly host_uuid: string | null
  readonly user_data_sha256: string | null
  readonly locked: boolean
  readonly disks: readonly { readonly uuid: string }[]
}

export interface DiskSeen {
  readonly uuid: string
  readonly name: string
  readonly disk_pool_uuid: string
  readonly host_uuid: string | null
  readonly size_bytes: number
  readonly status: string
  readonly fault: string | null
  readonly instance_uuid: string | null
}

export interface HostSeen {
  readonly uuid: string
  readonly name: string
  readonly address: string
  readonly state: 'up' | 'down'
  readonly schedulable: boolean
  readonly used: {
    readonly vcpus: number
    readonly memory_mib: number
    readonly instances: number
    readonly tasks: number
  }
}

export interface PoolSeen {
  readonly uuid: string
  readonly name: string
  readonly shared: boolean
  readonly hosts: readonly { readonly host_uuid: string; readonly state: string }[]
}

export interface FlavorSeen {
  readonly uuid: string
  readonly name: string
  readonly vcpus: number
  readonly memory_mib: number
}

export interface OperationSeen {
  readonly uuid: string
  readonly kind: string
  readonly resource_uuid: string
  readonly status: 'running' | 'succeeded' | 'failed' | 'cancelled'
  readonly step: string | null
  readonly fault: string | null
}

export interface World {
  readonly instances: readonly InstanceSeen[]
  readonly disks: readonly DiskSeen[]
  readonly hosts: readonly HostSeen[]
  readonly pools: readonly PoolSeen[]
  readonly flavors: readonly FlavorSeen[]
}

export async function look(cluster: LabCluster): Promise<World> {
  const list = async (path: string) => (await cluster.ok('GET', `/${path}`)).body[path]
  const [instances, disks, hosts, pools, flavors] = await Promise.all(
    ['instances', 'disks', 'hosts', 'disk_pools', 'flavors'].map(list),
  )
  return { instances, disks, hosts, pools, flavors }
}

export async function runningOperations(cluster: LabCluster): Promise<OperationSeen[]> {
  const { body } = await cluster.ok('GET', '/operations?limit=1000')
  return body.operations.filter(({ status }: OperationSeen) => status === 'running')
}
