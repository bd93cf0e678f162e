// Lists of instances. Most of what a list holds is what the one before it held: so each instance is rendered
// once for each edition of it, its text is kept, and the controller sends only editions that are not kept.

import { type ControllerServiceClient, Instance, type ListInstancesResponse } from '@vpe/proto'
import { LRUCache } from 'lru-cache'
import type { ControllerCalls } from './controller-calls.ts'
import { given } from './view.ts'

/** About 1 kB each, of 5,000 at most. */
const TEXTS_KEPT = { max: 5_000, maxSize: 16 * 1024 ** 2, sizeCalculation: (text: string) => text.length + 1 }

type Query = Parameters<ControllerServiceClient['listInstances']>[0]

export interface InstancePage {
  /** Of each instance, as JSON. */
  readonly texts: readonly string[]
  /** Empty when nothing comes after. */
  readonly nextMarker: string
}

/** Lists instances as one dialect shows them. */
export class InstanceLists {
  readonly #controller: ControllerServiceClient
  readonly #show: (instance: Instance) => object
  readonly #texts = new LRUCache<number, string>(TEXTS_KEPT)
  /** Of the controller that the editions are from. */
  #run = 0

  constructor(controller: ControllerServiceClient, show: (instance: Instance) => object) {
    this.#controller = controller
    this.#show = show
  }

  /** One page, as the controller gives it. */
  async page(read: ControllerCalls['read'], query: Query): Promise<InstancePage> {
    const ask = (kept: number[]) =>
      read((options) => this.#controller.listInstances({ ...query, kept, keptRun: this.#run }, options))
    const answer = await ask([...this.#texts.keys()])
    const texts = this.#render(answer)
    if (texts) return { texts, nextMarker: answer.nextMarker }
    // A text was dropped, or another controller took over, while the question was on its way.
    const whole = await ask([])
    return { texts: given(this.#render(whole), 'what was listed'), nextMarker: whole.nextMarker }
  }

  /**
   * A whole list, put together from the controller's pages: however many instances there are, no message is
   * larger than a page, and the controller turns to others in between.
   */
  async all(
    read: ControllerCalls['read'],
    filter: Omit<Query, 'limit' | 'marker'>,
    marker = '',
  ): Promise<string[]> {
    const all: string[] = []
    for (let next = marker; ; ) {
      const { texts, nextMarker } = await this.page(read, { ...filter, marker: next })
      all.push(...texts)
      if (nextMarker === '') return all
      next = nextMarker
    }
  }

  /** Undefined when something that was left out is not kept any more. */
  #render({ instances, run }: ListInstancesResponse): string[] | undefined {
    if (run !== this.#run) {
      this.#texts.clear()
      this.#run = run
    }
    const texts: string[] = []
    for (const { edition, instance } of instances) {
      const text = instance ? this.#renderOne(edition, instance) : this.#texts.get(edition)
      if (text === undefined) return undefined
      texts.push(text)
    }
    return texts
  }

  #renderOne(edition: number, encoded: Uint8Array): string {
    const text = JSON.stringify(this.#show(Instance.decode(encoded)))
    this.#texts.set(edition, text)
    return text
  }
}
