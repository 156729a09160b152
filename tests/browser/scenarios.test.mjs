// Tasks that answer, in the tab, with the real engine on the starter: from the file to the answer.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { ROOT, openPage, shot } from './harness.mjs'
import { at, chooseData, events, failure, fill, go, openStarter, record, train } from './steps.mjs'

const LONG = { timeout: 900_000 }
const COLOURS = ['blue', 'green', 'gold', 'black']
const QUICK = { max_steps: 6, batch_size: 4, max_seq_length: 64, max_generated_samples: 3, max_new_tokens: 5, max_eval_samples: 8 }

const squad = (rows) =>
  JSON.stringify({
    version: '1.1',
    data: [{
      title: 't',
      paragraphs: Array.from({ length: rows }, (_, i) => ({
        context: `The <b>ship</b> number ${i} was painted ${COLOURS[i % 4]}.`,
        qas: [{ id: `${i}`, question: `What colour is ship ${i}?`, answers: [{ text: COLOURS[i % 4], answer_start: 0 }] }],
      })),
    }],
  })

/** What came out: the table has the task's metrics before and after, and answers stand beside each other. */
async function result(page, metrics) {
  await at(page, 'see-result').click()
  for (const key of metrics) {
    assert.match(await at(page, `metric-before-${key}`).textContent(), /\d/)
    assert.match(await at(page, `metric-after-${key}`).textContent(), /\d/)
  }
  await at(page, 'samples').waitFor()
}

async function ask(page, fields) {
  for (const [id, text] of Object.entries(fields)) await at(page, id).fill(text)
  await at(page, 'classify').click()
  await at(page, 'prediction-label').waitFor({ timeout: 120_000 })
  const [answer] = (await events(page, 'prediction')).slice(-1)
  assert.ok(['stop', 'length'].includes(answer.finish_reason), JSON.stringify(answer))
  return answer
}

test('question answering: SQuAD file, columns found, answered before and after, asked with its text', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  await chooseData(page, 'ships.json', squad(48))
  await at(page, 'task-question-answering').waitFor()
  await at(page, 'task-question-answering').and(page.locator(':checked')).waitFor()
  assert.equal(await at(page, 'question-column').inputValue(), 'question')
  assert.equal(await at(page, 'context-column').inputValue(), 'context')
  assert.equal(await at(page, 'answer-column').inputValue(), 'answers')
  await fill(page, QUICK)
  await at(page, 'plan').waitFor()
  const plan = (await events(page, 'plan')).at(-1)
  assert.equal(plan.shape, 'question-answer')
  assert.match(plan.examples[0].given, /The <b>ship<\/b> number \d+ was painted \w+\.\n\nQuestion: What colour is ship \d+\?\nAnswer:$/)
  // A cell's tags are text.
  assert.equal(await at(page, 'plan').locator('b').count(), 0)
  await train(page, 600_000)
  await result(page, ['f1', 'exact_match', 'perplexity'])
  const after = (await events(page, 'evaluation')).at(-1)
  assert.equal(after.answered, 3)
  assert.ok('f1' in after.changes && 'loss' in after.intervals)
  const { fields: parts } = after.samples[0]
  assert.deepEqual(Object.keys(parts).sort(), ['context', 'question'])
  assert.equal(await at(page, 'sample-context').first().textContent(), parts.context)
  await at(page, 'try-example').click()
  assert.deepEqual([await at(page, 'try-text').inputValue(), await at(page, 'try-context').inputValue()], [parts.question, parts.context])
  await shot(page, 'question-answering')
  await ask(page, { 'try-text': 'What colour is the door?', 'try-context': 'The door is gold.' })
  const { texts, fields } = (await page.evaluate(() => window.commands.filter(({ type }) => type === 'predict'))).at(-1)
  assert.deepEqual([texts, fields], [['What colour is the door?'], [{ context: 'The door is gold.' }]])
})

test('text generation learns instructions, summarisation documents', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  const rows = Array.from({ length: 40 }, (_, i) => ({ instruction: `Name the colour of thing ${i % 4}.`, input: '', output: COLOURS[i % 4] }))
  await chooseData(page, 'alpaca.json', JSON.stringify(rows))
  await at(page, 'task-text-generation').waitFor()
  await at(page, 'task-text-generation').and(page.locator(':checked')).waitFor()
  assert.equal(await at(page, 'completion-column').inputValue(), 'output')
  await fill(page, QUICK)
  await at(page, 'plan').waitFor()
  await train(page, 600_000)
  await result(page, ['rougeL', 'bleu', 'perplexity'])
  await ask(page, { 'try-text': 'Name the colour of thing 2.' })

  const papers = ['document,summary', ...Array.from({ length: 40 }, (_, i) => `"Report ${i}. The harvest of ${i + 1800} was good, and prices fell.","Good harvest ${i + 1800}."`)]
  await chooseData(page, 'reports.csv', papers.join('\n'))
  await at(page, 'task-summarization').waitFor()
  await at(page, 'task-summarization').and(page.locator(':checked')).waitFor()
  await fill(page, QUICK)
  await at(page, 'plan').waitFor()
  await train(page, 600_000)
  await result(page, ['rougeL', 'rouge1', 'rouge2'])
  await go(page, 'result')
  await ask(page, { 'try-text': 'The harvest of 1900 was good.' })
})

test('Parquet files are read in the tab, and what it cannot unpack is named', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  const golden = (name) => readFile(join(ROOT, 'tests', 'golden', 'parquet', name))
  for (const [name, rows, task] of [['labels.parquet', '30', 'text-classification'], ['squad.parquet', '12', 'question-answering'], ['plain-gzip.parquet', '400', 'text-classification']]) {
    await chooseData(page, name, await golden(name))
    await at(page, 'data-rows').filter({ hasText: rows }).waitFor()
    assert.equal((await events(page, 'data_opened')).at(-1).format, 'parquet')
    await at(page, `task-${task}`).and(page.locator(':checked')).waitFor()
  }
  const { columns } = (await events(page, 'data_opened')).find(({ name }) => name === 'labels.parquet')
  assert.deepEqual(columns.find(({ name }) => name === 'label').values.map(([value]) => value).sort(), ['negative', 'neutral', 'positive'])
  await chooseData(page, 'plain-zstd.parquet', await golden('plain-zstd.parquet'))
  await failure(page).filter({ hasText: 'zstd' }).filter({ hasText: 'compression="snappy"' }).waitFor()
  // The worker lived through it.
  const whole = await golden('plain-gzip.parquet')
  await chooseData(page, 'cut.parquet', whole.subarray(0, whole.length / 2))
  await failure(page).filter({ hasText: 'damaged' }).waitFor()
  await chooseData(page, 'labels.parquet', await golden('labels.parquet'))
  await at(page, 'data-rows').filter({ hasText: '30' }).waitFor()
})
