// Faults made on purpose in a real engine in the tab: memory that ends, numbers that are none, damaged files. runs.test.mjs has what
// browsers do by themselves.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPage, shot } from './harness.mjs'
import { LONG, SETTINGS, assertLosses, before, engine, finish, losses, ready, resumed, saved, taken } from './cut.mjs'
import { at, events, fill, record, train } from './steps.mjs'

/** Pages of 64 KiB that a module of 32 bits can have. */
const ALL = 65_536

/** Keeps hold of the engine's memory; `most()` pages are all that it may ever use. */
const holdMemory = (page, most = () => ALL) =>
  before(page, () => `
    const open = WebAssembly.instantiateStreaming;
    WebAssembly.instantiateStreaming = async (...args) => {
      const made = await open.apply(WebAssembly, args);
      self.engineWasm = made.instance.exports;
      // What is taken here the engine's allocator never gets.
      self.engineWasm.memory.grow(${ALL - most()});
      return made;
    };`)

const pages = (page) => engine(page).evaluate(() => self.engineWasm.memory.buffer.byteLength / 65_536)

/** Every start that the page asked for: whether it goes on, and how often memory had run out. */
const starts = (page) => page.evaluate(() => window.commands.filter(({ type }) => type === 'start').map(({ resume = false, smaller = 0 }) => [resume, smaller]))

test('a batch that does not fit into the memory of a tab is computed in parts, to the same losses', LONG, async (t) => {
  const page = await openPage(t)
  let most = ALL
  await holdMemory(page, () => most)
  await record(page)
  const large = { ...SETTINGS, max_steps: 3, batch_size: 32, lora_dropout: 0 }
  const run = async (settings) => {
    await page.reload()
    await ready(page, 'cpu', settings)
    await train(page)
  }
  await run(large)
  // Memory never shrinks: what there is at the end is the most that was needed.
  const [whole, needed] = [await losses(page), await pages(page)]
  await run({ ...large, batch_size: 16, gradient_accumulation_steps: 2 })
  const halves = await pages(page)
  assert.ok(needed > 1.1 * halves, `${needed} pages for a whole batch, ${halves} for its halves`)

  most = Math.round((needed + halves) / 2)
  await run({ ...large, gradient_accumulation_steps: '' })
  assert.deepEqual(await starts(page), [[false, 0], [true, 1]])
  const told = await at(page, 'run-warnings').textContent()
  assert.match(told, /ran out of memory \(no memory was left for an allocation, with \d{4} MiB in use\); a new one (began the run again|went on from the last checkpoint) with smaller batches/)
  await at(page, 'recovery').filter({ hasText: /memory ran out; each batch is now computed in 2 parts/ }).waitFor()
  await shot(page, 'out-of-memory')
  const [recovery] = await events(page, 'recovery')
  assert.deepEqual([recovery.cause, recovery.action, recovery.split], ['out_of_memory', 'smaller_micro_batch', 2])
  const [finished] = await events(page, 'finished')
  assert.deepEqual([finished.steps, finished.recoveries.length], [3, 1])
  assertLosses(await losses(page), whole, 1e-4)
  t.diagnostic(`${needed} pages for a whole batch, ${halves} for its halves, ${most} there`)
  page.faults.length = 0
})

test('an allocation that fails in the middle of a run costs the steps since the last checkpoint', LONG, async (t) => {
  const page = await openPage(t)
  await holdMemory(page)
  await record(page)
  await ready(page)
  await at(page, 'start').click()
  await saved(page, 4)
  const past = await losses(page)
  await engine(page).evaluate(() => {
    const { memory, __wbindgen_malloc: take } = self.engineWasm
    memory.grow(65_536 - memory.buffer.byteLength / 65_536)
    // And all that was free inside it.
    for (let size = 1 << 24; size >= 1 << 15; size >>= 1) {
      try {
        while (take(size, 8));
      } catch {
        // As an allocation of the engine's own ends.
      }
    }
  })
  const { step } = await resumed(page)
  assert.ok(step >= 4)
  await finish(page)
  assert.deepEqual(await starts(page), [[false, 0], [true, 1]])
  assert.match(await at(page, 'run-warnings').textContent(), /ran out of memory \(no memory was left.*went on from the last checkpoint with smaller batches/)
  const [recovery] = await events(page, 'recovery')
  assert.deepEqual([recovery.action, recovery.split, recovery.back_to], ['smaller_micro_batch', 2, step])
  assert.equal((await events(page, 'finished'))[0].steps, SETTINGS.max_steps)
  for (const [at, loss] of Object.entries(await losses(page))) if (Number(at) <= step) assert.equal(loss, past[at], `step ${at}`)
  page.faults.length = 0
})

test('a step whose loss comes back as no number is left out, and the run goes on', LONG, async (t) => {
  const page = await openPage(t)
  await before(page, () => `
    const read = GPUBuffer.prototype.getMappedRange;
    GPUBuffer.prototype.getMappedRange = function (...args) {
      const range = read.apply(this, args);
      if (!self.spoil || !(this.usage & GPUBufferUsage.MAP_READ)) return range;
      self.spoil = false;
      return new Uint32Array(Math.ceil(range.byteLength / 4)).fill(0x7fc00000).buffer;
    };`)
  await record(page)
  // Without checkpoints a step's loss and gradient are all that is read from the device.
  await ready(page, 'gpu', { ...SETTINGS, max_steps: 6, batch_size: 2, max_eval_samples: 2, lora_dropout: 0, save_steps: 0 })
  await at(page, 'start').click()
  await taken(page, 2)
  await engine(page).evaluate(() => (self.spoil = true))
  await finish(page)
  const [recovery, ...more] = await events(page, 'recovery')
  assert.deepEqual([recovery.cause, recovery.action, recovery.back_to, more.length], ['not_finite', 'skip_batch', null, 0])
  const steps = (await events(page, 'step')).map(({ step }) => step)
  assert.deepEqual(steps, [1, 2, 3, 4, 5, 6].filter((step) => step !== recovery.step))
  await at(page, 'recovery').filter({ hasText: /loss was no number/ }).waitFor()
  const [finished] = await events(page, 'finished')
  assert.ok(finished.steps === 6 && Number.isFinite(finished.after.loss), JSON.stringify(finished.after))
})

test('a learning rate beyond reason is refused, and one that ruins the run is lowered until it works', LONG, async (t) => {
  const page = await openPage(t)
  await record(page)
  await ready(page)
  await fill(page, { learning_rate: 1000 })
  await page.locator('#field-learning_rate-error').filter({ hasText: /training\.learning_rate.*at most 10, got 1000/ }).waitFor()

  await fill(page, { ...SETTINGS, max_steps: 80, learning_rate: 10, max_grad_norm: 0, warmup_steps: 4, lora_dropout: 0, learning_rate_factor: 0.01, divergence_patience: 3 })
  await page.locator('#field-learning_rate-error').waitFor({ state: 'hidden' })
  await at(page, 'plan').waitFor()
  await train(page)
  const back = (await events(page, 'recovery')).filter(({ action }) => action === 'lower_learning_rate')
  assert.ok(back.length >= 1 && back.length <= 3, JSON.stringify(back))
  assert.ok(back.every(({ cause, back_to }) => ['diverging', 'not_finite'].includes(cause) && back_to !== null), JSON.stringify(back))
  const last = (await events(page, 'step')).at(-1)
  assert.ok(last.learning_rate <= 10 * 0.01 ** back.length, `${last.learning_rate}`)
  const [finished] = await events(page, 'finished')
  assert.ok(finished.steps === 80 && Number.isFinite(finished.after.loss), JSON.stringify(finished.after))
  t.diagnostic(`${back.map(({ step, cause }) => `${cause} at step ${step}`).join(', ')}; loss ${finished.before.loss} to ${finished.after.loss}`)
})

/** Damages the newest checkpoints of the only run, each in another way; the steps that there were, the newest first. */
const damage = (page) =>
  page.evaluate(async () => {
    const runs = await (await navigator.storage.getDirectory()).getDirectoryHandle('runs')
    const { value: folder } = await runs.values().next()
    const steps = []
    for await (const name of folder.keys()) steps.push(Number(/^checkpoint-(\d+)\.sha256$/.exec(name)?.[1] ?? 0))
    const newest = steps.filter(Boolean).sort((a, b) => b - a)
    const change = async (step, to) => {
      const handle = await folder.getFileHandle(`checkpoint-${step}.safetensors`)
      const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer())
      const stream = await handle.createWritable()
      await stream.write(to(bytes))
      await stream.close()
    }
    await change(newest[0], (bytes) => bytes.slice(0, 1000))
    await change(newest[1], (bytes) => ((bytes[bytes.length - 1] ^= 4), bytes))
    await change(newest[2], () => new Uint8Array())
    // Cut off before its sum was written: not whole.
    await folder.removeEntry(`checkpoint-${newest[3]}.sha256`)
    return newest
  })

test('damaged checkpoints are told, and the one before them is gone on from', LONG, async (t) => {
  const page = await openPage(t)
  page.on('dialog', (dialog) => dialog.accept())
  await record(page)
  await ready(page, 'cpu', { ...SETTINGS, max_steps: 60, save_total_limit: 9 })
  await at(page, 'start').click()
  await saved(page, 12)
  const past = await losses(page)
  await page.reload()
  await page.getByTestId('cut-go-on').waitFor()
  const steps = await damage(page)
  await page.getByTestId('cut-go-on').click()
  const { step, damaged } = await resumed(page)
  assert.equal(step, steps[4], `${steps}`)
  assert.deepEqual(damaged.map((message) => Number(/checkpoint-(\d+)/.exec(message)[1])), steps.slice(0, 3))
  assert.ok(damaged.every((message) => /damaged/.test(message)), damaged.join())
  await finish(page)
  // The steps that were lost come again as they were.
  const now = await losses(page)
  const again = Object.keys(past).filter((at) => Number(at) > step)
  assert.ok(again.length > 0)
  for (const at of again) assert.equal(now[at], past[at], `step ${at}`)
  assert.match(await at(page, 'run-warnings').textContent(), /checkpoint-\d+\.safetensors/)
})

/** By how much of itself a loss may differ, as README.md says. */
const ON_A_GPU = 1e-3

test('on a graphics card a run goes on within the stated tolerance', LONG, async (t) => {
  const page = await openPage(t)
  page.on('dialog', (dialog) => dialog.accept())
  await record(page)
  const settings = { ...SETTINGS, max_steps: 6, batch_size: 2, max_eval_samples: 2, lora_dropout: 0 }
  await ready(page, 'gpu', settings)
  await train(page)
  const whole = await losses(page)
  await page.reload()
  await ready(page, 'gpu', settings)
  await at(page, 'start').click()
  await saved(page, 2)
  await page.reload()
  await page.getByTestId('cut-go-on').click()
  const { step } = await resumed(page)
  assert.ok(step >= 2)
  await finish(page)
  const now = await losses(page)
  assert.equal(Object.keys(now).at(-1), '6')
  assertLosses(now, whole, ON_A_GPU)
  const off = Math.max(...Object.entries(now).map(([at, loss]) => Math.abs(loss / whole[at] - 1)))
  t.diagnostic(`resumed at step ${step}; at most ${off.toExponential(1)} off`)
})
