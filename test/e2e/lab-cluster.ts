// A cluster of several hosts for a test: a lab (docs/lab.md) in a folder of its own, with the same words for its
// API as a cluster of one has.

import { join } from 'node:path'
import type { HostMachine } from '@vpe/deploy/lab/host-machine'
import { Lab } from '@vpe/deploy/lab/lab'
import { CACHE, Cluster, PORTS_FROM, until } from './cluster.ts'

const root = join(import.meta.dirname, '..', '..')

export class LabCluster extends Cluster {
  readonly lab: Lab

  /** @param env settings of the lab, as a user would have them in the environment */
  constructor(home?: string, env: Readonly<Record<string, string>> = {}) {
    super(home)
    this.lab = new Lab(root, this.home, { VPE_CACHE: CACHE, VPE_PORTS_FROM: PORTS_FROM, ...env })
  }

  /** Looks at a lab that is up. */
  connect(): void {
    this.readEnv()
  }

  async up(hosts: number): Promise<void> {
    await this.lab.up({ hosts })
    this.readEnv()
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await this.lab.down()
  }

  /** Of vpe, by the name of the lab. */
  async hostId(name: string): Promise<string> {
    const { body } = await this.ok('GET', `/hosts?name=${name}`)
    return body.hosts.find((host: { name: string }) => host.name === name).uuid
  }

  /** What vpe takes the host for. */
  async hostState(name: string): Promise<'up' | 'down'> {
    return (await this.ok('GET', `/hosts/${await this.hostId(name)}`)).body.host.state
  }

  /**
   * Whether it takes instances: for a moment after it is back, or was silent, a host is up and does not; and one that
   * has booted anew before it was missed is up until that is known.
   */
  async isReliedOn(name: string): Promise<boolean> {
    const { state, facts, recovery } = (await this.ok('GET', `/hosts/${await this.hostId(name)}`)).body.host
    const bootId = this.lab.host(name).bootId()
    if (state !== 'up' || facts?.boot_id !== bootId) return false
    return recovery === null || (recovery.phase === 'up' && recovery.boot_id === bootId)
  }

  /** Which hosts' libvirt runs it, by name; a host that cannot be asked is left out. */
  async runsOn(uuid: string): Promise<string[]> {
    return (await this.#hostsByDomain()).get(uuid) ?? []
  }

  /** By the uuid of each domain whose CPUs run, where. One that is on its way is on two hosts, and runs on at most one. */
  running(): Promise<Map<string, string[]>> {
    return this.#hostsByDomain('--state-running')
  }

  async runningOn(uuid: string): Promise<string[]> {
    return (await this.running()).get(uuid) ?? []
  }

  /** The hosts that have a domain of it, off or on. */
  async definedOn(uuid: string): Promise<string[]> {
    return (await this.defined()).get(uuid) ?? []
  }

  /** By the uuid of each domain, off or on, where. */
  defined(): Promise<Map<string, string[]>> {
    return this.#hostsByDomain('--all')
  }

  async #hostsByDomain(...which: string[]): Promise<Map<string, string[]>> {
    const hostsOf = new Map<string, string[]>()
    const ask = async (host: HostMachine) => {
      const text = await host.virsh(['list', '--uuid', ...which], 60_000)
      for (const uuid of text?.split(/\s+/).filter(Boolean) ?? [])
        hostsOf.set(uuid, [...(hostsOf.get(uuid) ?? []), host.name])
    }
    await Promise.all(this.lab.hosts.map(ask))
    return hostsOf
  }

  /** Whatever is made meanwhile is placed there: no other host takes anything. */
  async onlyOn<T>(name: string, act: () => Promise<T>): Promise<T> {
    await until(`${name} takes instances`, () => this.isReliedOn(name))
    const others = this.lab.hosts.filter((host) => host.name !== name)
    for (const other of others) await this.ok('POST', `/hosts/${await this.hostId(other.name)}/cordon`)
    try {
      return await act()
    } finally {
      for (const other of others) await this.ok('POST', `/hosts/${await this.hostId(other.name)}/uncordon`)
    }
  }
}
