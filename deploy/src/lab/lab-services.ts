/**
 * NATS, controller and API of a lab, which run outside of its hosts: the same processes as quickstart's, for a
 * network of several machines. The controller is the CA; whoever wants to talk to it, the API first, joins.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { execa } from 'execa'
import { addresses, type Layout, nodeProcess, type Service, services } from '../services.ts'
import { inside } from '../state-folder.ts'
import { Trouble } from '../trouble.ts'
import type { LabChoices } from './lab-settings.ts'

const enrolmentPort = 7700

export type OuterService = 'nats' | 'controller' | 'api'

/** In the order of their start. `prepare` of one runs when those before it are ready; again, it changes nothing. */
export function outerServices(
  layout: Layout,
  choices: LabChoices,
): readonly (Service & { prepare(): Promise<void> })[] {
  const usual = (name: OuterService): Service => {
    const service = services(layout).find((each) => each.name === name)
    if (!service) throw new Error(`${name} is one of them`)
    return service
  }
  const nats = usual('nats')
  return [
    {
      ...nats,
      args: ['-c', join(natsFolder(layout), 'nats-server.conf')],
      prepare: () => controllerCommand(layout, 'init').then(() => {}),
    },
    {
      ...usual('controller'),
      env: { ...controllerEnvironment(layout), ...haEnvironment(layout, choices) },
      prepare: async () => writeRevokeCommand(layout),
    },
    {
      ...usual('api'),
      get env() {
        return { ...usual('api').env, ...memberSettings(layout) }
      },
      prepare: () => joinApi(layout),
    },
  ]
}

/** Credentials that read the event stream. */
export function watcherCredentials(layout: Layout): Promise<string> {
  return controllerCommand(layout, 'watcher-credentials', 'lab', '--consumers')
}

/** A token that makes a host of who holds it. */
export function hostToken(layout: Layout, name: string): Promise<string> {
  return controllerCommand(layout, 'join-token', '--role', 'agent', '--name', name)
}

function controllerEnvironment(layout: Layout): Record<string, string> {
  const { controllerAddress, natsUrl } = addresses(layout)
  return {
    VPE_CONTROLLER_LISTEN: controllerAddress,
    VPE_CONTROLLER_STATE_DIR: inside(layout.folder, 'controller'),
    VPE_CONTROLLER_TLS: 'on',
    VPE_ENROLMENT_LISTEN: `${layout.managementAddress}:${enrolmentPort}`,
    VPE_NATS_URL: natsUrl,
    VPE_NATS_CREDS: join(natsFolder(layout), 'controller.creds'),
  }
}

function haEnvironment(layout: Layout, { haProfile, canRevoke }: LabChoices): Record<string, string> {
  return {
    VPE_HA_PROFILE: haProfile,
    ...(canRevoke && { VPE_HA_REVOKE_COMMAND: revokeCommand(layout) }),
  }
}

function revokeCommand({ folder }: Layout): string {
  return join(folder.path, 'revoke')
}

/** It is told of its lab by what is written in it: the controller's environment is none of its business. */
function writeRevokeCommand(layout: Layout): void {
  const main = join(import.meta.dirname, 'revoke-main.ts')
  const words = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    main,
    layout.root,
    layout.folder.path,
  ]
  const quoted = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
  writeFileSync(revokeCommand(layout), `#!/bin/sh\nexec ${quoted} "$@"\n`, { mode: 0o755 })
}

function natsFolder({ folder }: Layout): string {
  return join(inside(folder, 'controller'), 'nats')
}

function apiFolder({ folder }: Layout): string {
  return inside(folder, 'api')
}

function memberSettings(layout: Layout): Record<string, string> {
  const file = join(apiFolder(layout), 'api.env')
  return existsSync(file) ? (parseEnv(readFileSync(file, 'utf8')) as Record<string, string>) : {}
}

async function joinApi(layout: Layout): Promise<void> {
  if (existsSync(join(apiFolder(layout), 'api.env'))) return
  const token = await controllerCommand(layout, 'join-token', '--role', 'api', '--name', 'lab')
  await run(layout, 'api', ['join', token, '--name', 'lab', '--state-dir', apiFolder(layout)], {})
}

function controllerCommand(layout: Layout, ...args: string[]): Promise<string> {
  return run(layout, 'controller', args, controllerEnvironment(layout))
}

async function run(
  layout: Layout,
  name: 'controller' | 'api',
  args: readonly string[],
  env: Record<string, string>,
) {
  const { command, args: main } = nodeProcess(layout, name)
  const { stdout, stderr, failed } = await execa(command, [...main, ...args], {
    env,
    stdin: 'ignore',
    reject: false,
  })
  if (failed) throw new Trouble(`vpe-${name} ${args[0]}: ${stderr || stdout}`)
  return stdout
}
