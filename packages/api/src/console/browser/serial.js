// The serial line: xterm.js on our WebSocket.

import { connectConsole, showStatus } from './connection.js'
import { Terminal } from './xterm/lib/xterm.mjs'
import { FitAddon } from './xterm-fit/lib/addon-fit.mjs'

/** A large paste goes in pieces: the server takes no larger messages than it can hold. */
const PIECE_BYTES = 4096

const terminal = new Terminal({ scrollback: 10_000, cursorBlink: true })
const fit = new FitAddon()
terminal.loadAddon(fit)
terminal.open(document.getElementById('console'))
fit.fit()
addEventListener('resize', () => fit.fit())

const socket = connectConsole('serial')
let isOpen = false
socket.addEventListener('message', ({ data }) => {
  // An empty message says that the line is open; a guest that waits says nothing by itself.
  if (!isOpen) {
    isOpen = true
    showStatus('open', 'connected; press Enter for a prompt')
    terminal.focus()
  }
  terminal.write(new Uint8Array(data))
})
socket.addEventListener('close', () => {
  terminal.options.disableStdin = true
})

function send(bytes) {
  if (socket.readyState !== WebSocket.OPEN) return
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) socket.send(bytes.subarray(at, at + PIECE_BYTES))
}
const encoder = new TextEncoder()
terminal.onData((text) => send(encoder.encode(text)))
terminal.onBinary((text) => send(Uint8Array.from(text, (char) => char.charCodeAt(0))))

// For tests and for the curious: what is on the terminal.
globalThis.terminal = terminal
