import { setTimeout } from 'node:timers/promises'

/** What the check returns, once that is something. */
export async function until<T>(
  what: string,
  check: () => T | Promise<T>,
): Promise<NonNullable<Exclude<T, false>>> {
  const deadline = performance.now() + 100_000
  while (performance.now() < deadline) {
    const value = await check()
    if (value !== null && value !== undefined && value !== false)
      return value as NonNullable<Exclude<T, false>>
    await setTimeout(20)
  }
  throw new Error(`not in time: ${what}`)
}
