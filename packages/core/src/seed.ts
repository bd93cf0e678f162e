// What a guest is told at its first boot, as cloud-init understands it: its name, who may log in, and
// what to do. Judged here by the same words for everybody who takes it from somebody else.

/** What a user gave for the guest. */
export interface Seed {
  readonly hostname: string
  readonly sshKeys: readonly string[]
  /** Empty for none. */
  readonly userData: string
}

export const USER_DATA_BYTES_MAX = 64 * 1024
export const SSH_KEYS_MAX = 64
/** More than an RSA key of 16,384 bits with a long comment takes. */
const SSH_KEY_CHARS_MAX = 8_192
const HOSTNAME_CHARS_MAX = 253

/** What sshd takes today; DSA keys, which it refuses, would only lock their owner out. */
const SSH_KEY_TYPES = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
] as const

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u

/** What is wrong with a name of a host; null when nothing is. */
export function hostnameFault(hostname: string): string | null {
  if (hostname.length > HOSTNAME_CHARS_MAX) return `must have at most ${HOSTNAME_CHARS_MAX} characters`
  return hostname.split('.').every((label) => LABEL.test(label))
    ? null
    : 'expected a host name: labels of letters, digits and inner hyphens, up to 63 characters each, with dots between'
}

/** What is wrong with a public key as OpenSSH writes it; null when nothing is. Never repeats the key. */
export function sshKeyFault(key: string): string | null {
  if (key.includes('PRIVATE KEY'))
    return 'is a private key; send the public one, from the file that ends in .pub'
  if (key.length > SSH_KEY_CHARS_MAX) return `must have at most ${SSH_KEY_CHARS_MAX} characters`
  if (UNPRINTABLE.test(key)) return 'must be one line without control characters'
  const [, type = '', blob = ''] = /^(\S+) ([A-Za-z0-9+/]+={0,2})(?: .*)?$/.exec(key) ?? []
  if (!SSH_KEY_TYPES.some((known) => known === type)) {
    return `expected an OpenSSH public key: one of ${SSH_KEY_TYPES.join(', ')}, then the key, then a comment if you like`
  }
  return typeInBlob(blob) === type ? null : `is no ${type} key: it is cut short or damaged`
}

/** What is wrong with user data; null when nothing is. */
export function userDataFault(userData: string): string | null {
  if (userData.includes('\0') || !userData.isWellFormed())
    return 'must be text; what is binary has no place here'
  const bytes = new TextEncoder().encode(userData).length
  return bytes > USER_DATA_BYTES_MAX
    ? `is ${bytes} bytes long; at most ${USER_DATA_BYTES_MAX} are allowed`
    : null
}

/** The host name of an instance whose user gave none: its name, if it can be one. */
export function defaultHostname(name: string, uuid: string): string {
  const hostname = name.toLowerCase()
  return hostnameFault(hostname) === null ? hostname : `vpe-${uuid.split('-')[0]}`
}

/** The first field of the binary key, which is its type once more; null when there is none. */
function typeInBlob(blob: string): string | null {
  try {
    const bytes = atob(blob)
    const length = [...bytes.slice(0, 4)].reduce((sum, char) => sum * 256 + char.charCodeAt(0), 0)
    return bytes.length > 4 + length ? bytes.slice(4, 4 + length) : null
  } catch {
    return null
  }
}
