// One short question to an agent on behalf of a request.

import { type HostRecord, VpeError } from '@vpe/core'
import { fromClientError } from '@vpe/proto'

export const AGENT_TIMEOUT_MS = 10_000

/** @throws VpeError of the agent's, with the name of its host */
export async function callAgent<Answer>(
  host: HostRecord,
  call: (signal: AbortSignal) => Promise<Answer>,
): Promise<Answer> {
  try {
    return await call(AbortSignal.timeout(AGENT_TIMEOUT_MS))
  } catch (cause) {
    const error = fromClientError(cause)
    throw new VpeError(error.code, `host ${host.name}: ${error.message}`, { cause })
  }
}
