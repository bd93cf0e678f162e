import { tmpdir } from 'node:os'
import { hypervisorContract } from '../testing/hypervisor-contract.ts'
import { FakeHypervisor } from './fake.ts'

const open = async () => {
  const hypervisor = new FakeHypervisor()
  const snapshotsOf = async (uuid: string) => [...(hypervisor.snapshots.get(uuid) ?? [])]
  return {
    hypervisor,
    dir: tmpdir(),
    makeDisk: async () => {},
    snapshotsOf,
    dispose: () => hypervisor.close(),
  }
}

hypervisorContract('the fake', open, { obeysPowerButton: true, canPlugDisks: true, hasSnapshots: true })
