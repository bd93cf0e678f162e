// The cluster's certificate authority: a key and a certificate in a folder of the controller, made once and
// kept. Whoever has the key is the cluster, so the folder is for the controller's eyes alone.
//
// A certificate says who its holder is in a URI (proto/src/peer.ts), and at which names and addresses it is
// reached, for the sake of clients that look at those: NATS and libvirt do, vpe's own look at the URI.

import { randomBytes, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { VpeError } from '@vpe/core'
import { type Peer, peerUri } from '@vpe/proto'
import { importKeyPair, makeKey, type RequestedKey, SIGNATURE_ALGORITHM } from './certificate-request.ts'
import { readIfThere, writeDurably } from './durable-file.ts'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  X509Certificate as Certificate,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type JsonGeneralName,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from './x509.ts'

const DAY_MS = 86_400_000
const CA_DAYS = 10 * 365
/** How long a certificate counts. Renewed when a third of it is left. */
export const CERTIFICATE_DAYS = 90
/** Clocks of hosts may be behind the controller's by so much. */
const CLOCK_OFFSET_MS = 3_600_000

export interface CertificateOrder {
  readonly peer: Peer
  /** Names and IP addresses, without ports. */
  readonly addresses: readonly string[]
  readonly key: RequestedKey
  readonly nowMs: number
  readonly days?: number
}

export class CertificateAuthority {
  /** PEM. */
  readonly certificate: string
  readonly #root: Certificate
  readonly #keys: Awaited<ReturnType<typeof importKeyPair>>

  private constructor(certificate: string, keys: Awaited<ReturnType<typeof importKeyPair>>) {
    this.certificate = certificate
    this.#root = new Certificate(certificate)
    this.#keys = keys
  }

  /**
   * Opens the CA in a folder, and makes it when there is none.
   * @throws VpeError INTERNAL when a part of it is missing: another one made in its place would lock all members out
   */
  static async open(folder: string, nowMs: number): Promise<CertificateAuthority> {
    const keyPath = join(folder, 'ca.key.pem')
    const certificatePath = join(folder, 'ca.pem')
    const [key, certificate] = await Promise.all([readIfThere(keyPath), readIfThere(certificatePath)])
    // The key comes first, so a key alone is a start that was cut short.
    if (key === undefined && certificate !== undefined)
      throw new VpeError('INTERNAL', `${keyPath} is missing; restore it from a backup`)
    const keyPem = key ?? makeKey()
    if (key === undefined) await writeDurably(keyPath, keyPem)
    const keys = await importKeyPair(keyPem)
    if (certificate !== undefined) return new CertificateAuthority(certificate, keys)
    const made = await selfSigned(keys, nowMs)
    await writeDurably(certificatePath, made)
    return new CertificateAuthority(made, keys)
  }

  /** SHA-256 of the CA's certificate, by which a token names it. */
  get fingerprint(): Buffer {
    return fingerprintOf(this.certificate)
  }

  /** A certificate, PEM, with the CA's behind it. */
  async issue({ peer, addresses, key, nowMs, days = CERTIFICATE_DAYS }: CertificateOrder): Promise<string> {
    const names: JsonGeneralName[] = [
      { type: 'url', value: peerUri(peer) },
      ...[...new Set(addresses)].map(
        (value): JsonGeneralName => ({ type: isIP(value) ? 'ip' : 'dns', value }),
      ),
    ]
    const certificate = await X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: `CN=${peerUri(peer).slice('vpe://'.length)},O=vpe`,
      issuer: this.#root.subject,
      notBefore: new Date(nowMs - CLOCK_OFFSET_MS),
      notAfter: new Date(Math.min(nowMs + days * DAY_MS, this.#root.notAfter.getTime())),
      publicKey: key.publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: SIGNATURE_ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        // libvirt and QEMU take no certificate that is not good for key encipherment, whatever its key.
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
        new SubjectAlternativeNameExtension(names),
        await AuthorityKeyIdentifierExtension.create(this.#root.publicKey),
        await SubjectKeyIdentifierExtension.create(key.publicKey),
      ],
    })
    return `${certificate.toString('pem')}\n${this.certificate}`
  }
}

/** SHA-256 of a certificate in PEM. */
export function fingerprintOf(certificate: string): Buffer {
  return Buffer.from(new X509Certificate(certificate).fingerprint256.replaceAll(':', ''), 'hex')
}

async function selfSigned(keys: Awaited<ReturnType<typeof importKeyPair>>, nowMs: number): Promise<string> {
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: 'CN=vpe cluster CA,O=vpe',
    notBefore: new Date(nowMs - CLOCK_OFFSET_MS),
    notAfter: new Date(nowMs + CA_DAYS * DAY_MS),
    keys,
    signingAlgorithm: SIGNATURE_ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return `${certificate.toString('pem')}\n`
}

/** Positive, and not to be guessed. */
function serialNumber(): string {
  return `4${randomBytes(16).toString('hex').slice(1)}`
}
