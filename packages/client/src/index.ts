// A typed client of the REST API. Its types are generated from the document that the API node serves, so a
// path, a field or a status that the API does not have does not compile.

import createClient, { type Client } from 'openapi-fetch'
import type { components, paths } from '../gen/api.ts'

/** `client.GET('/instances/{uuid}', { params: { path: { uuid } } })`, and alike for every endpoint. */
export type VpeClient = Client<paths>

/** The shapes of the API by name, such as `Schemas['Instance']`. */
export type Schemas = components['schemas']

/** @param options.fetch another way to send requests */
export function createVpeClient(options: {
  readonly baseUrl: string
  readonly fetch?: (request: Request) => Promise<Response>
}): VpeClient {
  return createClient<paths>(options)
}

/** What the API has refused, with its status and its answer. */
export class RefusedError extends Error {
  readonly response: Response
  readonly body: unknown

  constructor(response: Response, body: unknown) {
    super(`${response.url}: ${response.status} ${JSON.stringify(body)}`)
    this.name = 'RefusedError'
    this.response = response
    this.body = body
  }
}

interface Result<Data> {
  readonly data?: Data
  readonly error?: unknown
  readonly response: Response
}

/**
 * The answer to a request that must succeed: `await accepted(client.GET('/flavors'))`.
 * @throws RefusedError
 */
export async function accepted<Data>(request: Promise<Result<Data>>): Promise<Data> {
  const { data, error, response } = await request
  if (data === undefined) throw new RefusedError(response, error)
  return data
}
