// vpe-agent join: asks to be let in, and writes what it was given into the state folder. Done again with the
// same token it comes to the same end, wherever it was cut short.

import { arch, cpus, hostname, totalmem } from 'node:os'
import { resolve } from 'node:path'
import { decodeJoinToken, enrol, makePrivateFolder, memberFiles, writeDurably } from '@vpe/pki'
import { loadHostId } from './host-identity.ts'
import { settingsFile, settingsText } from './settings-file.ts'

const PORT = 7702

export interface JoinOptions {
  readonly name?: string | undefined
  /** host:port. */
  readonly listen?: string | undefined
  readonly stateDir: string
}

/** Joins, and says what was done and what is next. @throws VpeError */
export async function joinCluster(word: string, { name, listen, stateDir }: JoinOptions): Promise<string> {
  const token = decodeJoinToken(word)
  const folder = resolve(stateDir)
  await makePrivateFolder(folder)
  const hostId = await loadHostId(folder)
  const files = memberFiles(folder)
  const newcomer = {
    hostId,
    name: name ?? hostname(),
    hostname: hostname(),
    cpus: cpus().length,
    memoryMib: Math.floor(totalmem() / 1024 ** 2),
    arch: ARCH[arch()] ?? arch(),
    listen: (own: string) => listen ?? `${own.includes(':') ? `[${own}]` : own}:${PORT}`,
  }
  const joined = await enrol(token, newcomer, files)
  const path = settingsFile(folder)
  await writeDurably(
    path,
    settingsText({
      VPE_AGENT_LISTEN: joined.address,
      VPE_TLS_DIR: files.tlsDir,
      VPE_CONTROLLER_ADDRESS: joined.controllerAddress,
      VPE_NATS_URL: joined.natsUrl,
      ...(joined.hasNatsCredentials && { VPE_NATS_CREDS: files.natsCredentials }),
    }),
  )
  return [
    `This is host ${joined.name} (${hostId}) of the cluster at ${joined.controllerAddress}.`,
    `Its certificate and settings are in ${folder}; ${path} can be edited.`,
    `Next: start the agent (VPE_AGENT_STATE_DIR=${folder} vpe-agent). It listens at ${joined.address}; GET /hosts shows it up once it is heard.`,
    '',
  ].join('\n')
}

/** As libvirt calls them. */
const ARCH: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' }
