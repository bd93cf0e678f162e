/** What runs, where it listens, and which instances there are. Reads only. */
import { ApiClient, type Instance } from './api-client.ts'
import { addresses, type Layout, readiness, serviceProcess, services } from './services.ts'
import { findStateFolder, readSettings } from './state-folder.ts'

export interface ServiceStatus {
  readonly name: string
  readonly pid: number | undefined
  readonly address: string
  readonly ready: boolean
}

export interface ClusterStatus {
  readonly layout: Layout
  readonly services: readonly ServiceStatus[]
  /** Undefined when the API does not answer. */
  readonly instances: readonly Instance[] | undefined
}

/** Undefined when no cluster was ever started there. */
export async function readStatus(root: string, statePath: string): Promise<ClusterStatus | undefined> {
  const folder = findStateFolder(statePath)
  const settings = folder && readSettings(folder)
  if (!folder || !settings?.ports) return undefined
  const layout = { root, folder, ports: settings.ports, libvirt: settings.libvirt ?? 'private' }
  const statuses = services(layout).map(async (service) => {
    const { name, address } = service
    const process = serviceProcess(folder, name)
    const ready = process !== undefined && (await readiness(service, process)) === undefined
    return { name, pid: process?.pid, address, ready }
  })
  const instances = new ApiClient(addresses(layout).apiUrl)
    .get<{ instances: Instance[] }>('/instances')
    .then((list) => list.instances)
    .catch(() => undefined)
  return { layout, services: await Promise.all(statuses), instances: await instances }
}

export function formatStatus({ layout, services, instances }: ClusterStatus): string {
  const processes = services.map(({ name, pid, address, ready }) => [
    name,
    pid === undefined ? 'down' : ready ? 'up' : 'not ready',
    pid === undefined ? '-' : `pid ${pid}`,
    address,
  ])
  const rows = instances?.map(({ name, status, task, uuid }) => [
    name,
    task ? `${status} (${task})` : status,
    uuid,
  ])
  return [
    `state folder ${layout.folder.path}, ${layout.libvirt === 'private' ? 'a private libvirtd' : "the machine's own libvirtd"}`,
    '',
    ...table(processes),
    '',
    ...(rows === undefined
      ? ['instances: the API does not answer']
      : rows.length > 0
        ? table(rows)
        : ['no instances']),
    '',
  ].join('\n')
}

export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}
