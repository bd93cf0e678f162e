// Whether a host is fit: what was measured, judged. Each finding says what was found, with its numbers, and what
// to do about it. Measuring is the agent's (and, of what lies between them, the controller's).

import type { Finding, FindingStatus } from './host-conditions.ts'

/** The oldest that vpe is made for: those of Ubuntu 22.04 and Debian 12 are newer. */
const LIBVIRT_MIN = '8.0.0'
const QEMU_MIN = '6.0.0'

const MIB = 1024 ** 2
const STATE_FOLDER_SCARCE_BYTES = 1024 * MIB
const STATE_FOLDER_FULL_BYTES = 64 * MIB

/** How long a pool may take to write, fsync and read back a few KiB before guests feel it. */
const POOL_SLOW_MS = 500
const NATS_SLOW_MS = 500

/** Events and tasks of different hosts are compared by their times; certificates have dates. */
const CLOCK_WARNING_MS = 1_000
const CLOCK_FAILED_MS = 30_000

/** What an attempt came to: how long it took, or why it failed. */
export type Attempt = { readonly latencyMs: number } | { readonly fault: string }

/** @param device what opening /dev/kvm came to: null when it opens, else why not */
export function judgeKvm({
  hasVirtualisation,
  device,
}: {
  readonly hasVirtualisation: boolean
  readonly device: string | null
}): Finding {
  const type = 'KvmUsable'
  if (hasVirtualisation && device === null) return ok(type, 'guests run on the CPU itself')
  const emulation = 'guests are emulated, many times slower'
  if (!hasVirtualisation) {
    return warning(
      type,
      `the CPU shows neither vmx nor svm: ${emulation}`,
      'Turn on virtualisation (Intel VT-x or AMD-V) in the firmware; on a virtual machine, nested virtualisation in its hypervisor',
    )
  }
  return warning(
    type,
    `/dev/kvm does not open (${device}): ${emulation}`,
    'Load the kernel module kvm_intel or kvm_amd, and let the agent and QEMU open /dev/kvm (group kvm)',
  )
}

export function judgeLibvirt(libvirt: { readonly version: string } | { readonly fault: string }): Finding {
  const type = 'LibvirtReady'
  if ('fault' in libvirt) {
    return failed(
      type,
      libvirt.fault,
      'Start libvirtd (systemctl start libvirtd), and see that VPE_LIBVIRT_URI names it',
    )
  }
  const { version } = libvirt
  if (isOlder(version, LIBVIRT_MIN))
    return failed(
      type,
      `libvirt is ${version}, which is older than ${LIBVIRT_MIN}`,
      `Install libvirt ${LIBVIRT_MIN} or newer`,
    )
  return ok(type, `libvirt ${version} answers`)
}

/** @param version empty when libvirt knows of none */
export function judgeQemu(version: string): Finding {
  const type = 'QemuPresent'
  if (version === '') return failed(type, 'libvirt finds no QEMU', 'Install qemu-system-x86')
  if (isOlder(version, QEMU_MIN))
    return failed(
      type,
      `QEMU is ${version}, which is older than ${QEMU_MIN}`,
      `Install QEMU ${QEMU_MIN} or newer`,
    )
  return ok(type, `QEMU ${version}`)
}

/** @param missing of the programs that the agent starts, those that are not there */
export function judgePrograms(missing: readonly string[]): Finding {
  const type = 'ProgramsPresent'
  if (missing.length === 0) return ok(type, 'qemu-img and genisoimage are there')
  const packages = missing.map((program) => (program === 'qemu-img' ? 'qemu-utils' : program))
  const cure = `Install ${packages.join(' and ')}`
  if (missing.includes('qemu-img'))
    return failed(type, `${missing.join(' and ')} cannot be started: no disk can be made`, cure)
  return warning(
    type,
    `${missing.join(' and ')} cannot be started: instances that are told something fail`,
    cure,
  )
}

/** @param attempt to write there, and how much is left */
export function judgeStateFolder(
  path: string,
  attempt: { readonly availableBytes: number } | { readonly fault: string },
): Finding {
  const type = 'StateFolderWritable'
  if ('fault' in attempt)
    return failed(
      type,
      `${path}: ${attempt.fault}`,
      'Let the agent write to VPE_AGENT_STATE_DIR, on a disk of the host itself',
    )
  const { availableBytes } = attempt
  const left = `${path} has ${Math.floor(availableBytes / MIB)} MiB left`
  const cure = 'Make room there: serial lines of guests are logged below it'
  if (availableBytes < STATE_FOLDER_FULL_BYTES) return failed(type, left, cure)
  return availableBytes < STATE_FOLDER_SCARCE_BYTES ? warning(type, left, cure) : ok(type, left)
}

/** @param attempt to write, fsync and read back a little */
export function judgePool(pool: { readonly uuid: string; readonly path: string }, attempt: Attempt): Finding {
  const type = poolFindingType(pool.uuid)
  if ('fault' in attempt)
    return failed(
      type,
      `${pool.path}: ${attempt.fault}`,
      'Check the storage behind it: whether it is mounted, can be written, has room, and answers (ls there)',
    )
  const { latencyMs } = attempt
  const took = `${pool.path}: written, fsynced and read back in ${shownMs(latencyMs)}`
  if (latencyMs < POOL_SLOW_MS) return ok(type, took, latencyMs)
  return warning(
    type,
    `${took}, which is more than ${POOL_SLOW_MS} ms`,
    'Look what else uses the storage, and at the network to it: disks of guests are as slow',
    latencyMs,
  )
}

const POOL_FINDING = 'PoolWorks:'

export function poolFindingType(pool: string): string {
  return `${POOL_FINDING}${pool}`
}

/** The pool that a finding is about; null for others. */
export function poolOfFinding(type: string): string | null {
  return type.startsWith(POOL_FINDING) ? type.slice(POOL_FINDING.length) : null
}

/** @param attempt a round trip to the server */
export function judgeNats(url: string, attempt: Attempt): Finding {
  const type = 'NatsReachable'
  const cure = `See that nats-server runs at ${url}, and that the host may connect to that port`
  if ('fault' in attempt) return failed(type, `${url}: ${attempt.fault}`, cure)
  const { latencyMs } = attempt
  const took = `${url} answers in ${shownMs(latencyMs)}`
  if (latencyMs < NATS_SLOW_MS) return ok(type, took, latencyMs)
  return warning(
    type,
    `${took}, which is more than ${NATS_SLOW_MS} ms`,
    'Look at the network between this host and NATS',
    latencyMs,
  )
}

/** @param bridge that guests' network cards shall be on */
export function judgeBridge(bridge: string, present: readonly string[]): Finding {
  const type = 'BridgePresent'
  if (present.includes(bridge)) return ok(type, `guests are on bridge ${bridge}`)
  const others = present.length > 0 ? `; there are ${present.join(', ')}` : ''
  return failed(
    type,
    `there is no bridge ${bridge}${others}`,
    `Make it (ip link add ${bridge} type bridge), or name another in VPE_AGENT_BRIDGE`,
  )
}

/**
 * The host's clock against the controller's.
 * @param offsetMs the host's time less that of the middle of the round trip; so it is off by half the round trip at most
 */
export function judgeClock({
  offsetMs,
  roundTripMs,
}: {
  readonly offsetMs: number
  readonly roundTripMs: number
}): Finding {
  const type = 'ClockInSync'
  // What can be said for certain: a slow answer is no wrong clock.
  const certainMs = Math.max(0, Math.abs(offsetMs) - roundTripMs / 2)
  const direction = offsetMs < 0 ? 'behind' : 'ahead of'
  const off = `its clock is ${shownMs(Math.abs(offsetMs))} ${direction} the controller's, give or take ${shownMs(roundTripMs / 2)}`
  const cure =
    'Set the clock, and keep it with chrony or another NTP client on this host and on the controller'
  if (certainMs <= CLOCK_WARNING_MS) return ok(type, off)
  return certainMs <= CLOCK_FAILED_MS ? warning(type, off, cure) : failed(type, off, cure)
}

/** @param attempt the controller's call to the agent */
export function judgeAgent(address: string, attempt: Attempt): Finding {
  const type = 'AgentReachable'
  if ('fault' in attempt)
    return failed(
      type,
      `${address}: ${attempt.fault}`,
      `See that vpe-agent runs on the host, and that the controller may connect to ${address}`,
    )
  return ok(type, `${address} answers in ${shownMs(attempt.latencyMs)}`, attempt.latencyMs)
}

/** How the encryption of guests on their way is set up on a host. */
export interface MigrationTlsSetup {
  /** Where the agent lays out the cluster's certificates for QEMU. */
  readonly folder: string
  readonly isLaidOut: boolean
  /** The configuration of libvirt's QEMU driver, why it cannot be read, and what it says; empty where it says nothing. */
  readonly conf: string
  readonly fault: string
  readonly configured: string
  readonly verifies: boolean
}

/** @param setup null where guests that leave are not encrypted */
export function judgeMigrationTls(setup: MigrationTlsSetup | null): Finding {
  const type = 'MigrationEncrypted'
  if (setup === null) return ok(type, 'guests go unencrypted (VPE_AGENT_MIGRATION_TLS=off)')
  const { folder, isLaidOut, conf, fault, configured, verifies } = setup
  const lines = `migrate_tls_x509_cert_dir = "${folder}" and migrate_tls_x509_verify = 1`
  const cure = `Write ${lines} into ${conf} and restart libvirtd (guests run on), or set VPE_AGENT_MIGRATION_TLS=off on all hosts`
  if (!isLaidOut)
    return failed(type, `${folder} holds no certificate`, 'Join the cluster, and let the agent write there')
  if (fault !== '')
    return warning(type, `${conf}: ${fault}: whether QEMU finds its certificate is not known`, cure)
  if (configured !== folder) {
    const now = configured === '' ? 'nothing' : configured
    return failed(
      type,
      `QEMU looks for its certificate in ${now}, and it is in ${folder}: guests cannot migrate live`,
      cure,
    )
  }
  if (!verifies)
    return warning(type, 'QEMU takes guests from whoever sends them: it asks for no certificate', cure)
  return ok(type, `QEMU has the cluster's certificate, and asks for one`)
}

/** The worst of them. */
export function worstOf(findings: readonly Pick<Finding, 'status'>[]): FindingStatus {
  if (findings.some(({ status }) => status === 'failed')) return 'failed'
  return findings.some(({ status }) => status === 'warning') ? 'warning' : 'ok'
}

function ok(type: string, message: string, latencyMs: number | null = null): Finding {
  return { type, status: 'ok', message, cure: '', latencyMs }
}

function warning(type: string, message: string, cure: string, latencyMs: number | null = null): Finding {
  return { type, status: 'warning', message, cure, latencyMs }
}

function failed(type: string, message: string, cure: string): Finding {
  return { type, status: 'failed', message, cure, latencyMs: null }
}

function shownMs(ms: number): string {
  if (ms >= 10_000) return `${Math.round(ms / 1_000)} s`
  return ms >= 10 ? `${Math.round(ms)} ms` : `${Math.round(ms * 10) / 10} ms`
}

/** Versions as `9.0.0`. */
function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number))
  for (let index = 0; index < 3; index++) {
    const difference = (a?.[index] ?? 0) - (b?.[index] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}
