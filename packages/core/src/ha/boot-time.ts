/**
 * CLOCK_BOOTTIME as the kernel writes it into /proc/uptime.
 * @returns milliseconds since the host was started, in steps of ten
 * @throws Error for a text that says no time
 */
export function bootTimeMs(procUptime: string): number {
  const [seconds = ''] = procUptime.split(' ')
  const ms = Math.round(Number(seconds) * 1_000)
  if (!Number.isFinite(ms) || ms <= 0) throw new Error(`/proc/uptime says "${seconds}"`)
  return ms
}
