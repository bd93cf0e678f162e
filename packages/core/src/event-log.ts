// Places in the event log, and where a reader goes on who was away: behind the last event that it had, or,
// where the log does not reach back that far, at the oldest there is, knowing that something is missing.

/** A place in the log: behind the event with this sequence number, in the stream that was made at that time. */
export interface LogPosition {
  /** When the stream was made, in milliseconds: one that was wiped and made anew counts from 1 again. */
  readonly epoch: number
  readonly sequence: number
}

/** What a stream holds now. */
export interface LogBounds {
  readonly epoch: number
  /** Sequence of the oldest event that is kept; one more than `last` where none is. */
  readonly first: number
  /** Sequence of the newest event that there ever was; 0 for none. */
  readonly last: number
}

/** Events that a reader should have had and never will. */
export interface LogGap {
  /** The last place that the reader had reached. */
  readonly after: LogPosition
  /** Where it goes on. */
  readonly resumesAfter: LogPosition
  readonly why: string
}

const POSITION = /^(\d{1,15})-(\d{1,15})$/

/** `<epoch>-<sequence>` */
export function formatPosition({ epoch, sequence }: LogPosition): string {
  return `${epoch}-${sequence}`
}

/** The place that a text means; null when it is none. */
export function parsePosition(text: string): LogPosition | null {
  const [, epoch, sequence] = POSITION.exec(text) ?? []
  return epoch === undefined ? null : { epoch: Number(epoch), sequence: Number(sequence) }
}

/** What a reader has missed for good; null when the log goes on where the reader left it. */
export function gapAfter(position: LogPosition, bounds: LogBounds): LogGap | null {
  const at = (sequence: number): LogPosition => ({ epoch: bounds.epoch, sequence })
  if (position.epoch !== bounds.epoch) {
    const why = 'the log was lost and begun anew; what was only in the old one is gone'
    return { after: position, resumesAfter: at(bounds.first - 1), why }
  }
  if (position.sequence > bounds.last) {
    const why = 'the log has lost its end; what comes next may replace what was there'
    return { after: position, resumesAfter: at(bounds.last), why }
  }
  if (position.sequence + 1 < bounds.first) {
    const why = `the log keeps no event before number ${bounds.first} any more`
    return { after: position, resumesAfter: at(bounds.first - 1), why }
  }
  return null
}
