// What the module for other pages asks of the engine, and in which order. module.test.mjs has it in a browser, with the real one.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Engine } from '../../www/app/engine.js'
import { BASE, Paddock, aborted, asked, file, looked, opened, refused, script, thrown, workers, zip } from './scripted.mjs'

test('what is asked at once is answered in its order, one thing at a time', async (t) => {
  const paddock = await opened(t)
  assert.deepEqual(paddock.plugins(), [])
  const progress = []
  const answers = await Promise.all([
    paddock.addPlugin(zip('spam'), { name: 'Spam', onProgress: (one) => progress.push(one) }),
    paddock.predict('class it'),
    paddock.addPlugin([file('adapter_config.json')], { id: 'qa' }),
    paddock.predict('to be', { plugin: 'qa', temperature: 0.5, seed: 7, stop: ['.'], max_new_tokens: 9, fields: { context: 'c' } }),
    paddock.predict(['class a', 'or not'], { plugin: 'spam', fields: [{}, {}] }),
  ])
  const [spam, label, qa, text, several] = answers
  assert.deepEqual([spam.id, spam.name, spam.warnings, qa.id], ['spam', 'Spam', ['other weights'], 'qa'])
  assert.deepEqual(progress, [{ phase: 'loading_weights', done: 1, total: 2 }])
  assert.deepEqual(label, { text: 'spam', label: 'spam', scores: [['ham', 0.25], ['spam', 0.75]], finish_reason: null, prompt_tokens: null, completion_tokens: null, plugin: 'spam', warnings: [] })
  assert.deepEqual([text.text, text.finish_reason, text.prompt_tokens, text.completion_tokens, text.plugin], ['to be', 'stop', 3, 2, 'qa'])
  assert.deepEqual(several.map((one) => one.text), ['spam', 'or not'])
  const sent = asked.find(({ plugin }) => plugin === 'qa')
  assert.deepEqual([sent.sampling, sent.fields, sent.apply_chat_template], [{ temperature: 0.5, seed: 7, stop: ['.'], max_new_tokens: 9 }, [{ context: 'c' }], null])
  assert.deepEqual(looked(), ['add_plugin', 'predict spam', 'add_plugin qa', 'predict qa', 'predict spam'])
  const uses = () => paddock.plugins().map(({ id, uses }) => [id, uses])
  assert.deepEqual(uses(), [['spam', 3], ['qa', 1]])
  await paddock.addPlugin(zip('more'))
  assert.deepEqual(uses(), [['spam', 3], ['qa', 1], ['more', 0]], 'as the engine counts them')
  paddock.plugins()[0].id = 'changed'
  assert.equal(paddock.plugins()[0].id, 'spam')
  assert.deepEqual(await paddock.predict([], { plugin: 'spam' }), [])
})

test('who answers: the one that is named, the only one, or the base, which is opened again after a plugin or trouble', async (t) => {
  const paddock = await opened(t, { device: 'cpu', quantization: 'q4_0' })
  assert.equal((await paddock.predict('by itself')).plugin, null)
  await paddock.predict('again')
  assert.deepEqual(asked[0].config, { device: 'cpu', model: { name_or_path: 'base', quantization: 'q4_0' }, data: {}, training: {}, evaluation: {}, lora: {}, recovery: {} })
  assert.deepEqual(looked(), ['open_adapter', 'predict ', 'predict '])
  await paddock.addPlugin(zip('a'))
  assert.equal((await paddock.predict('the only one')).plugin, 'a')
  assert.equal((await paddock.predict('the base', { plugin: null })).plugin, null)
  assert.deepEqual(looked(), ['add_plugin', 'predict a', 'open_adapter', 'predict '])
  await assert.rejects(paddock.predict('fail', { plugin: null }), refused(/graphics card/))
  await paddock.predict('after trouble', { plugin: null })
  assert.deepEqual(looked(), ['predict ', 'open_adapter', 'predict '])
  await paddock.addPlugin(zip('b'))
  await assert.rejects(paddock.predict('x', { plugin: 'nobody' }), refused(/no plugin `nobody`/))
  await assert.rejects(paddock.predict('which'), refused(/which one\? There is `a`, `b`/))
  // One that takes another's place is the last.
  assert.equal((await paddock.addPlugin(zip('a'))).id, 'a')
  assert.deepEqual(paddock.plugins().map(({ id }) => id), ['b', 'a'])
  await paddock.removePlugin('a')
  assert.deepEqual(paddock.plugins().map(({ id }) => id), ['b'])
  await assert.rejects(paddock.removePlugin('a'), refused(/no plugin `a`/))
})

test('aborting ends the wait at once and the work as soon as it can be', async (t) => {
  const paddock = await opened(t)
  await paddock.addPlugin(zip('a'))
  looked()
  const first = new AbortController()
  const second = new AbortController()
  const pieces = []
  const running = paddock.predict('one two three four five six', { signal: first.signal, onText: (piece) => (pieces.push(piece), pieces.length === 2 && first.abort()) })
  const waiting = paddock.predict('never asked', { signal: second.signal })
  const after = paddock.predict('after all')
  const ended = []
  for (const [name, one] of Object.entries({ running, waiting, after })) one.catch(() => {}).then(() => ended.push(name))
  second.abort()
  await assert.rejects(waiting, aborted)
  await assert.rejects(running, aborted)
  assert.equal((await after).text, 'after all')
  assert.equal(pieces.join(''), 'one two', 'nothing is told after the end')
  await new Promise(setImmediate)
  assert.deepEqual(ended, ['waiting', 'running', 'after'])
  assert.deepEqual(looked(), ['predict a', 'stop', 'predict a'])
  await assert.rejects(paddock.predict('x', { signal: AbortSignal.abort() }), aborted)
  // One that comes when the work is over is nobody's failure.
  const late = new AbortController()
  const done = paddock.predict('class', { signal: late.signal, onText: () => late.abort() })
  const next = paddock.predict('still there')
  await assert.rejects(done, aborted)
  assert.equal((await next).text, 'still there')
  assert.deepEqual(looked(), ['predict a', 'stop', 'predict a'])
})

test('a plugin whose adding was aborted does not stay, and what it replaced does not come back', async (t) => {
  const paddock = await opened(t)
  const begun = new AbortController()
  await assert.rejects(paddock.addPlugin(zip('a'), { signal: begun.signal, onProgress: () => begun.abort() }), aborted)
  assert.deepEqual(looked(), ['add_plugin'], 'told before it is gone again')
  assert.equal((await paddock.addPlugin(zip('b'))).id, 'b')
  assert.deepEqual(paddock.plugins().map(({ id }) => id), ['b'])
  const again = new AbortController()
  await assert.rejects(paddock.addPlugin(zip('b'), { signal: again.signal, onProgress: () => again.abort() }), aborted)
  assert.equal((await paddock.predict('hello')).plugin, 'b')
})

test('a stream gives the pieces of the text, and leaving it stops the answer', async (t) => {
  const paddock = await opened(t)
  const stream = paddock.stream('to be or not')
  assert.deepEqual(looked(), [], 'nothing before the first piece')
  const pieces = []
  let next
  while (!(next = await stream.next()).done) pieces.push(next.value)
  assert.deepEqual([pieces.join(''), pieces.length, next.value.text], ['to be or not', 4, 'to be or not'])
  const whole = []
  for await (const piece of paddock.stream('class')) whole.push(piece)
  assert.deepEqual(whole, ['spam'])
  looked()
  for await (const piece of paddock.stream('a b c d e f g h')) if (piece === ' b') break
  await paddock.predict('next')
  assert.deepEqual(looked(), ['predict ', 'stop', 'open_adapter', 'predict '])
  const stop = new AbortController()
  const cut = []
  await assert.rejects(async () => {
    for await (const piece of paddock.stream('a b c d e f', { signal: stop.signal })) if (cut.push(piece) === 2) stop.abort()
  }, aborted)
  assert.deepEqual(cut, ['a', ' b'])
  await assert.rejects(paddock.stream('fail').next(), refused(/graphics card/))
  await assert.rejects(paddock.stream(['a']).next(), refused(/text: expected a text, got a list of 1/))
})

test('what a page throws in its callbacks is its own', async (t) => {
  const paddock = await opened(t)
  const broken = () => {
    throw new Error('the page')
  }
  assert.equal((await paddock.predict('a b', { onText: broken, onProgress: broken })).text, 'a b')
  assert.deepEqual(thrown.splice(0), ['the page', 'the page', 'the page'])
})

test('an engine that dies, or is closed, rejects everything that waits and comes after', async () => {
  const paddock = await Paddock.open({ base: BASE })
  const all = ['crash', 'behind it'].map((text) => paddock.predict(text))
  for (const one of all) await assert.rejects(one, refused(/The engine stopped: panicked at x\.rs/, /Paddock\.open/))
  await assert.rejects(paddock.addPlugin(zip('a')), refused(/The engine stopped/))
  paddock.close()
  await assert.rejects(paddock.predict('x'), refused(/The engine stopped/))
  assert.ok(workers.at(-1).over)

  const other = await Paddock.open({ base: BASE })
  const running = other.predict('a b c d')
  const waiting = other.addPlugin(zip('a'))
  await new Promise(setImmediate)
  other.close()
  other.close()
  for (const one of [running, waiting, other.predict('x'), other.removePlugin('x'), other.stream('x').next()]) await assert.rejects(one, refused(/closed/))
  assert.ok(workers.at(-1).over)
})

test('a worker that the browser ends says nothing, and is missed by the lock that it held', async (t) => {
  script.holds = true
  t.after(() => (script.holds = false))
  const paddock = await Paddock.open({ base: BASE })
  const running = paddock.predict('a b c')
  workers.at(-1).terminate()
  t.mock.timers.enable({ apis: ['setTimeout'] })
  script.freed()
  t.mock.timers.tick(2000)
  await assert.rejects(running, refused(/The engine stopped: the worker was ended by the browser/))

  // One that is ended on purpose frees its lock too.
  const crashes = []
  const engine = await new Promise((resolve) => {
    const engine = new Engine({ ready: () => resolve(engine), event() {}, settled() {}, crashed: (message) => crashes.push(message) })
  })
  engine.end()
  script.freed()
  t.mock.timers.tick(2000)
  assert.deepEqual(crashes, [])
})

test('a failed opening says why and leaves no worker', async () => {
  const over = () => workers.at(-1).over
  await assert.rejects(Paddock.open({ base: [file('notes.txt')] }), refused(/config\.json: none; there is notes\.txt/))
  assert.ok(over())
  await assert.rejects(Paddock.open({ base: BASE, device: 'gpu' }), refused(/no gpu here/, /no WebGPU/))
  assert.ok(over())
  script.starts = false
  await assert.rejects(Paddock.open({ base: BASE }), refused(/could not be started: worker\.js/, /paddock-web_bg\.wasm/))
  script.starts = true
  assert.ok(over())
  const stop = new AbortController()
  await assert.rejects(Paddock.open({ base: BASE, signal: stop.signal, onProgress: () => stop.abort() }), aborted)
  assert.ok(over())
  const there = workers.length
  await assert.rejects(Paddock.open({ base: BASE, signal: AbortSignal.abort() }), aborted)
  globalThis.location.origin = 'https://page.example'
  await assert.rejects(Paddock.open({ base: BASE }), refused(/module comes from null, the page from https:\/\/page\.example/, /own site/))
  globalThis.location.origin = 'null'
  assert.equal(workers.length, there)
  assert.throws(() => new Paddock(), refused(/not made with `new`/, /Paddock\.open/))
})

test('options that mean nothing are refused by name, before anything is asked', async (t) => {
  const paddock = await opened(t)
  const wrong = [
    [{ temprature: 1 }, /temprature: there is no such option/, /temperature/],
    [{ temperature: 'hot' }, /temperature: expected a number, got "hot"/],
    [{ temperature: NaN }, /temperature: expected a number, got NaN/],
    [{ max_new_tokens: 1.5 }, /max_new_tokens: expected a whole number/],
    [{ seed: -1 }, /seed: expected a whole number/],
    [{ top_k: 1n }, /top_k: expected a whole number of at least 0, got 1/],
    [{ stop: 'x' }, /stop: expected a list of texts, got "x"/],
    [{ onText: 3 }, /onText: expected a function/],
    [{ signal: {} }, /signal: expected an AbortSignal, got a Object/],
    [{ plugin: 4 }, /plugin: expected a text/],
    [{ fields: 'x' }, /fields: expected an object, got "x"/],
    [{ fields: [{}] }, /fields: there is a list of 1 for one text/],
    [{ fields: { context: 3 } }, /fields\.context: expected a text, got 3/],
    [{ __proto__: null, constructor: 1 }, /constructor: there is no such option/],
    [null, /Options: expected an object, got null/],
  ]
  for (const [options, message, advice] of wrong) await assert.rejects(paddock.predict('x', options), refused(message, advice))
  await assert.rejects(paddock.predict(7), refused(/text: expected a text, got 7/))
  await assert.rejects(paddock.predict(['a', undefined]), refused(/got undefined/))
  await assert.rejects(paddock.predict(['a', 'b'], { fields: [{}] }), refused(/a list of 1 for 2 texts/))
  await assert.rejects(paddock.addPlugin(zip('a'), { id: 5 }), refused(/id: expected a text/))
  await assert.rejects(Paddock.open({ base: BASE, device: 'tpu' }), refused(/device: expected auto or cpu or gpu, got "tpu"/))
  assert.deepEqual(looked(), [])
})

test('files that a page hands over are looked at before they are sent', async (t) => {
  const paddock = await opened(t)
  for (const [source, message] of [
    [42, /plugin: expected files, got 42/],
    [{}, /plugin: expected files, got a Object/],
    [[], /plugin: the list of files is empty/],
    [[zip('a'), new Blob(['x'])], /entry 2 of the list is no File but a Blob/],
  ]) await assert.rejects(paddock.addPlugin(source), refused(message))
  await assert.rejects(paddock.addPlugin(zip('broken')), refused(/broken\.zip is no zip/, /Do otherwise/))
  assert.equal((await paddock.addPlugin(new Blob(['x']))).id, 'plugin')
  // Of a folder that was chosen, the files directly in it.
  await opened(t, { base: [file('config.json', '{}', 'mine/config.json'), file('x.bin', '', 'mine/deep/x.bin')] }).then((other) => assert.deepEqual([other.model().name, other.model().files], ['mine', ['config.json']]))
  await opened(t, { base: file('tiny.gguf') }).then((other) => assert.deepEqual(other.model().files, ['tiny.gguf']))
})
