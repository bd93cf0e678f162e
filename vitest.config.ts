import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

// The SQLite binding is built for it: on another it does not say so, but crashes.
const NODE = 24
if (Number.parseInt(process.versions.node, 10) < NODE) {
  const cure = 'put .tools/node_modules/.bin first on PATH (CONTRIBUTING.md), or use test/run'
  throw new Error(`the tests need Node ${NODE}, and this is ${process.version}: ${cure}`)
}

// unit: values in, values out, nothing of the machine. sim: the HA protocol on virtual time. integration: one package against real parts
// (nats-server, SQLite files, libvirt). e2e: the whole cluster, real QEMU guests.
//
// Limits are far beyond what anything takes: a slow machine is no failure, only a test that never ends is.
const expect = { poll: { timeout: 100_000 } }

const wholeCluster = { testTimeout: 900_000, hookTimeout: 600_000, pool: 'forks' } as const

export default defineConfig({
  test: {
    // Also on two cores: most tests of parts and of the whole wait for processes, and for time to pass.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        test: {
          name: 'unit',
          expect,
          testTimeout: 120_000,
          include: [
            '{packages/*/src,deploy/src,proto/src}/**/*.test.ts',
            'test/{nemesis-lab/**/*,tidy}.test.ts',
          ],
          exclude: ['**/*.integration.test.ts'],
        },
      },
      {
        test: {
          name: 'sim',
          include: ['test/sim/**/*.test.ts'],
          expect,
          testTimeout: 600_000,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['{packages/*/src,deploy/src,test/contract,test/scale}/**/*.integration.test.ts'],
          expect,
          testTimeout: 240_000,
          hookTimeout: 240_000,
          pool: 'forks',
        },
      },
      {
        test: {
          name: 'e2e',
          ...wholeCluster,
          include: ['test/e2e/**/*.test.ts'],
          exclude: ['test/e2e/ha.test.ts'],
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // Hosts whose storage is slow for seconds because of others' work are taken for lost, and rightly so: it has the machine for itself.
        test: {
          name: 'e2e-ha',
          ...wholeCluster,
          include: ['test/e2e/ha.test.ts'],
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
