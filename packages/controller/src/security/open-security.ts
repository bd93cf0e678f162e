// Opens the cluster's security by the controller's settings; `vpe-controller init` and every start with TLS do.

import type { ControllerConfig } from '../config.ts'
import { ClusterSecurity } from './cluster-security.ts'

export function openSecurity(config: ControllerConfig, nowMs: number): Promise<ClusterSecurity> {
  return ClusterSecurity.open(
    {
      stateDir: config.stateDir,
      names: namesOf(config),
      isNatsGuarded: config.natsCredentials !== undefined,
    },
    nowMs,
  )
}

/** Where the controller and its NATS are reached: their certificate says so. */
function namesOf({ listen, advertised, natsUrl }: ControllerConfig): string[] {
  const urls = [listen, advertised.controller, ...advertised.enrolment].map((address) => `tcp://${address}`)
  const natsUrls = [natsUrl, advertised.nats].flatMap((each) => each.split(','))
  const hosts = [...urls, ...natsUrls].map((url) => new URL(url).hostname.replace(/^\[(.*)\]$/, '$1'))
  return [...new Set(hosts)].filter((host) => !['', '0.0.0.0', '::'].includes(host))
}
