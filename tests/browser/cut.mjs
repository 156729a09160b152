// What the tests of runs that are cut off or disturbed share: a run's settings, its losses, and the engine's worker behind the page.

import assert from 'node:assert/strict'
import { at, chooseData, events, fill, mapColumns, messages, openStarter } from './steps.mjs'

export const LONG = { timeout: 900_000 }
export const SETTINGS = { max_steps: 24, batch_size: 4, max_seq_length: 32, max_eval_samples: 8, learning_rate: 0.003, lora_dropout: 0.1, logging_steps: 1, save_steps: 2 }

/** Everything is ready for a start. */
export async function ready(page, device = 'cpu', settings = SETTINGS) {
  await openStarter(page, device)
  await chooseData(page, 'mail.csv', messages(80))
  await mapColumns(page, 'message', 'kind')
  await fill(page, settings)
  await at(page, 'plan').waitFor()
}

export const losses = async (page) => Object.fromEntries((await events(page, 'step')).map(({ step, loss }) => [step, loss]))

/** Each loss of this sitting against the same step's of another run, by at most this part of itself. */
export function assertLosses(now, whole, part = 0) {
  for (const [step, loss] of Object.entries(now)) assert.ok(Math.abs(loss - whole[step]) <= part * whole[step], `step ${step}: ${loss}, elsewhere ${whole[step]}`)
}

/** A run has a checkpoint of this step or a later one. */
export const saved = (page, step) => page.waitForFunction((step) => window.recorded.some((event) => event.type === 'checkpoint' && event.step >= step), step, { timeout: 120_000 })

/** A run has taken this step. */
export const taken = (page, step) => page.waitForFunction((step) => window.recorded.some((event) => event.type === 'step' && event.step >= step), step, { timeout: 120_000 })

/** A run goes on from a checkpoint: its event. */
export async function resumed(page) {
  await page.waitForFunction(() => window.recorded.some((event) => event.type === 'resumed'), null, { timeout: 120_000 })
  return (await events(page, 'resumed'))[0]
}

/** The page's engine, as a person never sees it. */
export const engine = (page) => page.workers().find((worker) => worker.url().endsWith('worker.js') && !worker.url().includes('hub'))

/** Puts a script before the engine's own, from the next load on: what drivers and machines do, a test has to do by hand. */
export function before(page, script) {
  return page.route('**/worker.js', async (route) => {
    const response = await route.fetch()
    await route.fulfill({ response, body: `{ ${script()} }\n${await response.text()}` })
  })
}

export async function finish(page) {
  const open = 'section.panel:not([hidden])'
  await page.locator(`${open} [data-testid="see-result"]:visible, ${open} [data-testid="error"]:visible, [data-testid="crash"]:visible`).first().waitFor({ timeout: 240_000 })
  assert.equal(await at(page, 'error').count(), 0, (await at(page, 'error').allTextContents()).join())
  assert.ok(await page.getByTestId('crash').isHidden(), await page.getByTestId('crash').textContent())
}
