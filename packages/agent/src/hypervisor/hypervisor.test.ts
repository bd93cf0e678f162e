import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hypervisorContract } from '../testing/hypervisor-contract.ts'
import { FakeHypervisor } from './fake.ts'

const open = async () => {
  const hypervisor = new FakeHypervisor()
  const snapshotsOf = async (uuid: string) => [...(hypervisor.snapshots.get(uuid) ?? [])]
  const dir = mkdtempSync(join(tmpdir(), 'vpe-hypervisor-'))
  return {
    hypervisor,
    dir,
    makeDisk: async () => {},
    snapshotsOf,
    dispose: async () => {
      await hypervisor.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

hypervisorContract('the fake', open, { obeysPowerButton: true, canPlugDisks: true, hasSnapshots: true })
