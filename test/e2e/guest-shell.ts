// The shell of a guest, by way of its serial console: what a user would type, without a browser.

import type { Cluster } from './cluster.ts'
import { until } from './cluster.ts'

/** Ctrl-U: what was left half typed is dropped. */
const KILL_LINE = '\u0015'

export class GuestShell {
  readonly #socket: WebSocket
  #text = ''
  #commands = 0

  private constructor(socket: WebSocket) {
    this.#socket = socket
    socket.binaryType = 'arraybuffer'
    const decoder = new TextDecoder()
    socket.addEventListener('message', ({ data }) => {
      this.#text += decoder.decode(data, { stream: true })
    })
  }

  /** Opens the serial console of a guest whose shell waits. */
  static async open(cluster: Cluster, uuid: string): Promise<GuestShell> {
    const { body } = await cluster.ok('GET', `/instances/${uuid}/serial`)
    const url = new URL(body.instance.serial_url)
    const token = url.hash.slice('#token='.length)
    const address = `${cluster.apiUrl.replace('http', 'ws')}/serial/socket?instance-uuid=${uuid}`
    const socket = new WebSocket(address, ['vpe.console', `vpe.token.${token}`])
    const shell = new GuestShell(socket)
    await new Promise((resolve, reject) => {
      socket.addEventListener('message', resolve, { once: true })
      socket.addEventListener('close', ({ code, reason }) => reject(new Error(`${code} ${reason}`)))
    })
    return shell
  }

  /** Runs a command, and returns what it printed. */
  async run(command: string): Promise<string> {
    const id = ++this.#commands
    this.#text = ''
    // The guest works the sums out, so the echo of what was typed is never taken for an answer.
    this.type(`${KILL_LINE}echo begin-$((${id}+100)); ${command}; echo end-$((${id}+100))`)
    const answer = new RegExp(`begin-${id + 100}\\r?\\n([\\s\\S]*?)end-${id + 100}`)
    await until(`the guest answers ${command}`, () => answer.test(this.#text))
    return (answer.exec(this.#text)?.[1] ?? '').replaceAll('\r', '').trim()
  }

  /** Types a line, and does not wait. */
  type(line: string): void {
    this.#socket.send(new TextEncoder().encode(`${line}\n`))
  }

  close(): void {
    this.#socket.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }
}
