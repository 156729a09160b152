// The last step of a page's build, which Trunk.toml has Trunk run: the module without the names of its functions, a fifth of it that only
// a profiler reads (PADDOCK_NAMES=1 keeps them).
//
// With PADDOCK_PUBLISH=1 (`cargo xtask page`) the page becomes what a server of it should send: scripts and styles without comments and long
// names, and beside each file that is worth it FILE.br and FILE.gz, as servers look for them (nginx `brotli_static` and `gzip_static`, Caddy
// `precompressed`). The module does not go through wasm-opt: what that takes off (15 %) a server's packing would have taken, and more (of
// 16.1 MB 3.01 were left with brotli, of the 13.8 after wasm-opt -Oz 3.13).

import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

/** Custom sections that no engine needs: names for profilers, and who made the file. */
const UNNEEDED = ['name', 'producers']
const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]
/** Below this many bytes a file is sent in one packet either way. */
const SMALL = 1000
/** A file is packed where that takes off a tenth. */
const WORTH = 0.9

/** A number in LEB128 at `at`, and where what follows it begins. */
function number(bytes, at) {
  let value = 0
  for (let shift = 0; shift < 35; shift += 7) {
    const byte = bytes[at]
    at += 1
    if (byte === undefined) throw new Error('the module ends inside a number')
    value += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) return [value, at]
  }
  throw new Error('the module has a number of more than 32 bits')
}

/**
 * A WebAssembly module without its unneeded custom sections.
 *
 * @param {Buffer} bytes @returns {Buffer}
 */
export function withoutNames(bytes) {
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) throw new Error('this is no WebAssembly module of version 1')
  const kept = [bytes.subarray(0, MAGIC.length)]
  for (let at = MAGIC.length; at < bytes.length; ) {
    const [size, content] = number(bytes, at + 1)
    const end = content + size
    if (end > bytes.length) throw new Error('the module ends inside a section')
    let unneeded = false
    if (bytes[at] === 0) {
      const [length, text] = number(bytes, content)
      unneeded = UNNEEDED.includes(bytes.toString('utf8', text, Math.min(text + length, end)))
    }
    if (!unneeded) kept.push(bytes.subarray(at, end))
    at = end
  }
  return Buffer.concat(kept)
}

/** By the endings that servers look for. */
const PACKERS = {
  // The window of 16 MiB reaches over most of a module.
  br: (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
  gz: (bytes) => gzipSync(bytes, { level: 9 }),
}

/** Every file below a folder. */
function* filesIn(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* filesIn(path)
    else if (entry.isFile()) yield path
  }
}

/**
 * Lays the packed forms beside each file of a folder that is worth it.
 *
 * @returns {Record<'raw' | 'br' | 'gz', number>} bytes of all files as they are, and as a server sends them by either
 */
export function packAll(folder) {
  const sums = { raw: 0, br: 0, gz: 0 }
  for (const path of [...filesIn(folder)].filter((path) => !['.br', '.gz'].includes(extname(path)))) {
    const bytes = readFileSync(path)
    sums.raw += bytes.length
    for (const [ending, pack] of Object.entries(PACKERS)) {
      const packed = bytes.length < SMALL ? bytes : pack(bytes)
      const worth = packed.length <= WORTH * bytes.length
      if (worth) writeFileSync(`${path}.${ending}`, packed)
      sums[ending] += worth ? packed.length : bytes.length
    }
  }
  return sums
}

/** What esbuild makes shorter, by ending. */
const SHORTER = { '.js': { loader: 'js', format: 'esm', target: 'es2022' }, '.css': { loader: 'css' } }
/** Below a page's folder: what people are to read. */
const READ = 'examples'

/** Scripts and styles of a folder as a machine reads them, each file by itself: a page imports them by their names. */
export async function shorten(folder) {
  const { transformSync } = await import('esbuild')
  for (const path of filesIn(folder)) {
    const how = SHORTER[extname(path)]
    if (!how || path.startsWith(join(folder, READ, '/'))) continue
    const { code } = transformSync(readFileSync(path, 'utf8'), { ...how, minify: true, charset: 'utf8', legalComments: 'none' })
    writeFileSync(path, code)
  }
}

const mb = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`

async function main() {
  const { TRUNK_STAGING_DIR: folder, PADDOCK_PUBLISH: publish, PADDOCK_NAMES: names } = process.env
  if (!folder) throw new Error('Trunk runs this as a hook and says in TRUNK_STAGING_DIR where the page is: run trunk build or cargo xtask page')
  const modules = readdirSync(folder).filter((name) => name.endsWith('.wasm'))
  if (modules.length === 0) throw new Error(`${folder} has no .wasm file`)
  if (names !== '1') {
    for (const path of modules.map((name) => join(folder, name))) writeFileSync(path, withoutNames(readFileSync(path)))
  }
  if (publish !== '1') return
  await shorten(folder)
  const { raw, br, gz } = packAll(folder)
  console.log(`page: ${mb(raw)} with model and sample data, ${mb(br)} with brotli, ${mb(gz)} with gzip`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await main()
  } catch (error) {
    console.error(`page: ${error.message}`)
    process.exitCode = 1
  }
}
