// Mutual TLS by a folder of three files: ca.pem (whom to believe), cert.pem and key.pem (who this process
// is). `reload` takes a renewed certificate up: connections that are open stay, new ones have it.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ChannelCredentials, experimental, type ServerCredentials } from '@grpc/grpc-js'
import { VpeError } from '@vpe/core'
import { type ExpectedPeer, type Peer, peerOfAltNames, refusePeer } from './peer.ts'

type CaListener = Parameters<experimental.CertificateProvider['addCaCertificateListener']>[0]
type IdentityListener = Parameters<experimental.CertificateProvider['addIdentityCertificateListener']>[0]

interface Material {
  readonly ca: Buffer
  readonly cert: Buffer
  readonly key: Buffer
  readonly leaf: X509Certificate
  readonly peer: Peer
}

export class TlsFolder implements experimental.CertificateProvider {
  readonly path: string
  #material: Material
  readonly #caListeners = new Set<CaListener>()
  readonly #identityListeners = new Set<IdentityListener>()

  /** @throws VpeError INVALID_ARGUMENT when the folder does not hold what it should */
  constructor(path: string) {
    this.path = path
    this.#material = read(path)
  }

  /** Whom the certificate speaks for. */
  get peer(): Peer {
    return this.#material.peer
  }

  /** For a connection to the cluster's NATS. */
  get forNats() {
    return { caFile: join(this.path, 'ca.pem'), ...verifyPeer({ role: 'nats' }) }
  }

  get key(): string {
    return this.#material.key.toString()
  }

  /** From when and until when the certificate counts, in ms since 1970. */
  get validity(): { readonly fromMs: number; readonly toMs: number } {
    const { validFromDate, validToDate } = this.#material.leaf
    return { fromMs: validFromDate.getTime(), toMs: validToDate.getTime() }
  }

  /** Reads the files again. @throws VpeError, and keeps what it has, when they are not as they should be */
  reload(): void {
    this.#material = read(this.path)
    for (const listener of this.#caListeners) this.#tellCa(listener)
    for (const listener of this.#identityListeners) this.#tellIdentity(listener)
  }

  /** For a server: demands a certificate of the CA from its clients, or only asks for one. */
  serverCredentials(clients: 'certified' | 'anyone' = 'certified'): ServerCredentials {
    return experimental.createCertificateProviderServerCredentials(this, this, clients === 'certified')
  }

  /** For a client that calls one certain peer, whatever its address. */
  channelCredentials(expected: ExpectedPeer): ChannelCredentials {
    return experimental.createCertificateProviderChannelCredentials(this, this, verifyPeer(expected))
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener)
    this.#tellCa(listener)
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener)
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener)
    this.#tellIdentity(listener)
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener)
  }

  // gRPC hears only what is said after the listener has been added.
  #tellCa(listener: CaListener): void {
    queueMicrotask(() => listener({ caCertificate: this.#material.ca }))
  }

  #tellIdentity(listener: IdentityListener): void {
    queueMicrotask(() => listener({ certificate: this.#material.cert, privateKey: this.#material.key }))
  }
}

/** A process is who its certificate says, so its address is not looked at: addresses get swapped and reused. */
export function verifyPeer(expected: ExpectedPeer) {
  return {
    checkServerIdentity(_host: string, { subjectaltname }: { readonly subjectaltname?: string }) {
      const why = refusePeer(peerOfAltNames(subjectaltname), expected)
      return why === null ? undefined : new Error(why)
    },
  }
}

function read(path: string): Material {
  const [ca, cert, key] = ['ca.pem', 'cert.pem', 'key.pem'].map((name) => readOne(join(path, name))) as [
    Buffer,
    Buffer,
    Buffer,
  ]
  const leaf = parse(() => new X509Certificate(cert), join(path, 'cert.pem'))
  const root = parse(() => new X509Certificate(ca), join(path, 'ca.pem'))
  const privateKey = parse(() => createPrivateKey(key), join(path, 'key.pem'))
  if (!leaf.checkPrivateKey(privateKey)) throw fault(`${path}: key.pem is not the key of cert.pem`)
  if (!leaf.checkIssued(root)) throw fault(`${path}: cert.pem is not of the CA in ca.pem`)
  const peer = peerOfAltNames(leaf.subjectAltName)
  if (!peer) throw fault(`${path}: cert.pem names no role of vpe (vpe://… among its alternative names)`)
  return { ca, cert, key, leaf, peer }
}

function readOne(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    throw fault(`${path} cannot be read (${(cause as Error).message})`, cause)
  }
}

function parse<Parsed>(make: () => Parsed, path: string): Parsed {
  try {
    return make()
  } catch (cause) {
    throw fault(`${path} does not hold what its name says (${(cause as Error).message})`, cause)
  }
}

function fault(message: string, cause?: unknown): VpeError {
  return new VpeError('INVALID_ARGUMENT', `${message}; join the cluster again with a new token`, { cause })
}
