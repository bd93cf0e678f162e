// Calls of the HA machine to hosts, storage and power. Each has a deadline, and none is believed for having been answered: what came of
// it is seen in reports, or comes back as an event. What fails is asked for again by the machine.

import { type HostId, type InstanceId, VpeError } from '@vpe/core'
import type { HaControllerAction, HaControllerEvent, Sighting } from '@vpe/core/ha'
import { fromClientError } from '@vpe/proto'
import type { Logger } from 'pino'
import type { Agents } from '../agents.ts'
import type { Store } from '../store/store.ts'
import { orderToWire, pillToWire, sightingFromWire } from './ha-wire.ts'
import type { HostReports } from './host-reports.ts'
import type { HaPools } from './ports.ts'

const SIGHT_TIMEOUT_MS = 2_000
const ORDER_TIMEOUT_MS = 5_000
/** Of storage and power; the machine tries again after that. */
const FENCE_TIMEOUT_MS = 30_000

type Action<Kind extends HaControllerAction['kind']> = Extract<HaControllerAction, { kind: Kind }>

export interface HaActionsDeps {
  readonly store: Store
  readonly agents: Agents
  readonly pools: HaPools
  readonly log: Logger
  readonly reports: HostReports
  readonly onEvent: (event: HaControllerEvent) => void
  /** Its start is due: that is the reconciler's. */
  readonly onStart: (uuid: InstanceId) => void
}

export class HaActions {
  readonly #deps: HaActionsDeps
  readonly #closed = new AbortController()
  /** What is under way; it is not begun again meanwhile. */
  readonly #running = new Set<string>()

  constructor(deps: HaActionsDeps) {
    this.#deps = deps
  }

  close(): void {
    this.#closed.abort()
  }

  /** Begins it. */
  perform(action: HaControllerAction): void {
    switch (action.kind) {
      case 'dial':
        this.#dial(action.hostId)
        return
      case 'ask-lease':
        this.#askLease(action)
        return
      case 'revoke':
        this.#revoke(action)
        return
      case 'power-off':
        this.#powerOff(action)
        return
      case 'command':
        this.#command(action)
        return
      case 'write-pill':
        this.#writePill(action)
        return
      // Written down and told of already; guests are handed over by the reconciler.
      case 'commit':
      case 'hand-over':
      case 'host-changed':
      case 'host-proven':
      case 'instance-changed':
        return
      default:
        throw new Error(`no such action: ${action satisfies never}`)
    }
  }

  #dial(hostId: HostId): void {
    this.#once(`dial ${hostId}`, async () => {
      const isOk = await this.#deps.reports.dial(hostId)
      // First what it said, so that it is not taken for silent once more.
      if (isOk) this.#tell({ kind: 'reports', ...this.#deps.reports.take() })
      this.#tell({ kind: 'dialled', hostId, isOk })
    })
  }

  #askLease({ observer, hostId, pool }: Action<'ask-lease'>): void {
    this.#once(`sight ${observer} ${hostId} ${pool}`, async () => {
      const sighting = await this.#sight(observer, hostId, pool)
      this.#tell({ kind: 'sighting', observer, hostId, pool, sighting })
    })
  }

  #revoke({ hostId, bootId, verdictMs, pool }: Action<'revoke'>): void {
    this.#once(`revoke ${hostId} ${pool}`, async () => {
      const isOk = await this.#deps.pools.revoke(hostId, pool, this.#deadline(FENCE_TIMEOUT_MS))
      this.#tell({ kind: 'revoked', hostId, bootId, verdictMs, pool, isOk })
    })
  }

  #powerOff({ hostId, bootId, verdictMs }: Action<'power-off'>): void {
    this.#once(`power off ${hostId}`, async () => {
      const isOff = await this.#deps.pools.powerOff(hostId, this.#deadline(FENCE_TIMEOUT_MS))
      this.#tell({ kind: 'powered-off', hostId, bootId, verdictMs, isOff })
    })
  }

  #command({ hostId, command }: Action<'command'>): void {
    if (command.kind === 'start') {
      this.#deps.onStart(command.uuid)
      return
    }
    const order = orderToWire(command)
    const of = command.kind === 'settle' ? '' : ` of ${command.instance.uuid}`
    this.#call(`${command.kind}${of} on ${hostId}`, hostId, async (client, signal) => {
      await client.orderHa(order, { signal })
    })
  }

  #writePill({ via, hostId, pool, pill }: Action<'write-pill'>): void {
    const slot = this.#deps.pools.slotOf(pool, hostId)
    if (slot === null) return
    this.#call(`pill for ${hostId} in ${pool}`, via, async (client, signal) => {
      const { failure } = await client.sendPill(pillToWire(pool, slot, pill), { signal })
      if (failure) throw new VpeError('UNAVAILABLE', failure)
    })
  }

  /** Whoever cannot say, does not know. */
  async #sight(observer: HostId, hostId: HostId, poolUuid: string): Promise<Sighting> {
    const host = this.#deps.store.hosts.get(observer)
    if (!host) return { kind: 'unknown', isPoolHealthy: false, why: 'its observer is gone' }
    try {
      const signal = this.#deadline(SIGHT_TIMEOUT_MS)
      const request = { poolUuid, hostUuid: hostId }
      return sightingFromWire(hostId, await this.#deps.agents.client(host).sightLease(request, { signal }))
    } catch (error) {
      return { kind: 'unknown', isPoolHealthy: false, why: fromClientError(error).message }
    }
  }

  #call(
    what: string,
    hostId: HostId,
    work: (client: ReturnType<Agents['client']>, signal: AbortSignal) => Promise<void>,
  ): void {
    const host = this.#deps.store.hosts.get(hostId)
    if (!host) return
    this.#once(what, async () => {
      try {
        await work(this.#deps.agents.client(host), this.#deadline(ORDER_TIMEOUT_MS))
      } catch (error) {
        this.#deps.log.warn({ host: hostId, err: fromClientError(error) }, `${what} failed`)
      }
    })
  }

  #once(what: string, work: () => Promise<void>): void {
    if (this.#running.has(what) || this.#closed.signal.aborted) return
    this.#running.add(what)
    void work().finally(() => this.#running.delete(what))
  }

  #tell(event: HaControllerEvent): void {
    if (!this.#closed.signal.aborted) this.#deps.onEvent(event)
  }

  #deadline(ms: number): AbortSignal {
    return AbortSignal.any([this.#closed.signal, AbortSignal.timeout(ms)])
  }
}
