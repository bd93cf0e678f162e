// Holds a lock until it is killed.

import { openSync } from 'node:fs'
import { tryLock } from '../ofd-lock.ts'

const [path = ''] = process.argv.slice(2)
process.send?.(tryLock(openSync(path, 'r+'), 'write', { start: 500, length: 1 }))
process.on('message', () => {})
