// Settings found by trying, in the page: the learning-rate test and a small sweep.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPage, shot } from './harness.mjs'
import { at, chooseData, events, fill, mapColumns, messages, openStarter, record } from './steps.mjs'

const LONG = { timeout: 900_000 }

test('a learning rate is found, and a small sweep compares settings with the ones that are', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await openStarter(page, 'cpu')
  await chooseData(page, 'mail.csv', messages(80))
  await mapColumns(page, 'message', 'kind')
  await fill(page, { max_steps: 6, batch_size: 4, max_seq_length: 32, max_eval_samples: 16 })
  await at(page, 'plan').waitFor()
  await at(page, 'tuning').click()
  await at(page, 'find-rate').click()
  await at(page, 'rate-told').waitFor({ timeout: 240_000 })
  const [curve] = await events(page, 'lr_curve')
  assert.ok(curve.points.length > 20 && curve.points[0].learning_rate < 1e-5)
  assert.ok(curve.suggestion === null || (curve.suggestion > 1e-6 && curve.suggestion < 1))
  if (curve.suggestion !== null) {
    await at(page, 'use-rate').click()
    // The page draws in the next frame.
    await page.waitForFunction((rate) => {
      const field = document.querySelector('section.panel:not([hidden]) [data-testid="field-learning_rate"]')
      return Math.abs(Number(field.value) / rate - 1) < 0.06
    }, curve.suggestion)
  }

  await at(page, 'sweep-rates').fill('0.0003, nonsense')
  await at(page, 'try-settings').and(page.locator(':disabled')).waitFor()
  await at(page, 'sweep-rates').fill('0.0003, 0.01')
  await at(page, 'sweep-ranks').fill('2')
  await at(page, 'sweep-steps').fill('5')
  await at(page, 'plan').waitFor()
  await at(page, 'try-settings').click()
  await at(page, 'sweep-verdict').waitFor({ timeout: 240_000 })
  const rows = await at(page, 'sweep-table').locator('tbody tr').allTextContents()
  // The settings as they are, and two rates with the rank.
  assert.equal(rows.length, 3, rows.join('\n'))
  assert.ok(rows.some((row) => /default/.test(row)) && rows.some((row) => /learning_rate 0\.01/.test(row)), rows.join('\n'))
  const finished = await events(page, 'finished')
  assert.deepEqual(finished.map(({ steps }) => steps), [5, 5, 5])
  await shot(page, 'tuning')
  if (await at(page, 'use-best').count()) {
    await at(page, 'use-best').click()
    await page.waitForFunction(() => document.querySelector('section.panel:not([hidden]) [data-testid="field-r"]').value === '2')
  }
  // Nothing of it is taken for a result.
  await page.getByTestId('step-train').and(page.locator(':disabled')).waitFor()
})
