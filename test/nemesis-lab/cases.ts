// What happens to hosts, storage and guests, one at a time, and what has to come of it. Each case leaves everything mended; whether all is
// as it should be afterwards is for the stage to say.

import { setTimeout as sleep } from 'node:timers/promises'
import { seconds } from './figures.ts'
import type { JournalingGuest } from './journaling-guest.ts'
import type { Stage } from './stage.ts'

export interface Case {
  readonly name: string
  readonly weight: number
  /** It makes a guest go off without its host, which is done only so often before the guest is taken for broken. */
  readonly endsGuest?: boolean
  /** Only a lab with watchdogs comes out of it. */
  readonly needsWatchdog?: boolean
  /**
   * @returns for each guest that had to run elsewhere, how long it took until it did, in ms
   */
  readonly play: (stage: Stage, victim: Victim) => Promise<readonly number[]>
}

export interface Victim {
  readonly host: string
  readonly guest: JournalingGuest
}

/** The storage, or controller and NATS, are down for longer than any time of HA but those of slow filers. */
const OUTAGE_MS = 60_000
/** A live migration between two hosts of a lab takes about as long. */
const MIGRATION_MS = 3_000
/** Longer than guests take to write, and shorter than two renewals of a lease with any profile. */
const BLIP_MS = 1_500

export const CASES: readonly Case[] = [
  { name: 'host-kill', weight: 4, play: hostKill },
  { name: 'migration-kill', weight: 1, play: migrationKill },
  { name: 'partition', weight: 2, play: partition },
  { name: 'isolate', weight: 2, play: isolate },
  { name: 'storage-hang', weight: 2, play: storageHang },
  { name: 'storage-fail', weight: 1, play: storageFail },
  { name: 'storage-blip', weight: 1, play: storageBlip },
  { name: 'pool-outage', weight: 1, play: poolOutage },
  { name: 'agent-kill', weight: 1, play: agentKill },
  { name: 'agent-upgrade', weight: 1, play: agentUpgrade },
  { name: 'agent-stop', weight: 1, play: agentStop },
  { name: 'guard-kill', weight: 2, play: guardKill },
  { name: 'guard-stop', weight: 2, needsWatchdog: true, play: guardStop },
  { name: 'guest-crash', weight: 2, endsGuest: true, play: guestCrash },
  { name: 'guest-poweroff', weight: 1, endsGuest: true, play: guestPoweroff },
  { name: 'controller-down-guest-crash', weight: 1, endsGuest: true, play: guestCrashUncontrolled },
  { name: 'controller-down-host-kill', weight: 1, play: hostKillUncontrolled },
]

/** Its guests run elsewhere while it is off. */
async function hostKill(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const guests = stage.guestsOn(host)
  stage.lose(host)
  const killedMs = performance.now()
  await stage.lab.kill(host)
  const tookMs = await stage.elsewhere(guests, host, killedMs)
  await stage.lab.start(host)
  return tookMs
}

/** Either host of a live migration is killed in the middle of it: whoever has the guest then, it runs once. */
async function migrationKill(stage: Stage, { guest }: Victim): Promise<readonly number[]> {
  const from = stage.hostOf(guest)
  const others = stage.lab.hosts.map(({ name }) => name).filter((name) => name !== from)
  const to = stage.random.pick(others) ?? ''
  const killed = stage.random.pick([from, to]) ?? from
  await stage.cluster.ok('POST', `/instances/${guest.uuid}/migrate`, {
    migrate: { host_uuid: to, mode: 'live' },
  })
  await sleep(stage.random.below(MIGRATION_MS))
  stage.lose(killed)
  stage.say(`    ${guest.name} goes from ${from} to ${to}; ${killed} is killed`)
  const killedMs = performance.now()
  await stage.lab.kill(killed)
  await stage.elsewhere(stage.guests, killed, killedMs)
  await stage.lab.start(killed)
  return []
}

/** Its leases say that it lives: nothing is started anywhere, however long it takes. */
async function partition(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const before = stage.standing()
  await stage.lab.partition(host)
  await stage.until(`${host} is missed`, async () => {
    return (await stage.cluster.hostState(host)) === 'down' ? undefined : 'it is up'
  })
  await sleep(stage.timings.deadMs)
  await stage.expectUndisturbed(before)
  await stage.lab.heal(host)
  return []
}

function isolate(stage: Stage, victim: Victim): Promise<readonly number[]> {
  return cut(stage, victim, { storageOnly: false })
}

function storageHang(stage: Stage, victim: Victim): Promise<readonly number[]> {
  return cut(stage, victim, { storageOnly: true })
}

/** The storage answers with errors: guests are paused by them, and none of them goes on once another has its place. */
function storageFail(stage: Stage, victim: Victim): Promise<readonly number[]> {
  return cut(stage, victim, { storageOnly: true, fail: true })
}

/** Errors for less time than counts: guests that they have paused go on where they are. */
async function storageBlip(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const before = stage.standing()
  await stage.lab.isolate(host, { storageOnly: true, fail: true })
  await sleep(BLIP_MS)
  await stage.lab.heal(host)
  await stage.expectUndisturbed(before)
  return []
}

/**
 * Its guests run elsewhere, once the storage takes nothing from it any more; those that it has end by then, or when it is back. Which
 * of them it still runs meanwhile does no harm.
 */
async function cut(
  stage: Stage,
  { host }: Victim,
  how: { readonly storageOnly: boolean; readonly fail?: boolean },
): Promise<readonly number[]> {
  const guests = stage.guestsOn(host)
  stage.lose(host)
  stage.runs.excuse(host)
  const cutMs = performance.now()
  await stage.lab.isolate(host, how)
  const tookMs = await stage.elsewhere(guests, host, cutMs)
  await stage.lab.heal(host)
  return tookMs
}

/** All stand still, and go on: nothing is restarted or ended. Where only time protects the pool every host has to end its guests instead. */
async function poolOutage(stage: Stage): Promise<readonly number[]> {
  const before = stage.standing()
  await stage.lab.setPool('outage')
  await sleep(OUTAGE_MS)
  await stage.lab.setPool('whole')
  if (stage.lab.choices.hasLocks || OUTAGE_MS < stage.timings.selfMs) await stage.expectUndisturbed(before)
  return []
}

async function agentKill(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const before = stage.standing()
  stage.lab.signal(host, 'agent', 'SIGKILL')
  await stage.expectUndisturbed(before)
  // Returns when the next one listens.
  await stage.lab.start(host)
  return []
}

/** It is ended in order, as for an upgrade in place, and the next one finds everything as it was. */
async function agentUpgrade(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const before = stage.standing()
  const pids = stage.lab.host(host).pidsOf('agent')
  stage.lab.signal(host, 'agent', 'SIGTERM')
  await stage.until('another agent runs', () => {
    const now = stage.lab.host(host).pidsOf('agent')
    return now.length > 0 && !now.some((pid) => pids.includes(pid)) ? undefined : 'none'
  })
  await stage.lab.start(host)
  await stage.expectUndisturbed(before)
  return []
}

/** It is as good as cut off from management. */
async function agentStop(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const before = stage.standing()
  stage.lab.signal(host, 'agent', 'SIGSTOP')
  await stage.until(`${host} is missed`, async () => {
    return (await stage.cluster.hostState(host)) === 'down' ? undefined : 'it is up'
  })
  await sleep(stage.timings.tryMs)
  await stage.expectUndisturbed(before)
  stage.lab.signal(host, 'agent', 'SIGCONT')
  return []
}

/** The next one takes over before anybody minds. */
async function guardKill(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const before = stage.standing()
  stage.lab.signal(host, 'guard', 'SIGKILL')
  await stage.until('another guard runs', () =>
    stage.lab.host(host).pidsOf('guard').length > 0 ? undefined : 'none',
  )
  await stage.expectUndisturbed(before)
  return []
}

/** Nobody pets the watchdog: the host is reset, and its guests live anew, here or elsewhere. */
async function guardStop(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const guests = stage.guestsOn(host).map((guest) => ({ guest, life: guest.life() }))
  const resets = stage.lab.host(host).resets()
  stage.lose(host)
  stage.lab.signal(host, 'guard', 'SIGSTOP')
  await stage.until(`${host} is reset`, () =>
    stage.lab.host(host).resets() > resets ? undefined : 'not yet',
  )
  for (const { guest, life } of guests) await stage.livesAnew(guest, life)
  return []
}

async function guestCrash(stage: Stage, { guest }: Victim): Promise<readonly number[]> {
  await livesAnewOnItsHost(stage, guest, () => crash(stage, guest))
  return []
}

async function guestPoweroff(stage: Stage, { guest }: Victim): Promise<readonly number[]> {
  const host = stage.hostOf(guest)
  await livesAnewOnItsHost(stage, guest, async () => {
    const said = await stage.lab.host(host).virsh(['shutdown', guest.uuid], 60_000)
    if (said === undefined) throw new Error(`libvirt of ${host} did not shut ${guest.name} down`)
  })
  return []
}

/** Its agent needs nobody for it, and all others run on. */
async function guestCrashUncontrolled(stage: Stage, { guest }: Victim): Promise<readonly number[]> {
  const before = stage.standing()
  const downMs = performance.now()
  killController(stage)
  await livesAnewOnItsHost(stage, guest, () => crash(stage, guest))
  await sleep(downMs + OUTAGE_MS - performance.now())
  before.delete(guest.uuid)
  await stage.expectUndisturbed(before)
  await stage.lab.startServices()
  return []
}

/** Nothing happens until there is a controller again, which listens first, and then finds the host gone. */
async function hostKillUncontrolled(stage: Stage, { host }: Victim): Promise<readonly number[]> {
  const guests = stage.guestsOn(host)
  stage.lose(host)
  killController(stage)
  const killedMs = performance.now()
  await stage.lab.kill(host)
  await sleep(OUTAGE_MS)
  const backMs = performance.now()
  await stage.lab.startServices()
  const tookMs = await stage.elsewhere(guests, host, killedMs)
  stage.say(`    controller and NATS were back ${seconds(backMs - killedMs)} after ${host} was killed`)
  await stage.lab.start(host)
  return tookMs
}

async function livesAnewOnItsHost(
  stage: Stage,
  guest: JournalingGuest,
  end: () => Promise<void>,
): Promise<void> {
  const host = stage.hostOf(guest)
  const life = guest.life()
  await end()
  await stage.livesAnew(guest, life)
  if (stage.hostOf(guest) !== host)
    throw new Error(`${guest.name} was on ${host}, and is on ${stage.hostOf(guest)}`)
}

async function crash(stage: Stage, guest: JournalingGuest): Promise<void> {
  const pid = stage.lab.host(stage.hostOf(guest)).pidOfGuest(guest.uuid)
  if (pid === undefined) throw new Error(`${guest.name} has no process`)
  process.kill(pid, 'SIGKILL')
}

function killController(stage: Stage): void {
  for (const service of ['controller', 'nats'] as const) process.kill(stage.lab.pidOf(service), 'SIGKILL')
}
