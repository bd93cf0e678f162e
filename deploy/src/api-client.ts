/** What the quickstart needs of the REST API: read, create, and an error's own words. */
import { Trouble } from './trouble.ts'

export interface Named {
  readonly uuid: string
  readonly name: string
}

export interface Host extends Named {
  readonly state: 'up' | 'down'
  readonly address?: string
}

export interface Image extends Named {
  readonly status: 'importing' | 'active' | 'error'
  readonly progress?: number | null
  readonly fault?: unknown
}

export interface Instance extends Named {
  readonly status: string
  readonly task: string | null
  readonly fault?: unknown
  readonly host_uuid?: string | null
}

export interface Operation {
  readonly status: 'running' | 'succeeded' | 'failed' | 'cancelled'
  readonly step?: string | null
  readonly fault?: unknown
}

/** The API said no; asking again with the same words will not help. */
export class Refusal extends Trouble {}

export class ApiClient {
  readonly url: string
  readonly #signal: AbortSignal | undefined

  constructor(url: string, signal?: AbortSignal) {
    this.url = url
    this.#signal = signal
  }

  /** Undefined when there is none (404). */
  async find<T>(path: string): Promise<T | undefined> {
    const response = await this.#request('GET', path)
    return response.status === 404 ? undefined : ((await body(response, `GET ${path}`)) as T)
  }

  async get<T>(path: string): Promise<T> {
    return (await body(await this.#request('GET', path), `GET ${path}`)) as T
  }

  /** The one record of a collection that has exactly this name; the API searches for parts of names. */
  async findByName<T extends Named>(collection: string, name: string): Promise<T | undefined> {
    const list = await this.get<Record<string, T[]>>(`/${collection}?name=${encodeURIComponent(name)}`)
    return list[collection]?.find((record) => record.name === name)
  }

  async post<T>(
    path: string,
    record: unknown,
    idempotencyKey: string,
  ): Promise<{ body: T; operation: string | null }> {
    const response = await this.#request('POST', path, record, idempotencyKey)
    return {
      body: (await body(response, `POST ${path}`)) as T,
      operation: response.headers.get('Operation-Id'),
    }
  }

  async #request(method: string, path: string, record?: unknown, idempotencyKey?: string): Promise<Response> {
    const timeout = AbortSignal.timeout(30_000)
    try {
      return await fetch(`${this.url}${path}`, {
        method,
        headers: {
          Accept: 'application/json',
          ...(record === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...(idempotencyKey === undefined ? {} : { 'Idempotency-Key': idempotencyKey }),
        },
        body: record === undefined ? null : JSON.stringify(record),
        signal: this.#signal ? AbortSignal.any([this.#signal, timeout]) : timeout,
      })
    } catch (cause) {
      this.#signal?.throwIfAborted()
      throw new Trouble(
        `the API does not answer (${method} ${this.url}${path})`,
        'deploy/quickstart status',
        { cause },
      )
    }
  }
}

/** A fault or problem in words, whatever shape it comes in. */
export function inWords(fault: unknown): string {
  if (typeof fault === 'string') return fault
  const record = fault as Record<string, unknown> | null | undefined
  const words = [record?.title ?? record?.code, record?.detail ?? record?.message].filter(
    (word) => typeof word === 'string',
  )
  return words.length > 0 ? words.join(': ') : JSON.stringify(fault)
}

async function body(response: Response, what: string): Promise<unknown> {
  const text = await response.text()
  const parsed = parse(text)
  if (!response.ok)
    throw new Refusal(`${what} answers ${response.status}: ${parsed ? inWords(parsed) : text.slice(0, 300)}`)
  return parsed
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
