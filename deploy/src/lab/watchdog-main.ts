/**
 * The watchdogs of a lab's hosts, as one process outside of them: `watchdog-main.ts <checkout> <lab>`. It knows the hosts by the lab's
 * settings, so it is started anew when there are more of them.
 */
import { constants, mkdirSync, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Lab } from './lab.ts'
import { Watchdog } from './watchdog.ts'

const [root = '', path = ''] = process.argv.slice(2)
const lab = new Lab(root, path)
const say = (text: string) => process.stderr.write(`${new Date().toISOString()} ${text}\n`)

for (const host of lab.hosts) {
  const { name } = host
  const log = (text: string) => say(`${name}: ${text}`)
  const watchdog = new Watchdog({
    bootId: () => (host.isAlive() ? host.bootId() : undefined),
    reset: (bootId) => {
      lab.reset(name, bootId).then(
        (isReset) => log(isReset ? 'it boots' : 'that boot was over'),
        (error) => log(`it could not be turned on again: ${error.message}`),
      )
    },
    log,
  })
  const folder = dirname(host.watchdogSocket())
  mkdirSync(folder, { recursive: true })
  // By way of the folder's descriptor: a socket's path may have 108 bytes, and a lab may lie anywhere.
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  await watchdog.listen(join(`/proc/self/fd/${fd}`, 'watchdog.sock'))
}
say('watching')
process.on('SIGTERM', () => process.exit(0))
