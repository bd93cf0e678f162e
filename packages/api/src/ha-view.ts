// High availability, as the API shows it.

import type { z } from '@hono/zod-openapi'
import { VpeError } from '@vpe/core'
import {
  failoverDurations,
  HA_INSTANCE_STATES,
  HA_PROFILES,
  type HaProfile,
  HOST_PHASES,
  ISOLATIONS,
  POOL_CLASSES,
  PRIORITIES,
  PROOF_KINDS,
  WHAT_IF_OUTCOMES,
} from '@vpe/core/ha'
import type {
  Disarm,
  Failover,
  GetHaResponse,
  HaCount,
  HaHost,
  HaInstance,
  HaPool,
  HaProof,
  HaSighting,
  NPlusOne,
  WhatIfHostLostResponse,
  WhatIfInstance,
} from '@vpe/proto'
import { moment, momentOrNull } from './moment.ts'
import type {
  DisarmAnswer,
  FailoversAnswer,
  HaAnswer,
  HostRecoveryView,
  InstanceRecoveryView,
  WhatIfAnswer,
} from './schemas/ha.ts'

const PROFILES = Object.keys(HA_PROFILES) as HaProfile[]
const SIGHTINGS = ['alive', 'stale', 'unknown'] as const

/** A word of the controller, of those that are known here. */
export function wordOf<Word extends string>(words: readonly Word[], word: string): Word {
  const known = words.find((each) => each === word)
  if (known === undefined)
    throw new VpeError('INTERNAL', `the controller says ${JSON.stringify(word)}, of ${words.join(', ')}`)
  return known
}

export function showHostRecovery(host: HaHost): z.input<typeof HostRecoveryView> {
  return {
    phase: wordOf(HOST_PHASES, host.phase),
    why: host.why,
    since: moment(host.sinceMs),
    heard_at: moment(host.heardMs),
    boot_id: host.bootId,
    can_power_off: host.canPowerOff,
    disk_pools: host.pools.map(showPool),
    leases: host.sightings.map(showSighting),
    proofs: host.proofs.map(showProof),
    disarmed_until: momentOrNull(host.disarmedUntilMs),
  }
}

export function showInstanceRecovery(instance: HaInstance): z.input<typeof InstanceRecoveryView> {
  return {
    state: wordOf(HA_INSTANCE_STATES, instance.state),
    why: instance.why,
    generation: instance.generation,
    host: instance.hostName,
    host_uuid: instance.hostId,
    disk_pools: instance.pools.map(showPool),
    proofs: instance.proofs.map(showProof),
    started_by: instance.startedBy.map(showProof),
    relocations: instance.relocations,
    disarmed_until: momentOrNull(instance.disarmedUntilMs),
  }
}

/** The wishes of an instance; of a controller that does not know them yet, what it does. */
export function showHaWish({ haPriority, haIsolation }: { haPriority: string; haIsolation: string }) {
  return {
    ha_priority: wordOf(PRIORITIES, haPriority || 'medium'),
    ha_isolation: wordOf(ISOLATIONS, haIsolation || 'leave'),
  }
}

export function showHa(ha: GetHaResponse): z.input<typeof HaAnswer>['ha'] {
  return {
    armed: ha.armed,
    why_no_verdicts: ha.whyNoVerdicts || null,
    profile: ha.profile ? wordOf(PROFILES, ha.profile) : null,
    disarms: ha.disarms.map(showDisarm),
    hosts: countsOf(HOST_PHASES, ha.hosts),
    instances: countsOf(HA_INSTANCE_STATES, ha.instances),
    n_plus_one: ha.nPlusOne?.known ? showNPlusOne(ha.nPlusOne) : null,
    admission: { hosts: ha.reservedHosts, mode: ha.enforced ? 'enforce' : 'advise' },
  }
}

export function showDisarm(disarm: Disarm): z.input<typeof DisarmAnswer>['disarm'] {
  const { until, who, why } = { ...disarm, until: moment(disarm.untilMs) }
  if (disarm.hostId) return { scope: 'host', uuid: disarm.hostId, name: disarm.hostName, until, who, why }
  if (disarm.instanceUuid)
    return { scope: 'instance', uuid: disarm.instanceUuid, name: disarm.instanceName, until, who, why }
  return { scope: 'cluster', uuid: null, name: null, until, who, why }
}

export function showFailover(failover: Failover): z.input<typeof FailoversAnswer>['failovers'][number] {
  const clock = {
    lastHeardMs: failover.lastHeardMs || null,
    suspectedMs: failover.suspectedMs || null,
    provenMs: failover.provenMs || null,
    placedMs: failover.placedMs || null,
    runningMs: failover.runningMs || null,
  }
  const took = failoverDurations(clock, failover.answeredMs || null)
  return {
    instance_uuid: failover.instanceUuid,
    instance: failover.instanceName,
    generation: failover.generation,
    from_host_uuid: failover.fromHostId,
    from_host: failover.fromHostName || null,
    to_host_uuid: failover.toHostId || null,
    to_host: failover.toHostName || null,
    why: failover.why,
    proofs: failover.proofs.map(({ kind, why }) => ({ kind: wordOf(PROOF_KINDS, kind), why })),
    times: {
      last_heard: momentOrNull(failover.lastHeardMs),
      suspected: momentOrNull(failover.suspectedMs),
      proven: momentOrNull(failover.provenMs),
      placed: momentOrNull(failover.placedMs),
      running: momentOrNull(failover.runningMs),
      answered: momentOrNull(failover.answeredMs),
    },
    durations: {
      suspicion_ms: took.suspicionMs,
      proof_ms: took.proofMs,
      placement_ms: took.placementMs,
      start_ms: took.startMs,
      answer_ms: took.answerMs,
      total_ms: took.totalMs,
    },
  }
}

export function showWhatIf(answer: WhatIfHostLostResponse): z.input<typeof WhatIfAnswer>['what_if'] {
  return {
    host: answer.hostName,
    host_uuid: answer.hostId,
    survives: answer.survives,
    instances: answer.instances.map(showFate),
  }
}

function showNPlusOne(verdict: NPlusOne) {
  return {
    survives: verdict.survives,
    why: verdict.why,
    worst_host: verdict.worstHostName || null,
    worst_host_uuid: verdict.worstHostId || null,
    left: verdict.left.map(showFate),
    hosts_at_risk: verdict.hostsAtRisk,
    at: moment(verdict.atMs),
  }
}

function showFate(fate: WhatIfInstance): z.input<typeof WhatIfAnswer>['what_if']['instances'][number] {
  return {
    uuid: fate.uuid,
    name: fate.name,
    ha_priority: wordOf(PRIORITIES, fate.priority),
    pool_class: fate.poolClass ? wordOf(POOL_CLASSES, fate.poolClass) : null,
    outcome: wordOf(WHAT_IF_OUTCOMES, fate.outcome),
    host: fate.hostName || null,
    host_uuid: fate.hostId || null,
    expected_ms: fate.expectedMs ?? null,
    why: fate.why || null,
  }
}

function showPool({ uuid, name, poolClass, canRevoke }: HaPool) {
  return { uuid, name, pool_class: wordOf(POOL_CLASSES, poolClass), can_revoke: canRevoke }
}

function showProof(proof: HaProof) {
  return {
    kind: wordOf(PROOF_KINDS, proof.kind),
    disk_pool: proof.diskPoolName || null,
    disk_pool_uuid: proof.diskPoolUuid || null,
    why: proof.why,
    at: momentOrNull(proof.atMs),
  }
}

function showSighting(seen: HaSighting) {
  const kind = wordOf(SIGHTINGS, seen.kind)
  return {
    observer: seen.observerName,
    observer_uuid: seen.observerId,
    disk_pool: seen.diskPoolName,
    disk_pool_uuid: seen.diskPoolUuid,
    kind,
    stale_for_ms: kind === 'stale' ? seen.staleForMs : null,
    pool_healthy: seen.poolHealthy,
    why: seen.why || null,
    at: moment(seen.atMs),
  }
}

function countsOf<Word extends string>(words: readonly Word[], counts: readonly HaCount[]) {
  const countOf = (word: Word) => counts.find((each) => each.word === word)?.count ?? 0
  return Object.fromEntries(words.map((word) => [word, countOf(word)])) as Record<Word, number>
}
