// Hosts, in the style of dialect 1.

import { z } from '@hono/zod-openapi'
import { AgentAddress, Moment, Name, Uuid } from './fields.ts'

const Facts = z.object({
  hostname: z.string(),
  cpus: z.int(),
  memory_mib: z.int(),
  cpu_model: z.string(),
  arch: z.string(),
  domain_type: z.string().openapi({ description: 'kvm, or qemu where only software emulation works' }),
  libvirt_version: z.string(),
  hypervisor_version: z.string(),
  boot_id: z.string(),
})

export const HostView = z
  .object({
    uuid: Uuid,
    name: z.string(),
    address: z.string(),
    state: z.enum(['up', 'down']),
    facts: Facts.nullable(),
    capacity: z.object({ vcpus: z.int(), memory_mib: z.int() }),
    used: z.object({ vcpus: z.int(), memory_mib: z.int(), instances: z.int() }),
    unknown_instances: z.array(z.string()).openapi({
      description: 'Domains on the host that carry the mark of vpe but that no record names; left alone',
    }),
    last_heartbeat_at: Moment.nullable(),
    created_at: Moment,
  })
  .openapi('Host')

export const HostListAnswer = z.object({ hosts: z.array(HostView) })
export const HostAnswer = z.object({ host: HostView })
export const HostUuidAnswer = z.object({ host: z.object({ uuid: Uuid }) })

export const CreateHostBody = z
  .strictObject({ host: z.strictObject({ name: Name, address: AgentAddress }) })
  .openapi('CreateHost')
