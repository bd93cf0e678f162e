import { expect, test } from 'vitest'
import { powerFault } from './fence-agents.ts'

const ipmi = {
  agent: 'fence_ipmilan',
  options: { ip: '10.0.0.1', username: 'vpe' },
  secrets: { password: 'x' },
}

test.each<[string, object, RegExp | null]>([
  ['what an agent needs', {}, null],
  ['no fence agent', { agent: '/bin/sh' }, /agent: expected/],
  ['one elsewhere', { agent: 'fence_../../bin/sh' }, /agent: expected/],
  ['an action', { options: { action: 'reboot' } }, /never reboot/],
  ['a way that only cycles', { options: { method: 'cycle' } }, /never reboot/],
  ['a second line', { options: { ip: '10.0.0.1\naction=on' } }, /one line/],
  ['no name', { options: { 'a=b': 'c' } }, /no name of an option/],
  ['an open secret', { options: { password: 'x' } }, /seems to be a secret/],
  ['one said twice', { secrets: { ip: 'x' } }, /is an option, too/],
])('%s', (_, change, fault) => {
  const found = powerFault({ ...ipmi, ...change })
  if (fault === null) expect(found).toBeNull()
  else expect(found?.message).toMatch(fault)
})
