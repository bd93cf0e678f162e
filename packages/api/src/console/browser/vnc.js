// The screen: noVNC on our WebSocket.

import { connectConsole, showStatus } from './connection.js'
import RFB from './novnc/core/rfb.js'

const socket = connectConsole('vnc')
// Shared: whoever watches already goes on watching.
const screen = new RFB(document.getElementById('console'), socket, { shared: true })
screen.scaleViewport = true
screen.background = 'transparent'
screen.focusOnClick = true

const keys = document.getElementById('keys')
keys.addEventListener('click', () => {
  screen.sendCtrlAltDel()
  screen.focus()
})
screen.addEventListener('connect', () => {
  showStatus('open', 'connected')
  keys.disabled = false
  screen.focus()
})
screen.addEventListener('disconnect', () => {
  keys.disabled = true
})
