// The agent's own certificate, laid out as QEMU wants it for the guests that leave and come: a folder that qemu.conf
// has to name (migrate_tls_x509_cert_dir), which is the operator's to write. Renewed with the certificate.

import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { MigrationTlsSetup } from '@vpe/core'

const QEMU_CONF = '/etc/libvirt/qemu.conf'
/** Groups that QEMU runs in, by distribution; where none is there, root's own, as where it runs as root. */
const QEMU_GROUPS = ['libvirt-qemu', 'qemu']

/** Name in the folder of QEMU, and in that of a member of the cluster. */
const FILES = [
  ['ca-cert.pem', 'ca.pem'],
  ['server-cert.pem', 'cert.pem'],
  ['server-key.pem', 'key.pem'],
  ['client-cert.pem', 'cert.pem'],
  ['client-key.pem', 'key.pem'],
] as const

/**
 * Lays the cluster's certificates out for QEMU, and says what is set up. Done at each look, so that QEMU has the one
 * that was renewed; it reads them anew for each guest.
 * @param tlsDir the folder of a member's certificate; without one, whatever qemu.conf names is the operator's own
 */
export async function setUpMigrationTls(
  tlsDir: string | undefined,
  stateDir: string,
): Promise<MigrationTlsSetup> {
  if (tlsDir === undefined) {
    const own = await readMigrationTls('')
    return readMigrationTls(own.configured)
  }
  const folder = join(stateDir, 'migration-pki')
  await layOutMigrationPki(tlsDir, folder)
  return readMigrationTls(folder)
}

/** Writes the folder, where it does not hold the present certificate already. Each file is whole at any time. */
export async function layOutMigrationPki(tlsDir: string, folder: string): Promise<void> {
  const gid = await groupOfQemu()
  await mkdir(folder, { recursive: true })
  await chown(folder, 0, gid)
  await chmod(folder, 0o750)
  for (const [name, source] of FILES) {
    const wanted = await readFile(join(tlsDir, source))
    const path = join(folder, name)
    const present = await readFile(path).catch(() => null)
    if (present?.equals(wanted)) continue
    await writeFile(`${path}.new`, wanted, { mode: 0o600 })
    await chown(`${path}.new`, 0, gid)
    await chmod(`${path}.new`, 0o640)
    await rename(`${path}.new`, path)
  }
}

/** What is set for the encryption of guests on their way, here and in qemu.conf. */
export async function readMigrationTls(folder: string, conf = QEMU_CONF): Promise<MigrationTlsSetup> {
  const text = await readFile(conf, 'utf8').catch((error: Error) => error)
  const isLaidOut = (await readFile(join(folder, 'server-key.pem')).catch(() => null)) !== null
  if (text instanceof Error)
    return { folder, isLaidOut, conf, fault: text.message, configured: '', verifies: false }
  const of = (name: string) => qemuSetting(text, name)
  const configured = of('migrate_tls_x509_cert_dir') ?? of('default_tls_x509_cert_dir') ?? ''
  const verifies = (of('migrate_tls_x509_verify') ?? of('default_tls_x509_verify')) === '1'
  return { folder, isLaidOut, conf, fault: '', configured, verifies }
}

/** A setting of qemu.conf; undefined where it is not set. */
export function qemuSetting(text: string, name: string): string | undefined {
  const value = new RegExp(`^\\s*${name}\\s*=\\s*(?:"([^"]*)"|(\\S+))`, 'm').exec(text)
  return value?.[1] ?? value?.[2]
}

async function groupOfQemu(): Promise<number> {
  for (const name of QEMU_GROUPS) {
    const found = await promisify(execFile)('getent', ['group', name]).catch(() => null)
    const gid = Number(found?.stdout.split(':')[2])
    if (Number.isInteger(gid)) return gid
  }
  return 0
}
