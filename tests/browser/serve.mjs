// A static server for the built page: `node tests/browser/serve.mjs [folder] [port]`, or `serve(folder)` from a test.

import { createReadStream } from 'node:fs'
import { realpath, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, resolve, sep } from 'node:path'
import { pathToFileURL } from 'node:url'

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.csv': 'text/csv; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
  '.yaml': 'text/yaml; charset=utf-8',
}

/** Serves `folder` on a free port of localhost; resolves to `{ url, close }`. `first` may answer a request itself (true). */
export async function serve(folder, port = 0, first = () => false) {
  const root = await realpath(folder)
  const server = createServer((request, response) => {
    if (first(request, response)) return
    answer(root, request, response).catch(() => {
      if (!response.headersSent) response.writeHead(500)
      response.end()
    })
  })
  await new Promise((done, failed) => server.once('error', failed).listen(port, '127.0.0.1', done))
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () =>
      new Promise((done) => {
        server.close(done)
        server.closeAllConnections()
      }),
  }
}

async function answer(root, request, response) {
  const refuse = (status) => response.writeHead(status, { 'content-type': 'text/plain' }).end(`${status}\n`)
  if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(405)
  const path = fileFor(root, request.url)
  if (path === undefined) return refuse(400)
  let file
  let about
  try {
    file = await realpath(path)
    about = await stat(file)
  } catch {
    return refuse(404)
  }
  // A link that leads out of the folder is no part of the page.
  if ((file !== root && !file.startsWith(root + sep)) || !about.isFile()) return refuse(404)
  response.writeHead(200, {
    'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
    'content-length': about.size,
    'cache-control': 'no-store',
  })
  if (request.method === 'HEAD') return response.end()
  createReadStream(file).on('error', () => response.destroy()).pipe(response)
}

function fileFor(root, url) {
  let path
  try {
    path = decodeURIComponent(new URL(url, 'http://localhost').pathname)
  } catch {
    return undefined
  }
  if (path.includes('\0')) return undefined
  return resolve(join(root, path.endsWith('/') ? `${path}index.html` : path))
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { url } = await serve(process.argv[2] ?? 'dist', Number(process.argv[3] ?? 0))
  console.log(url)
}
