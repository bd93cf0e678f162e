// The pages that browsers open, and what they load: the two consoles (noVNC, xterm.js) and the reference of
// this API (Swagger UI), our few files and the packages' own. All of it is read once, so a request is a
// look-up in a map: no path is ever made from one.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { OpenAPIHono } from '@hono/zod-openapi'
import type { ApiEnv } from '../endpoint.ts'

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
}

const PAGE_HEADERS = {
  // All three set styles from their scripts; noVNC's cursors and Swagger UI's icons are data URLs.
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-cache',
}

interface PageFile {
  readonly body: Uint8Array<ArrayBuffer>
  readonly type: string
}

const src = join(import.meta.dirname, '..')

/** The folder of a package that is installed for us, from the path of its main file. */
function packageFolder(name: string): string {
  let folder = dirname(fileURLToPath(import.meta.resolve(name)))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return folder
}

/** Files by the path that they are served at. */
function readFiles(): Map<string, PageFile> {
  const novnc = packageFolder('@novnc/novnc')
  const sources: readonly (readonly [string, string])[] = [
    ['/console', join(src, 'console/browser')],
    ['/docs', join(src, 'docs/browser')],
    ['/console/novnc/core', join(novnc, 'core')],
    ['/console/novnc/vendor', join(novnc, 'vendor')],
    ['/console/xterm/lib', join(packageFolder('@xterm/xterm'), 'lib')],
    ['/console/xterm/css', join(packageFolder('@xterm/xterm'), 'css')],
    ['/console/xterm-fit/lib', join(packageFolder('@xterm/addon-fit'), 'lib')],
  ]
  const files = new Map<string, PageFile>()
  const read = (folder: string, name: string, path: string) => {
    const type = TYPES[extname(name)]
    if (type) files.set(path, { body: new Uint8Array(readFileSync(join(folder, name))), type })
  }
  for (const [at, folder] of sources) {
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      read(folder, name, `${at}/${name}`)
    }
  }
  const swagger = packageFolder('swagger-ui-dist')
  for (const name of ['swagger-ui.css', 'swagger-ui-bundle.js']) {
    read(swagger, name, `/docs/swagger-ui/${name}`)
  }
  return files
}

let files: Map<string, PageFile> | undefined

export function pageRoutes(app: OpenAPIHono<ApiEnv>): void {
  const serve = (path: string): Response | undefined => {
    files ??= readFiles()
    const file = files.get(path)
    return file && new Response(file.body, { headers: { ...PAGE_HEADERS, 'content-type': file.type } })
  }
  app.get('/vnc', (context) => serve('/console/vnc.html') ?? context.notFound())
  app.get('/serial', (context) => serve('/console/serial.html') ?? context.notFound())
  app.get('/docs', (context) => serve('/docs/docs.html') ?? context.notFound())
  app.get('/docs/*', (context) => serve(context.req.path) ?? context.notFound())
  app.get('/console/*', (context) => serve(context.req.path) ?? context.notFound())
}
