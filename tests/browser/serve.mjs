// A static server for the built page: `node tests/browser/serve.mjs [folder] [port]`, or `serve(folder)` from a test. A file that has its packed
// form beside it (`cargo xtask page`) goes out packed to whoever takes that.

import { createReadStream } from 'node:fs'
import { lstat, realpath, stat } from 'node:fs/promises'
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

/** Of the smallest first: the word for it, and how the file beside ends. */
const PACKED = [['br', '.br'], ['gzip', '.gz']]

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
  const packed = await packedForm(file, request.headers['accept-encoding'])
  response.writeHead(200, {
    'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
    'content-length': packed?.size ?? about.size,
    ...(packed && { 'content-encoding': packed.encoding }),
    vary: 'accept-encoding',
    'cache-control': 'no-store',
  })
  if (request.method === 'HEAD') return response.end()
  createReadStream(packed?.path ?? file).on('error', () => response.destroy()).pipe(response)
}

/** The file's packed form that `accepted` (the header) lets be sent; none where it has none. */
async function packedForm(file, accepted = '') {
  const words = accepted.split(',').map((word) => word.split(';').map((part) => part.trim().toLowerCase()))
  const taken = words.filter(([, weight = '']) => !/^q=0(\.0*)?$/.test(weight)).map(([word]) => word)
  for (const [encoding, ending] of PACKED.filter(([encoding]) => taken.includes(encoding))) {
    const path = file + ending
    // Not stat: a link may lead out of the folder.
    const about = await lstat(path).catch(() => null)
    if (about?.isFile()) return { encoding, path, size: about.size }
  }
  return null
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
