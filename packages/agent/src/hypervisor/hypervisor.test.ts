import { tmpdir } from 'node:os'
import { hypervisorContract } from '../testing/hypervisor-contract.ts'
import { FakeHypervisor } from './fake.ts'

const open = async () => {
  const hypervisor = new FakeHypervisor()
  return { hypervisor, dir: tmpdir(), makeDisk: async () => {}, dispose: () => hypervisor.close() }
}

hypervisorContract('the fake', open, { obeysPowerButton: true, canPlugDisks: true })
