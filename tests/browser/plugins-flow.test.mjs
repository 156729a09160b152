// Plugins with the real engine: two tasks on one base in the tab, their packages in the native command, and the other way.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { openPage, shot } from './harness.mjs'
import { NO_PADDOCK, PROGRAM } from './native.mjs'
import { at, chooseData, classify, events, fill, go, messages, openStarter, record, sent, train } from './steps.mjs'

const LONG = { timeout: 900_000 }
const SMALL = { max_steps: 12, batch_size: 8, learning_rate: 0.005, max_seq_length: 32, max_eval_samples: 8 }
const COLOURS = ['blue', 'green', 'gold', 'black']
const MAIL = 'Dear friend, claim your free prize money now. Please reply today.'

const mails = messages(60).replace('message,kind', 'text,label')
const ships = JSON.stringify(Array.from({ length: 24 }, (_, i) => ({ question: `What colour is ship ${i}?`, context: `Ship ${i} is ${COLOURS[i % 4]}.`, answer: COLOURS[i % 4] })))

/** Trains on a file and keeps the model under a name. */
async function learn(page, file, content, settings, name, id) {
  await chooseData(page, file, content)
  await at(page, 'preview').waitFor()
  await fill(page, settings)
  await at(page, 'plan').waitFor()
  await train(page)
  await at(page, 'see-result').click()
  await at(page, 'plugin-name').fill(name)
  await at(page, 'keep-plugin').click()
  await at(page, `plugin-${id}`).filter({ hasText: 'stays here' }).waitFor()
}

const use = async (page, id) => {
  await at(page, `use-${id}`).click()
  await page.locator(`section.panel:not([hidden]) [data-testid="use-${id}"][aria-pressed="true"]:not([aria-disabled])`).waitFor()
}

/** What the page shows may be cut; the event has all of it. */
const answer = async (page) => (await events(page, 'prediction')).at(-1)

async function ask(page) {
  await at(page, 'try-text').fill('What colour is the ship?')
  await at(page, 'try-context').fill('The ship is gold.')
  const before = (await events(page, 'prediction')).length
  await at(page, 'classify').click()
  await page.waitForFunction((n) => window.recorded.filter(({ type }) => type === 'prediction').length > n, before, { timeout: 120_000 })
  await at(page, 'prediction-label').waitFor()
  return (await answer(page)).label
}

async function same(page, scores, most, what) {
  const now = (await classify(page, MAIL)).scores
  for (const [label, score] of Object.entries(scores)) assert.ok(Math.abs(now[label] - score) < most, `${what}: ${label} ${score}, then ${now[label]}`)
}

test('two tasks share a base in the tab, and packages go both ways', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  await learn(page, 'mail.csv', mails, SMALL, 'Mail sorter', 'mail-sorter')
  const { scores } = await classify(page, MAIL)
  await learn(page, 'ships.json', ships, { ...SMALL, max_steps: 4, batch_size: 4, max_seq_length: 48, max_generated_samples: 2, max_new_tokens: 4 }, 'Ship facts', 'ship-facts')
  assert.deepEqual((await events(page, 'plugins')).at(-1).plugins.map(({ id, task, generates }) => [id, task, generates]), [
    ['mail-sorter', 'text-classification', false],
    ['ship-facts', 'question-answering', true],
  ])

  const said = await ask(page)
  assert.deepEqual([(await sent(page, 'predict')).plugin, (await sent(page, 'predict')).fields], ['ship-facts', [{ context: 'The ship is gold.' }]])
  await use(page, 'mail-sorter')
  await same(page, scores, 1e-6, 'beside another plugin')
  await use(page, 'ship-facts')
  assert.equal(await ask(page), said)
  await at(page, 'plugin-ship-facts').filter({ hasText: 'asked 2 times' }).waitFor()
  await shot(page, 'plugins-flow')

  const folder = await mkdtemp(join(tmpdir(), 'paddock-plugins-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const zip = join(folder, 'mail-sorter.zip')
  const [download] = await Promise.all([page.waitForEvent('download'), at(page, 'download-mail-sorter').click()])
  assert.equal(download.suggestedFilename(), 'mail-sorter.zip')
  await download.saveAs(zip)

  await t.test('a new tab has them again, and answers as before', async () => {
    await page.reload()
    await openStarter(page, 'cpu')
    await go(page, 'result')
    await at(page, 'load-all').click()
    await at(page, 'plugin-ship-facts').waitFor({ timeout: 60_000 })
    await use(page, 'mail-sorter')
    await same(page, scores, 1e-5, 'after a reload')
    await use(page, 'ship-facts')
    assert.equal(await ask(page), said)
  })

  const program = NO_PADDOCK ? null : PROGRAM
  const skip = program ? false : 'no paddock program: cargo build --release -p paddock, or set PADDOCK_BIN'
  const run = async (...args) => (await promisify(execFile)(program, [...args, '--log-format', 'json', '--device', 'cpu', '--model_name_or_path', 'starter'])).stdout
  /** The native command's scores of the mail. */
  const natively = async (adapter) => {
    const out = await run('predict', '--adapter', adapter, '--text', MAIL)
    const line = out.split('\n').filter(Boolean).map((line) => JSON.parse(line)).find((line) => line.label !== undefined)
    assert.ok(line, out)
    return Array.isArray(line.scores) ? Object.fromEntries(line.scores) : line.scores
  }

  await t.test('the package of the tab answers the same natively', { skip }, async () => {
    const native = await natively(zip)
    for (const [label, score] of Object.entries(scores)) assert.ok(Math.abs(native[label] - score) < 1e-3, `${label}: ${score} in the tab, ${native[label]} natively`)
  })

  await t.test('a package that was made natively answers the same in the tab', { skip }, async () => {
    const data = join(folder, 'mail.csv')
    await writeFile(data, mails)
    const out = join(folder, 'native')
    const settings = ['--max_steps', '8', '--batch_size', '8', '--learning_rate', '0.01', '--max_seq_length', '32', '--max_eval_samples', '8', '--seed', '7', '--save_steps', '0']
    await run('train', '--train_file', data, ...settings, '--output_dir', out, '--plugin_name', 'Native sorter')
    const native = await natively(out)
    // As a person would take the folder: what is no file of the adapter goes along.
    const files = (await readdir(out, { withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name }) => join(out, name))
    await at(page, 'plugin-files').setInputFiles(files)
    const added = page.locator('section.panel:not([hidden]) [data-testid^="plugin-"]', { hasText: 'Native sorter' }).locator('h4')
    await added.waitFor({ timeout: 60_000 })
    const { id } = (await events(page, 'plugins')).at(-1).plugins.at(-1)
    await use(page, id)
    await same(page, native, 1e-3, 'made natively')
    assert.notDeepEqual(native, scores, 'it is another one')
  })
})
