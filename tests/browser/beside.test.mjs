// What comes beside a model and a table, over the fake engine: held-out rows, numbers for labels, adapters, YAML.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { open } from './fake.mjs'
import { at, chooseData, classify, drop, events, failure, fill, go, mapColumns, messages, named, openStarter, record, reviews, sent, train, valueOf } from './steps.mjs'

/** Waits until the page has asked for the plan of such a configuration. */
async function planned(page, fits) {
  for (let left = 100; left > 0; left -= 1) {
    const config = (await sent(page, 'check'))?.config
    if (config && fits(config)) return
    await page.waitForTimeout(100)
  }
  assert.fail(`${fits} never of ${JSON.stringify((await sent(page, 'check'))?.config)}`)
}

test('held-out rows of their own take the place of the split', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await chooseData(page, 'mail.csv', messages(60))
  await mapColumns(page, 'message', 'kind')
  await fill(page, { validation_split: '0.3' })
  await planned(page, (it) => it.data.validation_split === 0.3)

  await go(page, 'data')
  await at(page, 'held-out-input').setInputFiles(named('empty.csv', ''))
  await failure(page).filter({ hasText: 'empty.csv: the file is empty' }).waitFor()
  assert.equal(await at(page, 'data-rows').textContent(), '60', 'the training file stays')
  await at(page, 'held-out-input').setInputFiles(named('held.csv', messages(25)))
  await at(page, 'held-out-rows').filter({ hasText: '25' }).waitFor()
  assert.deepEqual((await sent(page, 'open_data')).files, ['mail.csv', 'held.csv'])
  assert.equal(await failure(page).count(), 0)
  assert.equal(await at(page, 'label-column').inputValue(), 'kind', 'the mapping stays')

  await go(page, 'settings')
  await at(page, 'field-validation_split').waitFor({ state: 'hidden' })
  assert.equal(await at(page, 'held-out-file').textContent(), 'held.csv')
  await planned(page, (it) => it.data.validation_file === 'held.csv' && !('validation_split' in it.data))
  await at(page, 'plan-rows').filter({ hasText: '60' }).waitFor()

  // Another column is missing there, which is said before the engine has to.
  await go(page, 'data')
  await at(page, 'held-out-input').setInputFiles(named('other.csv', 'message,sort\na,ham\nb,spam\n'))
  await at(page, 'held-out').filter({ hasText: 'no column kind' }).waitFor()
  await at(page, 'held-out-remove').click()
  await at(page, 'held-out-rows').waitFor({ state: 'detached' })
  assert.deepEqual((await sent(page, 'open_data')).files, ['mail.csv'])
  await go(page, 'settings')
  assert.equal(await at(page, 'field-validation_split').inputValue(), '0.3', 'the share comes back')

  // A new table has nothing to do with the old one's held-out rows.
  await go(page, 'data')
  await drop(page, at(page, 'held-out'), 'held.csv', messages(25))
  await at(page, 'held-out-rows').waitFor()
  await chooseData(page, 'more.csv', messages(30))
  await at(page, 'data-rows').filter({ hasText: '30' }).waitFor()
  assert.equal(await at(page, 'held-out-rows').count(), 0)
})

test('a crash takes no file away, the held-out one neither', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await chooseData(page, 'mail.csv', messages(40).replace('message,kind', 'text,label'))
  await at(page, 'held-out-input').setInputFiles(named('held.csv', messages(20).replace('message,kind', 'text,label')))
  await at(page, 'held-out-rows').waitFor()
  await fill(page, { learning_rate: 666 })
  await at(page, 'plan').waitFor()
  await at(page, 'start').click()
  await page.getByTestId('restart').click()
  await page.getByTestId('step-data').filter({ hasText: '40 rows' }).waitFor()
  await go(page, 'data')
  await at(page, 'held-out-rows').filter({ hasText: '20' }).waitFor()
  page.faults.length = 0
})

test('a column of numbers can be learned as a number', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await chooseData(page, 'reviews.csv', reviews(60))
  // Sixty different numbers are no classes, and the page says so by the column's name.
  await at(page, 'target-reason').filter({ hasText: 'score' }).waitFor()
  await at(page, 'target-number').and(page.locator(':checked')).waitFor()
  await fill(page, { max_steps: 20 })
  await planned(page, (it) => it.model.num_labels === 1)
  await at(page, 'plan').filter({ hasText: 'A number' }).waitFor()
  await train(page)
  await at(page, 'accuracy-value').waitFor({ state: 'hidden' })
  await at(page, 'accuracy-chart').waitFor({ state: 'hidden' })
  await at(page, 'see-result').click()
  assert.ok((await valueOf(page, 'after-mse')) < (await valueOf(page, 'before-mse')))
  assert.match(await at(page, 'headline').textContent(), /Mean squared error.*9\.41.*1\.21.*off by about 1\.10/)
  assert.match(await at(page, 'samples').textContent(), /off by 1\.1/)
  assert.equal((await classify(page, 'The plot is fine.')).label, '3.25')
  assert.equal(await at(page, 'prediction-scores').locator('.bar-row').count(), 0, 'a number has no probabilities')

  // Few numbers may be either, words are classes.
  await chooseData(page, 'stars.csv', `text,label\n${[1, 2, 3, 4, 5, 1, 2, 3, 4, 5].map((stars, i) => `film ${i},${stars}`).join('\n')}\n`)
  await at(page, 'target-class').and(page.locator(':checked')).waitFor()
  assert.match(await at(page, 'label-counts').textContent(), /1.*2/)
  await at(page, 'target-number').check()
  await go(page, 'settings')
  await planned(page, (it) => it.data.train_file === 'stars.csv' && it.model.num_labels === 1)
  await go(page, 'data')
  await at(page, 'target-class').check()
  await go(page, 'settings')
  await planned(page, (it) => it.data.train_file === 'stars.csv' && !('num_labels' in it.model))
  await chooseData(page, 'mail.csv', messages(20))
  await mapColumns(page, 'message', 'kind')
  await at(page, 'target-number').waitFor({ state: 'detached' })
})

test('an adapter is opened, tried and measured without training', async (t) => {
  const page = await open(t)
  await record(page)
  await page.getByTestId('device-reason').filter({ hasText: /./ }).waitFor()
  await at(page, 'have-adapter').click()
  await at(page, 'model-first').waitFor()
  await at(page, 'use-starter').click()
  await at(page, 'adapter-drop').waitFor()

  await at(page, 'adapter-files').setInputFiles(named('weights.bin', 'x'))
  await failure(page).filter({ hasText: 'adapter_config.json' }).waitFor()
  await at(page, 'adapter-files').setInputFiles(named('other.zip', 'x'))
  await failure(page).filter({ hasText: 'tensor q_proj' }).waitFor()
  await drop(page, at(page, 'adapter-drop'), 'mail-adapter.zip', 'x')
  await at(page, 'adapter-summary').filter({ hasText: 'mail-adapter.zip' }).waitFor()
  assert.equal(await failure(page).count(), 0)
  assert.equal(await at(page, 'adapter-labels').textContent(), 'Answers with: ham · spam')
  assert.equal((await sent(page, 'open_adapter')).config.model.name_or_path, 'starter')
  assert.equal((await classify(page, 'Win free money')).label, 'spam')
  assert.ok(await at(page, 'download-adapter').isHidden(), 'what came from a file need not be taken along')
  await page.getByTestId('step-train').and(page.locator(':disabled')).waitFor() // Nothing was trained.

  await at(page, 'measure-open-data').click()
  await chooseData(page, 'mail.csv', messages(60))
  await mapColumns(page, 'message', 'kind')
  await go(page, 'result')
  await at(page, 'measure').click()
  await at(page, 'measured-accuracy').waitFor()
  const { columns } = await sent(page, 'evaluate')
  assert.deepEqual(columns, { text: 'message', label: 'kind' })
  assert.equal(await at(page, 'measured-rows').textContent(), '60')
  await at(page, 'measured-warnings').filter({ hasText: '2 rows cannot be used' }).waitFor()
  assert.ok(await at(page, 'confusion').isVisible())

  // A run takes its place, and another adapter the run's.
  await fill(page, { max_steps: 4 })
  await at(page, 'plan').waitFor()
  await train(page)
  await at(page, 'see-result').click()
  await at(page, 'headline').waitFor()
  assert.equal(await at(page, 'adapter-summary').count(), 0)
  assert.ok(await at(page, 'measure').isHidden(), 'its held-out rows were measured')
  await at(page, 'other-adapter').click()
  await at(page, 'adapter-files').setInputFiles(named('score.zip', 'x'))
  await at(page, 'adapter-summary').filter({ hasText: 'Predicts a number' }).waitFor()
  assert.equal(await at(page, 'headline').count(), 0)
  assert.equal((await classify(page, 'Quite good')).label, '3.25')
})

test('a failed adapter leaves what was trained', async (t) => {
  const page = await open(t)
  await openStarter(page)
  await chooseData(page, 'mail.csv', messages(40))
  await mapColumns(page, 'message', 'kind')
  await fill(page, { max_steps: 3 })
  await at(page, 'plan').waitFor()
  await train(page)
  await at(page, 'see-result').click()
  await at(page, 'other-adapter').click()
  await at(page, 'adapter-files').setInputFiles(named('notes.json', '{}'))
  await failure(page).filter({ hasText: 'adapter_config.json' }).waitFor()
  await at(page, 'headline').waitFor()
  assert.equal((await classify(page, 'Win free money')).label, 'spam')
})

test('an adapter among models goes where adapters go', async (t) => {
  const page = await open(t)
  await page.getByTestId('device-reason').filter({ hasText: /./ }).waitFor()
  await go(page, 'model')
  const adapter = [named('adapter_config.json', '{}'), named('adapter_model.safetensors', 'x')]
  await at(page, 'model-files').setInputFiles(adapter)
  await failure(page).filter({ hasText: 'This is an adapter' }).waitFor()
  await at(page, 'open-starter').click()
  await at(page, 'model-summary').waitFor()
  await at(page, 'model-files').setInputFiles(adapter)
  await page.locator('#panel-result').waitFor()
  await at(page, 'adapter-summary').waitFor()
})

const YAML = `task: text-classification
device: gpu
kernels: registers
model:
  name_or_path: models/tiny
  num_labels: 2
  max_seq_length: 64
data:
  train_file: /home/me/mail.csv
  text_column: message
  label_column: kind
training:
  method: full
  batch_size: 4
  learning_rate: 0.001
lora:
  r: 16
`

test('form and YAML are two views of one configuration', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await chooseData(page, 'mail.csv', messages(40))
  await fill(page, { num_epochs: '7' })
  await at(page, 'config-input').setInputFiles(named('recipe.yaml', YAML))
  await at(page, 'config-loaded').filter({ hasText: 'recipe.yaml' }).waitFor()
  const field = (key) => at(page, `field-${key}`).inputValue()
  assert.deepEqual([await field('method'), await field('batch_size'), await field('learning_rate'), await field('max_seq_length')], ['full', '4', '0.001', '64'])
  assert.equal(await field('num_epochs'), '', 'what the file leaves out is the default')
  assert.match(await at(page, 'config-loaded').textContent(), /kernels: registers.*model\.num_labels: 2/)
  assert.match(await at(page, 'config-files').textContent(), /names models\/tiny\..*starter, mail\.csv/, 'the table is the one that the file names')
  await planned(page, (it) => it.kernels === 'registers' && it.device === 'gpu' && it.model.num_labels === 2 && it.model.name_or_path === 'starter' && it.training.method === 'full' && it.lora.r === 16 && it.data.label_column === 'kind')

  // The other direction, with the form's next change in it.
  await fill(page, { batch_size: '2' })
  await at(page, 'yaml').click()
  await page.waitForFunction(() => document.querySelector('[data-testid="config-yaml"]').value.includes('batch_size: 2'))
  assert.match(await at(page, 'config-yaml').inputValue(), /kernels: registers/)
  const [download] = await Promise.all([page.waitForEvent('download'), at(page, 'download-yaml').click()])
  assert.equal(download.suggestedFilename(), 'run.yaml')
  assert.equal(await readFile(await download.path(), 'utf8'), await at(page, 'config-yaml').inputValue())

  // Edited in place.
  const shown = await at(page, 'config-yaml').inputValue()
  await at(page, 'config-yaml').fill(shown.replace('batch_size: 2', 'batch_sise: 2'))
  await at(page, 'apply-yaml').click()
  await at(page, 'config-error').filter({ hasText: /run\.yaml line \d+: unknown key `batch_sise`/ }).waitFor()
  await at(page, 'start').and(page.locator(':enabled')).waitFor() // The form is as it was.
  await at(page, 'config-yaml').fill(shown.replace('batch_size: 2', 'batch_size: 0'))
  await at(page, 'apply-yaml').click()
  await failure(page).filter({ hasText: 'training.batch_size' }).waitFor()
  await at(page, 'config-error').waitFor({ state: 'detached' })
  assert.equal(await field('batch_size'), '0')
  assert.match(await at(page, 'config-yaml').inputValue(), /batch_size: 0/, 'the text stays as long as no plan can be made of it')
  await fill(page, { batch_size: '3' })
  await page.waitForFunction(() => document.querySelector('[data-testid="config-yaml"]').value.includes('batch_size: 3'))
  await at(page, 'config-yaml').fill('nonsense')
  await at(page, 'undo-yaml').click()
  assert.match(await at(page, 'config-yaml').inputValue(), /batch_size: 3/)

  await at(page, 'reset-settings').click()
  await at(page, 'config-loaded').waitFor({ state: 'detached' })
  await planned(page, (it) => !('kernels' in it) && !('num_labels' in it.model))
})

test('a YAML file can be dropped, for regression too, and one that is none says where', async (t) => {
  const page = await open(t, { locale: 'zh-TW' })
  await record(page)
  await openStarter(page)
  await chooseData(page, 'reviews.csv', reviews(30))
  await go(page, 'settings')
  await at(page, 'plan').waitFor()
  await drop(page, page.locator('#panel-settings'), 'broken.yaml', 'training:\n  batch_size: 4\n- oops\n')
  await at(page, 'config-error').filter({ hasText: 'broken.yaml line 3' }).waitFor()
  assert.match(await at(page, 'config-error').getByTestId('engine-says').textContent(), /引擎/, 'English words are announced')
  await at(page, 'config-input').setInputFiles(named('classes.yaml', 'training:\n  batch_size: 4\n'))
  await planned(page, (it) => it.training.batch_size === 4 && !('num_labels' in it.model))
  await drop(page, page.locator('#panel-settings'), 'number.yaml', 'model:\n  num_labels: 1\n')
  await planned(page, (it) => it.model.num_labels === 1 && !('batch_size' in it.training))
  await go(page, 'data')
  await at(page, 'target-number').and(page.locator(':checked')).waitFor()
  await go(page, 'settings')
  await drop(page, page.locator('#panel-settings'), 'text.yaml', 'task: text-generation\n')
  await planned(page, (it) => it.task === 'text-generation')
  assert.equal((await events(page, 'config')).length, 3)
})

test('a phone shows all of it without sideways scrolling', async (t) => {
  const page = await open(t, { viewport: { width: 360, height: 740 }, locale: 'zh-TW' })
  const fits = async (what) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), what)
  await openStarter(page)
  await go(page, 'result')
  await at(page, 'adapter-drop').waitFor()
  await fits('opening an adapter')
  await at(page, 'adapter-files').setInputFiles(named(`${'adapter'.repeat(20)}.zip`, 'x'))
  await at(page, 'adapter-summary').waitFor()
  await chooseData(page, `${'long'.repeat(40)}.csv`, messages(40).replace('message,kind', 'text,label'))
  await at(page, 'held-out-input').setInputFiles(named(`${'held'.repeat(40)}.csv`, messages(20)))
  await at(page, 'held-out-rows').waitFor()
  await fits('held-out rows')
  await go(page, 'settings')
  await at(page, 'plan').waitFor()
  await at(page, 'config-input').setInputFiles(named(`${'recipe'.repeat(30)}.yaml`, `model:\n  name_or_path: ${'folder/'.repeat(40)}\n`))
  await at(page, 'config-loaded').waitFor()
  await at(page, 'yaml').click()
  await fits('YAML')
  await go(page, 'data')
  await at(page, 'held-out-remove').click()
  await at(page, 'held-out-rows').waitFor({ state: 'detached' })
  await go(page, 'result')
  await at(page, 'measure').click()
  await at(page, 'measured-accuracy').waitFor()
  await fits('a measurement')
})
