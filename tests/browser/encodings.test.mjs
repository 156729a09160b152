// Files that are not UTF-8: what tells their encodings is a module of its own, which the page loads when it needs it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPage } from './harness.mjs'
import { at, chooseData, events, failure, record } from './steps.mjs'

const MODULE = 'paddock-encodings'
const TEXTS = {
  'windows-1251': ['Сегодня утром шёл дождь, и мы остались дома пить чай.', 'Этот фильм мне совсем не понравился, жаль потраченного времени.'],
  'windows-1252': ['Le café était très bon, mais le garçon était fâché.', 'Où est passée la clé ? Elle est restée près de la fenêtre.'],
  Shift_JIS: ['この映画はとても面白かったです。また見たいと思います。', '昨日は雨が降っていたので、家で本を読みました。'],
  GBK: ['这部电影非常好看，我还想再看一遍。', '昨天下雨了，所以我们在家里看书喝茶。'],
  'EUC-KR': ['이 영화는 정말 재미있었습니다. 다시 보고 싶어요.', '어제는 비가 와서 집에서 책을 읽었습니다.'],
}

/** Bytes of a text in an encoding of one or two bytes a letter, found by what each of them stands for. */
function encoded(label, text) {
  const decoder = new TextDecoder(label)
  const known = new Map()
  const learn = (...bytes) => {
    const letter = decoder.decode(new Uint8Array(bytes))
    if ([...letter].length === 1 && letter !== '\ufffd' && !known.has(letter)) known.set(letter, bytes)
  }
  for (let first = 0; first < 256; first += 1) learn(first)
  for (let first = 0x81; first < 0xff; first += 1) for (let second = 0x40; second < 0xff; second += 1) learn(first, second)
  return Buffer.from([...text].flatMap((letter) => known.get(letter) ?? assert.fail(`${label} has no ${letter}`)))
}

const table = (rows) => ['text,label', ...rows.map((row, index) => `"${row}",${index % 2 ? 'b' : 'a'}`), ''].join('\n')

test('a table in another encoding is read as its letters, and said to be a guess; a table in UTF-8 loads nothing for it', { timeout: 120_000 }, async (t) => {
  const page = await openPage(t, { webgpu: 'off' })
  const loaded = []
  page.context().on('request', (request) => request.url().includes(MODULE) && loaded.push(request.url()))
  await record(page)
  await at(page, 'device-reason').filter({ hasText: /./ }).waitFor()
  const opened = async (name, bytes) => {
    const before = (await events(page, 'data_opened')).length
    await chooseData(page, name, bytes)
    await page.waitForFunction((before) => window.recorded.filter(({ type }) => type === 'data_opened').length > before, before)
    return (await events(page, 'data_opened')).at(-1)
  }
  const utf16 = Buffer.from(`\ufeff${table(TEXTS.GBK)}`, 'utf16le')
  for (const [name, bytes, encoding] of [['utf8.csv', table(TEXTS.GBK), 'UTF-8'], ['utf16.csv', utf16, 'UTF-16LE']]) {
    const found = await opened(name, bytes)
    assert.deepEqual([found.encoding, found.preview.map(([text]) => text), found.warnings], [encoding, TEXTS.GBK, []])
  }
  assert.deepEqual(loaded, [])
  for (const [label, texts] of Object.entries(TEXTS)) {
    const found = await opened(`${label}.csv`, encoded(label, table(texts)))
    assert.equal(found.encoding, label)
    assert.deepEqual(found.preview.map(([text]) => text), texts)
    assert.match(found.warnings[0], new RegExp(`read as ${label} \\(a guess\\)`))
  }
  assert.equal(loaded.length, 2, `a script and its module, once: ${loaded}`)
})

test('where the module for other encodings cannot be loaded, the file is refused with a way out, and is read when it can', { timeout: 120_000 }, async (t) => {
  const page = await openPage(t, { webgpu: 'off' })
  await record(page)
  await at(page, 'device-reason').filter({ hasText: /./ }).waitFor()
  await page.context().route(`**/${MODULE}*`, (route) => route.abort())
  const bytes = encoded('windows-1251', table(TEXTS['windows-1251']))
  await chooseData(page, 'reviews.csv', bytes)
  await failure(page).waitFor()
  assert.match(await failure(page).textContent(), /reviews\.csv.*row 2.*not UTF-8.*save the file as UTF-8/is)
  await page.context().unroute(`**/${MODULE}*`)
  await chooseData(page, 'reviews.csv', bytes)
  await at(page, 'preview').waitFor()
  assert.equal((await events(page, 'data_opened')).at(-1).encoding, 'windows-1251')
})
