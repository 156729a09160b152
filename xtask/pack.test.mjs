import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import { packAll, withoutNames } from './pack.mjs'

const PACK = fileURLToPath(new URL('pack.mjs', import.meta.url))
const HEAD = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
/** `(func (export "f") (result i32) i32.const 42)`. */
const TYPE = [1, 5, 1, 0x60, 0, 1, 0x7f]
const FUNCTION = [3, 2, 1, 0]
const EXPORT = [7, 5, 1, 1, 0x66, 0, 0]
const CODE = [10, 6, 1, 4, 0, 0x41, 42, 0x0b]

/** A custom section, its size written in `wide` bytes. */
function custom(name, content, wide = 1) {
  const body = [name.length, ...Buffer.from(name), ...content]
  const size = Array.from({ length: wide }, (_, i) => ((body.length >> (7 * i)) & 0x7f) | (i + 1 < wide ? 0x80 : 0))
  return [0, ...size, ...body]
}

/** A folder that goes with the test. */
function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'paddock-pack-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

const names = custom('name', [1, 4, 1, 0, 1, 0x66], 5)

test('names go, the code and what engines read of custom sections stay', async () => {
  const features = custom('target_features', [0])
  const whole = Buffer.from([...HEAD, ...custom('producers', [0]), ...TYPE, ...FUNCTION, ...EXPORT, ...CODE, ...names, ...features])
  const less = withoutNames(whole)
  assert.deepEqual([...less], [...HEAD, ...TYPE, ...FUNCTION, ...EXPORT, ...CODE, ...features])
  const { instance } = await WebAssembly.instantiate(less)
  assert.equal(instance.exports.f(), 42)
  assert.deepEqual(withoutNames(less), less)
})

test('what is no whole module is refused', () => {
  assert.throws(() => withoutNames(Buffer.from('<!doctype html>')), /no WebAssembly module/)
  assert.throws(() => withoutNames(Buffer.from(HEAD.slice(0, 5))), /no WebAssembly module/)
  assert.throws(() => withoutNames(Buffer.from([...HEAD, 10])), /ends inside a number/)
  assert.throws(() => withoutNames(Buffer.from([...HEAD, 10, 90, 1])), /ends inside a section/)
  assert.throws(() => withoutNames(Buffer.from([...HEAD, 10, 0x80, 0x80, 0x80, 0x80, 0x80, 1])), /more than 32 bits/)
})

test('files are packed where that is worth it, and only once', (t) => {
  const path = folder(t)
  const text = 'A line that comes again.\n'.repeat(500)
  const noise = randomBytes(5000)
  mkdirSync(join(path, 'app'))
  writeFileSync(join(path, 'app', 'long.js'), text)
  writeFileSync(join(path, 'short.js'), 'let a\n'.repeat(20))
  writeFileSync(join(path, 'noise.bin'), noise)
  const sums = packAll(path)
  assert.deepEqual(packAll(path), sums)
  const sent = readFileSync(join(path, 'app', 'long.js.br')).length
  assert.deepEqual([sums.raw, sums.br], [text.length + 120 + 5000, sent + 120 + 5000])
  assert.deepEqual(readdirSync(join(path, 'app')).sort(), ['long.js', 'long.js.br', 'long.js.gz'])
  assert.equal(brotliDecompressSync(readFileSync(join(path, 'app', 'long.js.br'))).toString(), text)
  assert.equal(gunzipSync(readFileSync(join(path, 'app', 'long.js.gz'))).toString(), text)
  assert.ok(!existsSync(join(path, 'short.js.br')) && !existsSync(join(path, 'noise.bin.br')))
})

test('as a hook it takes the names out of the module, and more where it is told to publish', async (t) => {
  const run = (more) => spawnSync(process.execPath, [PACK], { encoding: 'utf8', env: { ...process.env, PADDOCK_PUBLISH: '', PADDOCK_NAMES: '', TRUNK_STAGING_DIR: '', ...more } })
  const path = folder(t)
  const whole = Buffer.from([...HEAD, ...TYPE, ...FUNCTION, ...EXPORT, ...CODE, ...names])
  writeFileSync(join(path, 'a_bg.wasm'), whole)
  writeFileSync(join(path, 'long.js'), 'globalThis.a += 1\n'.repeat(500))
  assert.equal(run({ TRUNK_STAGING_DIR: path, PADDOCK_NAMES: '1' }).status, 0)
  assert.deepEqual(readFileSync(join(path, 'a_bg.wasm')), whole)
  assert.equal(run({ TRUNK_STAGING_DIR: path }).status, 0)
  assert.deepEqual(readFileSync(join(path, 'a_bg.wasm')), whole.subarray(0, whole.length - names.length))
  assert.deepEqual(readdirSync(path).sort(), ['a_bg.wasm', 'long.js'])

  writeFileSync(join(path, 'a_bg.wasm'), whole)
  assert.equal(run({ TRUNK_STAGING_DIR: path, PADDOCK_PUBLISH: '1' }).status, 0)
  assert.deepEqual(readdirSync(path).sort(), ['a_bg.wasm', 'long.js', 'long.js.br', 'long.js.gz'])
  const { instance } = await WebAssembly.instantiate(readFileSync(join(path, 'a_bg.wasm')))
  assert.equal(instance.exports.f(), 42)

  writeFileSync(join(path, 'a_bg.wasm'), 'not a module')
  const refused = run({ TRUNK_STAGING_DIR: path })
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /no WebAssembly module/)
  assert.match(run({}).stderr, /TRUNK_STAGING_DIR/)
})
