// Finding what a request names: by uuid, or by name where a field takes both.

import { type FieldFault, type HostRecord, VpeError } from '@vpe/core'
import type { Named, NamedMap } from '../store/named-map.ts'

/** The record with a uuid, for a call that is about it. @throws NOT_FOUND */
export function getOr404<Row>(rows: ReadonlyMap<string, Row>, kind: string, uuid: string): Row {
  const row = rows.get(uuid)
  if (!row) throw new VpeError('NOT_FOUND', `there is no ${kind} ${uuid}`)
  return row
}

export function findNamed<Row extends Named>(rows: NamedMap<Row>, uuidOrName: string): Row | null {
  return rows.get(uuidOrName) ?? rows.findByName(uuidOrName)
}

/**
 * The record that a field of a request refers to, by uuid or name.
 * @throws INVALID_ARGUMENT naming the field when there is none
 */
export function refer<Row extends Named>(
  rows: NamedMap<Row>,
  kind: string,
  field: string,
  uuidOrName: string,
): Row {
  const row = findNamed(rows, uuidOrName)
  if (!row) throw invalid(field, `there is no ${kind} ${JSON.stringify(uuidOrName)}`)
  return row
}

/** The hosts that a field refers to, each once. */
export function referHosts(
  rows: NamedMap<HostRecord>,
  field: string,
  uuidsOrNames: readonly string[],
): HostRecord[] {
  return [...new Set(uuidsOrNames.map((each) => refer(rows, 'host', field, each)))]
}

export function invalid(field: string, message: string): VpeError {
  const fields: FieldFault[] = [{ field, message }]
  return new VpeError('INVALID_ARGUMENT', message, { fields })
}

/** @throws NAME_TAKEN when a row has that name */
export function assertNameFree<Row extends Named>(rows: NamedMap<Row>, kind: string, name: string): void {
  const holder = rows.findByName(name)
  if (!holder) return
  const message = `there is already a ${kind} named ${JSON.stringify(name)} (${holder.uuid})`
  throw new VpeError('NAME_TAKEN', message)
}

/** Rows by name, all or those with exactly that name. */
export function listByName<Row extends Named>(rows: ReadonlyMap<string, Row>, name: string): Row[] {
  const some = [...rows.values()].filter((row) => name === '' || row.name === name)
  return some.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Longest name or tag. What is longer might not fit into an event. */
const NAME_LENGTH_MAX = 255

/** @throws INVALID_ARGUMENT when it is empty, too long, or holds control characters */
export function assertName(field: string, name: string): void {
  if (name.length === 0 || name.length > NAME_LENGTH_MAX || /\p{Cc}/u.test(name)) {
    throw invalid(
      field,
      `${field} must have 1 to ${NAME_LENGTH_MAX} characters, none of them a control character`,
    )
  }
}

export function assertBetween(field: string, value: number, min: number, max: number): void {
  if (value < min || value > max) throw invalid(field, `${field} must be ${min} to ${max}, not ${value}`)
}
