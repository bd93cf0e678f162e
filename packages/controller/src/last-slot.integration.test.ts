// Two creations race for the last slot of the only host, again and again, through the real service and its group
// commit. The database is in memory: what is asked here is who wins, not what survives.

import { DEFAULT_OVERCOMMIT, type HostRecord, VpeError } from '@vpe/core'
import { CreateInstanceRequest } from '@vpe/proto'
import { type CallContext, Metadata } from 'nice-grpc'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { createController } from './controller.ts'
import { SqliteBackend } from './store/sqlite-backend.ts'
import { Store } from './store/store.ts'
import { change } from './store/tables.ts'
import { FakeAgent } from './testing/fake-agent.ts'

const RACES = 1_000
const SLOT_MIB = 256
const GIB = 1024 ** 3

const context = (key: string) =>
  ({ metadata: key ? Metadata({ 'idempotency-key': key }) : Metadata() }) as CallContext

test('one wins, and the other is told why, each time', async () => {
  const agent = await FakeAgent.start()
  // What becomes of the winners is not the question.
  agent.onApply = () => new Promise(() => {})
  let fatal: unknown = null
  const onFatal = (error: unknown) => {
    fatal ??= error
  }
  const store = await Store.open(new SqliteBackend(':memory:'), Date.now, onFatal)
  const host: HostRecord = {
    uuid: agent.hostId,
    name: 'h1',
    address: agent.address,
    state: 'up',
    stateSinceMs: 0,
    conditions: [],
    schedulable: true,
    drain: null,
    facts: {
      hostname: 'h1',
      cpus: RACES,
      memoryMib: DEFAULT_OVERCOMMIT.hostReservedMib,
      cpuModel: '',
      arch: 'x86_64',
      domainType: 'kvm',
      libvirtVersion: '',
      hypervisorVersion: '',
      bootId: agent.bootId,
      cpuFeatures: [],
      agentVersion: '',
      kernel: '',
      bridges: [],
    },
    createdAtMs: 0,
  }
  await store.commit([
    change.host(host),
    change.flavor({ uuid: 'f', name: 'tiny', vcpus: 1, memoryMib: SLOT_MIB, diskGib: 1, createdAtMs: 0 }),
    change.diskPool({
      uuid: 'p',
      name: 'local',
      kind: 'dir',
      path: '/pool',
      nfs: null,
      rbd: null,
      marker: '',
      orphans: [],
      deletionUuid: null,
      shared: false,
      systemDisks: 'overlay',
      everyHost: true,
      hosts: [
        {
          hostId: host.uuid,
          state: 'ready',
          leavingBy: null,
          fault: '',
          capacityBytes: 2 * RACES * GIB,
          availableBytes: 2 * RACES * GIB,
          marker: '',
        },
      ],
      createdAtMs: 0,
    }),
    change.image({
      uuid: 'i',
      name: 'demo',
      url: 'file:///demo.qcow2',
      instanceUuid: '',
      hostId: '',
      sha256: '',
      format: 'qcow2',
      sizeBytes: 1,
      virtualSizeBytes: 1,
      status: 'active',
      fault: '',
      diskPoolUuid: 'p',
      createdAtMs: 0,
    }),
  ])
  const controller = createController({
    store,
    now: Date.now,
    log: pino({ level: 'silent' }),
    onFatal,
  })
  const { service } = controller
  const create = async (name: string, key: string) => {
    const request = CreateInstanceRequest.fromPartial({ name, flavor: 'tiny', image: 'demo' })
    return service.createInstance(request, context(key)).then(
      () => 'won',
      (error: unknown) => (error instanceof VpeError ? `${error.code}: ${error.message}` : error),
    )
  }

  for (let race = 1; race <= RACES; race++) {
    const memoryMib = DEFAULT_OVERCOMMIT.hostReservedMib + race * SLOT_MIB
    await store.commit([change.host({ ...host, facts: { ...host.facts, memoryMib } })])
    // Those with a key look it up first, and so decide in another turn.
    const [oneKey, otherKey] = [race % 2 ? `a${race}` : '', race % 3 ? `b${race}` : '']
    const ends = await Promise.all([create(`a${race}`, oneKey), create(`b${race}`, otherKey)])
    expect(ends.sort()).toEqual([
      'NO_HOST_FITS: no host fits: 1 of 1 lack memory (h1: needs 256 MiB, 0 MiB are free)',
      'won',
    ])
  }
  expect(store.usage.ofHost(host.uuid)).toMatchObject({ instances: RACES, memoryMib: RACES * SLOT_MIB })
  expect(fatal).toBeNull()
  agent.stop()
  await controller.close()
}, 600_000)
