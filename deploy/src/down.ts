/**
 * Stops all that `up` started, in the order in which nobody brings anything back: API, controller, agent, then
 * the guests, then libvirt's daemons and NATS. Works just as well on a cluster that is half dead. Data stays,
 * and `up` brings the same instances back; `purge` removes the data too, as far as it is ours.
 */
import { existsSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { clearHost, readHostId } from './our-guests.ts'
import { usualPorts } from './ports.ts'
import { knowsDomains, libvirtAnswers } from './private-libvirtd.ts'
import { runSteps, type Step } from './progress.ts'
import {
  addresses,
  agentStateFolder,
  diskFolder,
  type Layout,
  ourLibvirtd,
  type ServiceName,
  serviceProcess,
  startPrivateLibvirtd,
  stopPrivateLibvirtd,
  stopService,
} from './services.ts'
import {
  changeSettings,
  findStateFolder,
  lockStateFolder,
  purgeStateFolder,
  readSettings,
  removeEnvFile,
} from './state-folder.ts'
import { Trouble } from './trouble.ts'

export interface DownOptions {
  readonly root: string
  readonly statePath: string
  readonly purge: boolean
}

/** What to tell the user beyond "done". */
export type Remarks = readonly string[]

const guestGraceMs = 10_000

export async function down({ root, statePath, purge }: DownOptions): Promise<Remarks> {
  const folder = findStateFolder(statePath)
  if (!folder) {
    if (purge && existsSync(statePath)) {
      throw new Trouble(`${statePath} was not made by vpe: nothing is removed from it`)
    }
    return [`nothing to stop: there is no cluster in ${statePath}`]
  }
  using _lock = await lockStateFolder(folder)
  const { ports = usualPorts, libvirt } = readSettings(folder)
  // Without a choice no guest was ever started.
  const layout: Layout = { root, folder, ports, libvirt: libvirt ?? 'private' }
  const remarks: string[] = []

  const steps: Step[] = [
    {
      title: 'API, controller, agent',
      run: async () => {
        for (const name of ['api', 'controller', 'agent'] as const) await stop(layout, name)
      },
    },
    {
      title: 'Guests',
      run: async ({ say }) => {
        const foreign = await clearGuests(layout, say)
        if (foreign.length === 0 || layout.libvirt !== 'private') return
        const { libvirtUri } = addresses(layout)
        remarks.push(`left running with their libvirtd, since vpe did not create them: ${foreign.join(', ')}`)
        remarks.push(`  to end them: virsh -c '${libvirtUri}' destroy <name>, then deploy/quickstart down`)
      },
    },
    {
      title: 'libvirt, NATS',
      run: async () => {
        if (remarks.length === 0) await stopPrivateLibvirtd(folder)
        await stop(layout, 'nats')
        removeEnvFile(folder)
        if (remarks.length === 0) changeSettings(folder, { libvirt: undefined })
      },
    },
  ]
  const removal: Step = {
    title: 'Data',
    run: () => {
      if (remarks.length > 0) {
        throw new Trouble(`the data is kept, guests that are not ours still use it:\n${remarks.join('\n')}`)
      }
      remarks.push(...removeData(layout))
    },
  }
  await runSteps(purge ? [...steps, removal] : steps)
  return remarks
}

/** Stops our guests and takes pools out of libvirt; the names of guests that are not ours. */
async function clearGuests(layout: Layout, say: (line: string) => void): Promise<readonly string[]> {
  const { folder, libvirt } = layout
  const uri = addresses(layout).libvirtUri
  if (libvirt === 'private') {
    const daemon = ourLibvirtd(folder)
    if (!serviceProcess(folder, 'libvirtd')) {
      if (!knowsDomains(daemon)) return []
      say('starting libvirtd again, since it knows guests that are to be stopped')
      await startPrivateLibvirtd(folder)
    }
  } else if (!(await libvirtAnswers(uri))) {
    throw new Trouble(
      "the machine's libvirtd does not answer, and our guests may run in it",
      'systemctl start libvirtd, then again: deploy/quickstart down',
    )
  }
  const ownership = { hostId: readHostId(agentStateFolder(folder)), diskFolder: diskFolder(layout) }
  return (await clearHost(uri, ownership, { graceMs: guestGraceMs, say })).foreign
}

function stop({ folder }: Layout, name: ServiceName): Promise<boolean> {
  return stopService(folder, { name, stopGraceMs: 10_000 })
}

function removeData(layout: Layout): string[] {
  const { folder } = layout
  // The disk folder of a cluster in the machine's own libvirtd lies apart, and carries the cluster's id. /var/lib/vpe above it stays, though
  // it may be empty: hosts of labs have their own disks mounted there, and lose them with it (rmdir(2)).
  const apart = diskFolder({ folder, libvirt: 'system' })
  rmSync(dirname(apart), { recursive: true, force: true })
  const foreign = purgeStateFolder(folder)
  return foreign.length > 0
    ? [`left in ${folder.path}, since vpe did not put it there: ${foreign.join(', ')}`]
    : []
}
