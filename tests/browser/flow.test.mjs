// The whole flow in a real Chromium with the real engine: `cargo xtask test` builds dist/ first.

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { DIST, adapter, openPage, shot } from './harness.mjs'
import { NO_PADDOCK, answer } from './native.mjs'
import { at, chooseData, classify, dropData, events, failure, fill, go, mapColumns, messages, named, openStarter, record, reviews, train, valueOf } from './steps.mjs'

const LONG = { timeout: 900_000 }
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length

async function starterFiles() {
  const read = async (name) => ({ name, mimeType: 'application/octet-stream', buffer: await readFile(join(DIST, 'starter', name)) })
  return Object.fromEntries(await Promise.all(['config.json', 'model.safetensors', 'tokenizer.json'].map(async (name) => [name, await read(name)])))
}

test('a person trains the starter model on a dropped CSV, compares, tries it and takes it along', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  await dropData(page, 'mail.csv', messages(200))
  await at(page, 'preview').waitFor()
  assert.equal(await at(page, 'data-rows').textContent(), '200')
  await mapColumns(page, 'message', 'kind')
  await fill(page, { num_epochs: 3, batch_size: 8, learning_rate: 0.005, max_seq_length: 48, validation_split: 0.25, logging_steps: 1, seed: 42 })
  await at(page, 'plan').waitFor()
  await shot(page, 'settings')
  await at(page, 'yaml').click()
  await page.waitForFunction(() => /seed: 42/.test(document.querySelector('[data-testid="config-yaml"]').value))
  const yaml = await at(page, 'config-yaml').inputValue()
  await train(page)
  await shot(page, 'train')

  const losses = (await events(page, 'step')).map((step) => step.loss)
  assert.ok(losses.length >= 30, `${losses.length} steps`)
  assert.ok(mean(losses.slice(-5)) < 0.6 * mean(losses.slice(0, 5)), `the loss should fall: ${losses.map((loss) => loss.toFixed(3)).join(' ')}`)
  assert.ok(Number(await at(page, 'loss-value').textContent()) > 0)
  const ids = new Set((await events(page, 'step')).map((step) => step.run))
  assert.equal(ids.size, 1)
  assert.notEqual([...ids][0], '', 'every event of a run names it')

  await at(page, 'see-result').click()
  const [before, after] = [await valueOf(page, 'before-accuracy'), await valueOf(page, 'after-accuracy')]
  const { majority } = (await events(page, 'evaluation')).at(-1).metrics
  t.diagnostic(`held-out accuracy ${before.toFixed(3)} before, ${after.toFixed(3)} after, majority ${majority.toFixed(3)}`)
  assert.ok(after > before && after > majority + 0.2, `${before} → ${after}, majority ${majority}`)

  const sentence = 'Dear friend, claim your free prize money now. Please reply today.'
  const tab = await classify(page, sentence)
  assert.equal(tab.label, 'spam')
  assert.ok(Math.abs(Object.values(tab.scores).reduce((sum, score) => sum + score, 0) - 1) < 1e-4, 'probabilities add up to 1')
  assert.equal((await classify(page, 'Hello, the meeting moved to Thursday at ten. Cheers.')).label, 'ham')
  await shot(page, 'result')

  const [download] = await Promise.all([page.waitForEvent('download'), at(page, 'download-adapter').click()])
  const folder = await mkdtemp(join(tmpdir(), 'paddock-flow-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const zip = join(folder, download.suggestedFilename())
  await download.saveAs(zip)
  const bytes = await readFile(zip)
  assert.equal(bytes.subarray(0, 2).toString(), 'PK')
  for (const name of ['adapter_config.json', 'adapter_model.safetensors']) assert.ok(bytes.includes(name), `the zip holds ${name}`)

  await t.test('the native command gives the same answer', { skip: NO_PADDOCK }, async () => {
    const { label, scores } = await answer(zip, sentence)
    assert.equal(label, tab.label)
    for (const [label, score] of Object.entries(tab.scores)) assert.ok(Math.abs(scores[label] - score) < 1e-3, `${label}: ${score} in the tab, ${scores[label]} natively`)
  })

  await t.test('the zip gives the same answers in a new tab, without training', async () => {
    await page.reload()
    await openStarter(page, 'cpu')
    await at(page, 'use-adapter').click()
    await at(page, 'adapter-files').setInputFiles(named('notes.json', '{}'))
    await failure(page).filter({ hasText: 'adapter_config.json is missing' }).waitFor()
    await at(page, 'adapter-files').setInputFiles(named('broken.zip', bytes.subarray(0, 5000)))
    await failure(page).filter({ hasText: 'broken.zip' }).waitFor()
    await at(page, 'adapter-files').setInputFiles(zip)
    await at(page, 'adapter-labels').filter({ hasText: 'ham · spam' }).waitFor({ timeout: 60_000 })
    const again = await classify(page, sentence)
    assert.equal(again.label, tab.label)
    for (const [label, score] of Object.entries(tab.scores)) assert.ok(Math.abs(again.scores[label] - score) < 1e-5, `${label}: ${score}, then ${again.scores[label]}`)
    // Other names for the columns than the run had: the mapping of now counts.
    await chooseData(page, 'later.csv', messages(60).replace('message,kind', 'body,sort'))
    await mapColumns(page, 'body', 'sort')
    await go(page, 'result')
    await at(page, 'measure').click()
    await at(page, 'measured-accuracy').waitFor({ timeout: 120_000 })
    const { rows, metrics } = (await events(page, 'evaluation')).at(-1)
    assert.equal(rows, 60)
    assert.ok(metrics.accuracy > 0.9, `${metrics.accuracy}`)
    await shot(page, 'measured')
  })

  await t.test("the run's YAML fills the form again", async () => {
    await chooseData(page, 'mail.csv', messages(200))
    await go(page, 'settings')
    await at(page, 'config-input').setInputFiles(named('run.yaml', yaml))
    await at(page, 'config-loaded').waitFor()
    const field = (key) => at(page, `field-${key}`).inputValue()
    assert.deepEqual([await field('learning_rate'), await field('max_seq_length'), await field('validation_split'), await field('lr_scheduler_type')], ['0.005', '48', '0.25', 'linear'])
    await at(page, 'yaml').click()
    await page.waitForFunction((yaml) => document.querySelector('[data-testid="config-yaml"]').value === yaml, yaml)
    await at(page, 'config-input').setInputFiles(named('odd.yaml', 'training:\n  batch_size: 4\n  learning_rat: 1\n'))
    await at(page, 'config-error').filter({ hasText: 'odd.yaml line 3: unknown key `learning_rat`' }).waitFor()
    await at(page, 'config-error').filter({ hasText: 'Did you mean `learning_rate`?' }).waitFor()
    await at(page, 'config-input').setInputFiles(named('huge.yaml', 'training:\n  seed: 18446744073709551615\n'))
    await at(page, 'config-error').filter({ hasText: '18446744073709551615' }).waitFor()
  })
})

test('a number is learned, measured on rows of a second file', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  await chooseData(page, 'reviews.csv', reviews(160))
  await at(page, 'target-reason').filter({ hasText: 'score' }).waitFor()
  await at(page, 'held-out-input').setInputFiles(named('held.csv', reviews(40, 1000)))
  await at(page, 'held-out-rows').waitFor()
  await fill(page, { num_epochs: 2, batch_size: 8, learning_rate: 0.005, max_seq_length: 32, logging_steps: 1 })
  await at(page, 'plan').filter({ hasText: 'A number' }).waitFor()
  await train(page)
  const plan = (await events(page, 'plan')).at(-1)
  assert.deepEqual([plan.train_rows, plan.validation_rows, plan.labels], [160, 40, []])
  await at(page, 'see-result').click()
  await shot(page, 'number')
  const [before, after] = [await valueOf(page, 'before-mse'), await valueOf(page, 'after-mse')]
  t.diagnostic(`mean squared error ${before.toFixed(2)} before, ${after.toFixed(2)} after`)
  // Always answering the mean would give the variance, 11.8.
  assert.ok(after < 6 && after < before, `${before} → ${after}`)
  const [poor, fine] = [await classify(page, 'The music, seen on day 7, is dreadful.'), await classify(page, 'The music, seen on day 7, is splendid.')]
  assert.ok(Number(fine.label) > Number(poor.label) + 2, `${poor.label}, ${fine.label}`)
})

test('the starter model learns the sample', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  await go(page, 'data')
  await at(page, 'use-sample').click()
  await at(page, 'preview').waitFor()
  assert.match(await at(page, 'label-counts').textContent(), /ham.*spam|spam.*ham/)
  assert.equal(await at(page, 'text-column').inputValue(), 'text')
  assert.equal(await at(page, 'label-column').inputValue(), 'label')
  await fill(page, { num_epochs: 2, max_train_samples: 400, max_eval_samples: 100, max_seq_length: 96, batch_size: 8, learning_rate: 0.003 })
  await at(page, 'plan').waitFor()
  await train(page, 840_000)
  await at(page, 'see-result').click()
  await shot(page, 'sample-result')
  const [before, after] = [await valueOf(page, 'before-accuracy'), await valueOf(page, 'after-accuracy')]
  const { majority } = (await events(page, 'evaluation')).at(-1).metrics
  t.diagnostic(`held-out accuracy ${before.toFixed(3)} before, ${after.toFixed(3)} after, majority ${majority.toFixed(3)}`)
  assert.ok(after >= before + 0.1 && after >= majority + 0.1, `${before} → ${after}, majority ${majority}`)
})

test('pause, resume and stop take effect between steps, and what was trained can be used', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  await chooseData(page, 'mail.csv', messages(80))
  await mapColumns(page, 'message', 'kind')
  await fill(page, { num_epochs: 50, batch_size: 4, max_seq_length: 32, max_eval_samples: 8, logging_steps: 1 })
  await at(page, 'plan').waitFor()
  await at(page, 'start').click()
  await at(page, 'loss-value').filter({ hasText: /\d/ }).waitFor({ timeout: 120_000 })
  await at(page, 'pause').click()
  await at(page, 'resume').waitFor()
  const paused = (await events(page, 'step')).length
  await page.waitForTimeout(1500)
  assert.equal((await events(page, 'step')).length, paused)
  await at(page, 'resume').click()
  await page.waitForFunction((n) => window.recorded.filter((event) => event.type === 'step').length > n, paused)
  await at(page, 'stop').click()
  await at(page, 'see-result').waitFor({ timeout: 120_000 })
  const [finished] = await events(page, 'finished')
  assert.equal(finished.completed, false)
  await at(page, 'see-result').click()
  assert.ok((await classify(page, 'Hello, thank you for the patch, it works. Thanks.')).label)
})

test('a language model answers without any training', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page)
  await at(page, 'use-adapter').click()
  await at(page, 'use-model').click()
  await page.locator('#try-text').fill('The President of the United')
  await at(page, 'classify').click()
  await at(page, 'prediction-label').filter({ hasText: /States/ }).waitFor({ timeout: 120_000 })
  await shot(page, 'answer')
})

test('bad models and tables get a clear error, and the page goes on', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await page.getByTestId('device-reason').filter({ hasText: /./ }).waitFor()
  await page.getByTestId('device-cpu').check()
  const good = await starterFiles()
  const named = (name, buffer) => ({ name, mimeType: 'application/octet-stream', buffer: Buffer.from(buffer) })
  const other = { ...JSON.parse(good['config.json'].buffer.toString()), architectures: ['BertForMaskedLM'], model_type: 'bert' }
  const huge = Buffer.alloc(64)
  huge.writeBigUInt64LE(2n ** 60n)
  const models = [
    ['no config', { 'config.json': null }, /config\.json/],
    ['another architecture', { 'config.json': named('config.json', JSON.stringify(other)) }, /bert/i],
    ['a broken config', { 'config.json': named('config.json', '{"hidden_size": ') }, /config\.json/],
    ['cut-off weights', { 'model.safetensors': named('model.safetensors', good['model.safetensors'].buffer.subarray(0, 50_000)) }, /model\.safetensors/],
    ['a header of 2^60 bytes', { 'model.safetensors': named('model.safetensors', huge) }, /model\.safetensors/],
    ['an empty tokenizer', { 'tokenizer.json': named('tokenizer.json', '') }, /tokenizer\.json/],
  ]
  await go(page, 'model')
  for (const [what, change, says] of models) {
    await at(page, 'model-files').setInputFiles(Object.values({ ...good, ...change }).filter(Boolean))
    await failure(page).filter({ hasText: says }).waitFor({ timeout: 30_000 }).catch((error) => assert.fail(`${what}: ${error.message}`))
    await at(page, 'model-files').setInputFiles(Object.values(good))
    await failure(page).waitFor({ state: 'detached' })
    await at(page, 'model-summary').waitFor()
  }

  const tables = [
    ['an empty file', 'empty.csv', '', /empty\.csv/],
    ['a quote that never closes', 'broken.csv', 'text,label\n"never closed,ham\nb,spam\n', /broken\.csv/],
    ['NUL bytes', 'nul.csv', 'text,label\na\0b,ham\nc,spam\n', /nul\.csv/],
  ]
  for (const [what, name, content, says] of tables) {
    await chooseData(page, name, content)
    await failure(page).filter({ hasText: says }).waitFor({ timeout: 30_000 }).catch((error) => assert.fail(`${what}: ${error.message}`))
  }
  // 50 MB in one line: whatever the answer is, it comes. (Playwright takes that much from a file only.)
  const folder = await mkdtemp(join(tmpdir(), 'paddock-flow-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'long-line.csv'), `text,label\n${'word '.repeat(10_000_000)}`)
  const before = await page.evaluate(() => window.recorded.length)
  await at(page, 'data-input').setInputFiles(join(folder, 'long-line.csv'))
  await page.waitForFunction((n) => window.recorded.length > n, before, { timeout: 120_000 })
  // Read as Latin-1 or refused by name, never shown with wrong letters.
  await chooseData(page, 'latin.csv', Buffer.from('text,label\ncaf\xe9 cr\xe8me,ham\nna\xefve,spam\n', 'latin1'))
  await failure(page).filter({ hasText: /latin\.csv/ }).or(at(page, 'preview').filter({ hasText: 'café crème' })).first().waitFor()

  await chooseData(page, 'one.csv', 'text,label\na,ham\nb,ham\nc,ham\n')
  await mapColumns(page, 'text', 'label')
  await go(page, 'settings')
  await failure(page).filter({ hasText: /label/ }).waitFor()
  await at(page, 'start').and(page.locator(':disabled')).waitFor()

  await chooseData(page, 'mail.csv', messages(40))
  await mapColumns(page, 'message', 'kind')
  await fill(page, { batch_size: 0 })
  await failure(page).filter({ hasText: /batch_size/ }).waitFor()
  await fill(page, { batch_size: 4, learning_rate: 'NaN' })
  await page.locator('#field-learning_rate-error:visible').waitFor()
  await fill(page, { learning_rate: -1 })
  await failure(page).filter({ hasText: /learning_rate/ }).waitFor()
  await fill(page, { learning_rate: '', max_steps: 2, max_seq_length: 32, max_eval_samples: 4 })
  await at(page, 'plan').waitFor()
  await train(page)
})

test('without WebGPU the page says which browsers have it and trains on the CPU', LONG, async (t) => {
  const page = await openPage(t, { webgpu: 'off' })
  await record(page)
  assert.equal(await adapter(page), null)
  const notice = at(page, 'no-webgpu')
  await notice.waitFor()
  for (const name of ['Chrome', 'Edge', 'Safari', 'Firefox']) assert.match(await notice.textContent(), new RegExp(name))
  await openStarter(page, 'auto')
  assert.equal((await events(page, 'environment')).at(-1).chosen, 'cpu')
  await chooseData(page, 'mail.csv', messages(40))
  await mapColumns(page, 'message', 'kind')
  await fill(page, { max_steps: 2, batch_size: 4, max_seq_length: 32, max_eval_samples: 4 })
  await at(page, 'plan').waitFor()
  assert.equal((await events(page, 'plan')).at(-1).device, 'cpu')
  await train(page)
})

test('WebGPU and CPU begin with the same losses', LONG, async (t) => {
  const page = await openPage(t)
  assert.ok(await adapter(page), 'Chromium has no WebGPU adapter')
  await record(page)
  const losses = {}
  for (const device of ['cpu', 'gpu']) {
    await page.reload()
    await openStarter(page, device)
    await chooseData(page, 'mail.csv', messages(40))
    await mapColumns(page, 'message', 'kind')
    await fill(page, { max_steps: 2, batch_size: 2, max_seq_length: 32, max_eval_samples: 4, logging_steps: 1, lora_dropout: 0, seed: 7 })
    await at(page, 'plan').waitFor()
    await train(page, 420_000)
    assert.equal((await events(page, 'plan')).at(-1).device, device)
    losses[device] = (await events(page, 'step')).map((step) => step.loss)
    t.diagnostic(`${device}: ${losses[device].join(' ')}`)
  }
  assert.equal(losses.cpu.length, 2)
  losses.cpu.forEach((loss, i) => assert.ok(Math.abs(loss - losses.gpu[i]) < 1e-3, `step ${i + 1}: ${loss} on the CPU, ${losses.gpu[i]} on WebGPU`))
})
