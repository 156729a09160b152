// Models from the hub in the page: against a server with the hub's layout that breaks connections, lies and refuses.

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { repoOf, tokenOf } from '../../www/app/hub.js'
import { Sha256 } from '../../www/app/sha256.js'
import { copyPage } from './fake.mjs'
import { openPage } from './harness.mjs'
import { serve } from './serve.mjs'
import { at, go } from './steps.mjs'

const COMMIT = '0123456789abcdef0123456789abcdef01234567'
const WEIGHTS = 'model.safetensors'
const FILES = { 'config.json': Buffer.from('{}'), 'tokenizer.json': Buffer.from('{"a": 1}'), [WEIGHTS]: randomBytes(300_000), 'README.md': Buffer.from('# no') }

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const git = (bytes) => createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')

/** Answers as the hub does, on the page's own site. `manners` may change while the page runs. */
function hub(manners = {}) {
  const seen = []
  const first = (request, response) => {
    const [path] = request.url.split('?')
    const said = (status, headers, body) => response.writeHead(status, headers).end(body)
    if (path.startsWith('/api/models/') || path.includes('/resolve/')) {
      seen.push(`${path} ${request.headers.range ?? ''}`.trim())
      if (manners.refuses) return said(manners.refuses[0], { 'x-error-code': manners.refuses[1] }), true
    }
    if (path === '/api/models/org/tiny/revision/main') {
      const siblings = Object.entries(FILES).map(([rfilename, bytes]) => {
        const size = bytes.length + (rfilename === WEIGHTS ? manners.size ?? 0 : 0)
        return { rfilename, size, blobId: git(bytes), ...(rfilename === WEIGHTS ? { lfs: { sha256: sha256(bytes), size } } : {}) }
      })
      return said(200, { 'content-type': 'application/json' }, JSON.stringify({ sha: COMMIT, siblings })), true
    }
    const prefix = `/org/tiny/resolve/${COMMIT}/`
    if (!path.startsWith(prefix)) return path.startsWith('/api/') ? (said(404, {}, ''), true) : false
    const name = path.slice(prefix.length)
    const whole = name === WEIGHTS && manners.damages ? FILES[name].map((byte) => byte ^ 1) : FILES[name]
    const start = manners.ignoresRanges ? 0 : Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
    if (start && start >= whole.length) return said(416, {}, ''), true
    const body = whole.subarray(start)
    const range = start ? { 'content-range': `bytes ${start}-${whole.length - 1}/${whole.length}` } : {}
    response.writeHead(start ? 206 : 200, { 'content-length': body.length, ...range })
    if (name !== WEIGHTS || !(manners.cuts > 0)) return response.end(body), true
    manners.cuts -= 1
    // Long enough that the browser has seen what came.
    response.write(body.subarray(0, body.length >> 1), () => setTimeout(() => response.destroy(), 200))
    return true
  }
  return { first, manners, seen: () => seen.splice(0) }
}

/** The page over the fake engine, on the model panel. */
async function open(t, server) {
  const folder = await mkdtemp(join(tmpdir(), 'paddock-hub-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await copyPage(folder)
  const page = await openPage(t, { folder, first: server.first })
  await page.evaluate(() => localStorage.setItem('paddock.hub', JSON.stringify(location.origin)))
  await page.getByTestId('device-reason').filter({ hasText: /./ }).waitFor()
  await go(page, 'model')
  return page
}

/** A broken connection is logged by the browser itself. */
const forget = (page) => (page.faults = page.faults.filter((fault) => !/Failed to load resource/.test(fault)))

async function ask(page, repo) {
  await at(page, 'hub-repo').fill(repo)
  await at(page, 'hub-fetch').click()
}

test('names of repositories, typed or pasted', () => {
  for (const text of ['org/tiny', ' org/tiny ', 'https://huggingface.co/org/tiny', 'https://huggingface.co/org/tiny/tree/main', 'https://hf.co/org/tiny/']) assert.equal(repoOf(text), 'org/tiny')
  for (const text of ['', 'tiny', 'a/b/c', '../b', 'a/..', 'a b/c', 'https://elsewhere.example/a/b', 'a/b?c']) assert.equal(repoOf(text), null, text)
})

test('access tokens, typed or pasted', () => {
  for (const [text, token] of [['', ''], ['  ', ''], [' hf_AbC123\n', 'hf_AbC123']]) assert.equal(tokenOf(text), token)
  for (const text of ['hf_a b', 'hf_a\nX-Other: 1', 'hf_ä', 'x'.repeat(513)]) assert.equal(tokenOf(text), null, text)
})

test('SHA-256 in parts is SHA-256', () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 70_000]) {
    const bytes = randomBytes(length)
    const hash = new Sha256()
    for (let at = 0; at < length; at += 37) hash.update(bytes.subarray(at, at + 37))
    assert.equal(hash.hex(), sha256(bytes), `${length} bytes`)
  }
})

test('a model is fetched once through broken connections, kept, opened again and deleted', async (t) => {
  const server = hub({ cuts: 2 })
  const page = await open(t, server)
  await ask(page, 'org/tiny')
  await at(page, 'model-summary').filter({ hasText: 'org/tiny' }).waitFor()
  const size = FILES[WEIGHTS].length
  const resumed = server.seen().filter((line) => line.includes('bytes=')).map((line) => Number(/bytes=(\d+)/.exec(line)[1]))
  assert.ok(resumed.length === 2 && resumed[0] > 0 && resumed[1] > resumed[0] && resumed[1] < size, `${resumed} of ${size}`)

  await ask(page, 'org/tiny')
  await page.waitForFunction(() => !document.querySelector('[data-testid="hub-fetch"]').disabled)
  assert.deepEqual(server.seen(), ['/api/models/org/tiny/revision/main'], 'never twice')

  await page.reload()
  await page.getByTestId('device-reason').filter({ hasText: /./ }).waitFor()
  await go(page, 'model')
  await at(page, 'hub-open-org/tiny').click()
  await at(page, 'model-summary').filter({ hasText: 'org/tiny' }).waitFor()
  assert.deepEqual(server.seen(), [], 'no connection is needed')
  const stored = await page.evaluate(async () => {
    const hub = await (await navigator.storage.getDirectory()).getDirectoryHandle('hub')
    const found = {}
    for await (const [name, handle] of (await hub.getDirectoryHandle('blobs')).entries()) found[name] = (await handle.getFile()).size
    return found
  })
  assert.deepEqual(stored, Object.fromEntries(['config.json', 'tokenizer.json', WEIGHTS].map((name) => [name === WEIGHTS ? sha256(FILES[name]) : git(FILES[name]), FILES[name].length])))

  await at(page, 'hub-remove-org/tiny').click()
  await at(page, 'hub-open-org/tiny').waitFor({ state: 'detached' })
  const left = await page.evaluate(async () => {
    const hub = await (await navigator.storage.getDirectory()).getDirectoryHandle('hub')
    return (await Array.fromAsync((await hub.getDirectoryHandle('blobs')).keys())).length
  })
  assert.equal(left, 0)
  forget(page)
})

test('a server that cannot resume is served from the start', async (t) => {
  const page = await open(t, hub({ cuts: 1, ignoresRanges: true }))
  await ask(page, 'org/tiny')
  await at(page, 'model-summary').filter({ hasText: 'org/tiny' }).waitFor()
  forget(page)
})

test('lies, damage and refusals are told, leave nothing behind, and the page goes on', async (t) => {
  const server = hub()
  const page = await open(t, server)
  for (const [manners, says] of [
    [{ size: 1000 }, /model\.safetensors.*damaged/],
    [{ size: -1000 }, /model\.safetensors.*damaged/],
    [{ damages: true }, /model\.safetensors.*damaged/],
    [{ refuses: [404, 'RepoNotFound'] }, /no public model org\/tiny/],
    [{ refuses: [403, 'GatedRepo'] }, /org\/tiny is gated/],
  ]) {
    for (const key of Object.keys(server.manners)) delete server.manners[key]
    Object.assign(server.manners, manners)
    await ask(page, 'org/tiny')
    await at(page, 'hub-failed').filter({ hasText: says }).waitFor({ timeout: 20_000 }).catch((error) => assert.fail(`${JSON.stringify(manners)}: ${error.message}`))
    assert.equal(await at(page, 'hub-models').locator('li').count(), 0)
  }
  for (const key of Object.keys(server.manners)) delete server.manners[key]
  await ask(page, 'org/tiny')
  await at(page, 'model-summary').filter({ hasText: 'org/tiny' }).waitFor()
  forget(page)
})

test('a download can be stopped and goes on where it was', async (t) => {
  const server = hub({ cuts: 1000 })
  const page = await open(t, server)
  await ask(page, 'org/tiny')
  await at(page, 'hub-status').filter({ hasText: WEIGHTS }).waitFor()
  await at(page, 'hub-stop').click()
  await page.waitForFunction(() => !document.querySelector('[data-testid="hub-fetch"]').disabled)
  server.manners.cuts = 0
  server.seen()
  await ask(page, 'org/tiny')
  await at(page, 'model-summary').filter({ hasText: 'org/tiny' }).waitFor()
  const again = server.seen()
  assert.ok(again.filter((line) => line.includes(WEIGHTS)).every((line) => line.includes('bytes=')), again.join('\n'))
  assert.ok(!again.some((line) => line.includes('config.json')), 'what was whole stays')
  forget(page)
})

test('a token opens what is gated, goes to the hub alone and is stored nowhere', async (t) => {
  /** Who heard which token. */
  const heard = { hub: [], elsewhere: [] }
  /** As the hub and its store let pages of other sites read them. */
  const allows = (who, request, response) => {
    response.setHeader('access-control-allow-origin', '*')
    response.setHeader('access-control-expose-headers', 'x-error-code')
    if (request.method === 'OPTIONS') return response.writeHead(204, { 'access-control-allow-headers': 'authorization, range' }).end(), true
    heard[who].push(request.headers.authorization ?? '')
    return false
  }
  const elsewhere = await serve('.', 0, (request, response) => {
    if (!allows('elsewhere', request, response)) response.writeHead(200, { 'content-length': FILES[WEIGHTS].length }).end(FILES[WEIGHTS])
    return true
  })
  t.after(() => elsewhere.close())
  const inner = hub()
  const far = await serve('.', 0, (request, response) => {
    if (allows('hub', request, response)) return true
    const refuse = (status, code) => (response.writeHead(status, code ? { 'x-error-code': code } : {}).end(), true)
    const { authorization } = request.headers
    if (authorization === 'Bearer hf_wrong') return refuse(401)
    if (request.url.startsWith('/api/models/org/none')) return authorization ? refuse(404, 'RepoNotFound') : refuse(401, 'RepoNotFound')
    // What a gated model is made of everybody may know.
    if (request.url.includes('/resolve/') && authorization !== 'Bearer hf_good') return refuse(authorization ? 403 : 401, 'GatedRepo')
    if (request.url.endsWith(`/${WEIGHTS}`)) return response.writeHead(302, { location: `${elsewhere.url}blob` }).end(), true
    return inner.first(request, response)
  })
  t.after(() => far.close())
  const page = await open(t, inner)
  await page.evaluate((url) => localStorage.setItem('paddock.hub', JSON.stringify(url.replace(/\/$/, ''))), far.url)
  const host = new URL(far.url).host

  for (const [token, repo, says] of [
    ['', 'org/tiny', `org/tiny is gated: its owner gives access on request. Accept its conditions at ${host}/org/tiny, then enter an access token`],
    ['hf_wrong', 'org/tiny', `${host} does not take this access token`],
    ['hf_reader', 'org/tiny', 'Your token may not read org/tiny'],
    ['', 'org/none', 'no public model org/none'],
    ['hf_reader', 'org/none', 'no model org/none that your token may read'],
  ]) {
    await at(page, 'hub-token').fill(token)
    await ask(page, repo)
    await at(page, 'hub-failed').filter({ hasText: says }).waitFor({ timeout: 20_000 }).catch(async (error) => assert.fail(`${token}: ${await at(page, 'hub-failed').allTextContents()}: ${error.message}`))
    assert.equal(await at(page, 'hub-models').locator('li').count(), 0)
  }
  assert.deepEqual(heard.elsewhere, [])

  heard.hub.length = 0
  await at(page, 'hub-token').fill('hf_two words')
  await ask(page, 'org/tiny')
  assert.match(await at(page, 'hub-token').evaluate((field) => field.validationMessage), /hf_…/)
  assert.deepEqual(heard.hub, [], 'it is not even asked for')

  await at(page, 'hub-token').fill(' hf_good ')
  await ask(page, 'org/tiny')
  await at(page, 'model-summary').filter({ hasText: 'org/tiny' }).waitFor()
  assert.ok(heard.hub.length >= 4 && heard.hub.every((token) => token === 'Bearer hf_good'), heard.hub.join())
  assert.ok(heard.elsewhere.length >= 1 && heard.elsewhere.every((token) => token === ''), heard.elsewhere.join())

  assert.deepEqual(await at(page, 'hub-token').evaluate(({ type, autocomplete }) => [type, autocomplete]), ['password', 'off'])
  const stored = await page.evaluate(async () => {
    const texts = [JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }), document.cookie, location.href]
    const walk = async (folder) => {
      for await (const handle of folder.values()) {
        texts.push(handle.name)
        if (handle.kind === 'directory') await walk(handle)
        else texts.push(await (await handle.getFile()).text())
      }
    }
    await walk(await navigator.storage.getDirectory())
    return texts.join('\n')
  })
  assert.ok(stored.includes('org/tiny') && !stored.includes('hf_good'))

  await page.reload()
  await page.getByTestId('device-reason').filter({ hasText: /./ }).waitFor()
  await go(page, 'model')
  assert.equal(await at(page, 'hub-token').inputValue(), '')
  heard.hub.length = 0
  await at(page, 'hub-open-org/tiny').click()
  await at(page, 'model-summary').filter({ hasText: 'org/tiny' }).waitFor()
  assert.deepEqual(heard.hub, [], 'what was fetched opens without it')
  forget(page)
})
