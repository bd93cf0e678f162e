// What may go wrong, by chance: each fault is begun, and ends by itself or when all faults end.

import { NO_DISARMS } from '@vpe/core/ha'
import { Random } from './random.ts'
import { SimController } from './sim-controller.ts'
import type { SimHost } from './sim-host.ts'
import type { OpKind, SimPool } from './sim-pool.ts'
import type { World } from './world.ts'

type Fault = (world: World, random: Random) => void

/** Names of the faults that there are. */
export type FaultName = keyof typeof faults

/** Begins a number of faults over a time, and returns what ends all of them. */
export function scheduleFaults(
  world: World,
  forMs: number,
  focus: readonly FaultName[] | null = null,
): () => void {
  const random = new Random(Math.floor(world.random.next() * 2 ** 32))
  let isOver = false
  const count = focus ? focus.length + random.whole(0, 1) : random.whole(1, 6)
  for (let index = 0; index < count; index++) {
    // A focus makes sure of some kinds; what else may go wrong goes wrong as always.
    const name = focus && index < focus.length ? focus[index] : random.pick(names)
    const fault = faults[name ?? 'reset']
    const latestMs = focus ? forMs * 0.4 : forMs * 0.8
    world.after(random.between(0, latestMs), () => {
      if (!isOver) fault(world, random)
    })
  }
  if (random.chance(0.3)) world.crashRate = random.pick([0.0002, 0.002])
  if (random.chance(0.3)) world.ackLoss = random.pick([0.005, 0.05])
  if (random.chance(0.3)) world.tornRate = 0.02
  if (random.chance(0.2)) world.cachedReadRate = 0.2
  if (random.chance(0.4)) world.messageLoss = random.pick([0.01, 0.1])
  if (random.chance(0.3)) world.messageDelayMs = random.pick([100, 1_500])
  if (random.chance(0.5)) world.duplicationRate = 0.2
  for (const host of world.hosts) host.isWatchdogLate = random.chance(0.5) ? random.next() : 0
  return () => {
    isOver = true
    healAll(world)
  }
}

/** Ends all faults: what is broken is mended, what is off is switched on. */
export function healAll(world: World): void {
  world.note('all faults end')
  world.isHealed = true
  world.crashRate = 0
  world.ackLoss = 0
  world.tornRate = 0
  world.cachedReadRate = 0
  world.messageLoss = 0
  world.messageDelayMs = 0
  world.isBusUp = true
  world.stopped.clear()
  for (const pool of world.pools) {
    pool.slowMs = 0
    pool.slowFor = null
    pool.setUp(true)
    pool.downSinceMs = null
  }
  for (const host of world.hosts) {
    host.staysOff = false
    host.isMountBusy = false
    host.isHeard = true
    host.canHear = true
    host.isGuestNetworkOk = true
    host.isBmcOk = true
    host.thaw()
    if (!host.isOn) host.powerOn()
    host.isGuardFlapping = false
    host.mendGuard()
    host.guard.wake()
    host.agent.wake()
    for (const pool of host.pools) {
      host.unstick(pool)
      host.setDeaf(pool, [])
      host.setLink(pool, true)
      const { writer, reader, claims } = host.of(pool)
      writer.wake()
      reader.wake()
      claims.wake()
    }
  }
  for (const controller of world.controllers) controller.wake()
  if (!world.controller) {
    const [first] = world.controllers
    first?.kill()
    first?.start()
  }
}

function cutStorage(world: World, host: SimHost, pool: SimPool, forMs: number): void {
  world.note(`${host.name} loses ${pool.name}`)
  host.setLink(pool, false)
  world.after(forMs, () => {
    world.note(`${host.name} has ${pool.name} again`)
    host.setLink(pool, true)
  })
}

function cutManagement(world: World, host: SimHost, random: Random, forMs: number): void {
  const way = random.pick(['both', 'both', 'to', 'from'] as const)
  world.note(`${host.name} loses management (${way})`)
  if (way !== 'from') host.isHeard = false
  if (way !== 'to') host.canHear = false
  world.after(forMs, () => {
    host.isHeard = true
    host.canHear = true
  })
}

function cutOff(world: World, host: SimHost, forMs: number): void {
  world.note(`${host.name} loses management`)
  host.isHeard = false
  host.canHear = false
  world.after(forMs, () => {
    host.isHeard = true
    host.canHear = true
  })
}

/** Its watchdog is as late as it may be, and so are its packets. */
function linger(world: World, host: SimHost, pool: SimPool): void {
  const { selfMs, watchdogMs, flightMs } = world.context.timings
  host.isWatchdogLate = 1
  pool.slowMs = flightMs
  pool.slowFor = host
  world.after(selfMs + watchdogMs + flightMs + 4_000, () => {
    pool.slowMs = 0
    pool.slowFor = null
  })
}

/** When its guard is about to find that the lease in the pool has expired. */
function justBeforeExpiry(world: World, random: Random, host: SimHost, pool: SimPool, run: () => void): void {
  const { selfMs, guardMs } = world.context.timings
  // What was under way arrives first.
  world.after(50, () => {
    const lease = host.guard.state?.leases.find((other) => other.pool === pool.name)
    if (lease?.renewedMs == null) return
    const leftMs = lease.renewedMs + selfMs - guardMs - host.upMs()
    world.after(leftMs - random.between(10, 250), run)
  })
}

function stick(world: World, host: SimHost, pool: SimPool, what: readonly OpKind[], forMs: number): void {
  world.note(`${host.name}: ${what.join(', ')} hang in ${pool.name}`)
  host.stick(pool, what, 1)
  world.after(forMs, () => host.stick(pool, what, -1))
}

const faults = {
  powerLoss(world, random) {
    const host = random.pick(world.hosts)
    host.isBmcOk = random.chance(0.5)
    host.staysOff = true
    host.powerOff('its power fails')
    if (random.chance(0.5))
      world.after(random.between(5_000, 40_000), () => {
        host.staysOff = false
        host.isBmcOk = true
        host.powerOn()
      })
  },
  reset(_world, random) {
    random.pick(_world.hosts).reset('it crashes')
  },
  storageCut(world, random) {
    cutStorage(world, random.pick(world.hosts), random.pick(world.pools), random.between(2_000, 40_000))
  },
  managementCut(world, random) {
    cutManagement(world, random.pick(world.hosts), random, random.between(2_000, 50_000))
  },
  isolation(world, random) {
    const host = random.pick(world.hosts)
    const forMs = random.between(3_000, 40_000)
    cutManagement(world, host, random, forMs * random.between(0.7, 1.3))
    for (const pool of host.pools) cutStorage(world, host, pool, forMs)
  },
  // A host is lost for a moment, and let in again before the storage has said that it shut it out; then it is lost once more.
  slowWord(world, random) {
    const { lossMs } = world.context.timings
    const host = random.pick(world.hosts)
    const pool = random.pick(host.pools)
    world.wordMs = random.between(5_000, 15_000)
    cutStorage(world, host, pool, lossMs + random.between(2_000, 5_000))
    world.after(lossMs + 20_000, () => {
      world.wordMs = 0
      cutOff(world, host, 20_000)
      cutStorage(world, host, pool, 20_000)
    })
  },
  // The hardest case for a time-based rule: nothing but the watchdog ends the guests, at the last possible moment, and the last packets linger.
  lateEnd(world, random) {
    const host = random.pick(world.hosts)
    const pool = random.pick(host.pools)
    const { watchdogMs } = world.context.timings
    linger(world, host, pool)
    if (random.chance(0.8)) cutOff(world, host, 60_000)
    stick(world, host, pool, ['lease-write'], 60_000)
    justBeforeExpiry(world, random, host, pool, () => {
      const kind = random.pick(['hang', 'kill', 'stall'] as const)
      world.note(`${host.name}: its guard fails (${kind})`)
      if (kind === 'hang') host.guard.isHung = true
      else if (kind === 'stall') {
        host.guard.stall = { kind: 'pet', ms: random.between(1_000, watchdogMs - 200) }
        // That pet is the last thing that it does.
        world.after(200, () => {
          host.isGuardBroken = random.chance(0.8)
          if (host.isGuardBroken) host.guard.diesBefore = 'permit'
        })
      } else {
        host.isGuardBroken = true
        host.isGuardFlapping = random.chance(0.5)
        host.guard.kill()
        if (random.chance(0.8)) world.after(random.between(1_000, watchdogMs - 200), () => host.mendGuard())
      }
    })
  },
  guardStall(world, random) {
    const host = random.pick(world.hosts)
    host.guard.stall = { kind: 'pet', ms: random.between(500, world.context.timings.watchdogMs - 200) }
  },
  guardDeath(world, random) {
    const host = random.pick(world.hosts)
    world.note(`${host.name}: its guard dies`)
    host.isGuardBroken = random.chance(0.3)
    host.guard.kill()
    world.after(random.between(1_000, 20_000), () => host.mendGuard())
  },
  writerHangs(world, random) {
    const host = random.pick(world.hosts)
    stick(world, host, random.pick(host.pools), ['lease-write'], random.between(2_000, 40_000))
  },
  readerHangs(world, random) {
    const host = random.pick(world.hosts)
    stick(world, host, random.pick(host.pools), ['lease-read'], random.between(1_000, 6_000))
  },
  everythingHangs(world, random) {
    const host = random.pick(world.hosts)
    stick(
      world,
      host,
      random.pick(host.pools),
      ['lease-read', 'lease-write', 'mailbox', 'claim', 'lock', 'unlock', 'guest-write'],
      random.between(2_000, 30_000),
    )
  },
  // A dead host whose last renewal is read late by all: the age of a lease must not count from before it was read.
  slowReaders(world, random) {
    const victim = random.pick(world.hosts)
    const pool = random.pick(victim.pools)
    const heldMs = random.between(1_500, 3_500)
    for (const host of world.hosts) if (host !== victim) stick(world, host, pool, ['lease-read'], heldMs)
    world.after(heldMs - random.between(10, 300), () => {
      linger(world, victim, pool)
      stick(world, victim, pool, ['lease-write'], 60_000)
      cutOff(world, victim, 60_000)
      justBeforeExpiry(world, random, victim, pool, () => {
        world.note(`${victim.name}: its guard hangs`)
        victim.guard.isHung = true
      })
    })
  },
  agentDies(world, random) {
    random.pick(world.hosts).agent.kill()
  },
  agentHangs(world, random) {
    const host = random.pick(world.hosts)
    host.agent.isHung = true
    world.after(random.between(2_000, 40_000), () => host.agent.wake())
  },
  poolProcessDies(world, random) {
    const host = random.pick(world.hosts)
    const { writer, reader, claims } = host.of(random.pick(host.pools))
    random.pick([writer, reader, claims, claims]).kill()
  },
  hostPauses(world, random) {
    const host = random.pick(world.hosts)
    // Hosts of class T may stand still for as long as their watchdog lets them.
    world.note(`${host.name} stands still`)
    host.freeze()
    world.after(random.between(500, 30_000), () => host.thaw())
  },
  poolOutage(world, random) {
    const pool = random.pick(world.pools)
    world.note(`${pool.name} is down`)
    pool.setUp(false)
    const graceMs = random.chance(0.4) ? random.between(2_000, 10_000) : 0
    world.after(random.between(2_000, 40_000), () => {
      world.note(`${pool.name} is back`)
      pool.setUp(true, graceMs)
    })
  },
  poolIsSlow(world, random) {
    const pool = random.pick(world.pools)
    pool.slowMs = random.between(200, 5_000)
    world.after(random.between(5_000, 30_000), () => {
      pool.slowMs = 0
    })
  },
  guestCrashes(world, random) {
    const host = random.pick(world.hosts)
    const cause = random.pick(['crashed', 'guest-off'] as const)
    for (const { uuid } of host.guests) host.crashGuest(uuid, cause)
  },
  // It dies while its storage is away: what it wrote last may still be in the kernel's queue.
  guestDiesWhileCut(world, random) {
    const host = random.pick(world.hosts)
    const pool = random.pick(host.pools)
    cutStorage(world, host, pool, random.between(10_000, 40_000))
    world.after(random.between(300, 5_000), () => {
      for (const { uuid } of host.guests) host.crashGuest(uuid, 'crashed')
    })
    if (random.chance(0.5)) cutManagement(world, host, random, 50_000)
  },
  guestNetworkLost(world, random) {
    const host = random.pick(world.hosts)
    if (random.chance(0.2)) host.guard.stall = { kind: 'kill-cgroup', ms: random.between(1_000, 20_000) }
    else if (random.chance(0.4)) host.guard.diesBefore = 'kill-cgroup'
    host.isGuestNetworkOk = false
    cutManagement(world, host, random, 55_000)
    if (random.chance(0.5))
      world.after(random.between(31_000, 40_000), () => {
        for (const pool of host.pools) cutStorage(world, host, pool, random.between(2_000, 20_000))
      })
    if (random.chance(0.4)) world.after(random.between(30_000, 42_000), () => host.reset('it crashes'))
    world.after(random.between(33_000, 60_000), () => {
      host.isGuestNetworkOk = true
    })
  },
  mountIsBusy(world, random) {
    const host = random.pick(world.hosts)
    host.isMountBusy = true
    cutStorage(world, host, random.pick(host.pools), random.between(8_000, 30_000))
  },
  controllerDies(world, random) {
    const controller = world.controller
    controller?.kill()
    world.note('the controller dies')
    world.after(random.between(500, 15_000), () => {
      if (!world.controller) controller?.start()
    })
  },
  controllerHangs(world, random) {
    const controller = world.controller
    if (!controller) return
    controller.isHung = true
    world.note(`${controller.name} hangs`)
    world.after(random.between(1_000, 20_000), () => controller.wake())
    if (!random.chance(0.5)) return
    // Somebody starts another one meanwhile.
    const second = new SimController(world, `controller ${world.controllers.length + 1}`)
    world.controllers.push(second)
    world.after(random.between(500, 10_000), () => second.start())
  },
  busIsDown(world, random) {
    world.isBusUp = false
    world.note('the bus is down')
    world.after(random.between(1_000, 30_000), () => {
      world.isBusUp = true
      for (const controller of world.controllers) controller.deliver({ kind: 'deaf' })
    })
  },
  rackIsLost(world, random) {
    for (const host of world.hosts) {
      if (!random.chance(0.6)) continue
      cutManagement(world, host, random, random.between(10_000, 50_000))
      if (random.chance(0.5))
        for (const pool of host.pools) cutStorage(world, host, pool, random.between(5_000, 30_000))
    }
  },
  migration(world, random) {
    const instances = [...(world.controller?.state?.recovery.instances.values() ?? [])]
    const target = random.pick(world.hosts)
    for (const instance of instances)
      if (random.chance(0.6))
        world.controller?.deliver({ kind: 'migrate', uuid: instance.uuid, hostId: target.id })
    if (random.chance(0.4))
      world.after(random.between(0, 4_000), () => random.pick(world.hosts).reset('it crashes'))
  },
  // Whoever stops something that is lost, or starts it again before its host knows, is to get what he wants.
  userStops(world, random) {
    const uuids = [...(world.controller?.state?.recovery.instances.keys() ?? [])]
    for (const uuid of uuids) {
      if (!random.chance(0.5)) continue
      world.stopped.add(uuid)
      world.note(`its user stops ${uuid}`)
      world.after(random.between(500, 60_000), () => {
        world.stopped.delete(uuid)
        world.note(`its user starts ${uuid}`)
      })
    }
    if (random.chance(0.6)) random.pick(world.hosts).reset('it crashes')
  },
  operatorConfirms(world, random) {
    const host = random.pick(world.hosts)
    host.staysOff = true
    host.powerOff('its power fails')
    // An operator who says that a host is off has made sure that it is.
    world.after(random.between(4_000, 20_000), () => {
      if (host.isOn || !host.staysOff) return
      world.note(`an operator confirms that ${host.name} is off`)
      world.controller?.deliver({ kind: 'confirm-fenced', hostId: host.id })
    })
  },
  // What it writes is written, but it learns of it almost too late, and then nothing works any more.
  lateAck(world, random) {
    const host = random.pick(world.hosts)
    const pool = random.pick(host.pools)
    const forMs = world.context.timings.selfMs * random.between(0.6, 1.1)
    world.note(`${host.name} hears no answers of ${pool.name}`)
    host.setDeaf(pool, ['lease-write', 'guest-write'])
    cutOff(world, host, 60_000)
    world.after(forMs, () => {
      // The answer comes, and nothing after it.
      stick(world, host, pool, ['mailbox'], 60_000)
      host.setDeaf(pool, [])
      linger(world, host, pool)
      world.after(random.between(250, 400), () => {
        justBeforeExpiry(world, random, host, pool, () => {
          world.note(`${host.name}: its guard hangs`)
          host.guard.isHung = true
        })
      })
    })
  },
  // It lets go in order, but its last packets take their time.
  lingeringPackets(world, random) {
    const host = random.pick(world.hosts)
    const pool = random.pick(host.pools)
    pool.slowMs = world.context.timings.flightMs
    pool.slowFor = host
    world.after(50_000, () => {
      pool.slowMs = 0
      pool.slowFor = null
    })
    stick(world, host, pool, ['lease-write'], 30_000)
  },
  // Reads work, and nothing else does, on any host.
  poolTakesNoWrites(world, random) {
    const pool = random.pick(world.pools)
    const forMs = random.between(5_000, 40_000)
    world.note(`${pool.name} takes no writes`)
    pool.downSinceMs = world.nowMs
    for (const host of world.hosts)
      if (host.mounts(pool)) stick(world, host, pool, ['lease-write', 'guest-write', 'claim'], forMs)
    world.after(forMs, () => {
      pool.downSinceMs = null
    })
    if (random.chance(0.7)) cutManagement(world, random.pick(world.hosts), random, forMs)
  },
  // The store knows nothing of a guest that runs, and its host is away and comes back.
  recordIsLost(world, random) {
    const host = random.pick(world.hosts)
    const [guest] = host.guests
    if (!guest || world.crashRate > 0) return
    world.note(`the store has lost ${guest.uuid}`)
    world.forget(guest.uuid)
    world.after(world.context.timings.settleMs + 1_000, () => {
      const forMs = random.between(8_000, 20_000)
      cutManagement(world, host, random, forMs)
      for (const pool of host.pools) stick(world, host, pool, ['lease-write'], forMs)
    })
  },
  disarm(world, random) {
    const untilMs = world.nowMs + random.between(5_000, 30_000)
    const host = random.pick(world.hosts)
    const instances = [...(world.controller?.state?.recovery.instances.keys() ?? [])]
    switch (random.pick(['cluster', 'host', 'instance'] as const)) {
      case 'cluster':
        world.disarm({ ...NO_DISARMS, clusterUntilMs: untilMs })
        break
      case 'host':
        world.disarm({ ...NO_DISARMS, hosts: new Map([[host.id, untilMs]]) })
        break
      case 'instance':
        if (instances.length > 0)
          world.disarm({ ...NO_DISARMS, instances: new Map([[random.pick(instances), untilMs]]) })
        break
    }
  },
} satisfies Record<string, Fault>

const names = Object.keys(faults) as FaultName[]
