// Which of a hypervisor's domains are this host's instances. A domain without our mark, with a mark that
// does not hold, or with another host's mark is somebody else's: never touched, never reported.

import type { ObservedDomain } from '@vpe/core'
import type { HypervisorDomain } from './hypervisor/hypervisor.ts'
import { parseMark } from './instance-mark.ts'

export type Recognition =
  | { readonly kind: 'ours'; readonly domain: ObservedDomain }
  | { readonly kind: 'foreign'; readonly why: string }
  /** It says it is one of ours, but its mark cannot be read: for a person to look at. */
  | { readonly kind: 'broken'; readonly why: string }

/** Tells whose domain it is. */
export function recognise(domain: HypervisorDomain, hostId: string): Recognition {
  if (domain.markXml === null) return { kind: 'foreign', why: 'it carries no mark of vpe' }
  const parsed = parseMark(domain.markXml)
  if ('refused' in parsed) return { kind: 'broken', why: `its mark cannot be read: ${parsed.refused}` }
  const { mark } = parsed
  if (mark.hostId !== hostId) return { kind: 'foreign', why: `it carries the mark of host ${mark.hostId}` }
  if (mark.uuid !== domain.uuid) return { kind: 'broken', why: `its mark is that of instance ${mark.uuid}` }
  return { kind: 'ours', domain: { mark, guest: domain.guest } }
}
