/** test/lab: the command line of the lab. What it understands, what it prints, how it ends. */
import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { join, relative } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { table } from '../status.ts'
import { Trouble } from '../trouble.ts'
import { Lab, type LabStatus } from './lab.ts'
import { labFolderPath } from './lab-settings.ts'

const root = join(import.meta.dirname, '..', '..', '..')
const lab = new Lab(root, labFolderPath(root))
const interrupted = new AbortController()
const { signal } = interrupted
const say = (line: string) => print(`- ${line}`)

const program = new Command('test/lab')
  .description('a vpe cluster of several hosts on this machine, to cut, kill and heal')
  .showHelpAfterError()
  // What follows the host of `ssh` is that command's own.
  .enablePositionalOptions()

program
  .command('up')
  .description('make a lab, or repair the one that is there: all hosts on, connected and registered')
  .option('--hosts <N>', 'how many hosts (3, or as many as there are)', asCount)
  .option('--controllers <M>', 'how many controllers', asCount, 1)
  .option('--watchdog', 'each host has one, which resets it (also VPE_LAB_WATCHDOG=on)')
  .action(async (options: { hosts?: number; controllers: number; watchdog?: boolean }) => {
    await lab.up({ ...options, signal })
    const status = await lab.status()
    const command = ownCommand()
    print(`
${formatStatus(status)}
  environment    . ${relative(process.cwd(), join(lab.path, 'env'))}
  logs           ${relative(process.cwd(), lab.path)}/{log/*.log,hosts/*/log/*.log}

Try:
  ${command} kill h1; ${command} status
  ${command} --help
Stop it all, and remove it:
  ${command} down`)
  })

for (const [name, description, act] of [
  ['kill', 'a power cut: everything in the host ends at once', (host) => lab.kill(host)],
  ['partition', 'cut it from the management network; its storage stays', (host) => lab.partition(host)],
  ['heal', 'undo partition and isolate', (host) => lab.heal(host)],
  ['start', 'power on: the same machine boots again', (host) => lab.start(host, say, signal)],
  ['pause', 'freeze all its processes, guests too', (host) => lab.pause(host)],
  ['resume', 'let them go on', (host) => lab.resume(host)],
] as const satisfies readonly [string, string, (host: string) => Promise<void>][]) {
  program
    .command(name)
    .description(description)
    .argument('<host>')
    .action(async (host: string) => act(host))
}

for (const [name, description, act] of [
  [
    'hang',
    'its storage hangs; the management network stays',
    (host) => lab.isolate(host, { storageOnly: true }),
  ],
  ['revoke', 'the storage shuts it out: its locks are free for others', (host) => lab.revoke(host)],
  ['stop-agent', 'SIGSTOP to its agent', (host) => lab.signal(host, 'agent', 'SIGSTOP')],
  ['resume-agent', 'SIGCONT to its agent', (host) => lab.signal(host, 'agent', 'SIGCONT')],
  [
    'kill-agent',
    'SIGKILL to its agent, which is started again',
    (host) => lab.signal(host, 'agent', 'SIGKILL'),
  ],
  ['stop-guard', 'SIGSTOP to its guard', (host) => lab.signal(host, 'guard', 'SIGSTOP')],
  ['resume-guard', 'SIGCONT to its guard', (host) => lab.signal(host, 'guard', 'SIGCONT')],
  [
    'kill-guard',
    'SIGKILL to its guard, which is started again',
    (host) => lab.signal(host, 'guard', 'SIGKILL'),
  ],
] as const satisfies readonly [string, string, (host: string) => Promise<void> | void][]) {
  program
    .command(name)
    .description(description)
    .argument('<host>')
    .action(async (host: string) => act(host))
}

for (const [name, description, state] of [
  ['hang-all', 'the server of the shared storage is down: it answers nobody', 'outage'],
  ['thaw-all', 'it is up again', 'whole'],
] as const) {
  program
    .command(name)
    .description(description)
    .action(async () => lab.setPool(state))
}

program
  .command('ha')
  .description(
    'what the cluster makes of its hosts and highly available instances, and its failovers, as JSON',
  )
  .action(async () => print(JSON.stringify(await lab.ha(), null, 2)))

program
  .command('isolate')
  .description('cut it from the management network and from the shared storage, which hangs')
  .argument('<host>')
  .option('--fail', 'the storage answers with errors, rather than not at all')
  .option('--storage-only', 'the management network stays')
  .action(async (host: string, options: { fail?: boolean; storageOnly?: boolean }) =>
    lab.isolate(host, options),
  )

program
  .command('status')
  .description('what each host is, and the domains that its own libvirt runs')
  .option('--json', 'for programs')
  .action(async ({ json = false }: { json?: boolean }) => {
    const status = await lab.status()
    print(json ? JSON.stringify(status, null, 2) : formatStatus(status))
  })

program
  .command('ssh')
  .description('run a command in a host, as its root; a shell when none is given')
  .argument('<host>')
  .argument('[command...]')
  .passThroughOptions()
  .action(async (host: string, command: readonly string[]) => {
    const [file, ...args] = lab.entering(host, command.length > 0 ? command : ['bash', '-l'])
    process.exitCode = await exitCodeOf(file, args)
  })

program
  .command('down')
  .description('end everything, and remove it')
  .action(async () => {
    for (const remark of await lab.down()) print(remark)
  })

for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => interrupted.abort())
try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = 1
  if (signal.aborted) {
    process.exitCode = 130
    complain(
      `interrupted. What was started runs on.\n  to go on: ${ownCommand()} up\n  to stop it: ${ownCommand()} down`,
    )
  } else if (error instanceof Trouble) {
    complain(`error: ${error.message}${error.mend ? `\n  to mend it: ${error.mend}` : ''}`)
  } else {
    throw error
  }
}

function asCount(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError('expected a number from 1 on')
  return Number(text)
}

function formatStatus({ api, nats, controller, hosts }: LabStatus): string {
  const rows = hosts.map(
    ({ name, address, alive, partitioned, isolated, paused, resets, domains, hostId }) => {
      const cuts = [partitioned && 'partitioned', isolated && 'isolated', paused && 'paused'].filter(Boolean)
      const runs =
        domains === null ? 'domains unknown' : `${domains.length} domain${domains.length === 1 ? '' : 's'}`
      return [
        name,
        address,
        [alive ? 'on' : 'off', ...cuts].join(', '),
        resets === 0 ? '' : `${resets} reset${resets === 1 ? '' : 's'}`,
        alive ? runs : '-',
        hostId ?? 'not registered',
      ]
    },
  )
  return [`API ${api}   NATS ${nats}   controller ${controller}`, '', ...table(rows), ''].join('\n')
}

/** Runs it in our place, on our terminal. */
function exitCodeOf(file: string, args: readonly string[]): Promise<number> {
  const child = spawn(file, args, { stdio: 'inherit' })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, killedBy) =>
      resolve(code ?? 128 + (killedBy ? constants.signals[killedBy] : 0)),
    )
  })
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function complain(text: string): void {
  process.stderr.write(`\n${text}\n`)
}

/** The command as the user has to type it to mean this same lab. */
function ownCommand(): string {
  const command = relative(process.cwd(), join(root, 'test/lab')) || 'test/lab'
  return process.env.VPE_LAB_HOME ? `VPE_LAB_HOME=${process.env.VPE_LAB_HOME} ${command}` : command
}
