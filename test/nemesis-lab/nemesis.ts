// A nemesis: faults from a seed, one at a time, against a lab whose highly available guests keep journals; after each, everything has to be as it
// should be, and at the end the journals must tell of one life after the other.

import type { HaProfile } from '@vpe/core/ha'
import type { LabCluster } from '../e2e/lab-cluster.ts'
import { History } from '../soak-lab/history.ts'
import { Random } from '../soak-lab/random.ts'
import { CASES, type Case } from './cases.ts'
import { DomainWatch } from './domain-watch.ts'
import { figures, seconds } from './figures.ts'
import { JournalingGuest } from './journaling-guest.ts'
import { Stage } from './stage.ts'

export interface NemesisOptions {
  readonly seed: number
  readonly guests: number
  readonly profile: HaProfile
  /** Names of cases, to be played in that order; else so many are chosen. */
  readonly cases: number | readonly string[]
  /** No further case begins after so long; without end when absent. */
  readonly durationMs?: number | undefined
  readonly print: (line: string) => void
}

/** A guest that goes off more often than three times in ten minutes is not brought back by its host. */
const GUEST_ENDS = { most: 2, withinMs: 600_000 }
/** Looks come often, logs of guests are removed ten seconds after they have left. */
const LISTEN_EVERY_MS = 1_000

/** @throws Error with what is wrong and the history that led there */
export async function nemesis(cluster: LabCluster, options: NemesisOptions): Promise<void> {
  const { seed, print, profile } = options
  const history = new History(print)
  const guests: JournalingGuest[] = []
  let heardMs = 0
  await using watch = new DomainWatch(cluster.lab, () => {
    if (performance.now() - heardMs < LISTEN_EVERY_MS) return
    heardMs = performance.now()
    for (const guest of guests) guest.listen()
  })
  const random = new Random(seed)
  const stage = new Stage({ cluster, guests, runs: watch.runs, random, profile, say: print })
  try {
    const begun = history.begin('make', `${options.guests} guests`)
    for (let number = 1; number <= options.guests; number++)
      guests.push(await JournalingGuest.create(cluster, `n${number}-${seed}-${Date.now() % 100_000}`))
    await stage.settle()
    history.end(begun, 'all write')
    const played = await play(stage, options, history)
    tell(stage, played, print)
    for (const guest of guests) await guest.remove()
    if (played.uncalled.length > 0)
      throw new Error(`guests were moved for no reason:\n${played.uncalled.join('\n')}`)
  } catch (error) {
    const doubles = watch.runs.doubles.map((double) => JSON.stringify(double))
    throw new Error([`seed ${seed}: ${String(error)}`, ...doubles, '', `${history}`].join('\n'), {
      cause: error,
    })
  }
}

/** What came of all cases. */
interface Played {
  /** By case, until each of its guests ran elsewhere. */
  readonly tookMs: Map<string, number[]>
  readonly failovers: FailoverSeen[]
  /** Those of guests that had no reason to move. */
  readonly uncalled: string[]
}

async function play(stage: Stage, options: NemesisOptions, history: History): Promise<Played> {
  const { cases, durationMs = Number.POSITIVE_INFINITY } = options
  const played: Played = { tookMs: new Map(), failovers: [], uncalled: [] }
  const { tookMs } = played
  const ends = new Map<string, number[]>()
  const begunMs = performance.now()
  const count = typeof cases === 'number' ? cases : cases.length
  for (let number = 0; number < count && performance.now() - begunMs < durationMs; number++) {
    const isFit = (guest: JournalingGuest) => {
      const recent = (ends.get(guest.uuid) ?? []).filter(
        (atMs) => performance.now() - atMs < GUEST_ENDS.withinMs,
      )
      return recent.length < GUEST_ENDS.most
    }
    const fit = stage.guests.filter(isFit)
    const one = chosen(stage, cases, number, fit.length > 0)
    const guest = stage.random.pick(one.endsGuest ? fit : stage.guests)
    if (!guest) throw new Error(`${one.name}: every guest has gone off too often of late`)
    const host = stage.hostWithGuests()
    const entry = history.begin(one.name, one.endsGuest ? `${guest.name} on ${stage.hostOf(guest)}` : host)
    const known = new Set((await failovers(stage)).map(keyOf))
    if (one.endsGuest) ends.set(guest.uuid, [...(ends.get(guest.uuid) ?? []), performance.now()])
    const took = await one.play(stage, { host, guest })
    if (took.length > 0) tookMs.set(one.name, [...(tookMs.get(one.name) ?? []), ...took])
    await stage.settle()
    expectSound(stage)
    history.end(
      entry,
      took.length > 0 ? `runs elsewhere after ${took.map(seconds).join(', ')}` : 'as it should be',
    )
    const lost = stage.takeLost()
    for (const failover of (await failovers(stage)).filter((each) => !known.has(keyOf(each)))) {
      stage.say(`    ${describe(failover)}`)
      played.failovers.push(failover)
      if (failover.from_host === null || !lost.has(failover.from_host)) {
        stage.say('    nothing that was done called for it')
        played.uncalled.push(`${one.name} at ${host}: ${describe(failover)}`)
      }
    }
  }
  return played
}

function chosen(stage: Stage, cases: NemesisOptions['cases'], number: number, mayEndGuest: boolean): Case {
  const { hasWatchdog } = stage.lab.choices
  const isPlayable = ({ endsGuest, needsWatchdog }: Case) =>
    (mayEndGuest || !endsGuest) && (hasWatchdog || !needsWatchdog)
  const wanted = typeof cases === 'number' ? undefined : cases[number]
  const one =
    wanted === undefined
      ? stage.random.weighted(CASES.filter(isPlayable))
      : CASES.find(({ name }) => name === wanted)
  if (!one)
    throw new Error(`there is no case ${wanted}; there are ${CASES.map(({ name }) => name).join(', ')}`)
  return one
}

/** No guest ran twice where it could write, and no journal has a fault. */
function expectSound(stage: Stage): void {
  const faults = stage.runs.doubles
    .filter(({ isExcused }) => !isExcused)
    .map(({ uuid, hosts, forMs }) => `${uuid} ran on ${hosts.join(' and ')} at once, for ${seconds(forMs)}`)
  for (const guest of stage.guests)
    faults.push(...guest.check().faults.map((fault) => `${guest.name}: ${fault}`))
  if (faults.length > 0) throw new Error(faults.join('\n'))
}

function tell(stage: Stage, { tookMs, failovers }: Played, print: (line: string) => void): void {
  for (const guest of stage.guests) {
    const { lives, gapsS } = guest.check()
    const records = lives.reduce((sum, life) => sum + life.records, 0)
    const gaps = gapsS.map((gap) => gap.toFixed(1)).join(', ')
    print(
      `${guest.name}: ${records} records of ${lives.length} lives; silent between them for ${gaps || 'no'} s`,
    )
  }
  const excused = stage.runs.doubles.length
  print(`guests that ran twice and could write: 0; beside one that was cut off from its storage: ${excused}`)
  for (const [name, took] of tookMs) print(`${name}, until a guest runs elsewhere: ${figures(took)}`)
  const parts = new Set(failovers.flatMap(({ durations }) => Object.keys(durations)))
  for (const part of parts) {
    const known = failovers.map(({ durations }) => durations[part] ?? null).filter((ms) => ms !== null)
    if (known.length > 0) print(`failover clock, ${part.replace('_ms', '')}: ${figures(known)}`)
  }
}

interface FailoverSeen {
  readonly instance_uuid: string
  readonly instance: string
  readonly generation: number
  readonly from_host: string | null
  readonly to_host: string | null
  readonly proofs: readonly { readonly kind: string }[]
  readonly durations: Readonly<Record<string, number | null>>
}

/** Its clock, T0 to T5. */
function describe({ instance, generation, from_host, to_host, proofs, durations }: FailoverSeen): string {
  const clock = Object.entries(durations)
    .filter((entry): entry is [string, number] => entry[1] !== null)
    .map(([name, ms]) => `${name.replace('_ms', '')} ${seconds(ms)}`)
  const kinds = proofs.map(({ kind }) => kind).join(', ')
  return `failover of ${instance} (${generation}), ${from_host} to ${to_host}, ${kinds}: ${clock.join(', ')}`
}

async function failovers(stage: Stage): Promise<readonly FailoverSeen[]> {
  const { body } = await stage.cluster.ok('GET', '/ha/failovers')
  return body.failovers
}

function keyOf({ instance_uuid, generation }: FailoverSeen): string {
  return `${instance_uuid} ${generation}`
}
