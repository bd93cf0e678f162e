// What makes the controller the one that says who belongs to the cluster: the CA, its own certificate, the key
// that join tokens are made with, and the NATS accounts. All of it lies in its state folder, is made once and
// kept; none of it is in the database, so that a copy of that opens nothing.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import {
  CERTIFICATE_DAYS,
  CertificateAuthority,
  type CertificateOrder,
  isRenewalDue,
  makeKey,
  makePrivateFolder,
  makeRequest,
  type RequestedKey,
  readIfThere,
  readRequest,
  writeDurably,
} from '@vpe/pki'
import { type Credentials, type Peer, TlsFolder } from '@vpe/proto'
import { NatsAccounts } from './nats-accounts.ts'

const DAY_MS = 86_400_000

const SYSTEM_CREDENTIALS = 'system.creds'

/** nats-server is not told of a new one by itself, so it has a long one. */
const NATS_CERTIFICATE_DAYS = 5 * 365

export function tlsFolder(stateDir: string): string {
  return join(stateDir, 'tls')
}

export function natsFolder(stateDir: string): string {
  return join(stateDir, 'nats')
}

export interface SecuritySettings {
  readonly stateDir: string
  /** Names and addresses, without ports, at which the controller and its NATS are reached. */
  readonly names: readonly string[]
  /** Whether members get credentials for NATS. */
  readonly isNatsGuarded: boolean
}

export class ClusterSecurity {
  readonly folder: TlsFolder
  readonly natsAccounts: NatsAccounts
  readonly #ca: CertificateAuthority
  readonly #tokenKey: Buffer
  readonly #settings: SecuritySettings

  private constructor(
    settings: SecuritySettings,
    ca: CertificateAuthority,
    folder: TlsFolder,
    natsAccounts: NatsAccounts,
    tokenKey: Buffer,
  ) {
    this.#settings = settings
    this.#ca = ca
    this.folder = folder
    this.natsAccounts = natsAccounts
    this.#tokenKey = tokenKey
  }

  /** Opens what is in the state folder, and makes what is not there yet. */
  static async open(settings: SecuritySettings, nowMs: number): Promise<ClusterSecurity> {
    const { stateDir, names } = settings
    await makePrivateFolder(stateDir)
    const ca = await CertificateAuthority.open(join(stateDir, 'ca'), nowMs)
    const tokenKey = await tokenKeyIn(join(stateDir, 'join-token.key'))
    const tlsDir = tlsFolder(stateDir)
    const key = await keyIn(join(tlsDir, 'key.pem'))
    // Anew at each start: the addresses may have changed.
    await writeOwnCertificate(ca, tlsDir, key, names, nowMs)
    const natsAccounts = await NatsAccounts.open(natsFolder(stateDir))
    const controllerCredentials = join(natsAccounts.folder, 'controller.creds')
    if ((await readIfThere(controllerCredentials)) === undefined)
      await writeDurably(
        controllerCredentials,
        (await natsAccounts.credentials({ kind: 'controller' }, null)).text,
      )
    const systemCredentials = join(natsAccounts.folder, SYSTEM_CREDENTIALS)
    if ((await readIfThere(systemCredentials)) === undefined)
      await writeDurably(systemCredentials, await natsAccounts.systemCredentials())
    return new ClusterSecurity(settings, ca, new TlsFolder(tlsDir), natsAccounts, tokenKey)
  }

  /** By which nats-server is told of changes. */
  get systemCredentialsFile(): string {
    return join(this.natsAccounts.folder, SYSTEM_CREDENTIALS)
  }

  get fingerprint(): Buffer {
    return this.#ca.fingerprint
  }

  /** The secret of a token: a function of its id and a key that is nowhere else, so that it is kept nowhere. */
  tokenSecret(uuid: string): string {
    return createHmac('sha256', this.#tokenKey).update(`join token ${uuid}`).digest('base64url')
  }

  /** In a time that says nothing of how much was right. */
  isTokenSecret(uuid: string, secret: string): boolean {
    const digest = (text: string) => createHmac('sha256', this.#tokenKey).update(text).digest()
    return timingSafeEqual(digest(secret), digest(this.tokenSecret(uuid)))
  }

  /** What a member is given. @param addresses without ports */
  async credentialsFor(
    peer: Peer,
    addresses: readonly string[],
    key: RequestedKey,
    nowMs: number,
  ): Promise<{ readonly credentials: Credentials; readonly natsUser: string | null }> {
    const user =
      peer.role === 'agent'
        ? ({ kind: 'agent', hostId: peer.name } as const)
        : ({ kind: 'api', name: peer.name } as const)
    const nats = this.#settings.isNatsGuarded
      ? await this.natsAccounts.credentials(user, nowMs + CERTIFICATE_DAYS * DAY_MS)
      : null
    const credentials = {
      certificate: await this.#ca.issue({ peer, addresses, key, nowMs }),
      caCertificate: this.#ca.certificate,
      natsCredentials: nats?.text ?? '',
    }
    return { credentials, natsUser: nats?.user ?? null }
  }

  /** A certificate for nats-server. Returns its folder. */
  async makeNatsCertificate(nowMs: number): Promise<string> {
    const tlsDir = join(this.natsAccounts.folder, 'tls')
    const key = await keyIn(join(tlsDir, 'key.pem'))
    await writeCertificate(this.#ca, tlsDir, key, {
      peer: { role: 'nats', name: '' },
      addresses: this.#settings.names,
      nowMs,
      days: NATS_CERTIFICATE_DAYS,
    })
    return tlsDir
  }

  /** Renews the controller's own certificate when that is due. */
  async renewOwn(nowMs: number): Promise<void> {
    if (!isRenewalDue(this.folder.validity, nowMs)) return
    await writeOwnCertificate(this.#ca, this.folder.path, this.folder.key, this.#settings.names, nowMs)
    this.folder.reload()
  }
}

function writeOwnCertificate(
  ca: CertificateAuthority,
  tlsDir: string,
  keyPem: string,
  addresses: readonly string[],
  nowMs: number,
): Promise<void> {
  return writeCertificate(ca, tlsDir, keyPem, { peer: { role: 'controller', name: '' }, addresses, nowMs })
}

async function writeCertificate(
  ca: CertificateAuthority,
  tlsDir: string,
  keyPem: string,
  order: Omit<CertificateOrder, 'key'>,
): Promise<void> {
  const key = await readRequest(await makeRequest(keyPem))
  const certificate = await ca.issue({ ...order, key })
  await writeDurably(join(tlsDir, 'ca.pem'), ca.certificate)
  await writeDurably(join(tlsDir, 'cert.pem'), certificate)
}

async function keyIn(path: string): Promise<string> {
  const kept = await readIfThere(path)
  if (kept !== undefined) return kept
  const made = makeKey()
  await writeDurably(path, made)
  return made
}

async function tokenKeyIn(path: string): Promise<Buffer> {
  const kept = await readIfThere(path)
  if (kept !== undefined) return Buffer.from(kept.trim(), 'base64url')
  const made = randomBytes(32)
  await writeDurably(path, `${made.toString('base64url')}\n`)
  return made
}
