// Keys, and requests for certificates (PKCS#10). A key never leaves the machine that made it: what goes out
// is a request, signed by it, whose subject says nothing that the CA believes.

import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, webcrypto } from 'node:crypto'
import { VpeError } from '@vpe/core'
import { Pkcs10CertificateRequest, Pkcs10CertificateRequestGenerator, type PublicKey } from './x509.ts'

export const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const
export const SIGNATURE_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' } as const

/** A new private key, PEM. */
export function makeKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: KEY_ALGORITHM.namedCurve })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** Both halves of a private key in PEM, as the X.509 library takes them. */
export async function importKeyPair(keyPem: string): Promise<webcrypto.CryptoKeyPair> {
  const privateDer = createPrivateKey(keyPem).export({ type: 'pkcs8', format: 'der' })
  const publicDer = createPublicKey(keyPem).export({ type: 'spki', format: 'der' })
  const { subtle } = webcrypto
  const [privateKey, publicKey] = await Promise.all([
    subtle.importKey('pkcs8', privateDer, KEY_ALGORITHM, true, ['sign']),
    subtle.importKey('spki', publicDer, KEY_ALGORITHM, true, ['verify']),
  ])
  return { privateKey, publicKey }
}

/** A request for the key, DER. */
export async function makeRequest(keyPem: string): Promise<Uint8Array> {
  const keys = await importKeyPair(keyPem)
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=vpe',
    keys,
    signingAlgorithm: SIGNATURE_ALGORITHM,
  })
  return new Uint8Array(request.rawData)
}

export interface RequestedKey {
  readonly publicKey: PublicKey
  /** Of the key itself (SubjectPublicKeyInfo), in hex. */
  readonly sha256: string
}

/**
 * The key that a request is for, proven to be the sender's.
 * @throws VpeError INVALID_ARGUMENT
 */
export async function readRequest(der: Uint8Array): Promise<RequestedKey> {
  try {
    const request = new Pkcs10CertificateRequest(new Uint8Array(der))
    const { publicKey } = request
    const { algorithm } = await publicKey.export()
    if (algorithm.name !== KEY_ALGORITHM.name) throw new Error(`a key of ${algorithm.name} is not taken`)
    if (!(await request.verify())) throw new Error('its signature is not of its key')
    return { publicKey, sha256: createHash('sha256').update(new Uint8Array(publicKey.rawData)).digest('hex') }
  } catch (cause) {
    throw new VpeError(
      'INVALID_ARGUMENT',
      `certificate_request is no PKCS#10 request for an ECDSA key: ${(cause as Error).message}`,
      { cause },
    )
  }
}
