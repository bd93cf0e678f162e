// One process of the protocol on a host: its state, what it is told, and what it does. It may hang, be killed between any two
// of its actions, and start again with nothing but what it has written down.

import type { Step } from '@vpe/core/ha'
import type { SimHost } from './sim-host.ts'

export class SimProcess<State, Event extends { kind: string }, Action extends { kind: string }> {
  readonly name: string
  readonly host: SimHost
  readonly #step: (state: State, event: Event, nowMs: number) => Step<State, Action>
  readonly #perform: (action: Action) => void
  state: State | null = null
  /** Of its present life; what was begun in a former one finds it changed. */
  life = 0
  isHung = false
  #inbox: Event[] = []
  #resume: (() => void) | null = null
  /** Ms by which the next of such actions is held up, once. */
  stall: { readonly kind: Action['kind']; readonly ms: number } | null = null
  /** It dies before the next of such actions, once. */
  diesBefore: Action['kind'] | null = null
  onDeath: () => void = () => {}

  constructor(
    host: SimHost,
    name: string,
    step: (state: State, event: Event, nowMs: number) => Step<State, Action>,
    perform: (action: Action) => void,
  ) {
    this.host = host
    this.name = name
    this.#step = step
    this.#perform = perform
  }

  get isAlive(): boolean {
    return this.state !== null
  }

  start(state: State, tickMs: number | null): void {
    this.life++
    this.state = state
    this.isHung = false
    this.#inbox = []
    this.#resume = null
    const { life } = this
    if (tickMs === null) return
    const { world } = this.host
    const tick = () => {
      if (this.life !== life || !this.isAlive) return
      world.after(tickMs, tick)
      // Ticks do not pile up while it stands still.
      if (this.isStill) {
        if (this.#inbox.at(-1)?.kind !== 'tick') this.#inbox.push({ kind: 'tick' } as Event)
      } else this.deliver({ kind: 'tick' } as Event)
    }
    world.after(world.random.between(0, tickMs), tick)
  }

  get isStill(): boolean {
    return this.isHung || this.host.isFrozen
  }

  deliver(event: Event): void {
    if (this.state === null) return
    if (this.isStill) {
      this.#inbox.push(event)
      return
    }
    const { state, actions } = this.#step(this.state, event, this.host.upMs())
    this.state = state
    if (actions.length > 0) this.#performFrom(actions, 0)
  }

  #performFrom(actions: readonly Action[], from: number): void {
    const { life } = this
    const { world } = this.host
    for (let index = from; index < actions.length; index++) {
      const action = actions[index]
      if (!action) continue
      if (world.crashRate > 0 && world.random.chance(world.crashRate)) {
        world.note(`${this.host.name} ${this.name} dies before ${action.kind}`)
        this.kill()
        return
      }
      if (this.diesBefore === action.kind) {
        this.diesBefore = null
        world.note(`${this.host.name} ${this.name} dies before ${action.kind}`)
        this.kill()
        return
      }
      if (this.stall?.kind === action.kind) {
        const { ms } = this.stall
        this.stall = null
        world.note(`${this.host.name} ${this.name} is held up for ${Math.round(ms)} ms before ${action.kind}`)
        this.isHung = true
        this.#resume = () => {
          // Only then is the action carried out, with what was decided before.
          this.#perform(action)
          if (this.life === life && this.isAlive) this.#performFrom(actions, index + 1)
        }
        world.after(ms, () => {
          if (this.life === life) this.wake()
        })
        return
      }
      this.#perform(action)
      if (this.life !== life || !this.isAlive) return
    }
  }

  /** Goes on where it stood. */
  wake(): void {
    this.isHung = false
    if (this.host.isFrozen) return
    const resume = this.#resume
    this.#resume = null
    resume?.()
    const inbox = this.#inbox
    this.#inbox = []
    for (const event of inbox) this.deliver(event)
  }

  kill(): void {
    if (!this.isAlive) return
    this.life++
    this.state = null
    this.isHung = false
    this.#inbox = []
    this.onDeath()
  }
}
