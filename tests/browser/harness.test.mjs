import assert from 'node:assert/strict'
import { mkdtemp, rm, symlink, writeFile, mkdir } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { adapter, openPage } from './harness.mjs'
import { serve } from './serve.mjs'

// (module (func (export "answer") (result i32) i32.const 42))
const WASM = Buffer.from('0061736d010000000105016000017f030201000' + '70a0106616e7377657200000a06010400412a0b', 'hex')

async function site(t) {
  const folder = await mkdtemp(join(tmpdir(), 'paddock-site-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'index.html'), '<!doctype html><link rel="icon" href="data:,"><title>site</title><script type="module" src="a.js"></script>')
  await writeFile(join(folder, 'a.js'), `
    const worker = new Worker('b.js', { type: 'module' })
    worker.onmessage = ({ data }) => { document.title = String(data) }`)
  await writeFile(join(folder, 'b.js'), `
    const { instance } = await WebAssembly.instantiateStreaming(fetch('c.wasm'))
    postMessage(instance.exports.answer())`)
  await writeFile(join(folder, 'c.wasm'), WASM)
  await mkdir(join(folder, 'sub'))
  await writeFile(join(folder, 'sub', 'index.html'), 'sub')
  return folder
}

/** A request whose path is sent as it stands: fetch would tidy the dots away. */
function raw(url, path, method = 'GET', headers = {}) {
  const { hostname, port } = new URL(url)
  return new Promise((done, failed) => {
    request({ hostname, port, path, method, headers }, (response) => {
      let body = ''
      response.on('data', (chunk) => (body += chunk))
      const { 'content-type': type, 'content-encoding': encoding, 'content-length': length } = response.headers
      response.on('end', () => done({ status: response.statusCode, type, encoding, length: Number(length), body }))
    }).on('error', failed).end()
  })
}

test('the server gives each file its type, and nothing outside its folder', async (t) => {
  const folder = await site(t)
  await symlink(join(folder, '..'), join(folder, 'out'))
  const server = await serve(folder)
  t.after(() => server.close())
  assert.equal((await raw(server.url, '/c.wasm')).type, 'application/wasm')
  assert.match((await raw(server.url, '/a.js?x=1')).type, /^text\/javascript/)
  assert.match((await raw(server.url, '/')).body, /<title>site/)
  assert.equal((await raw(server.url, '/sub/')).body, 'sub')
  assert.equal((await raw(server.url, '/c.wasm', 'HEAD')).body, '')
  assert.equal((await raw(server.url, '/', 'POST')).status, 405)
  assert.equal((await raw(server.url, '/none')).status, 404)
  assert.equal((await raw(server.url, '/sub')).status, 404)
  assert.equal((await raw(server.url, '/%')).status, 400)
  assert.equal((await raw(server.url, '/%00')).status, 400)
  for (const path of ['/../../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '/..%2f..%2fetc%2fpasswd', `/out/${folder.split('/').pop()}/../x`]) {
    assert.equal((await raw(server.url, path)).status, 404, path)
  }
  const beside = `${folder}-beside`
  await mkdir(beside)
  t.after(() => rm(beside, { recursive: true, force: true }))
  await writeFile(join(beside, 'index.html'), 'beside')
  assert.equal((await raw(server.url, `/..%2f${beside.split('/').pop()}%2findex.html`)).status, 404)
})

test('a file goes out in the packed form beside it to those who take that', async (t) => {
  const folder = await site(t)
  await rm(join(folder, 'c.wasm'))
  await writeFile(join(folder, 'c.wasm'), 'as it is')
  const [br, gz] = [brotliCompressSync(WASM), gzipSync(WASM)]
  await writeFile(join(folder, 'c.wasm.br'), br)
  await writeFile(join(folder, 'c.wasm.gz'), gz)
  await writeFile(join(folder, 'secret'), gz)
  await symlink(join(folder, 'secret'), join(folder, 'a.js.gz'))
  const server = await serve(folder)
  t.after(() => server.close())
  const asked = async (path, accepted) => {
    const { status, type, encoding, length } = await raw(server.url, path, 'HEAD', accepted === undefined ? {} : { 'accept-encoding': accepted })
    assert.deepEqual([status, type], [200, path.endsWith('.wasm') ? 'application/wasm' : 'text/javascript; charset=utf-8'])
    return [encoding, length]
  }
  assert.deepEqual(await asked('/c.wasm'), [undefined, 8])
  assert.deepEqual(await asked('/c.wasm', 'gzip, deflate, br, zstd'), ['br', br.length])
  assert.deepEqual(await asked('/c.wasm', 'GZIP;q=0.5, br;q=0'), ['gzip', gz.length])
  assert.deepEqual(await asked('/c.wasm', 'gzip;q=0.0, brr, identity'), [undefined, 8])
  // A link is no packed form, and a file without one goes as it is.
  assert.equal((await asked('/a.js', 'gzip'))[0], undefined)
  assert.equal((await asked('/b.js', 'br'))[0], undefined)

  // Chromium reads it: the packed form holds the module, the file itself does not.
  const page = await openPage(t, { folder })
  await page.waitForFunction(() => document.title === '42')
})

test('Chromium runs a wasm module worker and has the software WebGPU adapter', async (t) => {
  const page = await openPage(t, { folder: await site(t) })
  await page.waitForFunction(() => document.title === '42')
  const found = await adapter(page)
  assert.ok(found, 'no adapter')
  assert.equal(found.architecture, 'swiftshader')
})

test('WebGPU can be taken away', async (t) => {
  const page = await openPage(t, { folder: await site(t), webgpu: 'off' })
  await page.waitForFunction(() => document.title === '42')
  assert.equal(await adapter(page), null)
})

test('errors of the page are collected', async (t) => {
  const page = await openPage(t, { folder: await site(t) })
  await page.evaluate(() => {
    console.error('said')
    setTimeout(() => { throw new Error('thrown') })
  })
  await page.waitForFunction(() => new Promise((done) => setTimeout(() => done(true), 50)))
  assert.equal(page.faults.length, 2, String(page.faults))
  assert.match(page.faults.sort().join(), /thrown.*said|said.*thrown/s)
  page.faults.length = 0
})
