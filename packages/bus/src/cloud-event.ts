// The envelope of every event: CloudEvents 1.0 in its JSON format
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).

import { z } from 'zod'
import { type EventKind, eventSubject } from './subjects.ts'

/** What happened, before it is put in an envelope. */
export interface VpeEvent {
  readonly kind: EventKind
  readonly id: string
  /** A past participle or a state: started, failed, down … */
  readonly what: string
  readonly data: Readonly<Record<string, unknown>>
}

export interface CloudEvent {
  readonly specversion: '1.0'
  readonly id: string
  readonly source: string
  readonly type: string
  readonly subject: string
  readonly time: string
  readonly datacontenttype: 'application/json'
  readonly data: Readonly<Record<string, unknown>>
}

/** The envelope. `source` is the cluster, `id` unique in it. */
export function toCloudEvent(event: VpeEvent, id: string, source: string, atMs: number): CloudEvent {
  return {
    specversion: '1.0',
    id,
    source,
    type: `vpe.${event.kind}.${event.what}`,
    subject: `${event.kind}/${event.id}`,
    time: new Date(atMs).toISOString(),
    datacontenttype: 'application/json',
    data: event.data,
  }
}

const headSchema = z.object({ specversion: z.literal('1.0'), id: z.string().min(1), time: z.iso.datetime() })

/** What tells an event of the log apart from others; null when the text is no event of ours. */
export function decodeEvent(text: string): Pick<CloudEvent, 'id' | 'time'> | null {
  try {
    return headSchema.parse(JSON.parse(text))
  } catch {
    return null
  }
}

export function subjectOf(event: VpeEvent): string {
  return eventSubject(event.kind, event.id, event.what)
}
