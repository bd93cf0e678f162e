// Creates instances by gRPC with as little of the machine as can be: what measures must not be what is measured, where
// both have the same two cores.

import { type ClientHttp2Session, connect, constants } from 'node:http2'
import { ControllerServiceDefinition, CreateInstanceRequest, CreateInstanceResponse } from '@vpe/proto'

/** Of a message's frame: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message"). */
const PREFIX_BYTES = 5

export class LeanClient {
  readonly #url: string
  #session: ClientHttp2Session | null = null

  /** @param url of the controller, without TLS */
  constructor(url: string) {
    this.#url = url
  }

  /** Null where there is no such answer, for whatever reason: any other client will be told why. */
  createInstance(request: CreateInstanceRequest): Promise<CreateInstanceResponse | null> {
    return new Promise((resolve) => {
      const stream = this.#connected().request(HEADERS)
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('error', () => resolve(null))
      stream.on('close', () => {
        const frame = Buffer.concat(chunks)
        const isWhole = frame.length >= PREFIX_BYTES && frame.length === PREFIX_BYTES + frame.readUInt32BE(1)
        resolve(isWhole ? CreateInstanceResponse.decode(frame.subarray(PREFIX_BYTES)) : null)
      })
      const message = CreateInstanceRequest.encode(request).finish()
      const frame = Buffer.allocUnsafe(PREFIX_BYTES + message.length)
      frame.writeUInt8(0, 0)
      frame.writeUInt32BE(message.length, 1)
      frame.set(message, PREFIX_BYTES)
      stream.end(frame)
    })
  }

  close(): void {
    this.#session?.destroy()
  }

  #connected(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session
    const session = connect(this.#url)
    // Its streams are told as well.
    session.on('error', () => session.destroy())
    this.#session = session
    return session
  }
}

const HEADERS = {
  [constants.HTTP2_HEADER_METHOD]: constants.HTTP2_METHOD_POST,
  [constants.HTTP2_HEADER_PATH]: `/${ControllerServiceDefinition.fullName}/CreateInstance`,
  [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
  [constants.HTTP2_HEADER_TE]: 'trailers',
}
