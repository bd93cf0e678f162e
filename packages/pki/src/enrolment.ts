// Joining a cluster, seen from the machine that joins. First the CA is fetched from the enrolment listener and
// believed only by the fingerprint in the token; then, over TLS that this CA vouches for, the token's secret
// and a certificate request go out. The key is made and kept before anything is asked, so that one who dies
// on the way asks for the same again.

import { once } from 'node:events'
import { join } from 'node:path'
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls'
import { ChannelCredentials } from '@grpc/grpc-js'
import { VpeError } from '@vpe/core'
import {
  type Credentials,
  createChannelWith,
  createRpcClientFactory,
  EnrolmentServiceDefinition,
  type EnrolRequest,
  type EnrolResponse,
  fromClientError,
  verifyPeer,
} from '@vpe/proto'
import { fingerprintOf } from './certificate-authority.ts'
import { makeKey, makeRequest } from './certificate-request.ts'
import { makePrivateFolder, readIfThere, writeDurably } from './durable-file.ts'
import type { JoinToken } from './join-token.ts'

const TIMEOUT_MS = 20_000

/** Where a member of the cluster keeps what it was given. */
export interface MemberFiles {
  /** Takes ca.pem, cert.pem and key.pem: a VPE_TLS_DIR. */
  readonly tlsDir: string
  /** A VPE_NATS_CREDS. */
  readonly natsCredentials: string
}

export function memberFiles(stateDir: string): MemberFiles {
  return { tlsDir: join(stateDir, 'tls'), natsCredentials: join(stateDir, 'nats.creds') }
}

export type Newcomer = Pick<EnrolRequest, 'hostId' | 'name' | 'hostname' | 'cpus' | 'memoryMib' | 'arch'> & {
  /** The address at which it will listen, by the one from which it reached the controller. */
  readonly listen: (ownAddress: string) => string
}

export interface Joined {
  readonly name: string
  readonly address: string
  readonly controllerAddress: string
  readonly natsUrl: string
  readonly hasNatsCredentials: boolean
}

/**
 * Enrols by a token and writes the credentials.
 * @throws VpeError JOIN_TOKEN_REFUSED, UNAVAILABLE when no address of the token answers, PERMISSION_DENIED when
 *   what answers there is another cluster, or whatever else the controller says
 */
export async function enrol(token: JoinToken, newcomer: Newcomer, files: MemberFiles): Promise<Joined> {
  const { enrolmentAddress, ownAddress, ca } = await findCluster(token)
  const keyPath = join(files.tlsDir, 'key.pem')
  await makePrivateFolder(files.tlsDir)
  const kept = await readIfThere(keyPath)
  const key = kept ?? makeKey()
  if (kept === undefined) await writeDurably(keyPath, key)

  const { listen, ...facts } = newcomer
  const address = listen(ownAddress)
  const answer = await ask(enrolmentAddress, ca, {
    ...facts,
    address,
    tokenUuid: token.uuid,
    tokenSecret: token.secret,
    certificateRequest: await makeRequest(key),
  })
  if (!answer.credentials) throw new VpeError('INTERNAL', 'the controller answered without credentials')
  await writeCredentials(answer.credentials, files)
  return {
    name: answer.name,
    address,
    controllerAddress: answer.controllerAddress,
    natsUrl: answer.natsUrl,
    hasNatsCredentials: answer.credentials.natsCredentials !== '',
  }
}

/** Writes what a member was given; its own certificate last, which makes the folder whole. */
export async function writeCredentials(
  credentials: Credentials,
  files: { readonly tlsDir: string; readonly natsCredentials: string | undefined },
): Promise<void> {
  if (credentials.natsCredentials !== '' && files.natsCredentials !== undefined)
    await writeDurably(files.natsCredentials, credentials.natsCredentials)
  await writeDurably(join(files.tlsDir, 'ca.pem'), credentials.caCertificate)
  await writeDurably(join(files.tlsDir, 'cert.pem'), credentials.certificate)
}

async function ask(address: string, ca: string, request: EnrolRequest): Promise<EnrolResponse> {
  const trust = ChannelCredentials.createSsl(Buffer.from(ca), null, null, verifyPeer({ role: 'controller' }))
  const channel = createChannelWith(address, trust)
  try {
    const client = createRpcClientFactory().create(EnrolmentServiceDefinition, channel)
    return await client.enrol(request, { signal: AbortSignal.timeout(TIMEOUT_MS) })
  } catch (error) {
    throw fromClientError(error)
  } finally {
    channel.close()
  }
}

interface FoundCluster {
  readonly enrolmentAddress: string
  readonly ownAddress: string
  /** PEM. */
  readonly ca: string
}

async function findCluster({ addresses, fingerprint }: JoinToken): Promise<FoundCluster> {
  const silent: string[] = []
  for (const enrolmentAddress of addresses) {
    const { hostname, port } = new URL(`tcp://${enrolmentAddress}`)
    // What is sent here is nothing; what comes is looked at below.
    const socket = connect({
      host: hostname.replace(/[[\]]/g, ''),
      port: Number(port),
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
    })
    try {
      await once(socket, 'secureConnect', { signal: AbortSignal.timeout(TIMEOUT_MS) })
      const ca = chainOf(socket).find((pem) => fingerprintOf(pem).equals(fingerprint))
      if (ca === undefined) {
        throw new VpeError(
          'PERMISSION_DENIED',
          `what answers at ${enrolmentAddress} is not the cluster of this token: its CA's certificate has another fingerprint. Make a new token, and see who listens there`,
        )
      }
      return { enrolmentAddress, ownAddress: socket.localAddress ?? '', ca }
    } catch (error) {
      if (error instanceof VpeError) throw error
      silent.push(`${enrolmentAddress}: ${(error as Error).message}`)
    } finally {
      socket.destroy()
    }
  }
  throw new VpeError(
    'UNAVAILABLE',
    `no enrolment listener answers (${silent.join('; ')}); check that the controller runs with VPE_ENROLMENT_LISTEN and is reached from here`,
  )
}

/** The certificates that the other end has shown, PEM. */
function chainOf(socket: TLSSocket): string[] {
  const chain: string[] = []
  let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
  for (
    const seen = new Set<string>();
    next?.raw && !seen.has(next.fingerprint256);
    next = next.issuerCertificate
  ) {
    seen.add(next.fingerprint256)
    chain.push(`-----BEGIN CERTIFICATE-----\n${next.raw.toString('base64')}\n-----END CERTIFICATE-----\n`)
  }
  return chain
}
