// What was last seen of this host's instances, kept in memory so that a heartbeat costs no call to
// libvirt. It is refreshed by events, by every piece of work, and by the periodic pass; nothing is ever
// decided from it that is not looked at again first.
//
// Looks overlap and may end in another order than they began: each takes a number at its start, and what
// an earlier look brings never replaces what a later one has brought.

import { createHash } from 'node:crypto'
import { type InstanceReport, type ObservedDomain, reportOf, VpeError } from '@vpe/core'
import type { Logger } from 'pino'
import { domainName } from './domain-xml.ts'
import type { Hypervisor, UnreadDomain } from './hypervisor/hypervisor.ts'
import { recognise } from './marked-domains.ts'

/** For people who read the log: a fault is something to look into. */
const PAUSED_BY = {
  asked: 'somebody',
  'io-error': 'libvirt, on an I/O error',
  fault: 'libvirt, on a fault',
  full: 'libvirt, as a pool is full',
  migration: 'a migration that broke at its end',
} as const

export interface InventoryDeps {
  readonly hostId: string
  readonly bootId: string
  readonly hypervisor: Hypervisor
  readonly log: Logger
  /** Told after each change of what would be reported; null when the domain is gone. */
  readonly onChange: (uuid: string, domain: ObservedDomain | null) => void
}

/** What is there at one moment. */
export interface SeenDomains {
  readonly domains: readonly ObservedDomain[]
  /** Ours by name; what they are and do is not known this time, and no reason to believe that they are gone. */
  readonly unread: readonly UnreadDomain[]
}

interface Entry {
  readonly domain: ObservedDomain
  readonly look: number
}

export class Inventory {
  readonly #deps: InventoryDeps
  readonly #entries = new Map<string, Entry>()
  /** Broken marks that were logged, so that each is logged once. */
  readonly #broken = new Map<string, string>()
  #looks = 0

  constructor(deps: InventoryDeps) {
    this.#deps = deps
  }

  /**
   * Looks at one instance.
   * @throws VpeError CONFLICT when the uuid belongs to a domain that is not ours
   */
  async look(uuid: string): Promise<ObservedDomain | null> {
    const look = ++this.#looks
    const seen = await this.#deps.hypervisor.findDomain(uuid)
    if (!seen) {
      this.#note(uuid, look, null)
      return null
    }
    const recognition = recognise(seen, this.#deps.hostId)
    if (recognition.kind === 'ours') {
      this.#note(uuid, look, recognition.domain)
      return recognition.domain
    }
    this.#note(uuid, look, null)
    const cure = `look at it with: virsh dumpxml ${seen.name}`
    throw new VpeError('CONFLICT', `domain ${seen.name} is not for vpe to touch: ${recognition.why}; ${cure}`)
  }

  /** Looks at everything; what was there and is no more is forgotten, what could not be read stays as it was. */
  async lookAtAll(): Promise<SeenDomains> {
    const look = ++this.#looks
    const seen = await this.#deps.hypervisor.listDomains()
    // Without its mark, only its name says whose it is.
    const unread = seen.unread.filter(
      ({ uuid, name }) => this.#entries.has(uuid) || name === domainName(uuid),
    )
    for (const { name, why } of unread) this.#complain(name, `it could not be read: ${why}`)
    const ours = new Map<string, ObservedDomain>()
    for (const domain of seen.domains) {
      if (this.#broken.get(domain.name)?.startsWith('it could not be read')) this.#broken.delete(domain.name)
      const recognition = recognise(domain, this.#deps.hostId)
      if (recognition.kind === 'ours') ours.set(domain.uuid, recognition.domain)
      if (recognition.kind === 'broken') this.#complain(domain.name, recognition.why)
    }
    for (const [uuid, domain] of ours) this.#note(uuid, look, domain)
    const there = new Set([...ours.keys(), ...unread.map(({ uuid }) => uuid)])
    for (const uuid of this.#entries.keys()) if (!there.has(uuid)) this.#note(uuid, look, null)
    return { domains: [...ours.values()], unread }
  }

  /** What was last seen. */
  domains(): readonly ObservedDomain[] {
    return [...this.#entries.values()].map(({ domain }) => domain)
  }

  /** Digest of what was last seen, and of the addresses that guests have. */
  digest(addresses: ReadonlyMap<string, readonly string[]>): string {
    const reports = this.domains().map((domain) => reportOf(domain, this.#deps.bootId, false))
    return digestOf(reports, addresses)
  }

  #note(uuid: string, look: number, domain: ObservedDomain | null): void {
    const before = this.#entries.get(uuid)
    if (before && before.look > look) return
    if (domain) this.#entries.set(uuid, { domain, look })
    else this.#entries.delete(uuid)
    const from = before ? canonical(reportOf(before.domain, this.#deps.bootId, false)) : null
    const to = domain ? canonical(reportOf(domain, this.#deps.bootId, false)) : null
    if (from === to) return
    this.#log(uuid, before?.domain ?? null, domain)
    this.#deps.onChange(uuid, domain)
  }

  #log(uuid: string, before: ObservedDomain | null, after: ObservedDomain | null): void {
    const { bootId, log } = this.#deps
    const report = after && reportOf(after, bootId, false)
    log.info(
      {
        instance: uuid,
        from: before?.guest.power ?? 'absent',
        to: after?.guest.power ?? 'absent',
        paused_by: after?.guest.power === 'paused' ? PAUSED_BY[after.guest.reason] : undefined,
        wanted: after?.mark.power,
        generation: report?.generation,
        stop_cause: report?.stopCause ?? undefined,
        fault: report?.fault || undefined,
      },
      'instance changed',
    )
  }

  #complain(name: string, why: string): void {
    if (this.#broken.get(name) === why) return
    this.#broken.set(name, why)
    this.#deps.log.error({ domain: name, why }, 'domain left alone')
  }
}

/** The same for the same reports, whatever their order; whether somebody is at work does not count. */
export function digestOf(
  reports: readonly InstanceReport[],
  addresses: ReadonlyMap<string, readonly string[]>,
): string {
  const lines = reports.map((report) => canonical(report) + JSON.stringify(addresses.get(report.uuid) ?? []))
  return createHash('sha256').update(lines.sort().join('\n')).digest('hex')
}

function canonical(report: InstanceReport): string {
  const { uuid, generation, power, stopCause, fault, restarts, holdUp } = report
  return JSON.stringify([uuid, generation, power, stopCause, fault, restarts, holdUp])
}
