// Times as dialect 1 writes them.

/** `YYYY-MM-DD HH:MM:SS`, UTC. */
export function moment(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replace('T', ' ')
}

/** 0 stands for never. */
export function momentOrNull(ms: number): string | null {
  return ms === 0 ? null : moment(ms)
}
