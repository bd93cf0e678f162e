// The clock of all HA: time since this host was started, also that which it was suspended (CLOCK_BOOTTIME). Nobody sets
// it, and it never goes back. Read from /proc, since Node's monotonic clock stops in a suspend.

import { readFileSync } from 'node:fs'
import { bootTimeMs } from '@vpe/core/ha'

/** Milliseconds since the host was started, in steps of ten. */
export function upMs(): number {
  return bootTimeMs(readFileSync('/proc/uptime', 'latin1'))
}
