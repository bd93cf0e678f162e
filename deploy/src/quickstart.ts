/**
 * deploy/quickstart: a cluster of one, from a bare machine to a running guest. This file is only the command
 * line: what it understands, what it prints, how it ends.
 */
import { join, relative } from 'node:path'
import { Command } from 'commander'
import { ensureSystemPackages } from './debian-packages.ts'
import { down } from './down.ts'
import { addresses, type ServiceName, serviceNames, services, startService, stopService } from './services.ts'
import { lockStateFolder, stateFolderPath } from './state-folder.ts'
import { formatStatus, readStatus } from './status.ts'
import { summary } from './summary.ts'
import { Trouble } from './trouble.ts'
import { up } from './up.ts'

const root = join(import.meta.dirname, '..', '..')
const statePath = stateFolderPath(root)
const interrupted = new AbortController()

const program = new Command('deploy/quickstart')
  .description('vpe on this machine: one command from nothing to a running guest')
  .showHelpAfterError()

program
  .command('up', { isDefault: true })
  .description('start what does not run, and create a first instance (default)')
  .action(async () => {
    const result = await up({ root, statePath, signal: interrupted.signal })
    const { apiUrl } = addresses(result.layout)
    print(summary(result, ownCommand()))
    const { instance } = result
    if (!instance || instance.status === 'active') return
    const cure = `curl -X POST ${apiUrl}/instances/${instance.uuid}/start -d '{}'`
    if (instance.status === 'error') throw new Trouble(`instance ${instance.name} is in error`, cure)
    print(`\nInstance ${instance.name} is ${instance.status}. To start it: ${cure}`)
  })

program
  .command('down')
  .description('stop everything that was started; the data stays')
  .option('--purge', 'remove the data, too')
  .action(async ({ purge = false }: { purge?: boolean }) => {
    const remarks = await down({ root, statePath, purge })
    for (const remark of remarks) print(remark)
  })

program
  .command('status')
  .description('show processes, addresses and instances')
  .action(async () => {
    const status = await readStatus(root, statePath)
    if (!status) throw new Trouble(`there is no cluster in ${statePath}`, 'deploy/quickstart')
    print(formatStatus(status))
    if (status.services.some(({ ready }) => !ready)) process.exitCode = 1
  })

program
  .command('restart')
  .description('stop one service and start it again')
  .argument('<service>', serviceNames.join(', '))
  .action(async (name: ServiceName) => {
    const status = await readStatus(root, statePath)
    if (!status) throw new Trouble(`there is no cluster in ${statePath}`, 'deploy/quickstart')
    const service = services(status.layout).find((candidate) => candidate.name === name)
    if (!service)
      throw new Trouble(
        `there is no service ${name} here; there are ${status.services.map((s) => s.name).join(', ')}`,
      )
    const { folder } = status.layout
    using _lock = await lockStateFolder(folder)
    await stopService(folder, service)
    await startService(folder, service, { signal: interrupted.signal })
    print(`${name} runs again`)
  })

program
  .command('packages')
  .description('only install the Debian packages that are missing')
  .action(async () => {
    await ensureSystemPackages((line) => print(`- ${line}`), interrupted.signal)
  })

// They must stay: libraries take a signal that nobody else listens to for the end of the process.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort())
try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = 1
  if (interrupted.signal.aborted) {
    process.exitCode = 130
    complain(
      `interrupted. What was started runs on.\n  to go on: ${ownCommand()}\n  to stop it: ${ownCommand()} down`,
    )
  } else if (error instanceof Trouble) {
    complain(`error: ${error.message}${error.mend ? `\n  to mend it: ${error.mend}` : ''}`)
  } else {
    throw error
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function complain(text: string): void {
  process.stderr.write(`\n${text}\n`)
}

/** The command as the user has to type it to mean this same cluster. */
function ownCommand(): string {
  const command = relative(process.cwd(), join(root, 'deploy/quickstart')) || 'deploy/quickstart'
  return process.env.VPE_HOME ? `VPE_HOME=${process.env.VPE_HOME} ${command}` : command
}
