/** The last words of `up`: where the cluster is, what to try, how to stop. */
import { join } from 'node:path'
import { addresses, agentStateFolder } from './services.ts'
import type { UpResult } from './up.ts'

export function summary({ layout, instance }: UpResult, command: string): string {
  const { apiUrl, libvirtUri } = addresses(layout)
  const { path } = layout.folder
  const uuid = instance?.uuid ?? '<uuid>'
  return [
    '',
    instance ? `vpe runs, and instance ${instance.name} is ${instance.status}.` : 'vpe runs.',
    '',
    `  API            ${apiUrl}`,
    `  environment    source ${join(path, 'env')}`,
    `  logs           ${join(path, 'log')}/`,
    ...(instance
      ? [`  guest's words  tail ${join(agentStateFolder(layout.folder), 'console', `${uuid}.log`)}`]
      : []),
    `  domains        virsh -c '${libvirtUri}' list`,
    '',
    'Try:',
    `  curl -s ${apiUrl}/instances`,
    `  curl -s ${apiUrl}/instances/${uuid}`,
    `  curl -s -X POST ${apiUrl}/instances/${uuid}/stop -d '{}'`,
    '',
    'Stop it all:',
    `  ${command} down            (the instances come back with the next start)`,
    `  ${command} down --purge    (and remove all data)`,
    '',
  ].join('\n')
}
