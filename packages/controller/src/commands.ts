// What vpe-controller does beside running: prepare a cluster before anything of it is up, and give out
// credentials for watchers.

import { join } from 'node:path'
import { VpeError } from '@vpe/core'
import { writeDurably } from '@vpe/pki'
import {
  ControllerServiceDefinition,
  createRpcChannel,
  createRpcClientFactory,
  fromClientError,
  JoinTokenRole,
  TlsFolder,
} from '@vpe/proto'
import { Command, InvalidArgumentError, Option } from 'commander'
import { readConfig } from './config.ts'
import { natsFolder, tlsFolder } from './security/cluster-security.ts'
import { CONFIGURATION, NatsAccounts } from './security/nats-accounts.ts'
import { openSecurity } from './security/open-security.ts'

const DAY_MS = 86_400_000
const CALL_TIMEOUT_MS = 20_000

const JOIN_TOKEN_ROLES = { agent: JoinTokenRole.AGENT, api: JoinTokenRole.API } as const

/** Runs the command that the arguments name; false when they name none and the controller is to run. */
export async function runCommand(argv: readonly string[]): Promise<boolean> {
  let isDone = true
  const program = new Command('vpe-controller')
    .description(
      'The controller of a vpe cluster. Its settings are environment variables: see docs/operations.md.',
    )
    .action(() => {
      isDone = false
    })
  program
    .command('init')
    .description('make the CA, the keys and the configuration of nats-server; what is there already is kept')
    .action(() => orExit(init))
  program
    .command('join-token')
    .description(
      'ask the running controller for a token, as POST /join_tokens does: the first API node needs one',
    )
    .addOption(new Option('--role <role>', 'whom it lets in').choices(['agent', 'api']).makeOptionMandatory())
    .option('--name <name>', 'what the member will be called', '')
    .option('--expires-in <seconds>', 'how long it counts', wholeNumber, 3_600)
    .option('--uses <n>', 'how many members it lets in', wholeNumber, 1)
    .action((options: TokenOptions) => orExit(() => printJoinToken(options)))
  program
    .command('watcher-credentials')
    .description('print NATS credentials that read the event stream')
    .argument('<name>', 'who they are for')
    .option('--days <n>', 'how long they count', wholeNumber, 365)
    .option('--consumers', 'they may make JetStream consumers, which can push to subjects of others', false)
    .action((name: string, options: WatcherOptions) => orExit(() => printWatcherCredentials(name, options)))
  await program.parseAsync(argv)
  return isDone
}

async function init(): Promise<void> {
  const config = readConfig(process.env)
  const security = await openSecurity(config, Date.now())
  const { hostname, port } = new URL(config.natsUrl.split(',')[0] ?? '')
  const isTls = config.natsUrl.startsWith('tls://')
  const configuration = await security.natsAccounts.serverConfiguration({
    listen: `${hostname}:${port || '4222'}`,
    tlsDir: isTls ? await security.makeNatsCertificate(Date.now()) : null,
  })
  const path = join(security.natsAccounts.folder, CONFIGURATION)
  await writeDurably(path, configuration)
  const credentials = join(security.natsAccounts.folder, 'controller.creds')
  process.stdout.write(
    [
      `The cluster's CA and keys are in ${config.stateDir}; keep a copy of it where only you can read it.`,
      `Next: nats-server -c ${path}`,
      `then: VPE_CONTROLLER_TLS=on VPE_NATS_CREDS=${credentials} vpe-controller`,
      '',
    ].join('\n'),
  )
}

interface WatcherOptions {
  readonly days: number
  readonly consumers: boolean
}

async function printWatcherCredentials(name: string, { days, consumers }: WatcherOptions): Promise<void> {
  const natsAccounts = await NatsAccounts.open(natsFolder(readConfig(process.env).stateDir))
  const watcher = { kind: 'watcher', name, mayConsume: consumers } as const
  const { text } = await natsAccounts.credentials(watcher, Date.now() + days * DAY_MS)
  process.stdout.write(text)
}

interface TokenOptions {
  readonly role: 'agent' | 'api'
  readonly name: string
  readonly expiresIn: number
  readonly uses: number
}

/** Over gRPC, by the controller's own certificate: only the running one may write to the store. */
async function printJoinToken({ role, name, expiresIn: expiresInS, uses }: TokenOptions): Promise<void> {
  const { stateDir, advertised } = readConfig(process.env)
  const folder = new TlsFolder(tlsFolder(stateDir))
  const channel = createRpcChannel(advertised.controller, { folder, expected: { role: 'controller' } })
  try {
    const client = createRpcClientFactory().create(ControllerServiceDefinition, channel)
    const request = { role: JOIN_TOKEN_ROLES[role], name, expiresInS, uses }
    const { token } = await client.createJoinToken(request, { signal: AbortSignal.timeout(CALL_TIMEOUT_MS) })
    process.stdout.write(`${token}\n`)
  } catch (error) {
    throw fromClientError(error)
  } finally {
    channel.close()
  }
}

function wholeNumber(text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError('a whole number, from 1')
  return count
}

/** Faults of settings and files are said in a sentence; others are defects. */
async function orExit(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof VpeError)) throw error
    process.stderr.write(`vpe-controller: ${error.message}\n`)
    process.exit(2)
  }
}
