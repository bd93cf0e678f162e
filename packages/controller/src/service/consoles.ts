// Calls about consoles: tokens, and the bytes between the API node that redeems one and the agent of the
// host that the guest is on. Nothing is kept of what passes.

import { randomBytes } from 'node:crypto'
import { hostOfGuest, VpeError } from '@vpe/core'
import {
  type AttachConsoleRequest,
  ConsoleKind,
  type ControllerServiceImplementation,
  fromClientError,
  type OpenConsoleRequest,
  type OpenConsoleResponse,
} from '@vpe/proto'
import type { Agents } from '../agents.ts'
import { type ConsoleGrant, ConsoleTokens, TOKEN_VALID_MS } from '../console-tokens.ts'
import type { Store } from '../store/store.ts'
import { getOr404, invalid } from './references.ts'

const TOKEN_BYTES = 32

type ConsoleMethods = Pick<ControllerServiceImplementation, 'createConsoleToken' | 'openConsole'>

export interface ConsoleServiceDeps {
  readonly store: Store
  readonly agents: Agents
  readonly now: () => number
}

export function consoleMethods({ store, agents, now }: ConsoleServiceDeps): ConsoleMethods {
  const tokens = new ConsoleTokens()

  /** The instance, if it has a console to open now. */
  function active(uuid: string) {
    const instance = getOr404(store.instances, 'instance', uuid)
    if (instance.status === 'active') return instance
    const task = instance.task ? ` and its task is ${instance.task}` : ''
    const fault = instance.fault ? ` (${instance.fault})` : ''
    throw new VpeError(
      'CONFLICT',
      `a console needs an active instance, but ${instance.name} is ${instance.status}${fault}${task}`,
    )
  }

  return {
    async createConsoleToken({ uuid, kind }) {
      const grant = { uuid: active(uuid).uuid, kind: kindFromWire(kind) }
      const token = randomBytes(TOKEN_BYTES).toString('base64url')
      tokens.issue(grant, token, now())
      return { token, validMs: TOKEN_VALID_MS }
    },

    async *openConsole(requests, { signal }): AsyncGenerator<OpenConsoleResponse> {
      const messages = requests[Symbol.asyncIterator]()
      const { value: first } = await messages.next()
      const ticket = first?.message?.$case === 'ticket' ? first.message.value : undefined
      if (!ticket) throw invalid('ticket', 'the first message must be a ticket')
      const target = { uuid: ticket.uuid, kind: kindFromWire(ticket.kind) }
      tokens.redeem(ticket.token, target, now())
      const host = getOr404(store.hosts, 'host', hostOfGuest(active(ticket.uuid)))
      const rest = { [Symbol.asyncIterator]: () => messages }
      const attached = agents
        .client(host)
        .attachConsole(attachRequests({ uuid: ticket.uuid, kind: ticket.kind }, rest), { signal })
      try {
        for await (const { message } of attached) yield { message }
      } catch (error) {
        throw signal.aborted ? error : agentFault(error, host.name)
      }
    },
  }
}

async function* attachRequests(
  target: { readonly uuid: string; readonly kind: ConsoleKind },
  rest: AsyncIterable<OpenConsoleRequest>,
): AsyncGenerator<Partial<AttachConsoleRequest>> {
  yield { message: { $case: 'target', value: target } }
  for await (const { message } of rest) if (message?.$case === 'data') yield { message }
}

/** What the agent said; or, where it said nothing, that its host does not answer. */
function agentFault(error: unknown, hostName: string): VpeError {
  const fault = fromClientError(error)
  if (fault.code !== 'UNAVAILABLE') return fault
  return new VpeError('HOST_UNREACHABLE', `host ${hostName}: ${fault.message}`, { cause: error })
}

function kindFromWire(kind: ConsoleKind): ConsoleGrant['kind'] {
  if (kind === ConsoleKind.VNC) return 'vnc'
  if (kind === ConsoleKind.SERIAL) return 'serial'
  throw invalid('kind', 'must be vnc or serial')
}
