// Who asks, as far as that is known: this node takes no tokens, so it is what a proxy in front, which does the
// authentication, says; or what whoever is on this machine says of themselves.

import { invalidInput } from './input-fault.ts'
import { Name } from './schemas/fields.ts'

const HEADER = 'X-Forwarded-User'

/** @throws VpeError INVALID_ARGUMENT where the header is no name */
export function callerOf(request: Request): string {
  const given = request.headers.get(HEADER)
  if (given === null) return 'anonymous'
  const parsed = Name.safeParse(given)
  if (parsed.success) return parsed.data
  throw invalidInput([{ field: HEADER, message: parsed.error.issues[0]?.message ?? 'is no name' }])
}
