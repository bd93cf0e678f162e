// Real sockets: who gets through to a server, and what the others are told.

import { X509Certificate } from 'node:crypto'
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ChannelCredentials } from '@grpc/grpc-js'
import type { VpeError } from '@vpe/core'
import {
  CertificateServiceDefinition,
  ControllerServiceDefinition,
  type ControllerServiceImplementation,
  callerOf,
  createRpcChannel,
  createRpcClientFactory,
  createRpcServer,
  type ExpectedPeer,
  fromClientError,
  type Peer,
  TlsFolder,
  verifyPeer,
} from '@vpe/proto'
import { type CallContext, Metadata, type Server } from 'nice-grpc'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CertificateAuthority } from './certificate-authority.ts'
import { isRenewalDue, keepRenewed } from './renewal.ts'
import { TestCluster } from './testing/test-cluster.ts'

const CONTROLLER: Peer = { role: 'controller', name: '' }
const API: Peer = { role: 'api', name: 'api-1' }
const AGENT: Peer = { role: 'agent', name: 'host-a' }
const TIMEOUT_MS = 30_000

let cluster: TestCluster
let other: TestCluster
let folder: TlsFolder
let server: Server
let address: string
/** Whom the server took the last call for. */
let seen: unknown

beforeAll(async () => {
  cluster = await TestCluster.make()
  other = await TestCluster.make()
  folder = await cluster.member('controller', CONTROLLER)
  server = createRpcServer(() => {}, { folder, clients: 'certified' })
  const listFlavors = async (_request: unknown, context: CallContext) => {
    seen = callerOf(context)
    return { flavors: [] }
  }
  // One method is enough to see who gets in.
  const service = new Proxy({}, { get: () => listFlavors }) as ControllerServiceImplementation
  server.add(ControllerServiceDefinition, service)
  server.add(CertificateServiceDefinition, {
    renewCertificate: async () => {
      const path = join(cluster.dir, 'renewed')
      await cluster.certify(path, AGENT, Date.now(), readFileSync(join(cluster.dir, 'agent/key.pem'), 'utf8'))
      const text = (name: string) => readFileSync(join(path, name), 'utf8')
      const credentials = {
        certificate: text('cert.pem'),
        caCertificate: text('ca.pem'),
        natsCredentials: 'new',
      }
      return { credentials }
    },
  })
  address = `127.0.0.1:${await server.listen('127.0.0.1:0')}`
})

afterAll(() => {
  server?.forceShutdown()
  cluster?.[Symbol.dispose]()
  other?.[Symbol.dispose]()
})

/** What a call by a certificate ends with; null when it is answered. */
async function call(
  tls: TlsFolder | undefined,
  expected: ExpectedPeer = { role: 'controller' },
  metadata = Metadata(),
): Promise<VpeError | null> {
  const channel = createRpcChannel(address, tls && { folder: tls, expected })
  try {
    const client = createRpcClientFactory().create(ControllerServiceDefinition, channel)
    await client.listFlavors({}, { metadata, signal: AbortSignal.timeout(TIMEOUT_MS) })
    return null
  } catch (error) {
    return fromClientError(error)
  } finally {
    channel.close()
  }
}

describe('a server with certificates', () => {
  test('answers the role that it is for, and knows who that is', async () => {
    expect(await call(await cluster.member('api', API))).toBeNull()
    expect(seen).toEqual(API)
  })

  test('tells another role which one is needed, whatever that writes into its call', async () => {
    const tls = await cluster.member('agent-calls', AGENT)
    const forged = Metadata({ 'vpe-caller': 'vpe://api/api-1' })
    for (const metadata of [Metadata(), forged]) {
      expect(await call(tls, { role: 'controller' }, metadata)).toMatchObject({
        code: 'PERMISSION_DENIED',
        message: expect.stringContaining('needs role api or controller'),
      })
    }
  })

  test('does not speak with one that shows no certificate, or speaks in the clear', async () => {
    expect(await call(showing(null))).toMatchObject({ code: 'UNAVAILABLE' })
    expect(await call(undefined)).toMatchObject({ code: 'UNAVAILABLE' })
  })

  test('does not speak with a certificate of another CA', async () => {
    const foreign = await other.member('api', API)
    expect(await call(showing(foreign))).toMatchObject({ code: 'UNAVAILABLE' })
  })

  test('does not speak with a certificate that has expired', async () => {
    const expired = await cluster.member('expired', API, Date.now() - 2 * 86_400_000)
    expect(await call(expired)).toMatchObject({ code: 'UNAVAILABLE' })
  })
})

describe('a client with certificates', () => {
  test('does not speak with a server of another CA', async () => {
    expect(await call(await other.member('api-2', API))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/self.signed|unable to verify|certificate/i),
    })
  })

  test('does not speak with another role, or with host A when it means host B', async () => {
    const tls = await cluster.member('api-3', API)
    expect(await call(tls, { role: 'agent' })).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('the call is meant for vpe://agent/<any>'),
    })
    const agentFolder = await cluster.member('agent-b', AGENT)
    const agent = createRpcServer(() => {}, { folder: agentFolder, clients: 'certified' })
    agent.add(CertificateServiceDefinition, { renewCertificate: async () => ({ credentials: undefined }) })
    const port = await agent.listen('127.0.0.1:0')
    const expected = { role: 'agent', name: 'host-b' } as const
    const channel = createRpcChannel(`127.0.0.1:${port}`, { folder: tls, expected })
    const client = createRpcClientFactory().create(CertificateServiceDefinition, channel)
    const answer = client.renewCertificate({ certificateRequest: new Uint8Array() }).catch(fromClientError)
    expect(await answer).toMatchObject({ message: expect.stringContaining('is of vpe://agent/host-a') })
    channel.close()
    agent.forceShutdown()
  })
})

describe('renewal', () => {
  test('is due when a third is left', () => {
    const validity = { fromMs: 0, toMs: 900 }
    expect([0, 599, 600, 1_000].map((nowMs) => isRenewalDue(validity, nowMs))).toEqual([
      false,
      false,
      true,
      true,
    ])
  })

  test('a member renews by its old certificate, keeps its key, and shows the new one from then on', async () => {
    const tls = await cluster.member('agent', AGENT, Date.now() - 20 * 3_600_000)
    const before = tls.validity
    const log = { info: () => {}, error: (facts: unknown) => expect(facts).toBeNull() }
    const natsCredentials = join(cluster.dir, 'nats.creds')
    const stop = keepRenewed({ folder: tls, natsCredentials, controllerAddress: address, now: Date.now, log })
    await expect.poll(() => tls.validity.toMs).toBeGreaterThan(before.toMs)
    stop()
    expect(new TlsFolder(tls.path).validity).toEqual(tls.validity)
    expect(readFileSync(natsCredentials, 'utf8')).toBe('new')
  })

  test('a server that takes up a renewed certificate keeps its connections and shows the new one to others', async () => {
    const tls = await cluster.member('api-4', API)
    const channel = createRpcChannel(address, { folder: tls, expected: CONTROLLER })
    const client = createRpcClientFactory().create(ControllerServiceDefinition, channel)
    await client.listFlavors({})
    const key = readFileSync(join(folder.path, 'key.pem'), 'utf8')
    await cluster.certify(folder.path, CONTROLLER, Date.now() + 3_600_000, key)
    folder.reload()
    await client.listFlavors({})
    channel.close()
    expect(await call(tls)).toBeNull()
  })
})

describe('a folder of certificates', () => {
  test('keeps keys from others', async () => {
    const { path } = await cluster.member('modes', API)
    expect(statSync(join(path, 'key.pem')).mode & 0o777).toBe(0o600)
    expect(statSync(join(cluster.dir, 'ca/ca.key.pem')).mode & 0o777).toBe(0o600)
  })

  test('that is not whole, or mixed up, is refused with what is wrong', async () => {
    const { path } = await cluster.member('broken', API)
    const foreign = await other.member('foreign', API)
    const file = (name: string) => join(path, name)
    writeFileSync(file('ca.pem'), readFileSync(join(foreign.path, 'ca.pem')))
    expect(() => new TlsFolder(path)).toThrow(/is not of the CA/)
    writeFileSync(file('key.pem'), readFileSync(join(foreign.path, 'key.pem')))
    expect(() => new TlsFolder(path)).toThrow(/not the key of/)
    writeFileSync(file('cert.pem'), 'nothing')
    expect(() => new TlsFolder(path)).toThrow(/cert\.pem does not hold/)
    rmSync(file('ca.pem'))
    expect(() => new TlsFolder(path)).toThrow(/ca\.pem cannot be read/)
  })
})

describe('the CA', () => {
  test('is made once, and kept', async () => {
    const again = await CertificateAuthority.open(join(cluster.dir, 'ca'), Date.now())
    expect(again.fingerprint).toEqual(cluster.ca.fingerprint)
    expect(new X509Certificate(again.certificate).ca).toBe(true)
  })

  test('is not made anew over one whose key is gone', async () => {
    using lost = await TestCluster.make()
    rmSync(join(lost.dir, 'ca/ca.key.pem'))
    await expect(CertificateAuthority.open(join(lost.dir, 'ca'), Date.now())).rejects.toThrow(/restore it/)
  })
})

/** One that believes our server, and shows a certificate from wherever. */
function showing(foreign: TlsFolder | null): TlsFolder {
  const file = (name: string) => foreign && readFileSync(join(foreign.path, name))
  const ca = Buffer.from(cluster.ca.certificate)
  const channelCredentials = (expected: ExpectedPeer) =>
    ChannelCredentials.createSsl(ca, file('key.pem'), file('cert.pem'), verifyPeer(expected))
  return { channelCredentials } as TlsFolder
}
