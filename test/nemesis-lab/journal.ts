// The journal that a guest writes on its data disk (journaling-guest.ts), read after all is over: whether ever two of its lives wrote, whether a
// write was lost, and how long it stood still. Values in, values out.
//
// The disk is blocks of 4 KiB, written one after the other and each once. A life is one boot of the guest; it begins where it found
// the end of the last one.

export const BLOCK_BYTES = 4096

/** What a guest has written into a block. */
export interface JournalRecord {
  /** Which block it is for. */
  readonly at: number
  /** The guest's boot id. */
  readonly life: string
  /** Counts up from 0 in each life. */
  readonly number: number
  /** Time of day in ms, by the guest's clock: a second inaccurate, and late by what it stood still. */
  readonly timeMs: number
}

export type JournalBlock = JournalRecord | 'empty' | 'foreign'

/** What a guest has said on its serial line: that a number of a life is on disk. */
export interface Acknowledged {
  readonly life: string
  readonly number: number
}

export interface Life {
  readonly life: string
  readonly records: number
  readonly beganMs: number
  readonly endedMs: number
}

export interface JournalReport {
  /** In the order in which they wrote. */
  readonly lives: readonly Life[]
  /** From each life's last record to the next one's first, in seconds. */
  readonly gapsS: readonly number[]
  /** What must not be; for people. */
  readonly faults: readonly string[]
}

/** A new life's clock starts at a whole second that may have been over almost for one. */
const CLOCK_MS = 1_500
/** One stray writer may spoil thousands of blocks. */
const FAULTS_MAX = 20

/** @param bytes of the disk, a whole number of blocks */
export function parseJournal(bytes: Uint8Array): JournalBlock[] {
  if (bytes.length % BLOCK_BYTES !== 0) throw new RangeError(`${bytes.length} bytes are no blocks`)
  return Array.from({ length: bytes.length / BLOCK_BYTES }, (_none, index) =>
    parseBlock(Buffer.from(bytes.buffer, bytes.byteOffset + index * BLOCK_BYTES, BLOCK_BYTES)),
  )
}

function parseBlock(block: Buffer): JournalBlock {
  if (block.every((byte) => byte === 0)) return 'empty'
  const match = /^vpe (\d+) ([0-9a-f-]{36}) (\d+) (\d+)\n\0*$/.exec(block.toString('latin1'))
  if (!match) return 'foreign'
  const [, at, life = '', number, timeCs] = match
  return { at: Number(at), life, number: Number(number), timeMs: Number(timeCs) * 10 }
}

/** From a guest's serial log. */
export function parseAcknowledged(serial: string): Acknowledged[] {
  return [...serial.matchAll(/journal ([0-9a-f-]{36}) (\d+)\r?\n/g)].map(([, life = '', number]) => ({
    life,
    number: Number(number),
  }))
}

/**
 * @param blocks of the disk, from its first; what follows the last that is given is empty
 * @param acknowledged in any order, from all hosts where the guest ran
 */
export function checkJournal(
  blocks: readonly JournalBlock[],
  acknowledged: readonly Acknowledged[] = [],
): JournalReport {
  const faults: string[] = []
  const records: JournalRecord[] = []
  const length = blocks.findLastIndex((block) => block !== 'empty') + 1
  for (const [index, block] of blocks.slice(0, length).entries()) {
    if (block === 'empty') faults.push(`block ${index} is empty, and later ones are not: a write was lost`)
    else if (block === 'foreign') faults.push(`block ${index} was written by something else`)
    else if (block.at !== index) faults.push(`block ${index} has what was meant for block ${block.at}`)
    else records.push(block)
  }
  const lives = livesOf(records, faults)
  faults.push(...lossesOf(records, acknowledged))
  const gapsS = lives.slice(1).map(({ beganMs }, index) => (beganMs - (lives[index]?.endedMs ?? 0)) / 1_000)
  const rest = faults.length - FAULTS_MAX
  return {
    lives,
    gapsS,
    faults: rest > 0 ? [...faults.slice(0, FAULTS_MAX), `and ${rest} more`] : faults,
  }
}

function livesOf(records: readonly JournalRecord[], faults: string[]): Life[] {
  const lives: { life: string; records: number; beganMs: number; endedMs: number }[] = []
  let next = 0
  for (const { at, life, number, timeMs } of records) {
    const current = lives.at(-1)
    if (current?.life !== life) {
      if (lives.some((each) => each.life === life))
        faults.push(`block ${at}: life ${life} writes again after life ${current?.life} has begun`)
      if (current && timeMs + CLOCK_MS < current.endedMs)
        faults.push(
          `block ${at}: life ${life} began ${current.endedMs - timeMs} ms before the last record of life ${current.life}`,
        )
      lives.push({ life, records: 0, beganMs: timeMs, endedMs: timeMs })
      next = 0
    }
    if (number !== next)
      faults.push(
        `block ${at}: number ${number} of life ${life}, where ${next} should be: another has written here`,
      )
    next = number + 1
    const last = lives.at(-1)
    if (last) Object.assign(last, { records: last.records + 1, endedMs: Math.max(last.endedMs, timeMs) })
  }
  return lives
}

/** What the guest was told is on disk, and is not. */
function lossesOf(records: readonly JournalRecord[], acknowledged: readonly Acknowledged[]): string[] {
  const last = new Map<string, number>()
  for (const { life, number } of records) last.set(life, Math.max(number, last.get(life) ?? -1))
  const most = new Map<string, number>()
  for (const { life, number } of acknowledged) most.set(life, Math.max(number, most.get(life) ?? -1))
  return [...most]
    .filter(([life, number]) => number > (last.get(life) ?? -1))
    .map(([life, number]) =>
      last.has(life)
        ? `life ${life} was told that number ${number} is on disk, and its last there is ${last.get(life)}`
        : `life ${life} was told that number ${number} is on disk, and nothing of it is there`,
    )
}
