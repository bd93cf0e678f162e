// What happens to the machines of a lab while it is worked on. One thing at a time, and each is mended: a soak asks whether
// a cluster comes out of it whole, not how much it bears at once.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Lab } from '@vpe/deploy/lab/lab'
import type { History } from './history.ts'
import type { Random } from './random.ts'

interface Fault {
  readonly weight: number
  readonly name: string
  readonly does: (lab: Lab, host: string) => Promise<void>
  readonly mend: (lab: Lab, host: string) => Promise<void>
}

const kinds: readonly Fault[] = [
  { weight: 3, name: 'kill', does: (lab, host) => lab.kill(host), mend: (lab, host) => lab.start(host) },
  {
    weight: 3,
    name: 'partition',
    does: (lab, host) => lab.partition(host),
    mend: (lab, host) => lab.heal(host),
  },
  { weight: 2, name: 'pause', does: (lab, host) => lab.pause(host), mend: (lab, host) => lab.resume(host) },
  {
    weight: 2,
    name: 'kill the agent of',
    does: killAgent,
    mend: async () => {},
  },
  {
    weight: 2,
    name: 'kill the controller beside',
    does: async (lab) => {
      process.kill(lab.pidOf('controller'), 'SIGKILL')
    },
    mend: (lab) => lab.up(),
  },
]

/** Until it is told to stop, which waits for the last one to be mended. */
export async function causeFaults(
  lab: Lab,
  random: Random,
  history: History,
  stop: AbortSignal,
): Promise<void> {
  const pause = (ms: number) => sleep(ms, undefined, { signal: stop }).catch(() => {})
  while (!stop.aborted) {
    await pause(3_000 + random.below(10_000))
    const host = random.pick(lab.hosts)?.name
    const fault = random.weighted(kinds)
    if (stop.aborted || !host || !fault) return
    const entry = history.begin('fault', `${fault.name} ${host}`)
    await fault.does(lab, host)
    await pause(1_000 + random.below(20_000))
    await fault.mend(lab, host)
    history.end(entry, 'mended')
  }
}

/** Its init starts it again, and may be about to. */
async function killAgent(lab: Lab, host: string): Promise<void> {
  for (const pid of lab.host(host).pidsOf('agent')) process.kill(pid, 'SIGKILL')
}
