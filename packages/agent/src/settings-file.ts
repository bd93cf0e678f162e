// agent.env in the state folder: the settings that joining a cluster has found. The environment comes before it.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'

export const STATE_DIR = '/var/lib/vpe/agent'

export function settingsFile(stateDir: string): string {
  return join(stateDir, 'agent.env')
}

type Environment = Readonly<Record<string, string | undefined>>

/** The environment, and beneath it what the state folder says when the host has joined a cluster. */
export function settingsOfMember(environment: Environment): Environment {
  // One without a state folder is told so; only where a host has joined is the usual one meant.
  const stateDir = environment.VPE_AGENT_STATE_DIR || STATE_DIR
  const file = settingsFile(stateDir)
  if (!existsSync(file)) return environment
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  return { VPE_AGENT_STATE_DIR: stateDir, ...parseEnv(readFileSync(file, 'utf8')), ...given }
}

/** What is written there. */
export function settingsText(settings: Readonly<Record<string, string>>): string {
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  return `# Written by vpe-agent join. What the environment sets comes before it.\n${lines.join('\n')}\n`
}
