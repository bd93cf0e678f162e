// What vpe-api does beside running: join a cluster, for the certificate that the controller wants to see.

import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { VpeError } from '@vpe/core'
import { decodeJoinToken, enrol, memberFiles, writeDurably } from '@vpe/pki'
import { Command } from 'commander'

const STATE_DIR = '/var/lib/vpe/api'

/** Runs the command that the arguments name; false when they name none and the node is to run. */
export async function runCommand(argv: readonly string[]): Promise<boolean> {
  let isDone = true
  const program = new Command('vpe-api')
    .description(
      'An API node of a vpe cluster. Its settings are environment variables: see docs/operations.md.',
    )
    .action(() => {
      isDone = false
    })
  program
    .command('join')
    .description('get a certificate from the cluster that made the token')
    .argument('<token>', 'what POST /join_tokens answered for role api')
    .option('--name <name>', 'what this node is called', hostname())
    .option('--state-dir <folder>', 'where to keep the certificate and its key', STATE_DIR)
    .action(async (token: string, options: { name: string; stateDir: string }) => {
      try {
        process.stdout.write(await joinCluster(token, options))
      } catch (error) {
        if (!(error instanceof VpeError)) throw error
        process.stderr.write(`vpe-api: ${error.message}\n`)
        process.exit(1)
      }
    })
  await program.parseAsync(argv)
  return isDone
}

async function joinCluster(
  word: string,
  { name, stateDir }: { readonly name: string; readonly stateDir: string },
): Promise<string> {
  const token = decodeJoinToken(word)
  const folder = resolve(stateDir)
  const files = memberFiles(folder)
  const nowhere = { hostId: '', hostname: '', cpus: 0, memoryMib: 0, arch: '', listen: () => '' }
  const joined = await enrol(token, { ...nowhere, name }, files)
  const path = join(folder, 'api.env')
  const settings = {
    VPE_TLS_DIR: files.tlsDir,
    VPE_CONTROLLER_ADDRESS: joined.controllerAddress,
    VPE_NATS_URL: joined.natsUrl,
    ...(joined.hasNatsCredentials && { VPE_NATS_CREDS: files.natsCredentials }),
  }
  const lines = Object.entries(settings).map(([key, value]) => `${key}=${value}\n`)
  await writeDurably(path, lines.join(''))
  return [
    `This is API node ${joined.name} of the cluster at ${joined.controllerAddress}.`,
    `Its certificate is in ${files.tlsDir}, its settings are in ${path}.`,
    `Next: start vpe-api with them (node --env-file=${path} packages/api/src/main.ts).`,
    '',
  ].join('\n')
}
