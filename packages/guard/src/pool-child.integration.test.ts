// Two hosts on one pool, with the real processes and real files between them; one of the hosts is killed, told to let go, and loses its
// instance to the other. Times are a tenth of those of the fast profile.

import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { InstanceId } from '@vpe/core'
import { type ClaimJob, HA_PROFILES, type Pill } from '@vpe/core/ha'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { FromChild, Role } from './child-protocol.ts'
import { PoolChild } from './pool-child.ts'
import { tenth } from './testing/tenth.ts'
import { until } from './testing/until.ts'

const timings = tenth(HA_PROFILES.fast)
const condition = { isWatchdogArmed: true, isManagementOk: true, isGuestNetworkOk: true }
const uuid = randomUUID() as InstanceId

/** The three processes of a host, and what they have said. */
class Host {
  readonly hostId = randomUUID()
  readonly incarnation = randomUUID()
  readonly said: FromChild[] = []
  readonly #children: Readonly<Record<Role, PoolChild>>
  readonly #permits: NodeJS.Timeout
  readonly slot: number

  constructor(path: string, clusterId: string, pool: string, slot: number) {
    this.slot = slot
    const place = { pool, path, clusterId, slot, slots: 4 }
    const make = (role: Role) =>
      new PoolChild({
        settings: { role, place, hostId: this.hostId, bootId: randomUUID(), timings },
        onMessage: (message) => this.said.push(message),
        log: () => {},
      })
    this.#children = {
      'lease-writer': make('lease-writer'),
      'pool-reader': make('pool-reader'),
      'claim-holder': make('claim-holder'),
    }
    this.#permits = setInterval(() => this.#permit(), 50)
  }

  #permit(): void {
    this.#children['lease-writer'].send({ kind: 'permit', incarnation: this.incarnation, condition })
  }

  /** What it sees of another host, once that is of a kind. */
  sees(other: Host, kind: string) {
    return until(`${kind} is seen`, async () => {
      const { sighting } = await this.#ask('sighting', (id) =>
        this.#children['pool-reader'].send({ kind: 'sight', id, hostId: other.hostId }),
      )
      return sighting.kind === kind ? sighting : null
    })
  }

  sendPill(other: Host, pill: Pill) {
    return this.#ask('pill-sent', (id) =>
      this.#children['pool-reader'].send({ kind: 'send-pill', id, slot: other.slot, pill }),
    )
  }

  async claim(job: ClaimJob) {
    const isAnswer = (message: FromChild) => message.kind === 'claim'
    const before = this.said.filter(isAnswer).length
    this.#children['claim-holder'].send({ kind: 'claim', job })
    const answer = await until('the claim is answered', () => this.said.filter(isAnswer)[before])
    if (answer.kind !== 'claim') throw new Error('unreachable')
    return answer.result
  }

  async ready(): Promise<this> {
    await until(
      'its processes are ready',
      () => this.said.filter(({ kind }) => kind === 'ready').length === 3,
    )
    return this
  }

  renewals(): number {
    return this.said.filter(({ kind }) => kind === 'renewed').length
  }

  /** As when its guard has died. */
  unwatch(): void {
    clearInterval(this.#permits)
  }

  end(): void {
    this.unwatch()
    for (const child of Object.values(this.#children)) child.close()
  }

  #ask<Kind extends 'sighting' | 'pill-sent'>(kind: Kind, send: (id: number) => void) {
    type Answer = Extract<FromChild, { kind: Kind }>
    const id = Math.floor(Math.random() * 2 ** 40)
    send(id)
    return until(`a ${kind}`, () =>
      this.said.find(
        (message): message is Answer => message.kind === kind && 'id' in message && message.id === id,
      ),
    )
  }
}

let dir: string
let a: Host
let b: Host
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vpe-guard-'))
  const [clusterId, pool] = [randomUUID(), randomUUID()]
  a = new Host(dir, clusterId, pool, 0)
  b = new Host(dir, clusterId, pool, 1)
  await Promise.all([a.ready(), b.ready()])
})
afterEach(() => {
  a.end()
  b.end()
  rmSync(dir, { recursive: true, force: true })
})

test('a host that lives is seen alive, one that has died is stale', async () => {
  expect(await b.sees(a, 'alive')).toMatchObject({
    lease: { incarnation: a.incarnation, isWatchdogArmed: true },
  })
  await until('it has renewed', () => a.renewals() > 2)
  a.end()
  const { staleForMs } = (await b.sees(a, 'stale')) as { staleForMs: number }
  expect(staleForMs).toBeGreaterThanOrEqual(timings.tryMs)
})

test('one that nobody watches is stale, too', async () => {
  await b.sees(a, 'alive')
  a.unwatch()
  await b.sees(a, 'stale')
})

test('who reads a pill for it renews no more, and says so; one for another incarnation is not for it', async () => {
  await b.sees(a, 'alive')
  const pill = (nonce: number, targetIncarnation: string): Pill => {
    return { kind: 'mailbox', epoch: 3, nonce, targetIncarnation, scope: [{ uuid, generation: 7 }] }
  }
  expect(await b.sendPill(a, pill(1, randomUUID()))).toMatchObject({ failure: null })
  const before = a.renewals()
  await until('it has renewed since', () => a.renewals() > before + 2)
  await b.sendPill(a, pill(2, a.incarnation))
  const told = await until('it is told', () => a.said.find(({ kind }) => kind === 'pill'))
  expect(told).toEqual({ kind: 'pill', pill: pill(2, a.incarnation) })
  await b.sees(a, 'stale')
})

test('a claim is one host’s, until that lets go or dies; then it is another’s, in a later generation', async () => {
  const take = (generation: number): ClaimJob => ({
    kind: 'take',
    uuid,
    generation,
    epoch: 1,
    keepsLock: true,
  })
  expect(await a.claim(take(1))).toEqual({ kind: 'taken' })
  expect(await a.claim({ kind: 'check', uuid, generation: 1, keepsLock: true })).toEqual({ kind: 'mine' })
  expect(await b.claim(take(2))).toEqual({ kind: 'locked' })
  expect(await b.claim({ kind: 'gate', uuid })).toEqual({ kind: 'locked' })
  a.end()
  await until('its lock is free', async () => (await b.claim({ kind: 'gate', uuid })).kind === 'gated')
  expect(await b.claim(take(1))).toMatchObject({ kind: 'others', claim: { generation: 1, hostId: a.hostId } })
  expect(await b.claim(take(2))).toEqual({ kind: 'taken' })
  expect(await b.claim({ kind: 'release', uuid, generation: 2 })).toEqual({ kind: 'released' })
})
