// A member renews its certificate by itself, over TLS with the one it has, when a third of its time is left.
// The key stays. Looked at every so often rather than timed: clocks jump, machines sleep.

import {
  CertificateServiceDefinition,
  createRpcChannel,
  createRpcClientFactory,
  fromClientError,
  type TlsFolder,
} from '@vpe/proto'
import { makeRequest } from './certificate-request.ts'
import { writeCredentials } from './enrolment.ts'
import type { Logger } from './logger.ts'

const LOOK_MS = 600_000
const TIMEOUT_MS = 20_000

/** Whether a certificate should be renewed by now. */
export function isRenewalDue(validity: TlsFolder['validity'], nowMs: number): boolean {
  return nowMs >= validity.toMs - (validity.toMs - validity.fromMs) / 3
}

export interface RenewalDeps {
  readonly folder: TlsFolder
  /** Where NATS credentials are kept; undefined where there are none. */
  readonly natsCredentials: string | undefined
  readonly controllerAddress: string
  readonly now: () => number
  readonly log: Logger
}

/** Looks now and from then on. Returns what ends it. */
export function keepRenewed(deps: RenewalDeps): () => void {
  const look = () => {
    if (!isRenewalDue(deps.folder.validity, deps.now())) return
    renew(deps).then(
      () => deps.log.info({ until: new Date(deps.folder.validity.toMs) }, 'certificate renewed'),
      (error: unknown) =>
        deps.log.error(
          { why: fromClientError(error).message, until: new Date(deps.folder.validity.toMs) },
          'the certificate cannot be renewed; trying again',
        ),
    )
  }
  look()
  const timer = setInterval(look, LOOK_MS)
  timer.unref()
  return () => clearInterval(timer)
}

/** Gets a new certificate from the controller and takes it up. */
export async function renew({ folder, natsCredentials, controllerAddress }: RenewalDeps): Promise<void> {
  const channel = createRpcChannel(controllerAddress, { folder, expected: { role: 'controller' } })
  try {
    const client = createRpcClientFactory().create(CertificateServiceDefinition, channel)
    const { credentials } = await client.renewCertificate(
      { certificateRequest: await makeRequest(folder.key) },
      { signal: AbortSignal.timeout(TIMEOUT_MS) },
    )
    if (!credentials) throw new Error('the controller answered without credentials')
    await writeCredentials(credentials, { tlsDir: folder.path, natsCredentials })
    folder.reload()
  } finally {
    channel.close()
  }
}
