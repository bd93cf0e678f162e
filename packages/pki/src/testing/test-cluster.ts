// A CA and certificates of it, in a folder that goes with the test.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Peer, TlsFolder } from '@vpe/proto'
import { CertificateAuthority } from '../certificate-authority.ts'
import { makeKey, makeRequest, readRequest } from '../certificate-request.ts'
import { writeDurably } from '../durable-file.ts'

export class TestCluster {
  readonly dir: string
  readonly ca: CertificateAuthority

  private constructor(dir: string, ca: CertificateAuthority) {
    this.dir = dir
    this.ca = ca
  }

  static async make(): Promise<TestCluster> {
    const dir = mkdtempSync(join(tmpdir(), 'vpe-pki-'))
    return new TestCluster(dir, await CertificateAuthority.open(join(dir, 'ca'), Date.now()))
  }

  /** A folder with a certificate for a peer. @param nowMs when it was made; it counts for a day */
  async member(folder: string, peer: Peer, nowMs = Date.now()): Promise<TlsFolder> {
    const path = join(this.dir, folder)
    await this.certify(path, peer, nowMs, makeKey())
    return new TlsFolder(path)
  }

  async certify(path: string, peer: Peer, nowMs: number, keyPem: string): Promise<void> {
    const key = await readRequest(await makeRequest(keyPem))
    const cert = await this.ca.issue({ peer, addresses: ['127.0.0.1'], key, nowMs, days: 1 })
    await writeDurably(join(path, 'key.pem'), keyPem)
    await writeDurably(join(path, 'ca.pem'), this.ca.certificate)
    await writeDurably(join(path, 'cert.pem'), cert)
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true })
  }
}
