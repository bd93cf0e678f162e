// A soak: random operations against a lab from a seed, several at once, then rest, then the books.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer } from '../e2e/cluster.ts'
import type { LabCluster } from '../e2e/lab-cluster.ts'
import { faultsOf, unrest } from './accounts.ts'
import { causeFaults } from './faults.ts'
import { History } from './history.ts'
import { chooseOperation, FLAVOR } from './operations.ts'
import { Random } from './random.ts'
import { look, type OperationSeen } from './world.ts'

export interface SoakOptions {
  readonly operations: number
  readonly seed: number
  /** How many are under way at once. */
  readonly parallel: number
  /** Hosts, agents and the controller die and are cut off meanwhile. */
  readonly faults: boolean
  readonly print: (line: string) => void
}

/** What nothing takes, however slow the machine: whoever is not done by then never is. */
const BOUND_MS = 600_000
const TIDYING_MS = 60_000

/** @throws Error with what is wrong and the history that led there */
export async function soak(cluster: LabCluster, options: SoakOptions): Promise<void> {
  const { seed, print } = options
  const history = new History(print)
  try {
    await ensureFlavor(cluster)
    await work(cluster, options, history)
    print('waiting for rest')
    await rest(cluster)
    await balance(cluster)
    print('all agree; everything is removed')
    await removeAll(cluster)
    await rest(cluster)
    await balance(cluster)
  } catch (error) {
    throw new Error(`seed ${seed}: ${String(error)}\n\n${history}`, { cause: error })
  }
}

async function work(cluster: LabCluster, options: SoakOptions, history: History): Promise<void> {
  const random = new Random(options.seed)
  const done = new AbortController()
  let left = options.operations
  const worker = async () => {
    while (left > 0 && !done.signal.aborted) {
      left--
      await oneOperation(cluster, random, history, options.faults)
    }
  }
  const faults = options.faults
    ? causeFaults(cluster.lab, new Random(options.seed + 1), history, done.signal)
    : Promise.resolve()
  const workers = Promise.all(Array.from({ length: options.parallel }, worker))
  // Whatever ends first with an error ends the others, which are waited for: nothing is left half mended.
  const ended = await Promise.allSettled([
    workers.finally(() => done.abort()),
    faults.catch((error) => {
      done.abort()
      throw error
    }),
  ])
  for (const each of ended) if (each.status === 'rejected') throw each.reason
}

async function oneOperation(
  cluster: LabCluster,
  random: Random,
  history: History,
  isTroubled: boolean,
): Promise<void> {
  const world = await patiently(isTroubled, () => look(cluster))
  const { name, request } = chooseOperation(world, random)
  const entry = history.begin(name, request.about)
  const answer = await cluster.request(request.method, request.path, request.body)
  const operation = answer.headers.get('operation-id')
  if (answer.status !== 200) {
    history.end(entry, `refused, ${answer.status} ${answer.body?.code}: ${answer.body?.detail}`)
    expectRefusal(answer, isTroubled)
  } else if (operation === null) {
    history.end(entry, 'done')
  } else {
    const { status, fault } = await endOf(cluster, operation, isTroubled)
    history.end(entry, fault === null ? status : `${status}: ${fault}`)
    if (status === 'failed' && !isSentence(fault))
      throw new Error(`operation ${operation} failed without a reason`)
  }
}

/** Whoever is refused is told why, and it is never a defect of vpe's own. */
function expectRefusal({ status, body }: Answer, isTroubled: boolean): void {
  const isAllowed = status < 500 || body?.code === 'NO_HOST_FITS' || (isTroubled && status !== 500)
  if (!isAllowed || !isSentence(body?.detail))
    throw new Error(`refused with ${status} ${JSON.stringify(body)}`)
}

function isSentence(text: unknown): boolean {
  return typeof text === 'string' && text.trim().includes(' ')
}

async function endOf(cluster: LabCluster, uuid: string, isTroubled: boolean): Promise<OperationSeen> {
  const deadline = Date.now() + BOUND_MS
  for (;;) {
    const { body } = await patiently(isTroubled, () => cluster.ok('GET', `/operations/${uuid}?wait=30s`))
    if (body.operation.status !== 'running') return body.operation
    if (Date.now() > deadline) throw new Error(`it runs on: ${JSON.stringify(body.operation)}`)
  }
}

/** While the controller is dead, questions are asked again. */
async function patiently<T>(isTroubled: boolean, ask: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + BOUND_MS
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!isTroubled || !/: 503 /.test(String(error)) || Date.now() > deadline) throw error
      await sleep(250)
    }
  }
}

/** Waits until nothing is under way, looked at twice. */
async function rest(cluster: LabCluster): Promise<void> {
  const deadline = Date.now() + BOUND_MS
  for (let calm = 0; calm < 2; ) {
    const reasons = await unrest(cluster)
    calm = reasons.length === 0 ? calm + 1 : 0
    if (Date.now() > deadline) throw new Error(`it does not come to rest:\n${reasons.join('\n')}`)
    await sleep(500)
  }
}

async function removeAll(cluster: LabCluster): Promise<void> {
  const { instances, hosts } = await look(cluster)
  for (const { uuid, schedulable } of hosts)
    if (!schedulable) await cluster.ok('POST', `/hosts/${uuid}/uncordon`)
  const remove = async (path: string) => {
    const { headers } = await cluster.ok('DELETE', path)
    const { status, fault } = await endOf(cluster, headers.get('operation-id') ?? '', false)
    if (status !== 'succeeded') throw new Error(`DELETE ${path} ${status}: ${fault}`)
  }
  await Promise.all(
    instances.map(async ({ uuid, locked }) => {
      if (locked) await cluster.ok('POST', `/instances/${uuid}/unlock`)
      await remove(`/instances/${uuid}`)
    }),
  )
  const { disks } = await look(cluster)
  await Promise.all(disks.map(({ uuid }) => remove(`/disks/${uuid}`)))
}

async function ensureFlavor(cluster: LabCluster): Promise<void> {
  const { flavors } = await look(cluster)
  if (!flavors.some(({ name }) => name === FLAVOR.name))
    await cluster.ok('POST', '/flavors', { flavor: FLAVOR })
}

/** The books must agree; what agents tidy up by themselves they have a minute for. */
async function balance(cluster: LabCluster): Promise<void> {
  const deadline = Date.now() + TIDYING_MS
  for (;;) {
    const faults = await faultsOf(cluster)
    if (faults.length === 0) return
    if (Date.now() > deadline) throw new Error(`the books do not agree:\n${faults.join('\n')}`)
    await sleep(1_000)
  }
}
