// A folder that has been set up as a disk pool before the test begins.

import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MARKER_FILE } from '../pool/pool-files.ts'

export interface MarkedPool {
  readonly uuid: string
  readonly path: string
  readonly marker: string
}

/** Makes the folder, if it is not there, and marks it. */
export function markedPool(path: string, uuid: string = randomUUID()): MarkedPool {
  mkdirSync(path, { recursive: true })
  const marker = randomUUID()
  const text = JSON.stringify({ pool: uuid, marker, made_at: '2026-01-01T00:00:00.000Z' })
  writeFileSync(join(path, MARKER_FILE), text)
  return { uuid, path, marker }
}
