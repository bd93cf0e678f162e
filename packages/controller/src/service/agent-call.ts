// One short question to an agent on behalf of a request.

import { type HostRecord, VpeError } from '@vpe/core'
import { type DescribeHostResponse, fromClientError } from '@vpe/proto'
import type { Agents } from '../agents.ts'

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

/**
 * Which host the agent at an address is.
 * @throws VpeError HOST_UNREACHABLE
 */
export async function describeAgentAt(agents: Agents, address: string): Promise<DescribeHostResponse> {
  const connection = agents.dial(address)
  try {
    return await connection.client.describeHost({}, { signal: AbortSignal.timeout(AGENT_TIMEOUT_MS) })
  } catch (cause) {
    const { message } = fromClientError(cause)
    throw new VpeError(
      'HOST_UNREACHABLE',
      `no agent answers at ${address}: ${message}; check that vpe-agent runs there and that the address is right`,
      { cause },
    )
  } finally {
    connection.close()
  }
}
