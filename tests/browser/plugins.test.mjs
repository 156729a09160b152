// Plugins over the fake engine: what a person sees and does, and what stays in the browser.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { freeId, idOf, noPlugins, packagesOf, suggestedName, withList } from '../../www/app/plugins.js'
import { initial, noUse, reduce } from '../../www/app/store.js'
import { readUses, shares } from '../../www/app/uses.js'
import { open } from './fake.mjs'
import { shot } from './harness.mjs'
import { at, chooseData, classify, drop, failure, fill, go, messages, named, openStarter, record, sent, train } from './steps.mjs'

/** A package as the fake engine reads it. */
const pack = (file, about) => named(`${file}.zip`, JSON.stringify({ id: file, name: file, ...about }))
const MOOD = pack('mood', { name: 'Film mood', scenario: 'text-classification', labels: ['bad', 'good'], before: { loss: 1, accuracy: 0.5 }, after: { loss: 0.2, accuracy: 0.93 } })
const SHIPS = pack('ships', { name: 'Ship facts', scenario: 'question-answering' })
const SHORT = pack('short', { name: 'In short', scenario: 'summarization' })

/** The starter is open, and so is the step where models are used. */
async function opened(page) {
  await openStarter(page)
  await go(page, 'result')
  await at(page, 'plugins-part').waitFor()
}

async function add(page, ...files) {
  await at(page, 'plugin-files').setInputFiles(files)
  for (const { name } of files) await at(page, `plugin-${name.replace('.zip', '')}`).waitFor()
}

/** This one answers, and its buttons can be pressed. */
const inUse = (page, id) => page.locator(`section.panel:not([hidden]) [data-testid="use-${id}"][aria-pressed="true"]:not([aria-disabled])`).waitFor()
const kept = (page, id) => at(page, `plugin-${id}`).filter({ hasText: 'stays here' }).waitFor()
const ids = (page) => at(page, 'plugins').locator('> li').evaluateAll((all) => all.map((one) => one.dataset.testid.replace('plugin-', '')))

async function trained(page, settings = {}) {
  await chooseData(page, 'mail.csv', messages(40).replace('message,kind', 'text,label'))
  await fill(page, { max_steps: 3, ...settings })
  await at(page, 'plan').waitFor()
  await train(page)
  await at(page, 'see-result').click()
  await at(page, 'try-text').waitFor()
}

test('plugins are added, changed between, asked, taken along and removed', async (t) => {
  const page = await open(t)
  await record(page)
  await opened(page)
  await add(page, MOOD)
  await inUse(page, 'mood')
  const { id, name, config, files } = await sent(page, 'add_plugin')
  assert.deepEqual([id, name, config.model.name_or_path, files], ['mood', undefined, 'starter', ['mood.zip']])
  const card = at(page, 'plugin-mood')
  assert.match(await card.textContent(), /Film mood.*Sentiment.*bad.*good.*Accuracy 50\.0% → 93\.0%.*not asked yet/)
  assert.equal(await card.getAttribute('aria-current'), 'true')

  assert.equal((await classify(page, 'Win free money')).label, 'good')
  assert.equal((await sent(page, 'predict')).plugin, 'mood')
  await at(page, 'answered-by').filter({ hasText: 'Film mood' }).waitFor()
  await card.filter({ hasText: 'asked once' }).waitFor()

  // The fields are those of the task that answers.
  await add(page, SHIPS)
  assert.equal(await at(page, 'try-plugin').inputValue(), 'mood', 'what answers stays')
  assert.equal(await at(page, 'try-context').count(), 0)
  await at(page, 'use-ships').focus()
  await page.keyboard.press('Enter')
  await inUse(page, 'ships')
  assert.ok(await at(page, 'use-ships').evaluate((button) => button === document.activeElement), 'the keyboard stays on the button')
  await at(page, 'try-context').fill('Ada sailed.')
  assert.equal((await classify(page, 'Who?')).label, 'You said: Who? {"context":"Ada sailed."} (Ship facts)')
  await at(page, 'try-plugin').selectOption('mood')
  await inUse(page, 'mood')
  await at(page, 'try-context').waitFor({ state: 'detached' })
  assert.equal(await at(page, 'try-text').inputValue(), 'Who?', 'what is typed stays')
  assert.equal(await at(page, 'prediction-label').count(), 0, 'the other one said that')

  // One is taken along, and the other stays in use.
  const [download] = await Promise.all([page.waitForEvent('download'), at(page, 'download-ships').click()])
  assert.equal(download.suggestedFilename(), 'ships.zip')
  const package_ = await readFile(await download.path())
  assert.match(package_.toString('latin1'), /^PK.*"name":"Ship facts","scenario":"question-answering"/s)
  await inUse(page, 'mood')
  assert.equal((await classify(page, 'Win free money')).label, 'good')

  // Removing asks first, at its own place.
  await at(page, 'remove-ships').click()
  assert.ok(await at(page, 'remove-no-ships').evaluate((button) => button === document.activeElement))
  await page.keyboard.press('Escape')
  assert.ok(await at(page, 'remove-ships').evaluate((button) => button === document.activeElement))
  await at(page, 'remove-ships').click()
  await at(page, 'remove-yes-ships').click()
  await at(page, 'plugin-ships').waitFor({ state: 'detached' })
  assert.equal(await page.evaluate(() => document.activeElement.id), 'title-plugins')
  await at(page, 'note-removed').filter({ hasText: 'Ship facts' }).waitFor()

  // What was taken along can be added again, by drop.
  await drop(page, at(page, 'plugin-drop'), 'ships.zip', package_.toString('latin1'))
  await at(page, 'plugin-ships').filter({ hasText: 'Ship facts' }).waitFor()
  await inUse(page, 'mood')

  // One that is removed in use answers until another does, and does not come back.
  await at(page, 'remove-mood').click()
  await at(page, 'plugin-mood').getByText('goes on answering').waitFor()
  await at(page, 'remove-yes-mood').click()
  await at(page, 'plugin-mood').waitFor({ state: 'detached' })
  assert.equal((await classify(page, 'Win free cash')).label, 'good')
  assert.equal((await sent(page, 'predict')).plugin, undefined)
  await at(page, 'use-ships').click()
  await inUse(page, 'ships')
  assert.deepEqual(await ids(page), ['ships'])
})

test('what is refused is said at the plugins, and keeps no other one out', async (t) => {
  const page = await open(t)
  await record(page)
  await opened(page)
  await at(page, 'add-plugin').click()
  await at(page, 'plugin-files').setInputFiles(named('notes.json', '{}'))
  await at(page, 'plugins-error').filter({ hasText: /adapter_config\.json is missing; there is notes\.json.*Choose the folder/s }).waitFor()
  assert.equal(await failure(page).count(), 0, 'nowhere else')
  await at(page, 'plugin-files').setInputFiles(pack('foreign', { base: 'another' }))
  await at(page, 'plugins-error').filter({ hasText: 'whose tokenizer.json is another one' }).waitFor()
  await at(page, 'plugin-files').setInputFiles(named('other.zip', 'x'))
  await at(page, 'plugins-error').filter({ hasText: 'tensor q_proj' }).waitFor()

  await at(page, 'plugin-files').setInputFiles([pack('near', { name: 'Near', base: 'near', scenario: 'summarization' }), named('other.zip', 'x'), SHORT])
  await at(page, 'plugin-short').waitFor()
  await at(page, 'plugins-error').filter({ hasText: 'tensor q_proj' }).waitFor()
  await at(page, 'plugins-warnings').filter({ hasText: 'was trained on other weights' }).waitFor()
  assert.deepEqual(await ids(page), ['near', 'short'])

  // PEFT's files without a plugin.json are one adapter, and two of the same name are two plugins.
  await at(page, 'plugin-files').setInputFiles([named('adapter_config.json', '[]'), named('adapter_model.safetensors', 'x')])
  await at(page, 'plugin-adapter').waitFor()
  assert.equal(await at(page, 'plugins-error').count(), 0)
  await at(page, 'plugin-files').setInputFiles(SHORT)
  await at(page, 'plugin-short-2').filter({ hasText: 'short-2' }).waitFor()
  assert.match(await at(page, 'plugin-short').locator('h4').textContent(), /In shortshort/, 'two of one name show their ids')
  assert.deepEqual((await page.evaluate(() => window.commands.filter(({ type }) => type === 'add_plugin'))).at(-2).files, ['adapter_config.json', 'adapter_model.safetensors'])
})

test('all that take the same fields are asked the same, and answer beside each other', async (t) => {
  const page = await open(t)
  await record(page)
  await opened(page)
  await add(page, MOOD, SHIPS, SHORT)
  await inUse(page, 'mood')
  assert.equal(await at(page, 'ask-all').textContent(), 'Ask all 2')
  await at(page, 'try-text').fill('A free text')
  await at(page, 'ask-all').click()
  await at(page, 'answer-short').filter({ hasText: 'You said: A free text {} (In short)' }).waitFor()
  await at(page, 'answer-mood').filter({ hasText: /good.*96\.8%/ }).waitFor()
  await inUse(page, 'mood')
  assert.equal(await at(page, 'answers').locator('> li').count(), 2, 'a question is no text alone')
  assert.equal((await sent(page, 'use_plugin')).id, 'mood', 'back to the one that was in use')
  assert.ok(await at(page, 'ask-all').evaluate((button) => button === document.activeElement), 'the keyboard stays')
  for (const id of ['mood', 'short']) await at(page, `plugin-${id}`).filter({ hasText: 'asked once' }).waitFor()
  await shot(page, 'plugins')

  // One that cannot says so in its place, and the others answer.
  await at(page, 'try-text').fill('long '.repeat(3500))
  await at(page, 'ask-all').click()
  await at(page, 'answer-short').filter({ hasText: '5000 tokens' }).waitFor()
  await at(page, 'answer-mood').filter({ hasText: 'bad' }).waitFor()
  await inUse(page, 'mood')
  assert.equal(await failure(page).count(), 0)

  // An end is an end of all: what was begun is kept.
  await add(page, pack('later', { name: 'Later', scenario: 'summarization' }))
  await at(page, 'use-short').click()
  await inUse(page, 'short')
  await at(page, 'try-text').fill('word '.repeat(300))
  await at(page, 'ask-all').click()
  await at(page, 'answer-short').filter({ hasText: 'You said' }).waitFor()
  await at(page, 'end-answer').click()
  await inUse(page, 'short')
  const asked = await page.evaluate(() => window.commands.filter(({ type }) => type === 'predict').slice(-2).map(({ plugin }) => plugin))
  assert.deepEqual(asked, ['mood', 'short'])
  assert.equal(await at(page, 'answers').locator('> li').count(), 2)
  await classify(page, 'And now alone')
  assert.equal(await at(page, 'answers').count(), 0)
})

test('what was trained is kept by its name, and not lost by turning to another', async (t) => {
  const page = await open(t)
  await record(page)
  await opened(page)
  await add(page, MOOD)
  await inUse(page, 'mood')
  await trained(page)
  assert.equal(await at(page, 'plugin-name').inputValue(), 'Sentiment and other classification mail')
  await at(page, 'plugin-name').fill(' Mood ')
  await at(page, 'plugin-name-clash').filter({ hasText: 'takes the place of “Film mood”' }).waitFor()
  await at(page, 'plugin-name').fill('')
  await at(page, 'keep-plugin').and(page.locator(':disabled')).waitFor()
  await at(page, 'plugin-name').fill('Spam or ham')
  assert.equal(await at(page, 'plugin-name-clash').textContent(), '')
  await page.keyboard.press('Enter')
  await kept(page, 'spam-or-ham')
  await inUse(page, 'spam-or-ham')
  assert.equal((await sent(page, 'keep_plugin')).name, 'Spam or ham')
  assert.deepEqual(await page.evaluate(() => window.commands.filter(({ type }) => type === 'export').map(({ format, zip, name }) => [format, zip, name])), [['adapter', true, 'Spam or ham']])
  assert.match(await at(page, 'plugin-spam-or-ham').textContent(), /ham.*spam.*Accuracy 51\.2% → 93\.4%/)
  assert.ok(await at(page, 'plugin-name').isHidden())
  await at(page, 'headline').waitFor()

  // Its rows are its examples, whatever is in use meanwhile.
  await at(page, 'use-mood').click()
  await inUse(page, 'mood')
  assert.ok(await at(page, 'download-adapter').isHidden(), 'that one came from a file')
  await at(page, 'use-spam-or-ham').click()
  await inUse(page, 'spam-or-ham')
  await at(page, 'download-adapter').waitFor()
  await at(page, 'try-example').click()
  assert.notEqual(await at(page, 'try-text').inputValue(), '')

  // Nobody kept this one before turning to another.
  await trained(page)
  assert.equal(await at(page, 'try-plugin').locator('option:checked').textContent(), 'The model that was trained or opened last')
  assert.equal(await at(page, 'ask-all').textContent(), 'Ask all 3')
  await at(page, 'try-plugin').selectOption('mood')
  await inUse(page, 'mood')
  assert.deepEqual(await ids(page), ['mood', 'spam-or-ham', 'sentiment-and-other-classification-mail'])
  await at(page, 'note-kept').filter({ hasText: 'Sentiment and other classification mail' }).waitFor()
  await kept(page, 'sentiment-and-other-classification-mail')

  // A run that holds the base otherwise lets them go; those in storage come back with a click.
  await trained(page, { method: 'full' })
  await at(page, 'note-let_go').waitFor()
  assert.equal(await at(page, 'plugins').count(), 0)
  await at(page, 'keep-plugin').click()
  await at(page, 'note-not_stored_whole').waitFor()
  await at(page, 'load-all').click()
  for (const id of ['mood', 'spam-or-ham']) await at(page, `plugin-${id}`).waitFor()
})

test('plugins outlive a reload, by their base', async (t) => {
  const page = await open(t)
  await record(page)
  await opened(page)
  await add(page, MOOD, SHORT)
  await kept(page, 'short')
  await trained(page)
  await at(page, 'plugin-name').fill('Spam or ham')
  await at(page, 'keep-plugin').click()
  await kept(page, 'spam-or-ham')

  await page.reload()
  await opened(page)
  const offered = at(page, 'stored-plugins')
  await offered.filter({ hasText: /Film mood.*In short.*Spam or ham/s }).waitFor()
  assert.equal(await at(page, 'plugins').count(), 0, 'nothing is loaded by itself')
  await at(page, 'load-spam-or-ham').click()
  await inUse(page, 'spam-or-ham')
  assert.match(await at(page, 'plugin-spam-or-ham').textContent(), /Spam or ham.*ham.*spam.*93\.4%/)
  assert.equal((await classify(page, 'Win free money')).label, 'spam')
  assert.deepEqual([(await sent(page, 'add_plugin')).id, (await sent(page, 'add_plugin')).name], ['spam-or-ham', 'Spam or ham'])
  await at(page, 'load-all').click()
  for (const id of ['mood', 'short']) await at(page, `plugin-${id}`).waitFor()
  assert.equal(await offered.count(), 0)

  // A name that is only in storage is taken as well.
  await page.reload()
  await opened(page)
  await at(page, 'stored-mood').waitFor()
  await at(page, 'plugin-files').setInputFiles(pack('mood', { name: 'Another mood', scenario: 'text-classification' }))
  await kept(page, 'mood-2')
  await at(page, 'remove-mood').click()
  await at(page, 'remove-yes-mood').click()
  await at(page, 'stored-mood').waitFor({ state: 'detached' })

  // Another base has others; the same one under another name has these.
  await go(page, 'model')
  await at(page, 'model-files').setInputFiles([named('config.json', '{"other": 1}'), named('model.safetensors', 'weights')])
  await at(page, 'model-summary').filter({ hasNotText: 'starter' }).waitFor()
  await go(page, 'result')
  assert.equal(await at(page, 'stored-plugins').count() + (await at(page, 'plugins').count()), 0)
  await go(page, 'model')
  await at(page, 'model-files').setInputFiles(['config.json', 'model.safetensors', 'tokenizer.json'].map((name) => named(name, '{}')))
  await go(page, 'result')
  await at(page, 'stored-plugins').filter({ hasText: /In short.*Spam or ham.*Another mood/s }).waitFor()
  assert.doesNotMatch(await at(page, 'stored-plugins').textContent(), /Film mood/, 'what was removed is gone')
})

test('full storage is said, and takes nothing away', async (t) => {
  const page = await open(t)
  await record(page)
  await opened(page)
  await add(page, MOOD)
  await kept(page, 'mood')
  await page.evaluate(() => {
    FileSystemFileHandle.prototype.createWritable = () => Promise.reject(new DOMException('no room', 'QuotaExceededError'))
  })
  await add(page, SHORT)
  await at(page, 'note-not_stored_full').filter({ hasText: 'In short' }).waitFor()
  await at(page, 'use-short').click()
  await inUse(page, 'short')
  assert.match((await classify(page, 'Hello')).label, /You said: Hello/)
  // In the place of one that is stored: that stays until the new one is whole.
  await trained(page)
  await at(page, 'plugin-name').fill('Mood')
  await at(page, 'keep-plugin').click()
  await at(page, 'note-not_stored_full').filter({ hasText: 'Mood' }).waitFor()
  await inUse(page, 'mood')
  assert.doesNotMatch(await at(page, 'plugin-mood').textContent(), /stays here/, 'another one is stored under its id')
  await at(page, 'remove-mood').click()
  await at(page, 'remove-yes-mood').click()
  await at(page, 'stored-mood').filter({ hasText: 'Film mood' }).waitFor()
  await page.reload()
  await opened(page)
  await at(page, 'stored-mood').filter({ hasText: 'Film mood' }).waitFor()
  assert.equal(await at(page, 'stored-short').count(), 0)
})

test('shares of answers are counted across visits, without a text, until they are cleared', async (t) => {
  const page = await open(t)
  await record(page)
  await opened(page)
  await add(page, MOOD, SHIPS)
  await inUse(page, 'mood')
  assert.ok(await at(page, 'uses-open').isHidden(), 'nothing was asked')
  for (const text of ['one', 'two', 'a secret text']) await classify(page, text)
  await at(page, 'use-ships').click()
  await inUse(page, 'ships')
  await classify(page, 'Who?')
  await at(page, 'uses-open').click()
  const rows = (id) => at(page, id).locator('tbody tr').evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent).join(' ')))
  await page.waitForFunction(() => JSON.parse(localStorage.getItem('paddock.uses')).length === 2)
  assert.deepEqual(await rows('uses-plugins'), ['Film mood 75% 3', 'Ship facts 25% 1'])
  assert.deepEqual(await rows('uses-tasks'), ['Sentiment and other classification 75% 3', 'Question answering 25% 1'])
  const remembered = await page.evaluate(() => localStorage.getItem('paddock.uses'))
  assert.deepEqual(JSON.parse(remembered), [{ id: 'mood', task: 'text-classification', n: 3 }, { id: 'ships', task: 'question-answering', n: 1 }])

  await page.reload()
  await opened(page)
  await at(page, 'load-mood').click()
  await inUse(page, 'mood')
  await classify(page, 'four')
  await at(page, 'uses-open').click()
  await at(page, 'uses-plugins').filter({ hasText: '80%' }).waitFor()
  assert.deepEqual(await rows('uses-plugins'), ['Film mood 80% 4', 'Ship facts 20% 1'])
  await at(page, 'clear-uses').click()
  await at(page, 'uses-open').waitFor({ state: 'hidden' })
  assert.equal(await page.evaluate(() => localStorage.getItem('paddock.uses')), '[]')
  for (const spoilt of ['{"a": 1}', '[{"id": 3}, null, {"id": "x", "task": "y", "n": -1}]', '"<b>"', '[']) {
    await page.evaluate((spoilt) => localStorage.setItem('paddock.uses', spoilt), spoilt)
    await page.reload()
    await opened(page)
    assert.ok(await at(page, 'uses-open').isHidden(), spoilt)
  }
})

test('names with markup stay text, and a phone shows all of it without sideways scrolling', async (t) => {
  const page = await open(t, { viewport: { width: 360, height: 740 }, locale: 'zh-TW' })
  await opened(page)
  const hostile = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{name}${'long'.repeat(20)}`
  await at(page, 'plugin-files').setInputFiles([pack('a', { name: hostile, scenario: 'summarization' }), pack('b', { name: hostile, scenario: 'text-classification', labels: [hostile, 'x'.repeat(300)] })])
  await at(page, 'plugin-b').filter({ hasText: '<script>window.hacked=1</script>' }).waitFor()
  await inUse(page, 'a')
  await at(page, 'try-text').fill(hostile.repeat(4))
  await at(page, 'ask-all').click()
  await at(page, 'answer-b').filter({ hasText: '%' }).waitFor()
  await inUse(page, 'a')
  await at(page, 'remove-b').click()
  await at(page, 'add-plugin').click()
  await at(page, 'uses-open').click()
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)
  assert.ok(await fits())
  await shot(page, 'plugins-phone')
  await page.emulateMedia({ colorScheme: 'dark' })
  await shot(page, 'plugins-phone-dark')
  await page.getByTestId('language').selectOption('en')
  await at(page, 'plugin-b').filter({ hasText: 'Sentiment' }).waitFor()
  assert.ok(await fits())
  assert.equal(await page.locator('#app img, #app script').count(), 0)
  assert.equal(await page.evaluate(() => window.hacked), undefined)
})

test('a plugin is not asked beside a run, and a dead engine takes its plugins along', async (t) => {
  const page = await open(t)
  await record(page)
  await opened(page)
  await add(page, MOOD, SHORT)
  await kept(page, 'short')
  await chooseData(page, 'mail.csv', messages(40).replace('message,kind', 'text,label'))
  await fill(page, { max_steps: 4000 })
  await at(page, 'plan').waitFor()
  await at(page, 'start').click()
  await at(page, 'loss-value').filter({ hasText: /\d/ }).waitFor()
  await go(page, 'result')
  assert.deepEqual(await ids(page), ['mood', 'short'], 'a run on the same base lets nothing go')
  await at(page, 'use-mood').and(page.locator(':disabled')).waitFor()
  assert.ok(await at(page, 'add-plugin').isHidden())
  await go(page, 'train')
  await at(page, 'stop').click()
  await at(page, 'see-result').waitFor()

  await fill(page, { learning_rate: 666 })
  await at(page, 'plan').waitFor()
  await at(page, 'start').click()
  await page.getByTestId('restart').click()
  await page.getByTestId('step-data').filter({ hasText: '40 rows' }).waitFor()
  await go(page, 'result')
  await at(page, 'load-all').click()
  await inUse(page, 'mood')
  assert.equal((await classify(page, 'Win free money')).label, 'good')
  // The panic was asked for.
  page.faults.length = 0
})

const info = (id, more = {}) => ({ id, name: id, task: 'text-classification', labels: ['a', 'b'], generates: false, before: null, after: null, uses: 0, ...more })

test('ids, names and packages', () => {
  assert.deepEqual([idOf(' Spam: E-Mails!'), idOf('情感'), idOf('A--b'), idOf('x y'.repeat(100)).length <= 64], ['spam-e-mails', 'plugin', 'a-b', true])
  const state = { ...initial({}, 'auto'), plugins: { ...noPlugins(), list: [info('mood')], stored: [{ id: 'mood-2', name: 'M', task: 't', bytes: 1 }] } }
  assert.deepEqual([freeId(state, 'mood.zip'), freeId(state, 'Other.ZIP'), freeId(state, '垃圾.zip')], ['mood-3', 'other', 'plugin'])
  const settings = { modelName: 'starter', data: { name: 'C:\\mails\\mood.v2.csv' } }
  assert.equal(suggestedName({ ...state, settings }, 'Film'), 'Film mood')
  assert.equal(suggestedName({ ...state, settings }, ''), 'mood 3', 'one that takes nobody’s place')
  const many = { ...state, plugins: { ...state.plugins, list: Array.from({ length: 100 }, (_, i) => info(`${idOf('長'.repeat(200))}${i ? i : ''}`)) } }
  assert.ok(suggestedName({ ...many, settings: { data: { name: 'x'.repeat(300) } } }, '長'.repeat(200)).length <= 80)

  const file = (name) => ({ name })
  assert.deepEqual(packagesOf({ name: '', files: [file('a.zip'), file('b.ZIP')] }).map(({ name, files }) => [name, files.length]), [['a.zip', 1], ['b.ZIP', 1]])
  assert.deepEqual(packagesOf({ name: 'out', files: [file('adapter_config.json'), file('model.zip')] }).map(({ name, files }) => [name, files.length]), [['out', 2]])
  assert.deepEqual(packagesOf({ name: 'empty', files: [] }), [])
})

test('the list is the engine’s, and what it let go is in use no more', () => {
  const state = { ...initial({}, 'auto'), trained: true, use: { ...noUse(), plugin: 'mood', loose: false }, plugins: { ...noPlugins(), list: [info('mood'), info('short')] } }
  const event = (state, event, about = null) => reduce(state, { run: '', ...event }, about, 0)
  assert.equal(withList(state, [info('mood', { uses: 3 })], 'list_plugins').use, state.use)
  assert.equal(event(state, { type: 'plugins', plugins: [info('short')] }, 'remove_plugin').use.plugin, null)
  const gone = event(state, { type: 'plugins', plugins: [] }, 'start')
  assert.deepEqual([gone.plugins.notes, event(gone, { type: 'plugins', plugins: [] }, 'start').plugins.notes.length], [[{ key: 'let_go' }], 1])
  assert.deepEqual(event(state, { type: 'model_opened', name: 'other' }).plugins, noPlugins())

  // Loading beside what is in use leaves it alone; its remarks are the plugins'.
  const adding = { ...state, busy: { add_plugin: true }, data: { name: 'mail.csv' } }
  const begun = event(event(adding, { type: 'state', state: 'preparing' }), { type: 'warning', message: 'other weights' })
  assert.deepEqual([begun.trained, begun.use, begun.run, begun.plugins.warnings], [true, state.use, state.run, ['other weights']])
  assert.equal(event(adding, { type: 'failed', message: 'm', advice: 'a' }, 'add_plugin').trouble.plugins.message, 'm')
})

test('counts are numbers by id and task, whatever storage holds', () => {
  const uses = [{ id: 'mood', task: 'text-classification', n: 3 }, { id: 'ships', task: 'question-answering', n: 1 }, { id: 'mood', task: 'summarization', n: 4 }]
  assert.deepEqual(readUses(uses), uses)
  for (const spoilt of [null, {}, 'x', [null], [{ id: '', task: 'a', n: 1 }], [{ id: 'a', task: 'b', n: 0.5 }], [{ id: 'a', task: 'b', n: Infinity }], [{ id: 'x'.repeat(65), task: 'b', n: 1 }]]) assert.deepEqual(readUses(spoilt), [])
  assert.deepEqual(readUses([{ id: 'a', task: 'b', n: 1, text: 'no' }]), [{ id: 'a', task: 'b', n: 1 }])
  assert.equal(readUses(Array.from({ length: 1000 }, (_, i) => ({ id: `a${i}`, task: 'b', n: 1 }))).length, 200)
  assert.deepEqual(shares(uses, 'id'), [{ key: 'mood', n: 7, share: 7 / 8 }, { key: 'ships', n: 1, share: 1 / 8 }])
  assert.deepEqual(shares(uses, 'task').map(({ share }) => share), [4 / 8, 3 / 8, 1 / 8])
  assert.deepEqual(shares([], 'id'), [])
})
