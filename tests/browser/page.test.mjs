// The page and its worker over a fake engine: everything but the training itself, in seconds and without wasm.

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { open, site } from './fake.mjs'
import { ROOT, openPage } from './harness.mjs'
import { at, chooseData, classify, dropData, events, failure, fill, go, mapColumns, messages, openStarter, record, sent, train, valueOf } from './steps.mjs'

test('from machine to result, with a pause in between', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await dropData(page, 'mail.csv', messages(60))
  assert.match(await at(page, 'data-input').getAttribute('accept'), /\.csv,.*\.parquet/)
  assert.equal(await at(page, 'data-rows').textContent(), '60')
  await at(page, 'next-data').and(page.locator(':disabled')).waitFor() // No columns are mapped yet.
  await mapColumns(page, 'message', 'kind')
  assert.match(await at(page, 'label-counts').textContent(), /ham.*36.*spam.*24/)
  await at(page, 'next-data').click()
  await at(page, 'plan').waitFor()
  assert.equal(await at(page, 'field-batch_size').getAttribute('placeholder'), 'Default: 8', 'defaults come from the plan')
  assert.equal(await at(page, 'plan-precision').textContent(), '32 bits')
  await fill(page, { max_steps: 40, method: 'full' })
  await at(page, 'field-r').waitFor({ state: 'hidden' })
  await fill(page, { method: 'lora' })

  await at(page, 'start').click()
  await at(page, 'loss-value').filter({ hasText: /\d/ }).waitFor()
  await at(page, 'pause').press('Enter')
  await at(page, 'resume').waitFor()
  const paused = (await events(page, 'step')).length
  assert.ok(paused < 40)
  await page.waitForTimeout(300)
  assert.equal((await events(page, 'step')).length, paused, 'a paused run takes no step')
  assert.ok(await at(page, 'resume').evaluate((button) => button === document.activeElement), 'the keyboard stays on the button')
  await at(page, 'resume').click()
  await at(page, 'see-result').click()

  assert.ok((await valueOf(page, 'after-accuracy')) > (await valueOf(page, 'before-accuracy')))
  assert.equal((await classify(page, 'Win free money')).label, 'spam')
  assert.equal((await classify(page, "It's the minutes of Thursday")).label, 'ham')
  const [download] = await Promise.all([page.waitForEvent('download'), at(page, 'download-adapter').click()])
  assert.equal((await readFile(await download.path())).length, 22)
  assert.match(await at(page, 'native-command').textContent(), /--adapter adapter\.zip .*--text 'It'\\''s the minutes of Thursday'/s)

  const sent = (await events(page, 'plan')).at(-1).config_yaml
  assert.match(sent, /train_file: mail.csv/)
  assert.match(sent, /label_column: kind/)
})

test('a model folder from the dialog: its own files, not those of its folders', async (t) => {
  const page = await open(t)
  const folder = join(await mkdtemp(join(tmpdir(), 'paddock-model-')), 'my-llama')
  t.after(() => rm(join(folder, '..'), { recursive: true, force: true }))
  await mkdir(join(folder, 'checkpoint-1'), { recursive: true })
  await writeFile(join(folder, 'checkpoint-1', 'config.json'), '{}')
  await go(page, 'model')
  await at(page, 'model-folder').setInputFiles(folder)
  await failure(page).filter({ hasText: 'my-llama: config.json is missing' }).waitFor()
  await writeFile(join(folder, 'config.json'), '{}')
  await at(page, 'model-folder').setInputFiles(folder)
  await at(page, 'model-summary').filter({ hasText: 'my-llama' }).waitFor()
})

test('what a file holds is shown as text and never runs', async (t) => {
  const page = await open(t)
  await openStarter(page)
  const hostile = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
  const cell = `"${hostile.replaceAll('"', '""')}"`
  await chooseData(page, '<b>mail</b>.csv', `text,label,${cell}\n${cell},${cell},3\nplain,other,4\n`)
  assert.ok((await at(page, 'preview').textContent()).includes(hostile))
  await at(page, 'next-data').click()
  await at(page, 'plan').waitFor()
  await fill(page, { max_steps: 2 })
  await train(page)
  await at(page, 'see-result').click()
  await classify(page, hostile)
  assert.equal(await page.locator('#app img, #app script, #app b').count(), 0)
  assert.equal(await page.evaluate(() => window.hacked), undefined)
})

test('bad input says what and what to do, and the page goes on', async (t) => {
  const page = await open(t)
  await page.getByTestId('device-reason').filter({ hasText: /./ }).waitFor()
  await go(page, 'model')
  await at(page, 'model-files').setInputFiles({ name: 'weights.bin', mimeType: '', buffer: Buffer.from('x') })
  await failure(page).filter({ hasText: 'config.json is missing' }).waitFor()
  await at(page, 'open-starter').click()
  await at(page, 'model-summary').waitFor()
  assert.equal(await failure(page).count(), 0, 'a failure goes when its cause is gone')

  await chooseData(page, 'empty.csv', '')
  await failure(page).filter({ hasText: 'empty.csv: the file is empty' }).waitFor()
  await chooseData(page, 'broken.csv', 'text,label\n"never closed,ham\n')
  await failure(page).filter({ hasText: 'never closed' }).waitFor()
  await chooseData(page, 'one.csv', 'text,label\na,ham\nb,ham\n')
  await page.getByText('There is only one label').waitFor()
  await at(page, 'next-data').click()
  await failure(page).filter({ hasText: 'one label only' }).waitFor()
  await at(page, 'start').and(page.locator(':disabled')).waitFor()

  await chooseData(page, 'mail.csv', messages(40))
  await mapColumns(page, 'message', 'message')
  await page.getByText('cannot be the same column').waitFor()
  await mapColumns(page, 'message', 'kind')
  await fill(page, { batch_size: 0 })
  await failure(page).filter({ hasText: 'batch_size' }).waitFor()
  assert.match(await page.locator('#field-batch_size-error').textContent(), /0 rows a batch/, 'the field itself says so too')
  for (const odd of ['NaN', 'many', '1e999']) {
    await fill(page, { batch_size: '', learning_rate: odd })
    await page.locator('#field-learning_rate-error:visible').waitFor()
    await at(page, 'start').and(page.locator(':disabled')).waitFor()
  }
  await fill(page, { learning_rate: '1e-3', max_steps: 3 })
  await at(page, 'plan').waitFor()
  await train(page)
})

test('an engine that dies says so, and a new one opens the same files', async (t) => {
  const page = await open(t)
  await openStarter(page)
  await go(page, 'data')
  await at(page, 'use-sample').click()
  await at(page, 'preview').waitFor()
  await fill(page, { learning_rate: 666 })
  await at(page, 'plan').waitFor()
  await at(page, 'start').click()
  await page.getByTestId('crash').waitFor()
  assert.match(await page.getByTestId('crash-message').textContent(), /panicked at .*step\.rs.*made up by the fake engine/)
  assert.ok(await at(page, 'stop').isHidden(), 'nothing runs any more')
  // The panic was asked for; the browser reports it, as it should.
  assert.match(page.faults.join(), /panicked/)
  page.faults.length = 0

  await page.getByTestId('restart').click()
  await page.getByTestId('step-data').filter({ hasText: '40 rows' }).waitFor()
  await fill(page, { learning_rate: '', max_steps: 2 })
  await at(page, 'plan').waitFor()
  await train(page)
})

test('an engine that runs out of memory is followed by one with smaller batches', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await go(page, 'data')
  await at(page, 'use-sample').click()
  await at(page, 'preview').waitFor()
  await fill(page, { learning_rate: 667, max_steps: 3 })
  await at(page, 'plan').waitFor()
  await train(page)
  assert.match(await at(page, 'run-warnings').textContent(), /ran out of memory \(no memory was left for an allocation\); a new one began the run again with smaller batches/)
  const { resume, smaller } = await sent(page, 'start')
  assert.deepEqual([resume, smaller], [true, 2], 'smaller once more for each engine that died')

  // Where smaller batches do not help, it is said why, and what may.
  await fill(page, { learning_rate: 668 })
  await at(page, 'plan').waitFor()
  await at(page, 'start').click()
  await page.getByTestId('crash').filter({ hasText: /smaller batch size or maximum length/ }).waitFor()
  assert.match(await page.getByTestId('crash-message').textContent(), /^no memory was left for an allocation$/)
  assert.equal((await sent(page, 'start')).smaller, 3)
  page.faults.length = 0
})

test('a worker that cannot be loaded is reported', async (t) => {
  const folder = await site(t)
  await rm(join(folder, 'paddock-web.js'))
  const page = await openPage(t, { folder })
  await page.getByTestId('crash').waitFor()
  assert.match(await page.getByTestId('crash-message').textContent(), /paddock-web\.js/)
  page.faults.length = 0
})

test('without WebGPU the page names the browsers that have it and takes the CPU', async (t) => {
  const page = await open(t, { webgpu: 'off' })
  const notice = at(page, 'no-webgpu')
  await notice.waitFor()
  for (const name of ['Chrome', 'Edge', 'Safari', 'Firefox']) assert.match(await notice.textContent(), new RegExp(name))
  await at(page, 'device-reason').filter({ hasText: /CPU/ }).waitFor()
})

test('language and settings are remembered, and a spoilt memory does no harm', async (t) => {
  const page = await open(t)
  await openStarter(page)
  await chooseData(page, 'mail.csv', messages(20))
  await mapColumns(page, 'message', 'kind')
  await fill(page, { num_epochs: '3', seed: '7' })
  await page.getByTestId('language').selectOption('zh-Hant')
  await page.getByRole('heading', { name: '怎麼訓練' }).waitFor()
  assert.equal(await at(page, 'field-num_epochs').inputValue(), '3', 'the form keeps its values')
  await page.reload()
  await page.getByRole('heading', { name: '這台電腦能做什麼' }).waitFor()
  assert.equal(await page.locator('html').getAttribute('lang'), 'zh-Hant')
  assert.equal(await page.getByTestId('field-seed').inputValue(), '7')
  await page.evaluate(() => {
    localStorage.setItem('paddock.settings', '{"seed": {"a": 1}, "method": "magic", "__proto__": "x"')
    localStorage.setItem('paddock.language', '"xx"')
    localStorage.setItem('paddock.device', '[]')
  })
  await page.reload()
  await page.getByRole('heading', { name: 'What this machine can do' }).waitFor()
  assert.equal(await page.getByTestId('field-seed').inputValue(), '')
  await page.getByTestId('device-auto').and(page.locator(':checked')).waitFor()
})

const quoted = (text) => `"${text.replaceAll('"', '""')}"`

/** Questions over a text, as a table: one row may be given. */
function questions(rows, first = ['Who spoke?', 'Ada Brown spoke for an hour.', 'Ada Brown']) {
  const lines = ['id,question,context,answer', `0,${first.map(quoted).join()}`]
  for (let i = 1; i < rows; i += 1) lines.push(`${i},Who spoke on day ${i}?,"On day ${i} the member for Leeds spoke.",the member for Leeds`)
  return `${lines.join('\n')}\n`
}

test('the task and its columns are chosen from what the file fits', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await chooseData(page, 'speeches.csv', questions(20))
  const task = (id) => at(page, `task-${id}`)
  await task('question-answering').and(page.locator(':checked')).waitFor()
  assert.deepEqual(await Promise.all(['question', 'context', 'answer'].map((role) => at(page, `${role}-column`).inputValue())), ['question', 'context', 'answer'])
  assert.equal(await at(page, 'label-counts').count(), 0, 'only classes are counted')
  assert.equal(await at(page, 'shape').count(), 0, 'there is one shape only')
  assert.match(await at(page, 'preview').locator('th', { hasText: 'context' }).getAttribute('class'), /role-extra/)
  assert.match(await at(page, 'tasks').textContent(), /Makes a haiku of a text/, 'a scenario without words here has the engine’s')
  await at(page, 'next-data').and(page.locator(':enabled')).waitFor()

  // What the columns' names do not tell, the person does.
  assert.match(await at(page, 'task-summarization-why').textContent(), /Text \+ Summary/)
  await task('summarization').check()
  await at(page, 'next-data').and(page.locator(':disabled')).waitFor()
  await at(page, 'text-column').selectOption('context')
  await at(page, 'summary-column').selectOption('context')
  await page.getByText('Text and Summary cannot be the same column').waitFor()
  await at(page, 'summary-column').selectOption('answer')
  await at(page, 'next-data').click()
  await at(page, 'plan-task').filter({ hasText: 'Summarisation' }).waitFor()
  assert.deepEqual((await sent(page, 'check')).config.data, { train_file: 'speeches.csv', text_column: 'context', summary_column: 'answer' })

  await go(page, 'data')
  await task('question-answering').check()
  assert.equal(await at(page, 'answer-column').inputValue(), 'answer', 'the columns that were found come back')
  await at(page, 'context-column').selectOption('')
  await at(page, 'next-data').click()
  await at(page, 'plan-task').filter({ hasText: 'Question answering' }).waitFor()
  const { config } = await sent(page, 'check')
  assert.deepEqual([config.task, config.data], ['question-answering', { train_file: 'speeches.csv', question_column: 'question', answer_column: 'answer' }])

  // Several shapes are one choice more; a file with one column cannot be classified.
  await chooseData(page, 'poems.csv', `text\n${Array.from({ length: 10 }, (_, i) => `verse ${i}`).join('\n')}\n`)
  await task('text-generation').and(page.locator(':checked')).waitFor()
  await task('text-classification').and(page.locator(':disabled')).waitFor()
  assert.equal(await at(page, 'task-text-classification-why').textContent(), 'Needs columns for: Text + Label')
  assert.match(await at(page, 'shape').locator('option:checked').textContent(), /Automatic: plain text/)
  await at(page, 'shape').selectOption('messages')
  await at(page, 'messages-column').selectOption('text')
  await go(page, 'settings')
  await at(page, 'plan-task').filter({ hasText: 'conversations' }).waitFor()
  assert.deepEqual((await sent(page, 'check')).config.data, { train_file: 'poems.csv', shape: 'messages', messages_column: 'text' })
  await at(page, 'advanced').click()
  await at(page, 'field-apply_chat_template').waitFor()
  await at(page, 'field-packing').selectOption('true')
  await page.waitForFunction(() => window.commands.findLast(({ type }) => type === 'check').config.training.packing === true)
  await chooseData(page, 'mail.csv', messages(20).replace('message,kind', 'text,label'))
  await task('text-classification').and(page.locator(':checked')).waitFor()
  await at(page, 'label-counts').waitFor()
  await go(page, 'settings')
  await at(page, 'field-apply_chat_template').waitFor({ state: 'hidden' })
  await at(page, 'field-packing').waitFor({ state: 'hidden' })
  // A classifier would be refused with it; it is there again for the next task that answers.
  await page.waitForFunction(() => window.commands.findLast(({ type }) => type === 'check').config.task === 'text-classification')
  assert.equal((await sent(page, 'check')).config.training.packing, undefined)
  assert.equal(await at(page, 'field-packing').inputValue(), 'true')
})

test('task, shape and columns go into a YAML file and come back', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await chooseData(page, 'speeches.csv', questions(20))
  await go(page, 'settings')
  const file = 'task: text-generation\ndata:\n  shape: prompt-completion\n  prompt_column: question\n  completion_column: answer\nevaluation:\n  success_metric: rougeL\n'
  await at(page, 'config-input').setInputFiles({ name: 'run.yaml', mimeType: '', buffer: Buffer.from(file) })
  await at(page, 'config-loaded').waitFor()
  await at(page, 'plan-task').filter({ hasText: 'Text generation' }).waitFor()
  assert.equal(await at(page, 'field-success_metric').inputValue(), 'rougeL')
  await at(page, 'yaml').click()
  assert.match(await at(page, 'config-yaml').inputValue(), /task: text-generation[^]*shape: prompt-completion\n *prompt_column: question\n *completion_column: answer/)
  await go(page, 'data')
  await at(page, 'task-text-generation').and(page.locator(':checked')).waitFor()
  assert.deepEqual(await Promise.all(['shape', 'prompt-column', 'completion-column', 'input-column'].map((id) => at(page, id).inputValue())), ['prompt-completion', 'question', 'answer', ''])
})

test('answers are shown side by side, a missed goal says what to try, and one click tries it', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await chooseData(page, 'speeches.csv', questions(20))
  await fill(page, { max_steps: 4, success_metric: 'f1', min_gain: 0.02 })
  await at(page, 'example-given').first().filter({ hasText: /<\|im_start\|>user.*Ada Brown spoke.*Who spoke\?/s }).waitFor()
  assert.equal(await at(page, 'example-learnt').first().textContent(), 'Ada Brown<|im_end|>')
  await train(page)
  await at(page, 'see-result').click()

  assert.ok((await valueOf(page, 'after-f1')) > (await valueOf(page, 'before-f1')))
  assert.match(await at(page, 'certainty').textContent(), /Beyond chance.*\+46\.3 to \+64\.3 points/)
  assert.match(await at(page, 'comparison').locator('tbody tr').first().textContent(), /Answer F1.*8\.1%.*63\.4%.*\+55\.3 points/)
  assert.match(await at(page, 'metric-change-perplexity').getAttribute('class'), /good/, 'lower is better')
  const sample = at(page, 'sample').first()
  assert.match(await sample.textContent(), /Who spoke\?.*Right answerAda Brown.*and so on.*It is Ada Brown/s)

  await at(page, 'verdict').and(page.locator('[data-met="false"]')).waitFor()
  assert.match(await at(page, 'verdict').textContent(), /Goal missed.*Answer F1: \+1\.2 points.*that can be chance/)
  await at(page, 'hint-few_rows').filter({ hasText: '48 training rows' }).waitFor()
  assert.equal(await at(page, 'retry-few_rows').count(), 0, 'what no setting helps has no button')
  await at(page, 'retry-not_enough_steps').click()
  await at(page, 'see-result').click()
  const { config } = await sent(page, 'start')
  assert.deepEqual([config.training.num_epochs, config.recovery.max_skipped_rows], [4, 3], 'in the form, and beside it')
  await at(page, 'verdict').and(page.locator('[data-met="true"]')).waitFor()
  assert.equal(await at(page, 'hints').count(), 0)
  await go(page, 'settings')
  assert.equal(await at(page, 'field-num_epochs').inputValue(), '4')
})

test('a question is tried with the text that answers it', async (t) => {
  const page = await open(t)
  await record(page)
  await openStarter(page)
  await chooseData(page, 'speeches.csv', questions(20))
  await fill(page, { max_steps: 2 })
  await at(page, 'plan').waitFor()
  await train(page)
  await at(page, 'see-result').click()
  const parts = [await at(page, 'sample-asked').first().textContent(), await at(page, 'sample-context').first().textContent()]
  assert.deepEqual(parts, ['Who spoke?', 'Ada Brown spoke for an hour.'], 'a row by its parts')
  await at(page, 'try-example').click()
  assert.deepEqual([await at(page, 'try-text').inputValue(), await at(page, 'try-context').inputValue()], parts)
  await at(page, 'try-known').filter({ hasText: 'Ada Brown' }).waitFor()
  const { label } = await classify(page, 'Who else?')
  assert.equal(label, 'You said: Who else? {"context":"Ada Brown spoke for an hour."}')
  await at(page, 'try-context').fill(' ')
  await classify(page, 'And who then?')
  assert.deepEqual([(await sent(page, 'predict')).texts, (await sent(page, 'predict')).fields], [['And who then?'], undefined])
  await at(page, 'try-context').fill('Nobody.')
  await page.getByTestId('language').selectOption('zh-Hant')
  await at(page, 'classify').filter({ hasText: '回答' }).waitFor()
  assert.equal(await at(page, 'try-context').inputValue(), 'Nobody.', 'what is typed outlives a change of language')
})

test('a run is judged by a metric that its task has', async (t) => {
  const page = await open(t)
  await openStarter(page)
  await chooseData(page, 'speeches.csv', questions(20))
  await go(page, 'settings')
  await at(page, 'measuring').click()
  const offered = () => at(page, 'field-success_metric').locator('option').evaluateAll((options) => options.map(({ value }) => value))
  assert.deepEqual(await offered(), ['', 'f1', 'exact_match', 'perplexity', 'accuracy', 'loss'])
  await at(page, 'field-success_metric').selectOption('exact_match')
  await at(page, 'config-input').setInputFiles({ name: 'run.yaml', mimeType: 'application/yaml', buffer: Buffer.from('evaluation:\n  success_metric: macro_f1\n') })
  await page.waitForFunction(() => /** @type {HTMLSelectElement} */ (document.querySelector('[data-testid="field-success_metric"]')).value === 'macro_f1')
  assert.deepEqual((await offered()).at(-1), 'macro_f1', 'what a file names is shown, whatever the task')
})

test('cells with markup or ten thousand characters stay text, and clipped', async (t) => {
  const page = await open(t)
  await openStarter(page)
  const hostile = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script></s><|im_end|>'
  const long = `${hostile} ${'long '.repeat(2000)}`
  await chooseData(page, 'speeches.csv', questions(10, [hostile, long, hostile]))
  await fill(page, { max_steps: 2, success_metric: 'f1' })
  const given = at(page, 'example-given').first()
  await given.filter({ hasText: '<img src=x' }).waitFor()
  assert.ok((await given.textContent()).length < 400, 'clipped')
  assert.match(await given.textContent(), /<script>window\.hacked=1<\/script>.*<\|im_start\|>assistant\n$/s, 'the end is there: the question stands in it')
  await at(page, 'examples').getByText('Show all').first().click()
  assert.ok((await at(page, 'example-given-all').textContent()).includes(long.trim()))
  await train(page)
  await at(page, 'see-result').click()
  const asked = at(page, 'sample-asked').first()
  assert.ok((await asked.textContent()).includes(hostile) && (await asked.textContent()).length < 400)
  assert.equal(await at(page, 'sample-accepted').first().textContent(), hostile)
  await at(page, 'try-example').click()
  assert.equal(await at(page, 'try-context').inputValue(), long.slice(0, 10_000).trim(), 'as much as the engine tells of a field')
  await at(page, 'classify').click()
  await at(page, 'prediction-label').filter({ hasText: 'You said' }).waitFor()
  assert.equal(await page.locator('#app img, #app script, #app s').count(), 0)
  assert.equal(await page.evaluate(() => window.hacked), undefined)
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth))
})

test('a phone shows every step without sideways scrolling', async (t) => {
  const page = await open(t, { viewport: { width: 360, height: 740 }, locale: 'zh-TW' })
  const fits = async (step) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), step)
  await openStarter(page)
  await fits('model')
  await chooseData(page, `${'long'.repeat(40)}.csv`, `text,label\n${'word'.repeat(400)},ham\nb,${'spam'.repeat(60)}\n`)
  await at(page, 'preview').waitFor()
  await fits('data')
  await fill(page, { max_steps: 3 })
  await at(page, 'plan').waitFor()
  await fits('settings')
  await train(page)
  await fits('train')
  await at(page, 'see-result').click()
  await fits('result')
})

test('both languages say the same things', async () => {
  const read = async (name) => JSON.parse(await readFile(join(ROOT, 'www', 'locales', `${name}.json`), 'utf8'))
  const flat = (tree, prefix = '') => Object.entries(tree).flatMap(([key, value]) => (typeof value === 'string' ? [[prefix + key, value]] : flat(value, `${prefix}${key}.`)))
  const english = new Map(flat(await read('en')))
  const chinese = new Map(flat(await read('zh-Hant')))
  const holes = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort()
  for (const [key, text] of english) {
    // Chinese has no plural: Intl asks for `other` only.
    if (key.endsWith('.one')) continue
    assert.ok(chinese.has(key), `zh-Hant lacks ${key}`)
    assert.deepEqual(holes(chinese.get(key)), holes(text), key)
  }
  for (const key of chinese.keys()) assert.ok(english.has(key), `en lacks ${key}`)
})
