// The controller, put together from its parts. It takes everything by argument and opens nothing but
// the gRPC server it is told to; only main.ts reads the environment and ends the process.

import type { NatsConnection } from '@nats-io/nats-core'
import type { Heartbeat } from '@vpe/bus'
import {
  DEFAULT_OVERCOMMIT,
  DEFAULT_WEBHOOK_POLICY,
  type HostRecord,
  type OvercommitPolicy,
  REBALANCE_BOUND_PERCENT,
  type WebhookPolicy,
} from '@vpe/core'
import { DEFAULT_FAILOVER_POLICY, type FailoverPolicy, HA_PROFILES, type HaTimings } from '@vpe/core/ha'
import {
  CertificateServiceDefinition,
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  createRpcServer,
  EnrolmentServiceDefinition,
} from '@vpe/proto'
import type { Logger } from 'pino'
import { type AgentDialer, Agents, agentDialer } from './agents.ts'
import { DiskKeeper } from './disk-keeper.ts'
import { DiskPoolKeeper } from './disk-pool-keeper.ts'
import { HaKeeper } from './ha/ha-keeper.ts'
import { HaMetrics } from './ha/ha-metrics.ts'
import { DEFAULT_HA_POOL_SETTINGS, HaPoolKeeper, type HaPoolSettings } from './ha/ha-pools.ts'
import { fatesOnLossOf } from './ha/host-loss.ts'
import { NPlusOne } from './ha/n-plus-one.ts'
import type { HaPools, HaView } from './ha/ports.ts'
import { HaShow } from './ha/show.ts'
import { SilentHosts } from './ha/silent-hosts.ts'
import { HostDescriptions } from './host-descriptions.ts'
import { HostDrainer } from './host-drainer.ts'
import { HostMonitor } from './host-monitor.ts'
import { keepHostTable } from './host-table-keeper.ts'
import { ImageImporter } from './image-importer.ts'
import { ImageUploads } from './image-uploads.ts'
import { InstanceReconciler } from './instance-reconciler.ts'
import { OrphanFinder } from './orphan-finder.ts'
import { OutboxPublisher } from './outbox-publisher.ts'
import { PeerProber } from './peer-prober.ts'
import { type RebalancePolicy, Rebalancer } from './rebalancer.ts'
import { startRetention } from './retention.ts'
import type { ClusterSecurity } from './security/cluster-security.ts'
import { NatsRevoker } from './security/nats-revoker.ts'
import { RequestRate } from './security/request-rate.ts'
import { consoleMethods } from './service/consoles.ts'
import { diskPoolMethods } from './service/disk-pools.ts'
import { diskMethods } from './service/disks.ts'
import { drainMethods } from './service/drains.ts'
import {
  type ClusterAddresses,
  certificateService,
  enrolmentService,
  joinTokenMethods,
} from './service/enrolment.ts'
import { createAssertFailoverRoom } from './service/failover-room.ts'
import { haMethods } from './service/ha.ts'
import { haPoolMethods } from './service/ha-pools.ts'
import { hostMethods } from './service/hosts.ts'
import { imageMethods } from './service/images.ts'
import { instanceMethods } from './service/instances.ts'
import { lifecycleMethods } from './service/lifecycle.ts'
import { memberMethods, whyRevoked } from './service/members.ts'
import { metricsMethods } from './service/metrics.ts'
import { createStartMove, migrationMethods } from './service/migrations.ts'
import { Mutations } from './service/mutation.ts'
import { operationMethods } from './service/operations.ts'
import { rebalanceMethods } from './service/rebalance.ts'
import { resourceMethods } from './service/resources.ts'
import { snapshotMethods } from './service/snapshots.ts'
import { webhookMethods } from './service/webhooks.ts'
import { SnapshotKeeper } from './snapshot-keeper.ts'
import type { Store } from './store/store.ts'
import { WebhookDeliveries } from './webhook-deliveries.ts'
import { hostToWire } from './wire.ts'

export interface ControllerDeps {
  readonly store: Store
  readonly now: () => number
  readonly log: Logger
  /** Told of a defect, or of a store that failed: memory can not be trusted, the process must end. */
  readonly onFatal: (error: unknown) => void
  readonly policy?: OvercommitPolicy
  readonly webhookPolicy?: WebhookPolicy
  /** Rebalances that nobody asks for; none where it is left out. */
  readonly rebalancePolicy?: RebalancePolicy
  /** What is shown of recovery, in place of what watches over it here. */
  readonly haView?: HaView | null
  /** Room that is kept for the loss of hosts. */
  readonly failoverPolicy?: FailoverPolicy
  readonly dialAgent?: AgentDialer
  readonly haPoolSettings?: HaPoolSettings
  /** In place of what is found out of pools, and of the profile's times. */
  readonly haPools?: HaPools
  readonly haTimings?: HaTimings
  /** With it, all calls are encrypted and held to roles; without, everything stays on loopback. */
  readonly security?: ClusterSecurity | null
  /** What members that join are told. */
  readonly addresses?: ClusterAddresses
}

/** Machines that join at once behind one address, and how many a second after them. */
const ENROLMENT_RATE = { burst: 50, perSecond: 5 }

const OWN_CERTIFICATE_LOOK_MS = 3_600_000

export interface Controller {
  readonly service: ControllerServiceImplementation
  /** What is believed of hosts and of what is highly available. */
  readonly ha: HaKeeper
  /** Serves gRPC at host:port; port 0 takes a free one. Returns the port. */
  listen(address: string): Promise<number>
  /** Lets machines enrol at host:port. Needs `security`. Returns the port. */
  listenForEnrolment(address: string): Promise<number>
  /** Gives it the bus, once that is connected. Without one it works, and events wait in the outbox. */
  attachBus(connection: NatsConnection): void
  /** Gives it a connection of NATS's system account, once that stands, and each time it is back: removed members are taken off by it. */
  attachSystemBus(connection: NatsConnection): void
  /** Tells it that the bus is lost, or back. */
  noteBus(isConnected: boolean): void
  /** Stops taking calls, lets what is under way be written, and closes the store. Guests are not touched. */
  close(): Promise<void>
}

export function createController({
  store,
  now,
  log,
  onFatal,
  policy = DEFAULT_OVERCOMMIT,
  webhookPolicy = DEFAULT_WEBHOOK_POLICY,
  rebalancePolicy = { everyMs: 0, boundPercent: REBALANCE_BOUND_PERCENT },
  haPoolSettings = DEFAULT_HA_POOL_SETTINGS,
  haView = null,
  failoverPolicy = DEFAULT_FAILOVER_POLICY,
  security = null,
  addresses = { enrolment: [], controller: '', nats: '' },
  dialAgent = agentDialer(security?.folder),
  haPools,
  haTimings = HA_PROFILES[haPoolSettings.profile],
}: ControllerDeps): Controller {
  const hosts = keepHostTable(store, policy)
  const agents = new Agents(dialAgent)
  const mutations = new Mutations(store, now)
  const importer = new ImageImporter(store, agents, now, log, onFatal)
  const uploads = new ImageUploads(store, agents, now)
  const descriptions = new HostDescriptions(store, agents, now, log)
  const leases = new HaPoolKeeper({
    ...{ store, agents, descriptions, settings: haPoolSettings, now, log, onFatal },
  })
  const guarded = haPools ?? leases
  // It follows the records before anybody acts on them.
  const ha = new HaKeeper({
    ...{ store, agents, pools: guarded, table: hosts, timings: haTimings, now, log, onFatal },
    onInstance: (uuid) => reconciler.look(uuid),
  })
  const silent = new SilentHosts(store, guarded, ha, now, log)
  const reconciler = new InstanceReconciler(store, agents, mutations, ha, now, log, onFatal)
  const pools = new DiskPoolKeeper(store, agents, now, log, onFatal, (hostId) =>
    reconciler.lookAtHost(hostId),
  )
  const diskKeeper = new DiskKeeper(store, agents, now, log, onFatal)
  const snapshotKeeper = new SnapshotKeeper(store, agents, now, log, onFatal)
  const onHeard = ({ hostId, bootId, haDigest }: Heartbeat) => ha.heard(hostId, bootId, haDigest)
  const onReachable = (hostId: string) => {
    pools.lookAtHost(hostId)
    reconciler.lookAtHost(hostId)
    diskKeeper.lookAtHost(hostId)
    snapshotKeeper.lookAtHost(hostId)
    leases.lookAtHost(hostId)
  }
  const monitor = new HostMonitor({
    ...{ store, agents, descriptions, callers: mutations, ownerships: ha, now, log, onHeard, onReachable },
  })
  const peers = new PeerProber(store, agents, descriptions, now, log)
  const outbox = new OutboxPublisher(store, log)
  const deliveries = new WebhookDeliveries({ store, policy: webhookPolicy, now, log })
  const orphans = new OrphanFinder(store, agents, now, log, onFatal)
  const imagesGoing = new Set<string>()
  const view = haView ?? ha
  const show = new HaShow({ store, view, now })
  const assertFailoverRoom = createAssertFailoverRoom(store, hosts, failoverPolicy)
  const ofInstances = { store, mutations, hosts, imagesGoing, assertFailoverRoom, show, now }
  const showHost = (host: HostRecord) =>
    hostToWire(store, policy, host, monitor.sightOf(host), show.host(host.uuid))
  const startMove = createStartMove(ofInstances)
  const stepOf = (uuid: string) => reconciler.stepOf(uuid)
  const drainer = new HostDrainer({ store, startMove, stepOf, now, log, onFatal })
  const rebalancer = new Rebalancer({
    ...{ store, hosts, startMove, stepOf, policy: rebalancePolicy, now, log, onFatal },
  })
  const losses = { store, hosts, view, timings: haTimings }
  const fatesOf = (hostId: string) => fatesOnLossOf(losses, hostId)
  const nPlusOne = new NPlusOne({ store, fatesOnLossOf: fatesOf, now, log, onFatal })
  const haMetrics = new HaMetrics({
    view,
    nPlusOne: () => nPlusOne.latest,
    isArmed: () => show.disarmedUntilMs({ kind: 'cluster' }) === 0,
  })
  let isBusConnected = false

  const troubles = () => (isBusConnected ? [] : ['NATS is not connected: events wait in the outbox'])
  const service: ControllerServiceImplementation = {
    ...instanceMethods({ ...ofInstances, haPools: leases }),
    ...lifecycleMethods(ofInstances),
    ...migrationMethods(ofInstances),
    ...diskMethods({ store, mutations, policy, now }),
    ...imageMethods({ store, mutations, agents, importer, uploads, imagesGoing, now }),
    ...diskPoolMethods({ store, mutations, agents, keeper: pools, haPools: leases, orphans, now }),
    ...hostMethods({ store, mutations, agents, monitor, peers, haPools: leases, showHost, now }),
    ...haPoolMethods({ store, mutations, agents, haPools: leases, showHost, now }),
    ...rebalanceMethods({ store, mutations, rebalancer }),
    ...drainMethods({ store, mutations, showHost, now }),
    ...resourceMethods({ store, mutations, agents, showHost, now }),
    ...snapshotMethods(ofInstances),
    ...metricsMethods(store, agents),
    ...operationMethods({
      ...{ store, reconciler, importer, diskKeeper, snapshotKeeper, drainer, rebalancer, troubles },
    }),
    ...consoleMethods({ store, agents, now }),
    ...webhookMethods({ store, mutations, deliveries, now }),
    ...haMethods({
      ...{ store, mutations, view, show, nPlusOne, metrics: haMetrics, fatesOnLossOf: fatesOf },
      ...{ policy: failoverPolicy, timings: haTimings, now },
    }),
    ...memberMethods({ store, mutations, now }),
    ...joinTokenMethods({ store, mutations, security, addresses, now }),
  }
  const onDefect = (error: unknown, method: string) => log.error({ err: error, method }, 'call broke')
  const server = createRpcServer(
    onDefect,
    security
      ? { folder: security.folder, clients: 'certified', whyRevoked: (key) => whyRevoked(store, key) }
      : undefined,
  )
  server.add(ControllerServiceDefinition, service)
  const revoker = security ? new NatsRevoker({ store, accounts: security.natsAccounts, log }) : null
  const enrolment = security ? enrolmentServer(security) : null
  const ownCertificate = setInterval(() => {
    security
      ?.renewOwn(now())
      .catch((error: unknown) => log.error({ err: error }, 'own certificate not renewed'))
  }, OWN_CERTIFICATE_LOOK_MS)

  function enrolmentServer(security: ClusterSecurity) {
    const deps = { store, mutations, security, addresses, now }
    server.add(CertificateServiceDefinition, certificateService(deps))
    const rate = new RequestRate(ENROLMENT_RATE.burst, ENROLMENT_RATE.perSecond)
    const listener = createRpcServer(onDefect, { folder: security.folder, clients: 'anyone' })
    listener.add(EnrolmentServiceDefinition, enrolmentService(deps, rate))
    return listener
  }

  const stopRetention = startRetention(store, now, log)

  return {
    service,
    ha,
    async listen(address) {
      const port = await server.listen(address)
      ha.start()
      silent.start()
      monitor.start()
      pools.start()
      orphans.start()
      leases.start()
      peers.start()
      importer.lookAtAll()
      reconciler.lookAtAll()
      diskKeeper.lookAtAll()
      snapshotKeeper.lookAtAll()
      drainer.look()
      rebalancer.start()
      nPlusOne.start()
      haMetrics.start()
      revoker?.apply()
      return port
    },
    async listenForEnrolment(address) {
      if (!enrolment) throw new Error('a controller without certificates lets nobody enrol')
      return enrolment.listen(address)
    },
    attachBus(connection) {
      isBusConnected = true
      monitor.attach(connection)
      outbox.attach(connection)
      deliveries.attach(connection).catch(onFatal)
    },
    attachSystemBus(connection) {
      revoker?.attach(connection)
    },
    noteBus(isConnected) {
      isBusConnected = isConnected
      ha.noteBus()
      if (isConnected) outbox.publish()
    },
    async close() {
      stopRetention()
      ha.close()
      silent.close()
      monitor.close()
      deliveries.close()
      pools.close()
      orphans.close()
      leases.close()
      peers.close()
      importer.close()
      reconciler.close()
      diskKeeper.close()
      snapshotKeeper.close()
      drainer.close()
      rebalancer.close()
      nPlusOne.close()
      haMetrics.close()
      revoker?.close()
      clearInterval(ownCertificate)
      enrolment?.forceShutdown()
      server.forceShutdown()
      await store.durable()
      await outbox.close()
      agents.close()
      await store.close()
    },
  }
}
