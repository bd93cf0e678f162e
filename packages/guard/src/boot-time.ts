// The clock of all HA: time since this host was started, also that which it was suspended (CLOCK_BOOTTIME). Nobody sets
// it, and it never goes back. Read from /proc, since Node's monotonic clock stops in a suspend.

import { readFileSync } from 'node:fs'

/** Milliseconds since the host was started, in steps of ten. */
export function upMs(): number {
  const [seconds = ''] = readFileSync('/proc/uptime', 'latin1').split(' ')
  const ms = Math.round(Number(seconds) * 1_000)
  if (!Number.isFinite(ms) || ms <= 0) throw new Error(`/proc/uptime says "${seconds}"`)
  return ms
}
