// The page's steps as a person takes them, for the tests of the page and of the whole flow.

import assert from 'node:assert/strict'

/** What the page shows under a test id, in the step that is open. */
export const at = (page, id) => page.locator(`section.panel:not([hidden]) [data-testid="${id}"]`)

export const failure = (page) => at(page, 'error')

/** Keeps every event that the worker sends from the next load on, as `events(page)` gives them, and every command to it. */
export async function record(page) {
  await page.addInitScript(() => {
    window.recorded = []
    window.commands = []
    window.Worker = class extends Worker {
      postMessage(message, ...rest) {
        // The hub's worker takes other messages.
        if (message.command) window.commands.push({ ...message.command, files: message.files.map(({ name }) => name) })
        super.postMessage(message, ...rest)
      }

      constructor(...args) {
        super(...args)
        this.addEventListener('message', ({ data }) => data.envelope && window.recorded.push(data.envelope))
      }
    }
  })
  await page.reload()
}

export const events = (page, type) => page.evaluate((type) => window.recorded.filter((event) => event.type === type), type)

/** The last command of a type that the page sent, with its files' names. */
export const sent = (page, type) => page.evaluate((type) => window.commands.filter((command) => command.type === type).at(-1), type)

export async function go(page, step) {
  await page.getByTestId(`step-${step}`).click()
  await page.locator(`#panel-${step}`).waitFor()
}

export async function openStarter(page, device = 'cpu') {
  await page.getByTestId('device-reason').filter({ hasText: /./ }).waitFor()
  await page.getByTestId(`device-${device}`).check()
  await go(page, 'model')
  await at(page, 'open-starter').click()
  await at(page, 'model-summary').waitFor()
}

/** Through the file dialog. `content`: text or bytes. */
export async function chooseData(page, name, content) {
  await go(page, 'data')
  await at(page, 'data-input').setInputFiles({ name, mimeType: 'text/csv', buffer: Buffer.from(content) })
}

/** By drop, as from the desktop. */
export async function dropData(page, name, content) {
  await go(page, 'data')
  await drop(page, at(page, 'data-drop'), name, content)
}

export async function drop(page, target, name, content) {
  const dataTransfer = await page.evaluateHandle(
    ({ name, content }) => {
      const transfer = new DataTransfer()
      transfer.items.add(new File([content], name))
      return transfer
    },
    { name, content },
  )
  await target.dispatchEvent('drop', { dataTransfer })
}

export async function mapColumns(page, text, label) {
  await at(page, 'text-column').selectOption(text)
  await at(page, 'label-column').selectOption(label)
}

/** Fills the settings' fields by their keys, advanced ones too; '' is the default. */
export async function fill(page, settings) {
  await go(page, 'settings')
  for (const id of ['measuring', 'advanced', 'care']) {
    const more = at(page, id)
    if (!(await more.evaluate((summary) => summary.parentElement.open))) await more.click()
  }
  for (const [key, value] of Object.entries(settings)) {
    const field = at(page, `field-${key}`)
    if ((await field.evaluate((element) => element.tagName)) === 'SELECT') await field.selectOption(String(value))
    else await field.fill(String(value))
  }
}

/** Starts the run and waits for its end; fails with the page's own words where it failed. */
export async function train(page, timeout = 300_000) {
  await at(page, 'start').click()
  await page.locator('#panel-train').waitFor()
  const open = 'section.panel:not([hidden])'
  await page.locator(`${open} [data-testid="see-result"]:visible, ${open} [data-testid="error"]:visible, [data-testid="crash"]:visible`).first().waitFor({ timeout })
  assert.equal(await failure(page).count(), 0, (await failure(page).allTextContents()).join())
  assert.ok(await page.getByTestId('crash').isHidden(), await page.getByTestId('crash').textContent())
}

/** A number that the page shows rounded and keeps exact beside it. */
export const valueOf = async (page, id) => Number(await at(page, id).getAttribute('data-value'))

export async function classify(page, text) {
  await at(page, 'try-text').fill(text)
  await at(page, 'classify').click()
  await page.locator('.asked', { hasText: text }).waitFor()
  const label = await at(page, 'prediction-label').textContent()
  const scores = JSON.parse(await at(page, 'prediction-scores').getAttribute('data-scores'))
  return { label, scores: Object.fromEntries(scores) }
}

/** A file for a dialog: `setInputFiles(named('run.yaml', 'seed: 1'))`. */
export const named = (name, content) => ({ name, mimeType: '', buffer: Buffer.from(content) })

/** Reviews with a number from 0 to 10 that their words decide, none twice, from the day `from` on. Always the same rows. */
export function reviews(rows, from = 0) {
  const words = [['dreadful', 0], ['poor', 2.5], ['fair', 5], ['fine', 7.5], ['splendid', 9.5]]
  const things = ['plot', 'cast', 'music', 'scene', 'ending', 'dialogue', 'picture']
  const lines = ['text,score']
  for (let i = from; i < from + rows; i += 1) {
    const [word, score] = words[(i * 3) % words.length]
    lines.push(`"The ${things[i % things.length]}, seen on day ${i}, is ${word}.",${(score + (i % 10) / 20 + i / 10_000).toFixed(4)}`)
  }
  return `${lines.join('\n')}\n`
}

/** Short messages of two kinds that share their grammar, so that the words decide. Always the same rows. */
export function messages(rows) {
  const openings = ['Hello', 'Dear friend', 'Good morning', 'Hi there', 'To whom it may concern']
  const bodies = {
    spam: ['claim your free prize money now', 'cheap pills with no prescription', 'earn cash from home with one click', 'lowest mortgage rates, act now', 'you have won a free cruise'],
    ham: ['the meeting moved to Thursday at ten', 'thank you for the patch, it works', 'could you review the attached notes', 'the children enjoyed the garden', 'the train to town leaves at noon'],
  }
  const endings = ['See you soon.', 'Best regards.', 'Please reply today.', 'Let me know.', 'Thanks.', 'Bye.', 'Cheers.']
  const lines = ['id,message,kind']
  for (let i = 0; i < rows; i += 1) {
    const kind = i % 5 < 3 ? 'ham' : 'spam'
    lines.push(`${i},"${openings[i % openings.length]}, ${bodies[kind][(i * 7) % 5]}. ${endings[(i * 3) % 7]}",${kind}`)
  }
  return `${lines.join('\n')}\n`
}
