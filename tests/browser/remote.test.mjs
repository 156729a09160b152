// What the module for other pages fetches by its address, from a server that lies, breaks off and has other files than it should.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Paddock, aborted, looked, opened, refused, workers } from './scripted.mjs'
import { serve } from './serve.mjs'

/** Answers by path: text, or `[status, type, text]`; `seen` has the addresses that were asked for. */
async function site(t, files) {
  const seen = []
  const server = await serve('.', 0, (request, response) => {
    seen.push(request.url)
    const found = files[request.url.split('?')[0]] ?? [404, 'text/plain', 'no']
    if (typeof found === 'function') return found(response), true
    const [status, type, text] = Array.isArray(found) ? found : [200, 'application/octet-stream', found]
    response.writeHead(status, { 'content-type': type }).end(text)
    return true
  })
  t.after(() => server.close())
  globalThis.location.href = `${server.url}page/`
  return { url: server.url, seen: () => seen.splice(0) }
}

test('a folder by its address: what it has to have, may have, and names', async (t) => {
  const page = [200, 'text/html; charset=utf-8', '<!doctype html>']
  const files = {
    '/one/config.json': '{}', '/one/tokenizer.json': '{}', '/one/model.safetensors': 'weights', '/one/generation_config.json': '{}',
    '/parts/config.json': '{}', '/parts/tokenizer.model': 'sp', '/parts/tokenizer.json': page, '/parts/model.safetensors': [403, 'text/xml', 'denied'],
    '/parts/model.safetensors.index.json': JSON.stringify({ weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors', c: 'model-00001-of-00002.safetensors' } }),
    '/parts/model-00001-of-00002.safetensors': '1', '/parts/model-00002-of-00002.safetensors': '2',
    '/tiny.gguf': 'GGUF',
  }
  const server = await site(t, files)
  const open = async (base) => (await opened(t, { base })).model()
  const progress = []
  assert.deepEqual(await opened(t, { base: `${server.url}one?key=1`, onProgress: (one) => progress.push(one) }).then((paddock) => paddock.model()), { name: 'one', files: ['config.json', 'generation_config.json', 'tokenizer.json', 'model.safetensors'] })
  assert.ok(server.seen().every((url) => url.endsWith('?key=1')), 'what stands behind the ? goes along')
  assert.deepEqual(progress[0], { phase: 'starting', done: 0, total: 0 })
  assert.ok(progress.some(({ phase, file, done, total }) => phase === 'fetching' && file === 'model.safetensors' && done === 7 && total === 7))
  assert.deepEqual(await open('../parts/'), { name: 'parts', files: ['config.json', 'tokenizer.model', 'model.safetensors.index.json', 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] })
  assert.deepEqual(await open(new URL('/tiny.gguf', server.url)), { name: 'tiny.gguf', files: ['tiny.gguf'] })
  server.seen()

  const index = (content) => (files['/parts/model.safetensors.index.json'] = content)
  const map = (...names) => JSON.stringify({ weight_map: Object.fromEntries(names.map((name, i) => [i, name])) })
  const wrong = [
    [`${server.url}none/`, /none\/config\.json: HTTP 404/, /model's folder/],
    [`${server.url}one/model.safetensors`, /is one file, and no \.gguf/],
    ['model.zip', /is one file/],
    ['ftp://example.org/m/', /addresses of ftp: are not fetched/],
    ['http://', /is no address/],
    ['http://me:secret@127.0.0.1:1/m/', /^http:\/\/127\.0\.0\.1:1\/m\/: an address with a name or password/],
    ['http://127.0.0.1:1/m/?token=secret', /^http:\/\/127\.0\.0\.1:1\/m\/config\.json cannot be reached\.$/, /CORS/],
  ]
  for (const [base, message, advice] of wrong) await assert.rejects(Paddock.open({ base }), refused(message, advice))
  for (const [content, message] of [
    [map('../../secret.safetensors'), /names "\.\.\/\.\.\/secret\.safetensors", which is no safetensors file beside it/],
    [map('https://elsewhere.example/x.safetensors'), /no safetensors file beside it/],
    [map(7), /names 7/],
    ['[1', /has no weight_map/],
    ['{}', /has no weight_map/],
    [map(...Array.from({ length: 600 }, (_, i) => `model-${i}.safetensors`)), /names 600 files/],
    [map('model-9.safetensors'), /model-9\.safetensors: HTTP 404/],
    [page, /neither model\.safetensors nor model\.safetensors\.index\.json/],
  ]) {
    index(content)
    await assert.rejects(Paddock.open({ base: '../parts' }), refused(message))
  }
  files['/parts/tokenizer.model'] = [404, 'text/plain', '']
  await assert.rejects(Paddock.open({ base: '../parts' }), refused(/neither tokenizer\.json nor tokenizer\.model/))
  files['/one/config.json'] = page
  await assert.rejects(Paddock.open({ base: '../one' }), refused(/one\/config\.json is a web page/))
  files['/one/config.json'] = [500, 'text/plain', '']
  await assert.rejects(Paddock.open({ base: '../one' }), refused(/HTTP 500/, /later/))
  files['/one/config.json'] = (response) => response.writeHead(200, { 'content-length': 2 ** 40 }).write('{')
  await assert.rejects(Paddock.open({ base: '../one' }), refused(/config\.json is larger than 256 MiB/))
  files['/one/config.json'] = async (response) => {
    const part = Buffer.alloc(2 ** 25)
    for (let i = 0; i < 10 && !response.destroyed; i += 1) await new Promise((resolve) => response.write(part, resolve))
    response.end()
  }
  await assert.rejects(Paddock.open({ base: '../one' }), refused(/config\.json is larger than 256 MiB/))
  files['/one/config.json'] = (response) => response.writeHead(200, { 'content-length': 100 }).write('{', () => setTimeout(() => response.destroy(), 50))
  await assert.rejects(Paddock.open({ base: '../one' }), refused(/config\.json broke off after 1 bytes/))
  files['/one/config.json'] = (response) => response.writeHead(200).write('{')
  await assert.rejects(Paddock.open({ base: '../one', signal: AbortSignal.timeout(100) }), (error) => error.name === 'TimeoutError')
  assert.ok(workers.filter(({ name }) => name === 'paddock').at(-1).over)
})

test('a plugin by its address, and models of the hub by their pages', async (t) => {
  const files = { '/spam.zip': 'PK', '/broken.zip': 'x', '/qa/adapter_config.json': '{}', '/qa/adapter_model.safetensors': 'w', '/qa/plugin.json': '{}', '/page.zip': [200, 'text/html', '<p>'] }
  for (const [name, text] of Object.entries({ 'config.json': '{}', 'tokenizer.json': '{}', 'model.safetensors': 'w' })) {
    files[`/org/private/resolve/main/${name}`] = text
    files[`/org/tiny/resolve/v2/sub/${name}`] = text
  }
  files['/org/tiny/resolve/main/tiny.gguf'] = 'GGUF'
  const server = await site(t, files)
  const paddock = await opened(t)
  assert.equal((await paddock.addPlugin(`${server.url}spam.zip?v=2`)).id, 'spam')
  assert.equal((await paddock.addPlugin('../qa', { id: 'qa' })).id, 'qa')
  for (const [source, message, advice] of [
    ['../none/', /none\/adapter_config\.json: HTTP 404/, /\.zip/],
    ['../page.zip', /page\.zip is a web page/, /\.zip/],
    ['../broken.zip', /broken\.zip is no zip/, /otherwise/],
  ]) await assert.rejects(paddock.addPlugin(source), refused(message, advice))

  const endpoint = server.url.replace(/\/$/, '')
  looked()
  const progress = []
  const open = async (path) => (await opened(t, { base: endpoint + path, endpoint, onProgress: (one) => progress.push(one) })).model().name
  const hub = async (path) => {
    const paddock = await Paddock.open({ base: endpoint + path, endpoint, onProgress: (one) => progress.push(one) })
    paddock.close()
    return [paddock.model().name, ...looked().filter((line) => line.startsWith('hub')).map((line) => line.split(' ')[1])]
  }
  assert.deepEqual(await hub('/org/tiny'), ['org/tiny', 'org/tiny'])
  assert.deepEqual(await hub('/org/tiny/tree/main'), ['org/tiny', 'org/tiny'])
  assert.ok(progress.some(({ phase, file, total }) => phase === 'fetching' && file === 'model.safetensors' && total === 9))
  assert.deepEqual(await hub('/org/tiny/tree/v2/sub'), ['sub'], 'other branches are fetched as from any server')
  assert.deepEqual(await hub('/org/tiny/blob/main/tiny.gguf'), ['tiny.gguf'])
  assert.deepEqual(await hub('/org/tiny/resolve/main/tiny.gguf'), ['tiny.gguf'])
  server.seen()
  assert.deepEqual(await hub('/org/private'), ['main', 'org/private'], 'a browser that stores nothing fetches it all the same')
  assert.ok(server.seen().every((url) => url.startsWith('/org/private/resolve/main/')))
  await assert.rejects(open('/org/none'), refused(/There is no public model org\/none/, /`token`/))
  const stop = new AbortController()
  const silent = Paddock.open({ base: `${endpoint}/org/silent`, endpoint, signal: stop.signal })
  setTimeout(() => stop.abort(), 20)
  await assert.rejects(silent, aborted)
  assert.ok(workers.filter(({ name }) => name === 'paddock-hub').every(({ over }) => over), 'each of the workers that fetch is ended')
})

test('a token is sent to the hub alone, also for plugins, and no message shows it', async (t) => {
  const heard = []
  const said = () => heard.splice(0)
  const at = async (name, answer) => {
    const server = await serve('.', 0, (request, response) => {
      const { authorization } = request.headers
      heard.push(`${name} ${authorization ?? '-'}`)
      const [status, headers = {}] = answer(request.url, authorization)
      response.writeHead(status, { 'content-type': 'application/octet-stream', ...headers }).end('{}')
      return true
    })
    t.after(() => server.close())
    return server.url.replace(/\/$/, '')
  }
  const elsewhere = await at('elsewhere', () => [200])
  const endpoint = await at('hub', (url, authorization) => {
    if (authorization !== 'Bearer hf_good') return [authorization ? 403 : 401]
    return url.endsWith('.safetensors') ? [302, { location: `${elsewhere}/weights` }] : [200]
  })
  const base = `${endpoint}/org/tiny/tree/v2`

  const paddock = await opened(t, { base, endpoint, token: ' hf_good ' })
  assert.deepEqual(paddock.model().files, ['config.json', 'tokenizer_config.json', 'chat_template.jinja', 'generation_config.json', 'tokenizer.json', 'model.safetensors'])
  const came = said()
  assert.deepEqual([...new Set(came)].sort(), ['elsewhere -', 'hub Bearer hf_good'], 'where the hub sends on to another site the token stays behind')
  await paddock.addPlugin(`${endpoint}/org/adapter`, { id: 'adapter' })
  assert.deepEqual([...new Set(said())].sort(), ['elsewhere -', 'hub Bearer hf_good'])
  await paddock.addPlugin(`${elsewhere}/spam.zip`)
  assert.deepEqual(said(), ['elsewhere -'], 'it is the hub\'s, and no other server\'s')

  looked()
  await opened(t, { base: `${endpoint}/org/tiny`, endpoint, token: 'hf_good' })
  const worker = workers.filter(({ name }) => name === 'paddock-hub').at(-1)
  assert.equal(worker.asked, `org/tiny ${endpoint} hf_good`)

  for (const [token, message, advice] of [
    [undefined, /v2\/config\.json: HTTP 401/, /`token`/],
    ['hf_wrong', /v2\/config\.json: HTTP 403/, /does not let this token read it/],
    ['hf_two words', /^token: expected an access token/, /Copy it again/],
    ['hf_line\nX-Other: 1', /^token: expected an access token/, /Copy it again/],
    [5, /^token: expected a text/],
  ]) {
    await assert.rejects(Paddock.open({ base, endpoint, token }), (error) => refused(message, advice)(error) && !/hf_[wtl]/.test(error.message + error.advice))
  }
})
