// One of the processes that do a guard's I/O in a pool (see child-protocol.ts); which one, its settings say. It ends when the guard
// does: nobody renews a lease that nobody watches.

import type { FromChild, ToChild } from './child-protocol.ts'
import { childSettingsSchema } from './child-settings.ts'
import { ClaimHolder } from './claim-holder.ts'
import { LeaseWriter } from './lease-writer.ts'
import { LockProber } from './lock-prober.ts'
import { PoolReader } from './pool-reader.ts'

const settings = childSettingsSchema.parse(JSON.parse(process.argv[2] ?? ''))
const end = () => process.exit(0)
const say = (message: FromChild) => {
  process.send?.(message, undefined, undefined, (error) => error && end())
}
const roles = {
  'lease-writer': LeaseWriter,
  'pool-reader': PoolReader,
  'claim-holder': ClaimHolder,
  'lock-prober': LockProber,
} as const

process.on('disconnect', end)
const child = new roles[settings.role](settings, say)
process.on('message', (message) => child.hear(message as ToChild))
child.start()
say({ kind: 'ready' })
