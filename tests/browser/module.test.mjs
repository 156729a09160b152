// paddock.js in pages of another folder, with the real engine: plugins that the command made, the base by itself, and trouble.

import assert from 'node:assert/strict'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { DIST, openPage, shot } from './harness.mjs'
import { NO_PADDOCK, answer, paddock } from './native.mjs'
import { serve } from './serve.mjs'
import { messages } from './steps.mjs'

const LONG = { timeout: 300_000 }
const SENTENCE = 'Dear friend, claim your free prize money now. Please reply today.'
const PROMPT = 'The President of the United'
const PAGE = `<!doctype html><link rel="icon" href="data:,"><title>elsewhere</title><script type="module">
import { Paddock, PaddockError } from '../paddock.js'
Object.assign(window, { Paddock, PaddockError, told: (promise) => promise.then(
  (value) => ({ value }),
  (error) => ({ name: error.name, message: error.message, advice: error.advice, ours: error instanceof PaddockError }),
) })</script>`

/** A page of another folder than the module's, which has `files` by their paths beside it. */
async function elsewhere(t, files = {}) {
  const first = (request, response) => {
    const path = request.url.split('?')[0]
    if (!path.startsWith('/elsewhere/')) return false
    const found = path === '/elsewhere/page.html' ? PAGE : files[path.slice('/elsewhere/'.length)]
    response.writeHead(found ? 200 : 404, { 'content-type': path.endsWith('.html') ? 'text/html' : 'application/octet-stream' }).end(found)
    return true
  }
  const page = await openPage(t, { path: 'elsewhere/page.html', first })
  await page.waitForFunction(() => window.Paddock)
  return page
}

const engines = (page) => page.workers().filter((worker) => worker.url().endsWith('/worker.js'))

/** The last engine is gone. */
async function ended(page) {
  const over = Date.now() + 10_000
  while (engines(page).length && Date.now() < over) await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal(engines(page).length, 0, 'the worker has ended')
}

const near = (scores, native) => {
  assert.deepEqual(scores.map(([label]) => label).sort(), Object.keys(native).sort())
  for (const [label, score] of scores) assert.ok(Math.abs(native[label] - score) < 1e-3, `${label}: ${score} in the tab, ${native[label]} natively`)
}

/** A plugin that classifies, also as a zip, and one that writes: few steps, so that they differ from the base. */
async function trained(folder) {
  const common = ['--model_name_or_path', 'starter', '--device', 'cpu', '--batch_size', '8', '--max_eval_samples', '8', '--save_steps', '0']
  await writeFile(join(folder, 'mail.csv'), messages(120))
  await paddock('train', ...common, '--train_file', join(folder, 'mail.csv'), '--text_column', 'message', '--label_column', 'kind',
    '--max_seq_length', '32', '--max_steps', '15', '--learning_rate', '0.01', '--plugin_name', 'Spam filter', '--output_dir', join(folder, 'spam'))
  const rows = Array.from({ length: 60 }, (_, i) => `"${PROMPT}, part ${i}",States of America`)
  await writeFile(join(folder, 'words.csv'), ['prompt,completion', ...rows].join('\n'))
  await paddock('train', ...common, '--train_file', join(folder, 'words.csv'), '--task', 'text-generation', '--set', 'evaluation.max_generated_samples=0',
    '--max_seq_length', '32', '--max_steps', '3', '--learning_rate', '0.01', '--plugin_name', 'Words', '--output_dir', join(folder, 'words'))
  await paddock('export', '--model_name_or_path', 'starter', '--device', 'cpu', '--adapter', join(folder, 'spam'), '--format', 'adapter', '--zip', '--plugin_name', 'Spam filter', '--output_dir', join(folder, 'zip'))
  const [zip] = (await readdir(join(folder, 'zip'))).filter((name) => name.endsWith('.zip'))
  const files = { 'spam.zip': await readFile(join(folder, 'zip', zip)) }
  for (const name of await readdir(join(folder, 'words'))) if (/\.(json|yaml|safetensors)$/.test(name)) files[`words/${name}`] = await readFile(join(folder, 'words', name))
  return files
}

test('plugins of the command in a page of another folder: the same answers, each by itself', { ...LONG, skip: NO_PADDOCK }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'paddock-module-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const files = await trained(folder)
  const native = { spam: await answer(join(folder, 'spam'), SENTENCE), words: await answer(join(folder, 'words'), PROMPT, '--max_new_tokens', '8') }
  const page = await elsewhere(t, files)

  const opened = await page.evaluate(async () => {
    const seen = []
    window.paddock = await Paddock.open({ base: 'starter', device: 'cpu', onProgress: (progress) => seen.push(progress) })
    const spam = await paddock.addPlugin('spam.zip', { onProgress: (progress) => seen.push(progress) })
    const words = await paddock.addPlugin('words/')
    return { seen, spam, words, model: paddock.model(), devices: paddock.environment().devices.map(({ id }) => id), ids: paddock.plugins().map(({ id }) => id) }
  })
  assert.deepEqual([opened.model.name, opened.ids], ['starter', ['spam-filter', 'words']])
  assert.ok(opened.devices.includes('cpu'))
  assert.deepEqual([opened.spam.id, opened.spam.name, opened.spam.labels, opened.spam.generates, opened.words.generates], ['spam-filter', 'Spam filter', ['ham', 'spam'], false, true])
  for (const phase of ['starting', 'fetching', 'loading_weights']) assert.ok(opened.seen.some((progress) => progress.phase === phase), phase)

  await t.test('labels, scores and texts are those of the command, whoever was asked before', async () => {
    const ask = (text, options) => page.evaluate(([text, options]) => paddock.predict(text, options), [text, options])
    const first = await ask(SENTENCE, { plugin: 'spam-filter' })
    assert.equal(first.label, native.spam.label)
    near(first.scores, native.spam.scores)
    const words = await ask(PROMPT, { plugin: 'words', max_new_tokens: 8 })
    assert.deepEqual([words.text, words.plugin], [native.words.label, 'words'])
    assert.ok(words.completion_tokens > 0 && ['stop', 'length'].includes(words.finish_reason))
    const again = await ask([SENTENCE, 'Hello.', SENTENCE], { plugin: 'spam-filter' })
    assert.deepEqual([again[0].label, again[2].label, again.length], [first.label, first.label, 3])
    near(again[0].scores, Object.fromEntries(first.scores))
  })

  await t.test('a stream is the text in pieces, several at once wait for each other', async () => {
    const streamed = await page.evaluate(async (text) => {
      const follow = async (plugin) => {
        const pieces = []
        const stream = paddock.stream(text, { plugin, max_new_tokens: 8 })
        let next
        while (!(next = await stream.next()).done) pieces.push(next.value)
        return { pieces, text: next.value.text }
      }
      return Promise.all(['words', 'spam-filter', null, 'words'].map(follow))
    }, PROMPT)
    for (const { pieces, text } of streamed) assert.equal(pieces.join(''), text)
    assert.ok(streamed[0].pieces.length > 1, JSON.stringify(streamed[0]))
    assert.equal(streamed[0].text, native.words.label)
    assert.equal(streamed[3].text, streamed[0].text)
    assert.equal(streamed[1].pieces.length, 1)
  })

  await t.test('files that are no plugin are refused with advice, and nothing changes', async () => {
    const zip = [...files['spam.zip'].subarray(0, 5000)]
    const bad = await page.evaluate(async (zip) => ({
      cut: await told(paddock.addPlugin(new File([new Uint8Array(zip)], 'broken.zip'))),
      other: await told(paddock.addPlugin([new File(['{}'], 'notes.json')])),
      missing: await told(paddock.addPlugin('nowhere/')),
      unknown: await told(paddock.predict('x', { plugin: 'nobody' })),
      plugins: paddock.plugins().length,
    }), zip)
    for (const [what, says] of Object.entries({ cut: /broken\.zip/, other: /adapter_config\.json is missing/, missing: /nowhere\/adapter_config\.json: HTTP 404/, unknown: /no plugin `nobody`.*`spam-filter`/ })) {
      assert.ok(bad[what].ours && bad[what].advice, JSON.stringify(bad[what]))
      assert.match(bad[what].message, says)
    }
    assert.equal(bad.plugins, 2)
  })

  await t.test('one that is added again is told by its own name, one that is removed is gone', async () => {
    const { again, ids, left, gone } = await page.evaluate(async () => {
      const again = (await paddock.addPlugin('spam.zip')).id
      const ids = paddock.plugins().map(({ id }) => id)
      await paddock.removePlugin('words')
      return { again, ids, left: paddock.plugins().map(({ id }) => id), gone: await told(paddock.predict('x', { plugin: 'words' })) }
    })
    assert.deepEqual([again, ids, left], ['spam-filter', ['words', 'spam-filter'], ['spam-filter']])
    assert.match(gone.message, /no plugin `words`/)
  })

  await t.test('closing ends the worker and what waits', async () => {
    const [running, after] = await page.evaluate(async () => {
      const running = told(paddock.predict('x'))
      paddock.close()
      return [await running, await told(paddock.predict('x'))]
    })
    for (const one of [running, after]) assert.match(one.message, /closed/)
    await ended(page)
  })

  await t.test('the example page answers with the same zip', async () => {
    await page.goto(new URL('/examples/web/', page.url()).href)
    const file = page.locator('#file')
    await page.locator('#status', { hasText: 'choose a plugin' }).waitFor({ timeout: 60_000 })
    await file.setInputFiles({ name: 'broken.zip', mimeType: 'application/zip', buffer: files['spam.zip'].subarray(0, 5000) })
    await page.locator('#trouble', { hasText: 'broken.zip' }).waitFor()
    await file.setInputFiles({ name: 'spam.zip', mimeType: 'application/zip', buffer: files['spam.zip'] })
    await page.locator('#ask:enabled').waitFor({ timeout: 60_000 })
    await page.locator('#text').fill(SENTENCE)
    await page.locator('#ask').click()
    await page.locator('#answer', { hasText: native.spam.label }).waitFor()
    const rows = await page.locator('#scores tr').allTextContents()
    assert.deepEqual(rows.map((row) => row.replace(/[\d.]+ %/, '')), ['ham', 'spam'])
    await shot(page, 'example-web')
    await page.emulateMedia({ colorScheme: 'dark' })
    await shot(page, 'example-web-dark')
  })
  // What a folder may have and has not is asked for all the same.
  page.faults = page.faults.filter((fault) => !/Failed to load resource.*404/.test(fault))
})

test('the base by itself, an answer that is aborted, and an engine that dies', LONG, async (t) => {
  const page = await elsewhere(t)
  const base = new URL('/starter/', page.url()).href
  const { name, alone, cut, after, waiting } = await page.evaluate(async ([base, text]) => {
    window.paddock = await Paddock.open({ base, device: 'cpu' })
    const alone = await paddock.predict(text, { max_new_tokens: 4 })
    const stop = new AbortController()
    const never = new AbortController()
    const cut = told(paddock.predict(text, { max_new_tokens: 100, signal: stop.signal, onText: () => stop.abort() }))
    const waiting = told(paddock.predict(text, { signal: never.signal }))
    never.abort()
    const after = await paddock.predict(text, { max_new_tokens: 4 })
    return { name: paddock.model().name, alone, cut: await cut, after, waiting: await waiting }
  }, [base, PROMPT])
  assert.equal(name, 'starter')
  assert.match(alone.text, /States/)
  assert.deepEqual([cut.name, waiting.name, cut.ours], ['AbortError', 'AbortError', false])
  assert.equal(after.text, alone.text)
  assert.equal(alone.plugin, null)

  const [engine] = engines(page)
  await engine.evaluate(() => self.close()).catch(() => {})
  const dead = await page.evaluate(async () => {
    const both = [told(paddock.predict('x')), told(paddock.addPlugin(new File(['x'], 'x.zip')))]
    return [...(await Promise.all(both)), await told(paddock.predict('x'))]
  })
  for (const one of dead) {
    assert.ok(one.ours && /Paddock\.open/.test(one.advice), JSON.stringify(one))
    assert.match(one.message, /The engine stopped: the worker was ended by the browser/)
  }

  await t.test('a base that is none ends with its worker', async () => {
    const bad = await page.evaluate(async () => [
      await told(Paddock.open({ base: '/starter/model.safetensors' })),
      await told(Paddock.open({ base: '/nowhere/' })),
      await told(Paddock.open({ base: [new File(['{"model_type": "bert"}'], 'config.json'), new File(['{}'], 'tokenizer.json')] })),
    ])
    for (const [i, says] of [/is one file/, /nowhere\/config\.json: HTTP 404/, /bert/i].entries()) {
      assert.ok(bad[i].ours && bad[i].advice, JSON.stringify(bad[i]))
      assert.match(bad[i].message, says)
    }
    await ended(page)
  })

  await t.test('a module of another site says what to do', async (t) => {
    const other = await serve(DIST, 0, (_request, response) => {
      response.setHeader('access-control-allow-origin', '*')
      return false
    })
    t.after(() => other.close())
    const refused = await page.evaluate(async (url) => {
      const { Paddock } = await import(`${url}paddock.js`)
      return Paddock.open().catch(({ name, message, advice }) => ({ name, message, advice }))
    }, other.url)
    assert.equal(refused.name, 'PaddockError')
    assert.ok(refused.message.includes(new URL(other.url).origin) && refused.message.includes(new URL(page.url()).origin), refused.message)
    assert.match(refused.advice, /own site/)
  })
  page.faults = page.faults.filter((fault) => !/Failed to load resource.*404/.test(fault))
})
