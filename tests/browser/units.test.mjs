// The page's own arithmetic: axes, averages, and the form's way to a configuration and back.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nearest, smooth, thin, ticks } from '../../www/charts/scale.js'
import { FIELDS, namedField, readForm, resolvedValues, toConfig, unreadable } from '../../www/app/config.js'
import { initial, noRun, reduce, remaining } from '../../www/app/store.js'

const choices = { form: {}, device: 'auto', model: 'starter', data: 'mail.csv', textColumn: 'text', labelColumn: 'label' }

test('axes get a few round numbers inside the interval', () => {
  assert.deepEqual(ticks(0, 1, 4), [0, 0.25, 0.5, 0.75, 1])
  assert.deepEqual(ticks(0, 96, 5), [0, 20, 40, 60, 80])
  assert.deepEqual(ticks(0.1234, 0.1239, 4).every((tick) => tick >= 0.1234 && tick <= 0.1239), true)
  assert.deepEqual(ticks(3, 3, 4), [3])
  for (const [low, high] of [[-5, 7], [1e-9, 2e-9], [0, 1e9]]) assert.ok(ticks(low, high, 4).length >= 3)
})

test('the average starts at the first value and passes over what is no number', () => {
  const points = [3, 3, 3].map((y, x) => ({ x, y }))
  for (const point of smooth(points, 0.9)) assert.ok(Math.abs(point.y - 3) < 1e-12)
  const [, second] = smooth([{ x: 0, y: 0 }, { x: 1, y: 1 }], 0.5)
  assert.ok(Math.abs(second.y - 2 / 3) < 1e-12)
  const [first, hole, last] = smooth([{ x: 0, y: 2 }, { x: 1, y: NaN }, { x: 2, y: 2 }], 0.5)
  assert.deepEqual([first.y, Number.isNaN(hole.y), last.y], [2, true, 2])
})

test('a long series is thinned without losing its spikes', () => {
  const points = Array.from({ length: 10_000 }, (_, x) => ({ x, y: x === 7_777 ? 100 : Math.sin(x) }))
  const thinned = thin(points, 300)
  assert.ok(thinned.length <= 602)
  assert.ok(thinned.some(({ y }) => y === 100))
  assert.ok(thinned.every((point, i) => i === 0 || point.x > thinned[i - 1].x))
  assert.equal(thin(points.slice(0, 10), 300).length, 10)
})

test('the read-out finds the nearest step', () => {
  const points = [1, 5, 10].map((x) => ({ x, y: 0 }))
  assert.deepEqual([-3, 2, 4, 8, 99].map((x) => nearest(points, x)), [0, 0, 1, 2, 2])
})

test('an empty field is an absent key, and others keep their kind', () => {
  assert.deepEqual(toConfig(choices), {
    task: 'text-classification', device: 'auto',
    model: { name_or_path: 'starter' }, data: { train_file: 'mail.csv', text_column: 'text', label_column: 'label' }, training: {}, lora: {},
  })
  const config = toConfig({ ...choices, form: { batch_size: '0', learning_rate: '1e-3', method: 'full', target_modules: 'q_proj,v_proj', seed: '' } })
  assert.deepEqual(config.training, { batch_size: 0, learning_rate: 0.001, method: 'full' })
  assert.deepEqual(config.lora, { target_modules: ['q_proj', 'v_proj'] })
})

test('what is no number is found before it is sent', () => {
  assert.deepEqual(unreadable({ learning_rate: '1e-3', batch_size: '8', seed: '0', num_epochs: '0.5', method: 'lora' }), [])
  const odd = { learning_rate: 'NaN', batch_size: '1.5', seed: '-1', num_epochs: 'two', max_steps: '1e999' }
  assert.deepEqual(unreadable(odd).sort(), Object.keys(odd).sort())
})

test('only a form is remembered as one', () => {
  assert.deepEqual(readForm({ batch_size: '4', method: 'lora', unknown: 'x', seed: 7 }), { batch_size: '4', method: 'lora' })
  for (const spoilt of [null, 3, 'x', [], { method: 'magic' }, { seed: '1'.repeat(500) }]) assert.deepEqual(readForm(spoilt), {})
})

test("the engine's YAML gives the placeholders, and its errors their field", () => {
  const values = resolvedValues('task: text-classification\ntraining:\n  learning_rate: 5e-4 # a hint\n  max_steps: null\nlora:\n  r: 8\n  target_modules:\n  - q_proj\n')
  assert.deepEqual(values, { learning_rate: '5e-4', r: '8' })
  assert.equal(namedField('training.batch_size: expected a whole number from 1 to 65536, got 0'), 'batch_size')
  assert.equal(namedField('lora.r: expected 1 or more, got 0'), 'r')
  assert.equal(namedField('the file or a row is broken'), undefined)
  assert.ok(FIELDS.every(({ key, section }) => namedField(`${section}.${key}: no`) === key))
})

test('events move the state; a failure lands where it belongs', () => {
  const empty = initial({}, 'auto')
  const training = { ...empty, run: { ...noRun(), state: 'training' } }
  const stopped = reduce(reduce(training, { run: 'a', type: 'state', state: 'failed' }, null, 0), { run: 'a', type: 'failed', message: 'm', advice: 'a' }, null, 0)
  assert.equal(stopped.run.state, 'failed')
  assert.deepEqual(stopped.trouble, { train: { message: 'm', advice: 'a' } })
  const done = { ...empty, trained: true, run: { ...noRun(), state: 'succeeded' } }
  const asked = reduce(reduce(done, { run: 'a', type: 'state', state: 'failed' }, null, 0), { run: 'a', type: 'failed', message: 'm', advice: 'a' }, 'predict', 0)
  assert.equal(asked.run.state, 'succeeded', 'a text that cannot be classified does not undo the run')
  assert.ok(asked.trouble.result)
  assert.ok(reduce(empty, { run: '', type: 'failed', message: 'm', advice: 'a' }, 'open_data', 0).trouble.data)
})

test('the time left counts steps, not pauses', () => {
  const step = (n) => ({ run: 'a', type: 'step', step: n, total_steps: 10, epoch: 0, loss: 1, accuracy: 0, grad_norm: 1, learning_rate: 0, tokens_per_second: 1, seconds: 0 })
  let state = reduce(initial({}, 'auto'), { run: 'a', type: 'state', state: 'training' }, null, 1000)
  state = reduce(state, step(1), null, 2000)
  state = reduce(state, step(2), null, 3000)
  assert.ok(Math.abs(remaining(state.run) - 8) < 1e-9)
  state = reduce(state, { run: 'a', type: 'state', state: 'paused' }, null, 3100)
  state = reduce(state, { run: 'a', type: 'state', state: 'training' }, null, 90_000)
  state = reduce(state, step(3), null, 91_000)
  assert.ok(Math.abs(remaining(state.run) - 7) < 1e-9)
})
