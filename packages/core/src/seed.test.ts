import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { defaultHostname, hostnameFault, sshKeyFault, USER_DATA_BYTES_MAX, userDataFault } from './seed.ts'

const ED25519 =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKn9buq4Eq3mpX6qf8jKpEdY+CK9uTzLfLT6JTRvJijf ada@example.org'
const RSA =
  'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCO4iPw5qWYe3xZYAO8YUBCpPErRWWzoQ7kj66DW7C+WgdTSehJpvXiS6K6TikeTmODcH6fW8zoa75Ih5gfjxZkxNJryx6MI2NPgvLW2IB/OVXUW3Tw6YqFEbCGQciaXsCKHyGcWDrwtTTX4MdbqueuAw6Mnpr5AbMsCtY6vHdf3cGw8f/nt2IgjZNZ794pgpzzJkJ/I+l/Bx1kmwqfzojUDbSayB99mr/HRi3n0txNUz5e5fKSk552SCqBv97/MLK6g7tJLINrxLdALv0xtO6OSAQq5jeKXc8dOq68TJQlsrwKqrYRsy8wve7W49dy4MD1UnBv+vYxHlx+SfSYzZ6L grace'
const ECDSA =
  'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBODT/hrrrZao3k+QC0A2wSBQahsqVZliTwLDw+oxviLsELP44rDQxdK6JrbLXg+VbOQEQYt8qfx/5iMQpOKnDQY='

describe('a host name', () => {
  test.each(['web', 'Web-1', 'a', '1', 'web.example.org', 'x'.repeat(63)])('%s', (name) => {
    expect(hostnameFault(name)).toBeNull()
  })
  test.each([
    '',
    '-web',
    'web-',
    'we b',
    'web.',
    '.web',
    'wéb',
    'web_1',
    'x'.repeat(64),
    'x\n',
    'a.'.repeat(150),
  ])('%j is none', (name) => expect(hostnameFault(name)).not.toBeNull())

  test('is the name of the instance where that can be one, else made from its uuid', () => {
    expect(defaultHostname('Web-1', '0a1b2c3d-0000-4000-8000-000000000001')).toBe('web-1')
    expect(defaultHostname('Ann’s web', '0a1b2c3d-0000-4000-8000-000000000001')).toBe('vpe-0a1b2c3d')
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.uuid(), (name, uuid) => {
        expect(hostnameFault(defaultHostname(name, uuid))).toBeNull()
      }),
    )
  })
})

describe('a public key', () => {
  test.each([ED25519, RSA, ECDSA, ED25519.replace(/ ada.*/, ''), `${RSA} with some words, and ünïcode`])(
    '%s',
    (key) => expect(sshKeyFault(key)).toBeNull(),
  )

  test.each([
    ['nothing', '', 'expected an OpenSSH public key'],
    ['words', 'let me in', 'expected an OpenSSH public key'],
    [
      'of a kind that sshd refuses',
      ED25519.replace('ssh-ed25519', 'ssh-dss'),
      'expected an OpenSSH public key',
    ],
    ['with a command before it', `command="reboot" ${ED25519}`, 'expected an OpenSSH public key'],
    ['said to be another kind', ED25519.replace('ssh-ed25519', 'ssh-rsa'), 'is no ssh-rsa key'],
    ['cut short', 'ssh-ed25519 AAAAC3', 'is no ssh-ed25519 key'],
    ['damaged', ED25519.replace('AAAAC3', 'AAAAX3'), 'is no ssh-ed25519 key'],
    ['with a second line', `${ED25519}\nssh-rsa AAAA`, 'must be one line'],
    ['of another world', '-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl', 'is a private key'],
    ['far too long', `${ED25519} ${'x'.repeat(8_192)}`, 'at most 8192 characters'],
  ])('%s is refused, and not repeated', (_what, key, why) => {
    const fault = sshKeyFault(key)
    expect(fault).toContain(why)
    expect(fault).not.toContain('AAAAC3NzaC1lZDI1NTE5AAAAI')
  })

  test('is refused or not, whatever it is', () => {
    const words = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.base64String().map((blob) => `ssh-rsa ${blob}`),
    )
    fc.assert(
      fc.property(words, (key) => {
        expect(sshKeyFault(key)).toBeTypeOf('string')
      }),
    )
  })
})

test('user data are text of at most 64 KiB in UTF-8', () => {
  expect(userDataFault('#cloud-config\n')).toBeNull()
  expect(userDataFault('x'.repeat(USER_DATA_BYTES_MAX))).toBeNull()
  expect(userDataFault('é'.repeat(USER_DATA_BYTES_MAX / 2 + 1))).toBe(
    'is 65538 bytes long; at most 65536 are allowed',
  )
  expect(userDataFault('a\0')).toContain('must be text')
  expect(userDataFault('\ud800')).toContain('must be text')
})
