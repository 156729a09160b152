// A tab's life around a run, over the fake engine: what is asked of the browser, what the page says, and what nobody is to lose.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { open } from './fake.mjs'
import { at, fill, go, openStarter } from './steps.mjs'

const state = (page, name) => at(page, 'run-state').and(page.locator(`[data-state="${name}"]`)).waitFor()

/** What was asked of the screen's lock so far. */
const awake = (page, expected) => page.waitForFunction((expected) => window.awake.join() === expected, expected)

test('while a run trains the screen stays on, storage is kept, and leaving is asked about', async (t) => {
  const page = await open(t)
  await page.addInitScript(() => {
    window.awake = []
    window.kept = 0
    const request = async (kind) => {
      window.awake.push(kind)
      window.lock = Object.assign(new EventTarget(), {
        release: async () => {
          window.awake.push('off')
          window.lock.dispatchEvent(new Event('release'))
        },
      })
      return window.lock
    }
    Object.defineProperty(navigator, 'wakeLock', { value: { request }, configurable: true })
    navigator.storage.persist = async () => ((window.kept += 1), true)
  })
  await page.reload()
  await at(page, 'storage').filter({ hasText: /B$/ }).waitFor()
  await openStarter(page)
  await go(page, 'data')
  await at(page, 'use-sample').click()
  await at(page, 'preview').waitFor()
  await fill(page, { max_steps: 1000 })
  await at(page, 'plan').waitFor()
  await awake(page, '')
  await at(page, 'start').click()
  await state(page, 'training')
  await awake(page, 'screen')
  assert.equal(await page.evaluate(() => window.kept), 1)
  await page.locator('#panel-train').filter({ hasText: /Training goes on while this tab is hidden/ }).waitFor()

  // A paused run lets the screen go, and takes it back.
  await at(page, 'pause').click()
  await state(page, 'paused')
  await awake(page, 'screen,off')
  await at(page, 'resume').click()
  await awake(page, 'screen,off,screen')
  // A hidden tab loses it; shown again it asks again.
  await page.evaluate(() => {
    window.lock.dispatchEvent(new Event('release'))
    document.dispatchEvent(new Event('visibilitychange'))
  })
  await awake(page, 'screen,off,screen,screen')

  const asking = page.waitForEvent('dialog')
  await page.close({ runBeforeUnload: true })
  const dialog = await asking
  assert.equal(dialog.type(), 'beforeunload')
  await dialog.dismiss()
  await state(page, 'training')

  await at(page, 'stop').click()
  await at(page, 'see-result').waitFor()
  await awake(page, 'screen,off,screen,screen,off')
  // Nothing is lost now: nobody is asked.
  let asked = 0
  page.on('dialog', (dialog) => ((asked += 1), dialog.accept()))
  await page.reload()
  assert.equal(asked, 0)
})
