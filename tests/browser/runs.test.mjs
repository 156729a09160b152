// Runs that a browser cuts off: reloads, dead workers, lost graphics cards, full storage, second tabs.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPage, shot } from './harness.mjs'
import { at, chooseData, events, fill, go, mapColumns, messages, openStarter, record, train } from './steps.mjs'

const LONG = { timeout: 900_000 }
const SETTINGS = { max_steps: 24, batch_size: 4, max_seq_length: 32, max_eval_samples: 8, learning_rate: 0.003, lora_dropout: 0.1, logging_steps: 1, save_steps: 2 }

/** Everything is ready for a start. */
async function ready(page, device = 'cpu', settings = SETTINGS) {
  await openStarter(page, device)
  await chooseData(page, 'mail.csv', messages(80))
  await mapColumns(page, 'message', 'kind')
  await fill(page, settings)
  await at(page, 'plan').waitFor()
}

const losses = async (page) => Object.fromEntries((await events(page, 'step')).map(({ step, loss }) => [step, loss]))

/** A run has a checkpoint of this step or a later one. */
const saved = (page, step) => page.waitForFunction((step) => window.recorded.some((event) => event.type === 'checkpoint' && event.step >= step), step, { timeout: 120_000 })

/** The page's engine, as a person never sees it. */
const engine = (page) => page.workers().find((worker) => worker.url().endsWith('worker.js') && !worker.url().includes('hub'))

async function finish(page) {
  const open = 'section.panel:not([hidden])'
  await page.locator(`${open} [data-testid="see-result"]:visible, ${open} [data-testid="error"]:visible, [data-testid="crash"]:visible`).first().waitFor({ timeout: 240_000 })
  assert.equal(await at(page, 'error').count(), 0, (await at(page, 'error').allTextContents()).join())
  assert.ok(await page.getByTestId('crash').isHidden(), await page.getByTestId('crash').textContent())
}

test('a page reloaded in the middle of a run goes on where it was, to the same end', LONG, async (t) => {
  const page = await openPage(t)
  page.on('dialog', (dialog) => dialog.accept())
  await record(page)
  await ready(page)
  await train(page)
  const whole = await losses(page)
  assert.equal(Object.keys(whole).length, SETTINGS.max_steps)
  const end = (await events(page, 'evaluation')).at(-1).metrics

  await page.reload()
  assert.ok(await page.getByTestId('cut-run').isHidden(), 'a finished run is not offered')
  await ready(page)
  await at(page, 'start').click()
  let cuts = 0
  for (const [least, wait] of [[2, 0], [4, 130], [8, 310], [10, 570], [14, 20], [16, 90], [18, 260]]) {
    await saved(page, least)
    await page.waitForTimeout(wait)
    for (const [step, loss] of Object.entries(await losses(page))) assert.equal(loss, whole[step], `step ${step} after ${cuts} cuts`)
    if ((await events(page, 'finished')).length) break
    cuts += 1
    await page.reload()
    const notice = page.getByTestId('cut-run')
    await notice.filter({ hasText: 'mail.csv' }).waitFor()
    if (cuts === 1) await shot(page, 'cut-run')
    await page.getByTestId('cut-go-on').click()
    await page.waitForFunction(() => window.recorded.some((event) => event.type === 'resumed'), null, { timeout: 120_000 })
  }
  assert.ok(cuts >= 3, `only ${cuts} cuts`)
  await finish(page)
  for (const [step, loss] of Object.entries(await losses(page))) assert.equal(loss, whole[step], `step ${step}`)
  assert.deepEqual((await events(page, 'evaluation')).at(-1).metrics, end)
  // The chart has the steps of the sittings before.
  const [finished] = await events(page, 'finished')
  assert.equal(finished.steps, SETTINGS.max_steps)
  await shot(page, 'resumed')
  t.diagnostic(`${cuts} reloads, the same losses and metrics`)
})

test('a worker that the browser ended is replaced, and the run goes on', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await ready(page)
  await at(page, 'start').click()
  await saved(page, 4)
  await engine(page).evaluate(() => self.close()).catch(() => {})
  await page.waitForFunction(() => window.recorded.some((event) => event.type === 'resumed'), null, { timeout: 120_000 })
  await finish(page)
  assert.match(await at(page, 'run-warnings').textContent(), /went on from the last checkpoint/)
  const [finished] = await events(page, 'finished')
  assert.equal(finished.steps, SETTINGS.max_steps)
  page.faults.length = 0
})

test('a graphics card that is lost in the middle of a step is opened again', LONG, async (t) => {
  const page = await openPage(t)
  // What a driver does, a test has to do by hand: it keeps hold of the device.
  await page.route('**/worker.js', async (route) => {
    const response = await route.fetch()
    const hook = 'const open = GPUAdapter.prototype.requestDevice; GPUAdapter.prototype.requestDevice = async function (...args) { return (self.lastDevice = await open.apply(this, args)); };\n'
    await route.fulfill({ response, body: hook + (await response.text()) })
  })
  await record(page)
  await ready(page, 'gpu', { ...SETTINGS, max_steps: 8, batch_size: 2, max_eval_samples: 2, lora_dropout: 0 })
  await at(page, 'start').click()
  await saved(page, 2)
  await engine(page).evaluate(() => self.lastDevice.destroy())
  await finish(page)
  const [recovery] = await events(page, 'recovery')
  assert.deepEqual([recovery.cause, recovery.action, recovery.attempt], ['device_lost', 'new_device', 1])
  assert.ok(recovery.back_to >= 2)
  const steps = (await events(page, 'step')).map(({ step }) => step)
  assert.equal(steps.at(-1), 8)
  await at(page, 'recovery').filter({ hasText: /graphics card/ }).waitFor()
  await shot(page, 'recovered')
  page.faults.length = 0
})

test('a second tab is kept off a run', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await ready(page, 'cpu', { ...SETTINGS, max_steps: 4000 })
  await at(page, 'start').click()
  await saved(page, 2)
  const second = await page.context().newPage()
  await second.goto(page.url())
  await second.getByTestId('cut-elsewhere').waitFor()
  assert.equal(await second.getByTestId('cut-go-on').count(), 0)
  await second.close()
  await at(page, 'stop').click()
  await finish(page)
})

test('storage that is full costs checkpoints, not the run', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await ready(page, 'cpu', { ...SETTINGS, save_total_limit: 8 })
  const session = await page.context().newCDPSession(page)
  const { usage } = await page.evaluate(() => navigator.storage.estimate())
  await session.send('Storage.overrideQuotaForOrigin', { origin: new URL(page.url()).origin, quotaSize: usage + 2_500_000 })
  await train(page)
  const [finished] = await events(page, 'finished')
  const trouble = [...(await events(page, 'recovery')).map(({ action }) => action), ...(await events(page, 'warning')).map(({ message }) => message)]
  assert.ok(trouble.some((one) => one === 'free_storage' || /could not be written/.test(one)), trouble.join())
  assert.equal(finished.steps, SETTINGS.max_steps)
  t.diagnostic(trouble.join('; '))
})

test('a cut run can be deleted', LONG, async (t) => {
  const page = await openPage(t)
  page.on('dialog', (dialog) => dialog.accept())
  await record(page)
  await ready(page)
  await at(page, 'start').click()
  await saved(page, 2)
  await page.reload()
  await page.getByTestId('cut-forget').click()
  await page.getByTestId('cut-run').waitFor({ state: 'detached' })
  await page.reload()
  await go(page, 'model')
  assert.equal(await page.getByTestId('cut-run').count(), 0)
})
