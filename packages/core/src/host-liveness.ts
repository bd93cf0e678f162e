// Is a host late? Heartbeats say when it was last heard, a gRPC probe says whether it answers now.
// Late is not dead: `down` says nothing of its guests and starts nothing anywhere.

/** Silence that makes a host suspect; with heartbeats each second, ten lost in a row. */
export const SUSPECT_AFTER_MS = 10_000

export type HostLiveness = 'up' | 'down' | 'probe'

/**
 * What to believe of a host.
 * @param lastHeardMs when a heartbeat or an answer last came
 * @param answersProbe what a gRPC call made because of the silence said; null when none was made yet
 */
export function judgeHost(lastHeardMs: number, nowMs: number, answersProbe: boolean | null): HostLiveness {
  if (nowMs - lastHeardMs < SUSPECT_AFTER_MS) return 'up'
  if (answersProbe === null) return 'probe'
  return answersProbe ? 'up' : 'down'
}
