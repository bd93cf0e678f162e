// A scenario: commands in a file, what happens in another. The engine is the simulator's; only chance is turned off, but for the small
// delays, which come from one seed. `commands.txt` has one command a line, `#` begins a comment:
//
//   profile fast|default|slow-filer                    pool NAME LOCK-SERVER [lease S] [revoke] [no-unmount]
//   host NAME POOL[,POOL] [memory MIB] [bmc]           instance NAME POOL[,POOL] on HOST [PRIORITY] [restart]
//   SECONDS COMMAND …                                  until SECONDS

import type { HostId, InstanceId } from '@vpe/core'
import { HA_PROFILES, NO_DISARMS, PRIORITIES, type Priority } from '@vpe/core/ha'
import { Violation } from './checks.ts'
import { SimController } from './sim-controller.ts'
import type { LockServer, OpKind, SimPoolSettings } from './sim-pool.ts'
import { World, type WorldSettings } from './world.ts'

type Mutable<Thing> = { -readonly [Key in keyof Thing]: Thing[Key] }

/** Plays the commands of a scenario, and returns what happened, a line each, with times in whole seconds. */
export function playScenario(text: string): string {
  const lines = text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
  const settings: Mutable<WorldSettings> = {
    seed: 1,
    timings: HA_PROFILES.default,
    pools: [],
    hosts: [],
    instances: [],
    isTraced: true,
  }
  const timed: { atMs: number; words: readonly string[] }[] = []
  let endMs = 120_000
  for (const line of lines) {
    const words = line.split(/\s+/)
    const [first = '', second = ''] = words
    if (/^\d/.test(first)) timed.push({ atMs: Number(first) * 1_000, words: words.slice(1) })
    else if (first === 'until') endMs = Number(second) * 1_000
    else setUp(settings, words)
  }
  const world = new World(settings)
  for (const { atMs, words } of timed)
    world.after(atMs, () => {
      world.note(`> ${words.join(' ')}`)
      command(world, words)
    })
  try {
    world.timeline.runUntil(endMs)
    world.note(`the end: ${world.whyUnwell() ?? 'every instance runs where it should'}`)
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    world.note(`VIOLATION ${error.message}`)
  }
  return `${world.log.map(inSeconds).join('\n')}\n`
}

function inSeconds(line: string): string {
  const at = Number.parseFloat(line)
  return `${Math.floor(at).toString().padStart(4)}  ${line
    .trimStart()
    .replace(/^[\d.]+\s+/, '')
    .replace(/\d+ ms/g, 'N ms')}`
}

function setUp(settings: Mutable<WorldSettings>, words: readonly string[]): void {
  const [kind = '', name = '', what = ''] = words
  const has = (word: string) => words.includes(word)
  const after = (word: string) => (has(word) ? words[words.indexOf(word) + 1] : undefined)
  switch (kind) {
    case 'profile':
      if (!(name in HA_PROFILES)) throw new Error(`no profile ${name}`)
      settings.timings = HA_PROFILES[name as keyof typeof HA_PROFILES]
      break
    case 'pool': {
      const pool: SimPoolSettings = {
        name,
        lockServer: what as LockServer,
        leaseMs: Number(after('lease') ?? 20) * 1_000,
        canRevoke: has('revoke'),
        canUnmount: !has('no-unmount'),
      }
      settings.pools = [...settings.pools, pool]
      break
    }
    case 'host': {
      const memoryMib = Number(after('memory') ?? 8_192)
      const host = { name, pools: what.split(','), memoryMib, canPowerOff: has('bmc') }
      settings.hosts = [...settings.hosts, host]
      break
    }
    case 'instance': {
      const priority: Priority = PRIORITIES.find((priority) => has(priority)) ?? 'medium'
      const isolation = has('restart') ? 'restart' : 'leave'
      const host = after('on')
      if (host === undefined) throw new Error(`instance ${name} is on no host`)
      settings.instances = [
        ...settings.instances,
        { name, pools: what.split(','), host, priority, isolation } as const,
      ]
      break
    }
    default:
      throw new Error(`no such line: ${words.join(' ')}`)
  }
}

const everything: readonly OpKind[] = [
  'lease-write',
  'lease-read',
  'mailbox',
  'claim',
  'lock',
  'unlock',
  'guest-write',
]

function command(world: World, words: readonly string[]): void {
  const [kind = '', name = '', what = '', more = '', most = ''] = words
  const host = () => world.host(name as HostId)
  const isOn = [what, more, most].includes('on')
  switch (kind) {
    case 'power':
      host().staysOff = what === 'off'
      if (more === 'bmc') host().isBmcOk = false
      if (what === 'off') host().powerOff('its power fails')
      else host().powerOn()
      break
    case 'reset':
      host().reset('it crashes')
      break
    case 'storage':
      for (const pool of what === 'all' ? host().pools : [world.pool(what)]) host().setLink(pool, isOn)
      break
    case 'network':
      if (what === 'guest') host().isGuestNetworkOk = isOn
      else {
        host().isHeard = isOn
        host().canHear = isOn
      }
      break
    case 'hang':
    case 'unhang': {
      const kinds = more === 'everything' ? everything : [more as OpKind]
      host().stick(world.pool(what), kinds, kind === 'hang' ? 1 : -1)
      break
    }
    case 'guard':
      if (what === 'hang') host().guard.isHung = true
      else if (what === 'wake') host().guard.wake()
      else {
        host().isGuardBroken = what === 'break'
        if (what !== 'mend') host().guard.kill()
        else host().mendGuard()
      }
      break
    case 'agent':
      if (what === 'hang') host().agent.isHung = true
      else if (what === 'wake') host().agent.wake()
      else host().agent.kill()
      break
    case 'freeze':
      host().freeze()
      break
    case 'thaw':
      host().thaw()
      break
    case 'guest':
      for (const other of world.hosts)
        for (const guest of other.guests)
          if (guest.uuid === name && what === 'stuck') other.killGuest(guest, 'from outside', true)
          else if (guest.uuid === name) other.crashGuest(name, what === 'off' ? 'guest-off' : 'crashed')
      break
    case 'poison':
      world.poison.add(name)
      for (const other of world.hosts) other.crashGuest(name, 'crashed')
      break
    case 'pool':
      world.pool(name).setUp(what === 'up', Number(more || 0) * 1_000)
      break
    case 'controller':
      controllerCommand(world, name)
      break
    case 'bus':
      world.isBusUp = name === 'up'
      if (world.isBusUp) for (const controller of world.controllers) controller.deliver({ kind: 'deaf' })
      break
    case 'confirm':
      world.controller?.deliver({ kind: 'confirm-fenced', hostId: name as HostId })
      break
    case 'disarm':
      world.disarm({ ...NO_DISARMS, clusterUntilMs: world.nowMs + Number(name) * 1_000 })
      break
    case 'migrate':
      world.controller?.deliver({ kind: 'migrate', uuid: name as InstanceId, hostId: what as HostId })
      break
    case 'old-pill': {
      const incarnation = host().guard.state?.incarnation ?? ''
      world.pool(what).mailboxes.set(name, {
        kind: 'mailbox',
        epoch: world.store.epoch,
        nonce: 99,
        targetIncarnation: `not ${incarnation}`,
        scope: 'all',
      })
      break
    }
    case 'lock-image':
      // A backup, say, on a machine that is no host of the cluster.
      world.pool(what).locks.set(`image ${name}`, { host: world.host(more as HostId), bootId: '', token: -2 })
      break
    case 'unlock-image':
      world.pool(what).locks.delete(`image ${name}`)
      break
    case 'mount':
      host().isMountBusy = what === 'busy'
      break
    case 'clock':
      // Nothing reads the time of day, so that there is nothing to set.
      break
    default:
      throw new Error(`no such command: ${words.join(' ')}`)
  }
}

function controllerCommand(world: World, what: string): void {
  const [first] = world.controllers
  switch (what) {
    case 'kill':
      world.controller?.kill()
      break
    case 'start':
      first?.start()
      break
    case 'hang':
      if (first) first.isHung = true
      break
    case 'wake':
      first?.wake()
      break
    case 'second': {
      const second = new SimController(world, `controller ${world.controllers.length + 1}`)
      world.controllers.push(second)
      second.start()
      break
    }
    default:
      throw new Error(`no such command: controller ${what}`)
  }
}
