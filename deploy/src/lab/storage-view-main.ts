/**
 * The process of a storage view: `storage-view-main.ts <folder> <state folder> <lease ms> [no-locks]`, alone
 * in a mount namespace. It mounts the view over the folder itself, so that hosts see it where everybody else does. The state that it
 * is to have is in `wanted` of the state folder; SIGHUP makes it look. The state that it has is in `actual`. An order
 * to drop the host's locks is a file whose name begins with `expire-`; SIGHUP, too, makes it look, and it is removed when that is done.
 *
 * It is ended by SIGKILL, in whatever state: with it goes the connection, and whoever waits gets an error.
 */
import {
  openSync,
  read,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { writeBytesMax } from './fuse-protocol.ts'
import { mount } from './linux-calls.ts'
import { StorageView, type ViewState } from './storage-view.ts'

const [folder = '', stateFolder = '', leaseMs = '', locks = 'locks'] = process.argv.slice(2)
const { errno } = constants
const [noSuid, noDevices] = [2, 4]

const device = openSync('/dev/fuse', 'r+')
const view = new StorageView(folder, { send, leaseMs: Number(leaseMs), hasLocks: locks === 'locks' })
// libvirt knows by this type that the same file system is on other hosts, too, and lets guests move live.
const options = `fd=${device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other`
mount('vpe-lab', folder, 'fuse.glusterfs', noSuid | noDevices, options)
process.on('SIGHUP', () => {
  takeState()
  takeOrders()
})
takeState()
readNext(Buffer.allocUnsafeSlow(writeBytesMax + 64 * 1024))

function takeState(): void {
  const wanted = JSON.parse(readFileSync(join(stateFolder, 'wanted'), 'utf8')) as ViewState
  view.state = wanted
  const actual = join(stateFolder, 'actual')
  writeFileSync(`${actual}.new`, JSON.stringify(wanted))
  renameSync(`${actual}.new`, actual)
}

function takeOrders(): void {
  const orders = readdirSync(stateFolder).filter((name) => name.startsWith('expire-'))
  if (orders.length > 0) view.expire()
  for (const order of orders) rmSync(join(stateFolder, order))
}

function readNext(buffer: Buffer): void {
  read(device, buffer, 0, buffer.length, null, (error, bytes) => {
    if (!error) view.receive(buffer.subarray(0, bytes))
    // ENOENT: the request was withdrawn before we had it. ENODEV: unmounted.
    else if (-(error.errno ?? 0) === errno.ENODEV) process.exit(0)
    else if (![errno.ENOENT, errno.EINTR, errno.EAGAIN].includes(-(error.errno ?? 0))) throw error
    readNext(buffer)
  })
}

function send(bytes: Buffer): void {
  try {
    writeSync(device, bytes)
  } catch (error) {
    // ENOENT: nobody waits for it any longer.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
