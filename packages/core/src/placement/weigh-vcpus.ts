/** Prefers the host that keeps the larger share of its vCPUs free. */
export function weighVcpus(asked: number, total: number, used: number): number {
  return total === 0 ? 0 : 1 - (used + asked) / total
}
