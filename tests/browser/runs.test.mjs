// Runs that a browser cuts off: reloads, dead workers, lost graphics cards, full storage, second tabs.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPage, shot, watch } from './harness.mjs'
import { LONG, SETTINGS, assertLosses, before, engine, finish, losses, ready, resumed, saved } from './cut.mjs'
import { at, events, go, record, train } from './steps.mjs'

/** Closed and reloaded tabs in all. `PADDOCK_TEST_KILLS` asks for another number: a hundred take minutes. */
const CUTS = Number(process.env.PADDOCK_TEST_KILLS ?? 12)

/** Numbers from 0 to 1, the same ones each time. @param {number} seed */
const drawn = (seed) => () => ((seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32)

/** A tab that is gone from one moment to the next, and another one in its place. */
async function another(page) {
  const [url, context, { faults }] = [page.url(), page.context(), page]
  await page.close()
  const next = watch(await context.newPage(), faults)
  next.on('dialog', (dialog) => dialog.accept())
  await record(next)
  await next.goto(url)
  return next
}

/** Goes on with the run that was cut off; null where there is none. */
async function goOn(page) {
  const notice = page.getByTestId('cut-run').filter({ hasText: 'mail.csv' })
  for (;;) {
    if (!(await notice.waitFor({ timeout: 20_000 }).then(() => true, () => false))) return null
    if (!(await page.getByTestId('cut-elsewhere').count())) break
    // The closed tab still holds it.
    await page.waitForTimeout(100)
    await page.reload()
  }
  await page.getByTestId('cut-go-on').click()
  return resumed(page)
}

test(`a run whose tab is closed or reloaded at random moments (${CUTS} in all) goes on where it was, to the same end`, { timeout: 300_000 + 20_000 * CUTS }, async (t) => {
  let page = await openPage(t)
  page.on('dialog', (dialog) => dialog.accept())
  await record(page)
  await ready(page)
  await train(page)
  const whole = await losses(page)
  assert.equal(Object.keys(whole).length, SETTINGS.max_steps)
  const end = (await events(page, 'evaluation')).at(-1).metrics
  await page.reload()
  assert.ok(await page.getByTestId('cut-run').isHidden(), 'a finished run is not offered')

  const random = drawn(7)
  let [cuts, runs] = [0, 0]
  while (cuts < CUTS) {
    runs += 1
    await ready(page)
    await at(page, 'start').click()
    await saved(page, 2)
    let over = false
    while (!over && cuts < CUTS) {
      await page.waitForTimeout(random() * 600)
      const now = await losses(page)
      assertLosses(now, whole)
      const last = Math.max(...(await events(page, 'checkpoint')).map(({ step }) => step), 0)
      if ((await events(page, 'finished')).length) break
      page = random() < 0.5 ? await another(page) : (await page.reload(), page)
      cuts += 1
      if (cuts === 1) {
        await page.getByTestId('cut-run').waitFor()
        await shot(page, 'cut-run')
      }
      const from = await goOn(page)
      if (from) assert.ok(from.step >= last, `checkpoint of step ${last}, gone on from ${from.step}`)
      else {
        // It had come to its end in that very moment.
        assert.ok(now[SETTINGS.max_steps] !== undefined, `lost after step ${Math.max(...Object.keys(now))}`)
        over = true
      }
    }
    if (!over) {
      await finish(page)
      assertLosses(await losses(page), whole)
      assert.deepEqual((await events(page, 'evaluation')).at(-1).metrics, end)
      assert.equal((await events(page, 'finished'))[0].steps, SETTINGS.max_steps)
      // The chart has the steps of the sittings before.
      await shot(page, 'resumed')
      await page.reload()
    }
  }
  t.diagnostic(`${cuts} closed or reloaded tabs in ${runs} runs, the same losses and metrics`)
})

test('a worker that the browser ended is replaced, and the run goes on', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await ready(page)
  await at(page, 'start').click()
  await saved(page, 4)
  await engine(page).evaluate(() => self.close()).catch(() => {})
  await resumed(page)
  await finish(page)
  assert.match(await at(page, 'run-warnings').textContent(), /went on from the last checkpoint/)
  const [finished] = await events(page, 'finished')
  assert.equal(finished.steps, SETTINGS.max_steps)
  page.faults.length = 0
})

test('a graphics card that is lost in the middle of a step is opened again', LONG, async (t) => {
  const page = await openPage(t)
  await before(page, () => 'const open = GPUAdapter.prototype.requestDevice; GPUAdapter.prototype.requestDevice = async function (...args) { return (self.lastDevice = await open.apply(this, args)); };')
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
  await at(page, 'saved').filter({ hasText: /after a reload or a crash the run goes on from there.*storage are free/ }).waitFor()
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
