// The snapshots by instance, kept current with each change.

import type { SnapshotRecord } from '@vpe/core'

export class SnapshotIndex {
  readonly #ofInstance = new Map<string, Map<string, SnapshotRecord>>()

  /** Takes one record out and puts another in. */
  replace(before: SnapshotRecord | null, after: SnapshotRecord | null): void {
    const { instanceUuid } = after ?? before ?? { instanceUuid: '' }
    const some = this.#ofInstance.get(instanceUuid) ?? new Map()
    if (after) some.set(after.uuid, after)
    else if (before) some.delete(before.uuid)
    if (some.size > 0) this.#ofInstance.set(instanceUuid, some)
    else this.#ofInstance.delete(instanceUuid)
  }

  /** Oldest first. */
  ofInstance(instanceUuid: string): SnapshotRecord[] {
    return [...(this.#ofInstance.get(instanceUuid)?.values() ?? [])]
  }
}
