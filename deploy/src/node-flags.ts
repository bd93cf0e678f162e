// What Node is told when it starts a process of vpe.

/** It runs TypeScript as it is, and need not say so each time. */
const QUIET = '--disable-warning=ExperimentalWarning'

/**
 * MiB. With Node's own 16, requests and answers of a busy controller outlive the young generation, and are collected
 * with the old one: a tenth to a sixth of its CPU (docs/performance.md). It takes the room only while it is that busy.
 */
const CONTROLLER_YOUNG_GENERATION = '--max-semi-space-size=64'

/** Flags for the main of one of the packages. */
export function nodeFlags(name: string): string[] {
  return name === 'controller' ? [QUIET, CONTROLLER_YOUNG_GENERATION] : [QUIET]
}
