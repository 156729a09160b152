// The page's own arithmetic: axes, averages, and the form's way to a configuration and back.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { nearest, smooth, thin, ticks } from '../../www/charts/scale.js'
import { DEVICES, FIELDS, METRICS_OF_TASK, MODULES, changed, fromConfig, namedField, readForm, taken, toConfig, unreadable } from '../../www/app/config.js'
import { changeOf, kindOf, know, mainMetric, metricsOf, shownMetrics } from '../../www/app/metrics.js'
import { initial, noRun, reduce, remaining, runSettings, taskOf } from '../../www/app/store.js'
import { answerRole, byFit, inputRoles, possibleShapes, preset, shapeOf, unmapped } from '../../www/app/tasks.js'
import { SCENARIOS } from './fake-parts.js'

const choices = { form: {}, kept: {}, heldOut: '', regression: false, device: 'auto', model: 'starter', data: 'mail.csv', task: '', shape: '', columns: { text: 'text', label: 'label' } }

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

test('an answer grows piece by piece until it is whole', () => {
  const piece = (text) => ({ run: '', type: 'text_delta', index: 0, text })
  const state = ['It', ' <b>is', ' 犬'].reduce((state, text) => reduce(state, piece(text), null, 0), initial({}, 'auto'))
  assert.deepEqual([state.answer, state.prediction], ['It <b>is 犬', null])
  const whole = { run: '', type: 'prediction', index: 0, label: 'It <b>is 犬', scores: [], finish_reason: 'stop' }
  assert.equal(reduce(state, whole, null, 0).prediction.finish_reason, 'stop')
})

test('the read-out finds the nearest step', () => {
  const points = [1, 5, 10].map((x) => ({ x, y: 0 }))
  assert.deepEqual([-3, 2, 4, 8, 99].map((x) => nearest(points, x)), [0, 0, 1, 2, 2])
})

test('an empty field is an absent key, and others keep their kind', () => {
  assert.deepEqual(toConfig(choices), {
    task: 'text-classification', device: 'auto',
    model: { name_or_path: 'starter' }, data: { train_file: 'mail.csv', text_column: 'text', label_column: 'label' }, training: {}, evaluation: {}, lora: {}, recovery: {},
  })
  const config = toConfig({ ...choices, form: { batch_size: '0', learning_rate: '1e-3', method: 'full', target_modules: 'q_proj,v_proj', seed: '' } })
  assert.deepEqual(config.training, { batch_size: 0, learning_rate: 0.001, method: 'full' })
  assert.deepEqual(config.lora, { target_modules: ['q_proj', 'v_proj'] })
})

test('what belongs to answers is sent with tasks that answer only', () => {
  const form = { packing: 'true', max_new_tokens: '16', batch_size: '4' }
  assert.deepEqual(toConfig({ ...choices, form, answers: true }).training, { packing: true, batch_size: 4 })
  const { training, evaluation } = toConfig({ ...choices, form, answers: false })
  assert.deepEqual([training, evaluation], [{ batch_size: 4 }, {}])
})

test('a file of held-out rows replaces the share, and a number is learned with one output', () => {
  const config = toConfig({ ...choices, form: { validation_split: '0.2' }, heldOut: 'held.csv', regression: true })
  assert.deepEqual(config.data, { train_file: 'mail.csv', validation_file: 'held.csv', text_column: 'text', label_column: 'label' })
  assert.equal(config.model.num_labels, 1)
})

test('a written configuration goes onto the form and comes back whole', () => {
  const written = {
    task: 'question-answering', device: 'cpu', kernels: 'stock',
    model: { type: 'llama', name_or_path: 'starter', num_labels: 3, max_seq_length: 64 },
    data: { train_file: 'mail.csv', validation_split: 0.25, shape: 'question-answer', question_column: 'q', context_column: 'page', answer_column: 'a', apply_chat_template: false, max_eval_samples: 10 },
    training: { method: 'full', learning_rate: 3e-7, adam_epsilon: 1e-8, seed: 0 },
    evaluation: { success_metric: 'f1', min_gain: 0.02, max_generated_samples: 0, max_new_tokens: 16 },
    lora: { r: 4, target_modules: ['v_proj', 'q_proj'] },
    recovery: { max_retries: 1 },
  }
  const { form, kept, device, task, shape, columns, regression, files } = fromConfig(written)
  assert.deepEqual(files, ['starter', 'mail.csv'])
  assert.deepEqual(kept, { kernels: 'stock', 'model.type': 'llama', 'model.num_labels': 3 })
  assert.deepEqual(toConfig({ ...choices, form, kept, device, task, shape, columns, regression }), written)
  assert.deepEqual(columns, { question: 'q', context: 'page', answer: 'a' })
})

test('absent keys are empty fields, and what the form cannot show is refused, not lost', () => {
  // As the engine sends it: null where nothing is written.
  const nothing = { model: {}, data: {}, training: { seed: null, batch_size: null }, evaluation: { min_gain: null }, lora: { target_modules: null }, recovery: {} }
  assert.deepEqual(fromConfig(nothing), { form: {}, kept: {}, device: undefined, task: undefined, shape: '', columns: {}, regression: false, files: [] })
  assert.equal(fromConfig({ ...nothing, lora: { target_modules: [...MODULES].reverse() } }).form.target_modules, '', 'all of them is the default')
  const odd = fromConfig({ ...nothing, device: 'tpu', model: { num_labels: 1 }, training: { learning_rate: NaN }, lora: { target_modules: [] } })
  assert.equal(odd.regression, true)
  assert.deepEqual(odd.kept, { device: 'tpu' })
  assert.deepEqual(unreadable(odd.form), ['learning_rate'])
  const back = toConfig({ ...choices, ...odd, device: 'auto' })
  assert.deepEqual([back.device, back.lora.target_modules], ['tpu', ['', '']])
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

test("the form's kinds and choices are the engine's", async () => {
  const schema = JSON.parse(await readFile(new URL('../../docs/run.schema.json', import.meta.url), 'utf8'))
  for (const { key, section, kind, options } of FIELDS) {
    const of = schema.properties[section].properties[key]
    const wanted = { number: of.type, integer: of.type, choice: of.enum ? 'choice' : of.type, modules: of.type }[kind]
    assert.equal({ number: 'number', integer: 'integer', choice: of.enum ? 'choice' : 'boolean', modules: 'array' }[kind], wanted, key)
    if (options === METRICS_OF_TASK) assert.ok(SCENARIOS.flatMap(({ metrics, number_metrics }) => [...metrics, ...number_metrics]).every(({ id }) => of.enum.includes(id)), key)
    else if (kind === 'choice') assert.deepEqual(options, of.enum ?? ['false', 'true'], key)
    if (kind === 'modules') assert.deepEqual(MODULES, of.items.enum)
  }
  assert.deepEqual(DEVICES, schema.properties.device.enum)
})

test('keys without a field, of today and of tomorrow, are kept', () => {
  const written = { task: 'text-classification', device: 'cpu', model: {}, data: {}, training: { report_to: 'tensorboard' }, evaluation: {}, lora: {}, recovery: { retries: 2 } }
  const { kept, form } = fromConfig(written)
  assert.deepEqual(kept, { 'training.report_to': 'tensorboard', 'recovery.retries': 2 })
  const back = toConfig({ ...choices, form, kept, model: '', data: '', columns: {}, device: 'cpu' })
  assert.deepEqual(back, written)
})

test("the engine's values are the placeholders, and its errors name their field", () => {
  const config = { model: {}, data: {}, training: { learning_rate: 5e-4, gradient_checkpointing: false, max_steps: null }, lora: { r: 8 } }
  const values = FIELDS.map((field) => [field.key, taken(config, field)]).filter(([, value]) => value !== undefined)
  assert.deepEqual(values, [['learning_rate', '0.0005'], ['r', '8'], ['gradient_checkpointing', 'false']])
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
  assert.deepEqual(stopped.trouble, { train: { message: 'm', advice: 'a', engine: true } })
  const done = { ...empty, trained: true, run: { ...noRun(), state: 'succeeded' } }
  const asked = reduce(reduce(done, { run: 'a', type: 'state', state: 'failed' }, null, 0), { run: 'a', type: 'failed', message: 'm', advice: 'a' }, 'predict', 0)
  assert.equal(asked.run.state, 'succeeded', 'a text that cannot be classified does not undo the run')
  assert.ok(asked.trouble.result)
  assert.ok(reduce(empty, { run: '', type: 'failed', message: 'm', advice: 'a' }, 'open_data', 0).trouble.data)
})

test('work outside a run leaves the run alone until the engine has let go of its model', () => {
  const event = (state, type, fields = {}) => reduce(state, { run: 'a', type, ...fields }, null, 0)
  const summary = { completed: true, steps: 1, seconds: 1, before: null, after: null, rows: 1 }
  const done = { ...initial({}, 'auto'), trained: true, data: { name: 'mail.csv' }, run: { ...noRun(), state: 'succeeded', summary } }
  const measuring = { ...done, busy: { evaluate: true } }
  const measured = event(event(event(measuring, 'state', { state: 'evaluating' }), 'progress', { phase: 'evaluating', done: 1, total: 2 }), 'evaluation', { when: 'after', rows: 9, metrics: { loss: 1 } })
  assert.deepEqual(measured.run, done.run)
  assert.deepEqual([measured.use.measured.rows, measured.use.measuredOn, measured.use.progress], [9, 'mail.csv', null])
  assert.equal(event({ ...measured, busy: {} }, 'state', { state: 'idle' }).run.state, 'succeeded')

  // Refused beside a run, which goes on meanwhile.
  const running = { ...done, busy: { open_adapter: true }, run: { ...noRun(), state: 'training' } }
  assert.equal(event(running, 'state', { state: 'paused' }).run.state, 'paused')
  assert.equal(event(running, 'evaluation', { when: 'during', step: 3, rows: 9, metrics: { loss: 1 } }).run.checks.length, 1)

  const opening = { ...measured, busy: { open_adapter: true } }
  assert.equal(reduce(opening, { run: '', type: 'failed', message: 'm', advice: 'a' }, 'open_adapter', 0).trained, true, 'refused at the door')
  const begun = event(opening, 'state', { state: 'preparing' })
  assert.deepEqual([begun.trained, begun.run.state, begun.use.measured], [false, 'idle', null])
  const opened = event(begun, 'adapter_opened', { task: 'text-classification', labels: [], r: 8 })
  assert.equal(opened.trained, true)
  assert.equal(taskOf(opened), 'regression')
})

const scenario = (id, generates, shapes) => ({
  id, name: id, about: '', generates,
  shapes: Object.entries(shapes).map(([id, roles]) => ({ id, roles: roles.split(' ').map((role) => ({ id: role.replace('?', ''), required: !role.endsWith('?') })) })),
})
const scenarios = [
  scenario('text-classification', false, { 'text-label': 'text label' }),
  scenario('text-generation', true, { messages: 'messages system?', 'prompt-completion': 'prompt input? completion system?', text: 'text' }),
  scenario('question-answering', true, { 'question-answer': 'question context? answer' }),
]
const column = (name, numeric = false) => ({ name, values: numeric ? [] : [['a', 3]], numeric })
const table = (name, columns, fits) => ({ run: '', type: 'data_opened', name, rows: 9, preview: [], columns, fits, text_column: null, label_column: null, held_out: false, warnings: [] })
const questions = table('q.csv', ['id', 'question', 'context', 'answers'].map((name) => column(name)), [
  { task: 'question-answering', shape: 'question-answer', columns: { question: 'question', context: 'context', answer: 'answers' } },
  { task: 'text-generation', shape: 'text', columns: { text: 'context' } },
])
const ready = { ...initial({}, 'auto'), environment: { scenarios } }

test('a table brings the task that it fits best, and keeps what a person chose', () => {
  const opened = reduce(ready, questions, 'open_data', 0)
  assert.deepEqual([opened.task, opened.shape, opened.columns], ['question-answering', '', { question: 'question', context: 'context', answer: 'answers' }])
  assert.equal(runSettings(opened).kind, 'generation')
  assert.deepEqual(byFit(scenarios, questions).map(({ id }) => id), ['question-answering', 'text-generation', 'text-classification'])
  const chosen = { ...opened, columns: { ...opened.columns, context: '' } }
  assert.deepEqual(reduce(chosen, questions, 'open_data', 0).columns, chosen.columns, 'the same file again')
  const mail = table('mail.csv', [column('text'), column('label')], [{ task: 'text-classification', shape: 'text-label', columns: { text: 'text', label: 'label' } }])
  assert.equal(reduce(chosen, mail, 'open_data', 0).task, 'text-classification', 'another file')
  const stars = table('stars.csv', [column('text'), column('stars', true)], [{ task: 'text-classification', shape: 'text-label', columns: { text: 'text', label: 'stars' } }])
  assert.equal(reduce(ready, stars, 'open_data', 0).regression, true, 'many numbers are predicted themselves')
})

test('a configuration before the table decides, and one after it too', () => {
  const config = (data, task = null) => ({ run: '', type: 'config', config: { task, device: null, kernels: null, model: {}, data, training: {}, evaluation: {}, lora: {}, recovery: {} } })
  const named = reduce(ready, config({ question_column: 'id', answer_column: 'answers' }, 'question-answering'), 'open_config', 0)
  assert.deepEqual(reduce(named, questions, 'open_data', 0).columns, { question: 'id', answer: 'answers' })
  const bare = reduce(reduce(ready, config({}, 'text-generation'), 'open_config', 0), questions, 'open_data', 0)
  assert.deepEqual([bare.task, bare.columns], ['text-generation', { text: 'context' }])
  const opened = reduce(ready, questions, 'open_data', 0)
  const partly = reduce(opened, config({ answer_column: 'id' }), 'open_config', 0)
  assert.deepEqual([partly.task, partly.columns], ['question-answering', { question: 'question', context: 'context', answer: 'id' }])
  const other = reduce(opened, config({}, 'text-generation'), 'open_config', 0)
  assert.deepEqual([other.task, other.shape, other.columns], ['text-generation', '', { text: 'context' }], "another task begins with its own columns")
  assert.equal(reduce(opened, config({ shape: 'prompt-completion' }, 'text-generation'), 'open_config', 0).shape, 'prompt-completion')
})

test('shapes, roles, and what is still missing', () => {
  const one = table('poems.txt', [column('text')], [{ task: 'text-generation', shape: 'text', columns: { text: 'text' } }])
  const [classes, writing, asking] = scenarios
  assert.deepEqual(possibleShapes(classes, one), [], 'one column is no text with a label')
  assert.deepEqual(possibleShapes(writing, one).map(({ id }) => id), ['messages', 'text'])
  // Nothing fits, so that the person says what is what, from the shape that asks least.
  const odd = table('odd.csv', [column('Prompt'), column('b')], [])
  assert.deepEqual(preset(ready, odd, 'text-generation'), { task: 'text-generation', shape: 'text', columns: {} })
  assert.deepEqual(preset(ready, odd, 'text-generation', 'prompt-completion').columns, { prompt: 'Prompt' })
  const state = { ...ready, data: odd, ...preset(ready, odd, 'text-generation', 'prompt-completion') }
  assert.equal(shapeOf(state).id, 'prompt-completion')
  assert.deepEqual(unmapped(state), { missing: [{ id: 'completion', required: true }], twice: null })
  assert.deepEqual(unmapped({ ...state, columns: { prompt: 'b', completion: 'b' } }), { missing: [], twice: ['prompt', 'completion'] })
  const [talk, prompts, text] = writing.shapes
  assert.deepEqual([talk, prompts, text, asking.shapes[0]].map((shape) => answerRole(shape)?.id), [undefined, 'completion', undefined, 'answer'])
  assert.deepEqual(inputRoles(prompts).map(({ id }) => id), ['prompt', 'input', 'system'])
  assert.deepEqual(inputRoles(asking.shapes[0]).map(({ id }) => id), ['question', 'context'])
})

test('a hint goes into the form, and into what is kept where it has no field', () => {
  const before = { form: { num_epochs: '2', seed: '7' }, kept: { kernels: 'stock' } }
  const after = changed(before, { 'training.num_epochs': '4', 'lora.lora_dropout': '0.1', 'training.report_to': 'tensorboard', 'data.shuffle': 'true', 'x.y': '3' })
  assert.deepEqual(after, { form: { num_epochs: '4', seed: '7', lora_dropout: '0.1' }, kept: { kernels: 'stock', 'training.report_to': 'tensorboard', 'data.shuffle': true, 'x.y': 3 } })
  assert.deepEqual(before, { form: { num_epochs: '2', seed: '7' }, kept: { kernels: 'stock' } })
})

test('the main metric comes first, and chance is told from change', () => {
  know([])
  assert.deepEqual([mainMetric({ loss: 1, accuracy: 0.5, perplexity: 3 }), shownMetrics({ loss: 1, f1: 0.5 })], ['loss', ['loss']], 'nothing is known yet')
  know(SCENARIOS)
  assert.equal(mainMetric({ loss: 1, accuracy: 0.5, macro_f1: 0.4 }), 'accuracy')
  assert.equal(mainMetric({ loss: 1, accuracy: 0.5, perplexity: 3, rougeL: 0.1, bleu: 2 }), 'perplexity')
  assert.equal(mainMetric({ loss: 1, accuracy: 0.5, perplexity: 3, rougeL: 0.1, rouge1: 0.2 }), 'rougeL')
  assert.equal(mainMetric({ loss: 1, accuracy: 0.5, perplexity: 3, f1: 0.1 }), 'f1')
  assert.deepEqual(shownMetrics({ loss: 1, mse: 1, majority: null }, { loss: 1, mae: 1, mse: 1, r2: 0.4 }), ['mse', 'mae', 'r2'])
  assert.deepEqual(shownMetrics(undefined, { loss: 1, perplexity: 2, accuracy: 0.4, rougeL: 0.1, majority: 0.5 }), ['perplexity', 'accuracy', 'rougeL', 'loss'], 'in the order of the task')
  assert.deepEqual(shownMetrics({ loss: 1, accuracy: 0.5, macro_f1: 0.4, majority: 0.5 }), ['accuracy', 'macro_f1', 'loss'])
  assert.deepEqual([kindOf('bleu'), kindOf('calibration_error'), kindOf('f1')], [{ share: false, lower: false }, { share: true, lower: true }, { share: true, lower: false }])
  assert.deepEqual([metricsOf(SCENARIOS[0], false)[0], metricsOf(SCENARIOS[0], true)[0], metricsOf(SCENARIOS[2], true)[0], metricsOf(undefined, false)], ['macro_f1', 'mse', 'f1', ['loss']])
  const of = (metric, value, interval) => changeOf({ metrics: { [metric]: 1 } }, { metrics: { [metric]: 1 + value }, changes: { [metric]: { value, interval } } }, metric)?.tone
  assert.deepEqual([of('f1', 0.2, [0.1, 0.3]), of('f1', -0.2, [-0.3, -0.1]), of('f1', 0.2, [-0.1, 0.3]), of('f1', 0.2, null), of('f1', 0, null)], ['good', 'bad', 'chance', 'good', 'same'])
  assert.deepEqual([of('perplexity', -0.2, [-0.3, -0.1]), of('mae', 0.2, [0.1, 0.3])], ['good', 'bad'], 'lower is better')
  assert.equal(changeOf(null, { metrics: { f1: 1 } }, 'f1'), null)
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
