// What both pages share: the WebSocket to this console, and the line at the top that says how it stands.

const statusLine = document.getElementById('status')

/** Says how it stands; `state` is connecting, open or closed. */
export function showStatus(state, text) {
  statusLine.dataset.state = state
  statusLine.textContent = text
}

/**
 * Connects to the console that this page's URL names.
 * @param {'vnc' | 'serial'} kind
 */
export function connectConsole(kind) {
  const uuid = new URLSearchParams(location.search).get('instance-uuid') ?? ''
  const token = new URLSearchParams(location.hash.slice(1)).get('token') ?? ''
  // It is used up from now on: no history and no screenshot of the address bar needs it.
  history.replaceState(null, '', location.pathname + location.search)
  document.getElementById('name').textContent = uuid
  document.title = `${uuid} – ${document.title}`

  const url = new URL(`/${kind}/socket?instance-uuid=${encodeURIComponent(uuid)}`, location.href)
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
  // The token goes as a subprotocol, since URLs are what logs are made of.
  const socket = new WebSocket(url, ['vpe.console', ...(token ? [`vpe.token.${token}`] : [])])
  socket.binaryType = 'arraybuffer'
  socket.addEventListener('close', ({ code, reason }) => {
    statusLine.dataset.code = String(code)
    showStatus('closed', `closed: ${reason || (code === 1006 ? 'the connection was lost' : `code ${code}`)}`)
  })
  return socket
}
