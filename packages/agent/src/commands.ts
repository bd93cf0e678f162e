// What vpe-agent does beside running: join a cluster.

import { VpeError } from '@vpe/core'
import { Command, InvalidArgumentError } from 'commander'
import { loadConfig } from './config.ts'
import { joinCluster } from './join-cluster.ts'
import { preflightCommand } from './preflight/command.ts'
import { STATE_DIR, settingsOfMember } from './settings-file.ts'

/** Runs the command that the arguments name; false when they name none and the agent is to run. */
export async function runCommand(argv: readonly string[]): Promise<boolean> {
  let isDone = true
  const program = new Command('vpe-agent')
    .description(
      'The agent of one hypervisor. Its settings are environment variables: see docs/operations.md.',
    )
    .action(() => {
      isDone = false
    })
  program
    .command('join')
    .description('make this host a member of the cluster that made the token')
    .argument('<token>', 'what POST /join_tokens answered')
    .option('--name <name>', 'what the host is called; its hostname when left out')
    .option(
      '--listen <host:port>',
      'where the agent will listen; else the address that faces the controller',
      address,
    )
    .option(
      '--state-dir <folder>',
      'where it keeps its identity',
      process.env.VPE_AGENT_STATE_DIR || STATE_DIR,
    )
    .action(async (token: string, options: { name?: string; listen?: string; stateDir: string }) => {
      try {
        process.stdout.write(await joinCluster(token, options))
      } catch (error) {
        if (!(error instanceof VpeError)) throw error
        process.stderr.write(`vpe-agent: ${error.message}\n`)
        process.exit(1)
      }
    })
  program
    .command('preflight')
    .description(
      'say whether this machine is fit, with the settings of the agent; exits with 1 when something has failed',
    )
    .argument('[folders...]', 'those that are to be disk pools')
    .action(async (folders: string[]) => {
      process.exit(await preflightCommand(loadConfig(settingsOfMember(process.env)), folders))
    })
  await program.parseAsync(argv)
  return isDone
}

function address(text: string): string {
  if (!/^(\[[0-9a-fA-F:]+\]|[^\s:[\]]+):\d{1,5}$/.test(text))
    throw new InvalidArgumentError('expected host:port')
  if (/^(0\.0\.0\.0|\[::\]):/.test(text))
    throw new InvalidArgumentError('the controller must be able to reach it: name one address of this host')
  return text
}
