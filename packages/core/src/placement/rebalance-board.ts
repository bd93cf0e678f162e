// The hosts with the moves of a plan made on them, so that the next move is judged as placement would judge it then.
// The table is the one that placement reads: all moves are taken back before anything else looks at it.

import type { HostId, InstanceId } from '../ids.ts'
import { type Ask, prepareAsk } from './ask.ts'
import { Balance, type Evenness } from './balance.ts'
import type { HostTable, Reservation } from './host-table.ts'
import { judge, PASSED } from './judge.ts'
import type { PlacementRequest } from './rules.ts'

/** Hosts from which, and to which, moves are tried at each step: the most and the least loaded ones. */
const HOSTS_TRIED = 8

/**
 * Hosts that are judged in one plan. Nearly each one that is judged fits, and the plan is over long before; where
 * instances fit almost nowhere, this is what ends it: the controller does nothing else meanwhile.
 */
const LOOKS_MAX = 1_000_000

/** An instance, as rebalancing sees it. */
export interface RebalanceInstance {
  readonly uuid: InstanceId
  /** What it asks of a host that it moves to; its disks are there already. */
  readonly request: PlacementRequest
  readonly reservation: Reservation
  /** Memory that is copied when it moves: none while it is off. */
  readonly copiedMib: number
  /** Why it is left where it is, in words that come after a number: "paused"; null where it may move. */
  readonly stays: string | null
}

export interface BoardMove {
  readonly instance: RebalanceInstance
  /** Rows. */
  readonly from: number
  readonly to: number
}

export interface Trial extends BoardMove {
  /** How even it would be with it. */
  readonly after: Evenness
}

export class RebalanceBoard {
  readonly table: HostTable
  readonly balance: Balance
  readonly #instancesOn: (hostId: HostId) => readonly RebalanceInstance[]
  /** Where instances were before the first move, by row. */
  readonly #instances = new Map<number, readonly RebalanceInstance[]>()
  readonly #moves: BoardMove[] = []
  #looks = 0

  constructor(table: HostTable, instancesOn: (hostId: HostId) => readonly RebalanceInstance[]) {
    this.table = table
    this.balance = new Balance(table)
    this.#instancesOn = instancesOn
  }

  get moves(): readonly BoardMove[] {
    return this.#moves
  }

  /** So many hosts were judged that the plan is to end with what it has. */
  get isExhausted(): boolean {
    return this.#looks >= LOOKS_MAX
  }

  /** By uuid. */
  instancesAt(row: number): readonly RebalanceInstance[] {
    const known = this.#instances.get(row)
    if (known) return known
    const found = [...this.#instancesOn(this.table.ids[row] ?? '')]
    const instances = found.sort((a, b) => (a.uuid < b.uuid ? -1 : 1))
    this.#instances.set(row, instances)
    return instances
  }

  /** Makes a move. Until it is taken back, memory and vCPUs are promised on both hosts: whatever of a plan is under way, there is room. */
  make(move: BoardMove): void {
    const { from, to, instance } = move
    const { reservation, request } = instance
    const [source, target] = [this.#hostId(from), this.#hostId(to)]
    this.table.release(source, { ...reservation, diskBytes: 0, vcpus: 0, memoryMib: 0 })
    this.table.reserve(target, { ...reservation, diskBytes: 0 })
    this.balance.move(request, from, to)
    this.#moves.push(move)
  }

  /** Takes the last move back. */
  takeBack(): void {
    const move = this.#moves.pop()
    if (!move) throw new Error('there is no move to take back')
    const { from, to, instance } = move
    const { reservation, request } = instance
    const [source, target] = [this.#hostId(from), this.#hostId(to)]
    this.table.release(target, { ...reservation, diskBytes: 0 })
    this.table.reserve(source, { ...reservation, diskBytes: 0, vcpus: 0, memoryMib: 0 })
    this.balance.move(request, to, from)
  }

  takeAllBack(): void {
    while (this.#moves.length > 0) this.takeBack()
  }

  /**
   * Moves that are allowed now, from hosts with much load to hosts with little; each instance moves once.
   * @param uphill also to hosts with more load: no gain as such, but other moves may make it one
   */
  trials(uphill: boolean): Trial[] {
    const moved = new Set(this.#moves.map(({ instance }) => instance.uuid))
    const trials: Trial[] = []
    let sources = 0
    for (const from of this.balance.rows.toReversed()) {
      const movable = this.instancesAt(from).filter(({ uuid, stays }) => stays === null && !moved.has(uuid))
      if (movable.length === 0) continue
      if (++sources > HOSTS_TRIED) break
      for (const instance of movable) {
        for (const to of this.targetsOf(instance, from, uphill)) {
          const after = this.balance.evennessAfter(instance.request, from, to)
          trials.push({ instance, from, to, after })
        }
      }
    }
    return trials
  }

  /** The least loaded hosts that may have it; unless `uphill`, only those with less load than its own. */
  targetsOf(instance: RebalanceInstance, from: number, uphill: boolean): number[] {
    return this.#withoutGroups(instance, from, (ask) => {
      const load = this.balance.loadOf(from)
      const targets: number[] = []
      for (const row of this.balance.rows) {
        if ((!uphill && this.balance.loadOf(row) >= load) || targets.length === HOSTS_TRIED) break
        if (this.isExhausted) break
        this.#looks++
        if (isAllowed(this.table, ask, from, row)) targets.push(row)
      }
      return targets
    })
  }

  /** Whether a move is allowed as things are on the board. */
  allows({ instance, from, to }: BoardMove): boolean {
    return this.#withoutGroups(instance, from, (ask) => isAllowed(this.table, ask, from, to))
  }

  /** Looks at the table where the instance counts in none of its groups. */
  #withoutGroups<Result>(instance: RebalanceInstance, row: number, look: (ask: Ask) => Result): Result {
    const { request, reservation } = instance
    const lookAt = () => look(prepareAsk(this.table, request))
    if (reservation.groups.length === 0) return lookAt()
    return this.table.without([this.#hostId(row)], { ...reservation, diskBytes: 0 }, lookAt)
  }

  #hostId(row: number): HostId {
    return this.table.ids[row] ?? ''
  }
}

/** By all filters of placement; and its soft groups must like the new host no less. */
function isAllowed(table: HostTable, ask: Ask, from: number, to: number): boolean {
  if (from === to || judge(table, ask, to) !== PASSED) return false
  return ask.preferred === null || (ask.preferred[to] as number) >= (ask.preferred[from] as number)
}
