// GuardService: judges the request, hands over, and says what came of it.

import { readFileSync } from 'node:fs'
import { fileSystemAt, VpeError } from '@vpe/core'
import type { HaProfile } from '@vpe/core/ha'
import { ClaimChange, ClaimOutcome, type GuardServiceImplementation } from '@vpe/proto'
import type { Guard } from './guard.ts'
import type { LockProbes } from './lock-probes.ts'
import {
  armedPool,
  claimJobFromWire,
  claimResultToWire,
  instanceFromWire,
  leaseToWire,
  lockStepFromWire,
  msFromWire,
  pillFromWire,
  poolFromWire,
  probedPlaceFromWire,
  sightingToWire,
  uuidFromWire,
} from './wire.ts'

/** @param profile the name of the guard's timings */
export function guardService(
  guard: Guard,
  probes: LockProbes,
  profile: HaProfile,
): GuardServiceImplementation {
  /** @throws VpeError NOT_FOUND for a pool that this host has no lease in */
  const poolOf = (uuid: string) => {
    const pool = guard.poolOf(uuidFromWire('pool_uuid', uuid))
    if (!pool) throw new VpeError('NOT_FOUND', `this host has no lease in disk pool ${uuid}`)
    return pool
  }
  return {
    async attachPool(request) {
      guard.attach(poolFromWire(request))
      return {}
    },
    async detachPool({ poolUuid }) {
      if (!guard.detach(uuidFromWire('pool_uuid', poolUuid)))
        throw new VpeError('IN_USE', `guests of disk pool ${poolUuid} are still armed on this host`)
      return {}
    },
    async armInstance({ instance, poolUuids, askedMs, isRunning }) {
      const pools = poolUuids.map((uuid) => armedPool(poolOf(uuid)))
      const arm = { ...instanceFromWire(instance), pools }
      return { refusal: (await guard.arm(arm, msFromWire('asked_ms', askedMs), isRunning)) ?? '' }
    },
    async disarmInstance({ instance }) {
      return { isDisarmed: await guard.disarm(instanceFromWire(instance)) }
    },
    async noteDomain({ uuid, isThere }) {
      guard.noteDomain(uuidFromWire('uuid', uuid), isThere)
      return {}
    },
    async noteIoError({ instance }) {
      guard.noteIoError(instanceFromWire(instance))
      return {}
    },
    async noteNeighbours({ poolUuid, isHealthyForOthers, isAnyoneReachable }) {
      guard.noteNeighbours(poolOf(poolUuid).place.pool, isHealthyForOthers, isAnyoneReachable)
      return {}
    },
    async changeClaim(request) {
      const { place, poolClass } = poolOf(request.poolUuid)
      if (request.change === ClaimChange.FORGET) {
        guard.forgetClaim(place.pool, instanceFromWire(request.instance).uuid)
        return { outcome: ClaimOutcome.DONE }
      }
      return claimResultToWire(await guard.claim(place.pool, claimJobFromWire(request, poolClass === 'E')))
    },
    async sightLease({ poolUuid, hostUuid }) {
      const { place } = poolOf(poolUuid)
      const { sighting, ack } = await guard.sight(place.pool, uuidFromWire('host_uuid', hostUuid))
      return sightingToWire(sighting, ack)
    },
    async sendPill(request) {
      const { place } = poolOf(request.poolUuid)
      const { slot, pill } = pillFromWire(request)
      return { failure: (await guard.sendPill(place.pool, slot, pill)) ?? '' }
    },
    async tryPoolLock({ pool, step }) {
      const place = probedPlaceFromWire(pool)
      const result = await probes.tryLock(place, lockStepFromWire(step))
      const { type, options } = fileSystemAt(readFileSync('/proc/self/mountinfo', 'utf8'), place.path)
      return { ...result, fileSystem: type, mountOptions: [...options] }
    },
    async endGuest({ uuid }) {
      guard.endGuest(uuidFromWire('uuid', uuid))
      return {}
    },
    async lookAtGuest({ uuid }) {
      return { isGone: guard.isGone(uuidFromWire('uuid', uuid)) }
    },
    async getArms() {
      return {
        arms: guard.status().map(({ uuid, generation, poolIds, mayResume, isNetworkCut, ending }) => ({
          instance: { uuid, generation },
          mayResume,
          isNetworkCut,
          ending: ending ?? '',
          poolUuids: [...poolIds],
        })),
        leases: guard.leases().map(leaseToWire),
        fenced: guard.fenced().map(({ uuid, generation, why }) => ({ instance: { uuid, generation }, why })),
        profile,
        isWatchdogArmed: guard.isWatchdogArmed,
      }
    },
  }
}
