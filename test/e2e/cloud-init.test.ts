// What a user gives for a guest reaches the guest, and nobody else.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Cluster, until } from './cluster.ts'

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKn9buq4Eq3mpX6qf8jKpEdY+CK9uTzLfLT6JTRvJijf ada@example.org'

const cluster = new Cluster()
beforeAll(() => cluster.quickstart())
afterAll(() => cluster[Symbol.asyncDispose]())

test('a guest takes its name, its keys and its script, and the script stays between the two', async () => {
  const password = 'correct-horse-battery-staple'
  const userData = `#!/bin/sh
password=${password}
echo "my name is $(hostname)"
cat /root/.ssh/authorized_keys
exit 7
`
  const made = await cluster.ok('POST', '/instances', {
    instance: {
      name: 'Ann’s web',
      ...(await cluster.ingredients()),
      hostname: 'web-1',
      ssh_keys: [KEY],
      user_data: userData,
    },
  })
  const { uuid } = made.body.instance
  expect(await cluster.ended(made.headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  await until('the script has ended', () => cluster.serialLog(uuid).includes('user-data ended with 7'))
  const said = cluster.serialLog(uuid)
  expect(said).toContain('vpe demo guest: hostname web-1')
  expect(said).toContain('my name is web-1')
  expect(said).toContain(KEY)

  const elsewhere = [
    await cluster.virsh('dumpxml', uuid),
    JSON.stringify((await cluster.ok('GET', `/instances/${uuid}`)).body),
    JSON.stringify(await cluster.events()),
    ...readdirSync(join(cluster.home, 'log')).map((name) =>
      readFileSync(join(cluster.home, 'log', name), 'utf8'),
    ),
  ].join('\n')
  expect(elsewhere).toContain(uuid)
  expect(elsewhere).not.toContain(password)

  const { headers } = await cluster.ok('DELETE', `/instances/${uuid}`)
  expect(await cluster.ended(headers.get('operation-id') ?? '')).toMatchObject({ status: 'succeeded' })
  expect(readdirSync(join(cluster.home, 'disks')).filter((file) => file.includes(uuid))).toEqual([])
})
