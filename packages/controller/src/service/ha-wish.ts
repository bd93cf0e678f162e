// What a request wishes of the recovery of an instance, checked.

import {
  DEFAULT_ISOLATION,
  DEFAULT_PRIORITY,
  ISOLATIONS,
  type Isolation,
  PRIORITIES,
  type Priority,
} from '@vpe/core/ha'
import { invalid } from './references.ts'

/** @throws VpeError INVALID_ARGUMENT */
export function haPriorityOf(word: string): Priority {
  return oneOf('ha_priority', PRIORITIES, word)
}

/** @throws VpeError INVALID_ARGUMENT */
export function haIsolationOf(word: string): Isolation {
  return oneOf('ha_isolation', ISOLATIONS, word)
}

/** Of a new instance; what is left empty is as usual. @throws VpeError INVALID_ARGUMENT */
export function haWishOf({ haPriority, haIsolation }: { haPriority: string; haIsolation: string }): {
  readonly haPriority: Priority
  readonly haIsolation: Isolation
} {
  return {
    haPriority: haPriority === '' ? DEFAULT_PRIORITY : haPriorityOf(haPriority),
    haIsolation: haIsolation === '' ? DEFAULT_ISOLATION : haIsolationOf(haIsolation),
  }
}

function oneOf<Word extends string>(field: string, words: readonly Word[], given: string): Word {
  const known = words.find((word) => word === given)
  if (known) return known
  throw invalid(field, `${field} must be one of ${words.join(', ')}, not ${JSON.stringify(given)}`)
}
