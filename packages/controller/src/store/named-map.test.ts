import { expect, test } from 'vitest'
import { NamedMap } from './named-map.ts'

const row = (uuid: string, name: string) => ({ uuid, name })

test('rows are found by the names that they have now', () => {
  const rows = new NamedMap<{ uuid: string; name: string }>()
  rows.set('a', row('a', 'web')).set('b', row('b', 'db'))
  expect(rows.findByName('web')).toEqual(row('a', 'web'))
  rows.set('a', row('a', 'www'))
  expect(rows.findByName('web')).toBeNull()
  expect(rows.findByName('www')).toEqual(row('a', 'www'))
  rows.delete('b')
  expect(rows.findByName('db')).toBeNull()
  rows.clear()
  expect(rows.findByName('www')).toBeNull()
})

test('a name that has gone over to another row stays with it', () => {
  const rows = new NamedMap<{ uuid: string; name: string }>()
  rows.set('a', row('a', 'web')).set('b', row('b', 'web'))
  rows.delete('a')
  expect(rows.findByName('web')).toEqual(row('b', 'web'))
})
