// Who may do what on NATS, by decentralised JWTs: nats-server is told once whom it believes (an operator and
// two accounts), and each process brings credentials that the account's key has signed. nats-server need
// not be told of new hosts, and the controller need not be up for anyone to connect.

import { join } from 'node:path'
import { encodeAccount, encodeOperator, encodeUser, fmtCreds, type User } from '@nats-io/jwt'
import { createAccount, createOperator, createUser, fromSeed, type KeyPair } from '@nats-io/nkeys'
import { EVENTS_STREAM, EVENTS_SUBJECTS } from '@vpe/bus'
import { makePrivateFolder, readIfThere, writeDurably } from '@vpe/pki'

export type NatsUser =
  | { readonly kind: 'controller' }
  | { readonly kind: 'agent'; readonly hostId: string }
  /** An API node: reads events by consumers of its own. */
  | { readonly kind: 'api'; readonly name: string }
  /** Somebody outside who reads events; where it is trusted to, by consumers of its own. */
  | { readonly kind: 'watcher'; readonly name: string; readonly mayConsume: boolean }

/** What the stream is, and its messages by their number. */
const LOOKING = [
  '$JS.API.INFO',
  '$JS.API.STREAM.NAMES',
  `$JS.API.STREAM.INFO.${EVENTS_STREAM}`,
  `$JS.API.STREAM.MSG.GET.${EVENTS_STREAM}`,
]

/**
 * What EventLog asks of JetStream. Who may make a consumer may also have the server push to any subject, in whose name
 * nobody asks: that a consumer pulls is in the request, which no permission looks into. So members may, and whom the operator trusts.
 */
const PULLING = [
  `$JS.API.CONSUMER.CREATE.${EVENTS_STREAM}`,
  `$JS.API.CONSUMER.CREATE.${EVENTS_STREAM}.>`,
  `$JS.API.CONSUMER.INFO.${EVENTS_STREAM}.*`,
  `$JS.API.CONSUMER.DELETE.${EVENTS_STREAM}.*`,
  `$JS.API.CONSUMER.MSG.NEXT.${EVENTS_STREAM}.*`,
]

/** What a user may publish and subscribe to. */
export function natsPermissions(user: NatsUser): Pick<User, 'pub' | 'sub'> {
  switch (user.kind) {
    case 'controller':
      return { pub: {}, sub: {} }
    case 'agent':
      return { pub: { allow: [`vpe.host.${user.hostId}.>`] }, sub: { deny: ['>'] } }
    case 'api':
      return { pub: { allow: [...LOOKING, ...PULLING] }, sub: { allow: [EVENTS_SUBJECTS, '_INBOX.>'] } }
    case 'watcher':
      return {
        pub: { allow: user.mayConsume ? [...LOOKING, ...PULLING] : LOOKING },
        sub: { allow: [EVENTS_SUBJECTS, '_INBOX.>'] },
      }
    default:
      throw new Error(`no such user: ${JSON.stringify(user satisfies never)}`)
  }
}

/** Users by their public key, each with the time, in seconds, up to which what it was given counts no more. */
export type RevokedUsers = Readonly<Record<string, number>>

export interface UserCredentials {
  /** A credentials file. */
  readonly text: string
  /** The user's public key. */
  readonly user: string
}

/** Shown in nats-server's lists. */
function nameOf(user: NatsUser): string {
  switch (user.kind) {
    case 'controller':
      return 'controller'
    case 'agent':
      return `agent ${user.hostId}`
    case 'api':
      return `api ${user.name}`
    case 'watcher':
      return user.name
    default:
      throw new Error(`no such user: ${JSON.stringify(user satisfies never)}`)
  }
}

export interface NatsServerOptions {
  /** host:port. */
  readonly listen: string
  /** Holds ca.pem, cert.pem and key.pem; null for a server without TLS. */
  readonly tlsDir: string | null
}

export const CONFIGURATION = 'nats-server.conf'
const REVOKED = 'revoked.json'
const UNLIMITED = { subs: -1, data: -1, payload: -1, conn: -1, leaf: -1, imports: -1, exports: -1 }

export class NatsAccounts {
  readonly folder: string
  readonly #operator: KeyPair
  readonly #account: KeyPair
  readonly #system: KeyPair

  private constructor(folder: string, operator: KeyPair, account: KeyPair, system: KeyPair) {
    this.folder = folder
    this.#operator = operator
    this.#account = account
    this.#system = system
  }

  /** The keys in a folder, made when they are not there. */
  static async open(folder: string): Promise<NatsAccounts> {
    await makePrivateFolder(folder)
    return new NatsAccounts(
      folder,
      await keyIn(join(folder, 'operator.nk'), createOperator),
      await keyIn(join(folder, 'account.nk'), createAccount),
      await keyIn(join(folder, 'system.nk'), createAccount),
    )
  }

  /** A user of its own. @param untilMs when it ends; null for never */
  async credentials(user: NatsUser, untilMs: number | null): Promise<UserCredentials> {
    const keys = createUser()
    const name = nameOf(user)
    const until = untilMs === null ? {} : { exp: Math.floor(untilMs / 1_000) }
    const limits = { subs: -1, data: -1, payload: -1 }
    const jwt = await encodeUser(name, keys, this.#account, { ...natsPermissions(user), ...limits }, until)
    return { text: new TextDecoder().decode(fmtCreds(jwt, keys)), user: keys.getPublicKey() }
  }

  /** A credentials file of the system account, by which nats-server is told of changes. */
  async systemCredentials(): Promise<string> {
    const keys = createUser()
    const limits = { subs: -1, data: -1, payload: -1 }
    const jwt = await encodeUser('controller', keys, this.#system, { pub: {}, sub: {}, ...limits }, {})
    return new TextDecoder().decode(fmtCreds(jwt, keys))
  }

  /** What nats-server is sent, and where, when users count no more. */
  async accountUpdate(revoked: RevokedUsers): Promise<{ readonly subject: string; readonly jwt: string }> {
    const subject = `$SYS.REQ.ACCOUNT.${this.#account.getPublicKey()}.CLAIMS.UPDATE`
    return { subject, jwt: await this.#accountJwt(revoked) }
  }

  /** Keeps who counts no more for configurations to come, and puts it into the one that is there. */
  async noteRevoked(revoked: RevokedUsers): Promise<void> {
    await writeDurably(join(this.folder, REVOKED), `${JSON.stringify(revoked)}\n`)
    const path = join(this.folder, CONFIGURATION)
    const text = await readIfThere(path)
    if (text === undefined) return
    const key = this.#account.getPublicKey()
    const jwt = await this.#accountJwt(revoked)
    await writeDurably(
      path,
      text.replace(new RegExp(`^( *${key}: ).*$`, 'm'), (_, start: string) => start + jwt),
    )
  }

  async #accountJwt(revocations: RevokedUsers): Promise<string> {
    const jetstream = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 }
    const limits = { ...UNLIMITED, wildcards: true, disallow_bearer: false, ...jetstream }
    return encodeAccount('vpe', this.#account, { limits, revocations }, { signer: this.#operator })
  }

  /** The configuration to start nats-server with. */
  async serverConfiguration({ listen, tlsDir }: NatsServerOptions): Promise<string> {
    const system = this.#system.getPublicKey()
    const revoked = await readIfThere(join(this.folder, REVOKED))
    const operator = await encodeOperator('vpe', this.#operator, { system_account: system })
    const signer = { signer: this.#operator }
    const account = await this.#accountJwt(revoked === undefined ? {} : JSON.parse(revoked))
    const systemAccount = await encodeAccount('system', this.#system, { limits: UNLIMITED }, signer)
    const tls =
      tlsDir === null
        ? []
        : [
            'tls {',
            ...[
              ['cert_file', 'cert.pem'],
              ['key_file', 'key.pem'],
              ['ca_file', 'ca.pem'],
            ].map(([name, file]) => `  ${name}: ${JSON.stringify(join(tlsDir, file ?? ''))}`),
            '}',
          ]
    return [
      '# Written by vpe-controller init: who is believed, and nothing that changes when hosts come and go.',
      `listen: ${JSON.stringify(listen)}`,
      `jetstream { store_dir: ${JSON.stringify(join(this.folder, 'jetstream'))} }`,
      ...tls,
      `operator: ${operator}`,
      `system_account: ${system}`,
      'resolver: MEMORY',
      'resolver_preload {',
      `  ${this.#account.getPublicKey()}: ${account}`,
      `  ${system}: ${systemAccount}`,
      '}',
      '',
    ].join('\n')
  }
}

async function keyIn(path: string, make: () => KeyPair): Promise<KeyPair> {
  const kept = await readIfThere(path)
  if (kept !== undefined) return fromSeed(new TextEncoder().encode(kept.trim()))
  const made = make()
  await writeDurably(path, `${new TextDecoder().decode(made.getSeed())}\n`)
  return made
}
