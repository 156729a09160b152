/**
 * Stands in for the generated paddock-web.js where the page and worker.js alone are tested: speaks the protocol, trains nothing,
 * and is never shipped. What it says is made up; only its order and shapes are the engine's. A learning rate of 666 makes it panic.
 */

import { DEVICE_CPU, DEVICE_GPU, NUMBERS, SCENARIOS, fitsOf, generates, idOf, manifestOf, parse, parseYaml } from './fake-parts.js';

/** @type {any} */ let data = null;
/** Held-out rows of a file of their own. @type {any} */ let heldOut = null;
/** A model to use: `{ labels, task, name, r, before, after }`, no labels for numbers and answers. @type {any} */ let applied = null;
/** `{ info, applied }`, in the order in which they came. @type {any[]} */ let plugins = [];
/** What the run learns: `{ task, columns }`. @type {any} */ let applying = null;
/** @type {any} */ let model = null;
let id = 0;
/** Units of work, one an `advance`; a unit that gives `false` is done again next time. @type {Array<() => any>} */
let work = [];
let paused = false;
let stopped = false;
/** @type {(envelope: any, files?: any[]) => void} */ let send = () => {};

const sleep = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** @param {any} event @param {any[]} [files] */
const emit = (event, files) => send({ run: id ? `run-${id}` : '', ...event }, files);
/** @param {string} message @param {string} advice */
const fail = (message, advice) => emit({ type: 'failed', message, advice });

const yaml = (/** @type {any} */ config) => `task: ${config.task ?? 'text-classification'}
device: ${config.device ?? 'auto'}
kernels: ${config.kernels ?? 'auto'}
model:
  type: llama
  name_or_path: ${model.name}
${config.model.num_labels ? `  num_labels: ${config.model.num_labels}\n` : ''}  max_seq_length: ${config.model.max_seq_length ?? 128}
data:
  train_file: ${data.name}
${heldOut ? `  validation_file: ${heldOut.name}\n` : ''}  validation_split: ${config.data.validation_split ?? 0.2}
${Object.entries(config.data).filter(([key]) => /^shape$|_column$/.test(key)).map(([key, value]) => `  ${key}: ${value}\n`).join('')}training:
  method: ${config.training.method ?? 'lora'}
  batch_size: ${config.training.batch_size ?? 8}
  gradient_accumulation_steps: 1
  learning_rate: ${config.training.learning_rate ?? 0.002}
  num_epochs: ${config.training.num_epochs ?? 2}
  lr_scheduler_type: linear
  warmup_ratio: 0.1
  weight_decay: 0.01
  max_grad_norm: 1.0
  adam_beta1: 0.9
  adam_beta2: 0.999
  adam_epsilon: 1e-8
  logging_steps: 1
  seed: 42
evaluation:
  max_generated_samples: ${config.evaluation?.max_generated_samples ?? 64}
${config.evaluation?.success_metric ? `  success_metric: ${config.evaluation.success_metric}\n` : ''}  min_gain: ${config.evaluation?.min_gain ?? 0}
lora:
  r: 8
  lora_alpha: 16
  lora_dropout: 0
`;

/** @param {File} file @param {boolean} second */
async function readTable(file, second) {
  if (!file?.size) throw new Error(`${file?.name}: the file is empty|Choose a file with a header row and at least two labelled rows.`);
  const [header, ...rows] = parse(await file.text());
  const good = rows.filter((row) => row.length === header.length && row.every(Boolean));
  const skipped = rows.length - good.length;
  const columns = header.map((name, i) => {
    /** @type {Map<string, number>} */ const counts = new Map();
    for (const row of good) counts.set(row[i], (counts.get(row[i]) ?? 0) + 1);
    return { name, values: counts.size <= 20 ? [...counts].sort((a, b) => b[1] - a[1]) : [], numeric: good.length > 0 && good.every((row) => Number.isFinite(Number(row[i]))) };
  });
  const summary = {
    type: 'data_opened', name: file.name, format: 'csv', encoding: 'UTF-8', columns, rows: rows.length, preview: good.slice(0, 8), held_out: second,
    text_column: header.find((name) => /text/.test(name)) ?? null, label_column: header.find((name) => /label|score/.test(name)) ?? null,
    fits: fitsOf(header),
    warnings: skipped ? [`${skipped} rows have an empty cell and will be left out.`] : [],
  };
  return { name: file.name, header, rows: good, skipped, summary };
}

/** @param {any} config */
function plan(config) {
  const batch = config.training.batch_size ?? 8;
  if (batch < 1) return fail('training.batch_size: 0 rows a batch cannot train anything.', 'Use 1 or more; 8 is a good start.');
  const task = config.task ?? 'text-classification';
  const writes = generates(task);
  const columns = Object.fromEntries(Object.entries(config.data).filter(([key]) => key.endsWith('_column')).map(([key, name]) => [key.replace('_column', ''), name]));
  const at = data.header.indexOf(config.data.label_column);
  if (!writes && at < 0) return fail(`data.label_column: ${data.name} has no column “${config.data.label_column}”.`, `Choose one of: ${data.header.join(', ')}.`);
  const regression = config.model.num_labels === 1;
  const labels = regression || writes ? [] : [...new Set(data.rows.map((/** @type {string[]} */ row) => row[at]))].sort();
  if (!regression && !writes && labels.length < 2) return fail(`${data.name}: the column “${config.data.label_column}” holds one label only (“${labels[0]}”).`, 'Add rows with another label, or choose another column.');
  const own = heldOut === null;
  const held = own ? Math.round(data.rows.length * 0.2) : heldOut.rows.length;
  const train = own ? data.rows.length - held : data.rows.length;
  const epochs = config.training.num_epochs ?? 2;
  const steps = config.training.max_steps ?? Math.max(1, Math.round((train / batch) * epochs));
  return {
    type: 'plan', shape: config.data.shape ?? fitsOf(data.header).find((one) => one.task === task)?.shape ?? 'text-label', columns, examples: examples(task, columns), device: config.device === 'gpu' ? 'gpu' : 'cpu', precision: config.device === 'gpu' && config.training.mixed_precision !== 'no' ? 'f16' : 'f32', labels, train_rows: train, validation_rows: held, skipped_rows: data.skipped, total_steps: steps,
    trainable_parameters: 84_480, total_parameters: 2_293_760, weight_bytes: 9_175_040, training_bytes: 1_351_680, activation_bytes: 21_400_000,
    metrics: SCENARIOS.find(({ id }) => id === task)?.[regression ? 'number_metrics' : 'metrics'] ?? [],
    config: parseYaml(yaml(config), 'run.yaml'), config_yaml: yaml(config),
    warnings: data.skipped ? [`${data.skipped} rows have no text or no label and are left out: rows 7, 19.`] : [],
  };
}

/** What a row's columns say. @param {string[]} row @param {Record<string, string>} columns @param {string} role */
const cell = (row, columns, role) => row[data.header.indexOf(columns[role])] ?? '';

/** @param {string[]} row @param {Record<string, string>} columns */
const asked = (row, columns) => ['messages', 'system', 'prompt', 'input', 'context', 'question', 'text'].map((role) => cell(row, columns, role)).filter(Boolean).join('\n\n');
/** The parts of a row by role, as far as the engine tells them. @param {string[]} row @param {Record<string, string>} columns */
const partsOf = (row, columns) => Object.fromEntries(['system', 'prompt', 'input', 'context', 'question', 'text'].map((role) => [role, cell(row, columns, role).slice(0, 10_000)]).filter(([, text]) => text.trim()));
/** @param {string[]} row @param {Record<string, string>} columns */
const answerOf = (row, columns) => ['completion', 'answer', 'summary', 'label'].map((role) => cell(row, columns, role)).find(Boolean) ?? '';

/** @param {string} task @param {Record<string, string>} columns */
const examples = (task, columns) =>
  data.rows.slice(0, 3).map((/** @type {string[]} */ row, /** @type {number} */ i) => {
    if (!generates(task)) return { row: i + 1, given: asked(row, columns), learnt: answerOf(row, columns) };
    const answer = answerOf(row, columns);
    if (!answer) return { row: i + 1, given: '', learnt: asked(row, columns) };
    return { row: i + 1, given: `<|im_start|>user\n${asked(row, columns)}<|im_end|>\n<|im_start|>assistant\n`, learnt: `${answer}<|im_end|>` };
  });

/** @param {string} when @param {number} step @param {string} task @param {Record<string, string>} columns */
function written(when, step, task, columns) {
  const numbers = Object.entries(NUMBERS[task] ?? NUMBERS['text-generation']);
  const now = (/** @type {number[]} */ [before, after]) => (when === 'before' ? before : after);
  const by = (/** @type {(values: [number, number, number]) => any} */ make) => Object.fromEntries(numbers.map(([key, values]) => [key, make(values)]));
  const samples = data.rows.slice(0, 4).map((/** @type {string[]} */ row, /** @type {number} */ i) => {
    const expected = answerOf(row, columns);
    const predicted = when === 'before' ? `${asked(row, columns).slice(0, 60)} and so on and so on and so on` : i % 2 ? `${expected}` : `It is ${expected}.`;
    return { text: asked(row, columns), fields: when === 'during' ? {} : partsOf(row, columns), expected, predicted, confidence: 1 };
  });
  return {
    type: 'evaluation', when, step, rows: 64, answered: 64, labels: [], confusion: [], calibration: [], classes: [], samples, metrics: by(now),
    intervals: when === 'during' ? {} : by((values) => [Math.max(0, now(values) - values[2]), now(values) + values[2]]),
    changes: when === 'after' ? by(([before, after, width]) => ({ value: after - before, interval: [after - before - width, after - before + width] })) : {},
  };
}

/** @param {string} when @param {number} step @param {number} accuracy @param {string[]} labels */
function evaluation(when, step, accuracy, labels) {
  if (applying && generates(applying.task)) return written(when, step, applying.task, applying.columns);
  const n = 121;
  const parts = (/** @type {string[]} */ row) => (when === 'during' ? {} : partsOf(row, applying?.columns ?? { text: 'text' }));
  const none = { answered: 0, intervals: {}, changes: {}, calibration: [], classes: [] };
  if (!labels.length) {
    const mse = when === 'before' ? 9.41 : 1.21;
    const samples = data.rows.slice(0, 6).map((/** @type {string[]} */ row) => ({ text: row[0], fields: parts(row), expected: row.at(-1), predicted: (Number(row.at(-1)) + Math.sqrt(mse)).toFixed(4), confidence: 1 }));
    return { type: 'evaluation', when, step, rows: n, labels, samples, metrics: { loss: mse, mse, mae: Math.sqrt(mse) * 0.8, r2: when === 'before' ? -0.4 : 0.82, pearson: when === 'before' ? 0.03 : 0.91 }, confusion: [], ...none };
  }
  const right = Math.round(n * accuracy);
  const samples = data.rows.slice(0, 6).map((/** @type {string[]} */ row, /** @type {number} */ i) => {
    const expected = row[data.header.indexOf('label')] ?? labels[0];
    const predicted = (i * 7919) % 100 < accuracy * 100 ? expected : labels.find((label) => label !== expected);
    return { text: row[data.header.indexOf('text')] ?? row[0], fields: parts(row), expected, predicted, confidence: 0.55 + 0.4 * accuracy * ((i * 31) % 7) / 7 };
  });
  const a = Math.round(right * 0.55);
  return {
    type: 'evaluation', when, step, rows: n, labels, samples,
    metrics: { loss: when === 'before' ? 0.7012 : 0.2311, accuracy: right / n, macro_f1: (right / n) * 0.98, micro_f1: right / n, balanced_accuracy: (right / n) * 0.97, calibration_error: when === 'before' ? 0.12 : 0.043, majority: 0.55 },
    ...none,
    intervals: when === 'during' ? {} : { accuracy: [right / n - 0.05, Math.min(1, right / n + 0.05)], macro_f1: [(right / n) * 0.98 - 0.06, (right / n) * 0.98 + 0.06] },
    changes: when === 'after' && step ? { accuracy: { value: 0.42, interval: [0.33, 0.5] }, macro_f1: { value: 0.41, interval: [0.31, 0.51] }, calibration_error: { value: -0.077, interval: [-0.16, 0.01] } } : {},
    calibration: [0.55, 0.65, 0.75, 0.85, 0.95].map((confidence, i) => ({ rows: [4, 9, 14, 31, 63][i], confidence, accuracy: Math.min(1, confidence * (when === 'before' ? 0.7 : 0.97)) })),
    classes: labels.map((_, i) => ({ precision: 0.94 - i * 0.03, recall: 0.95 - i * 0.02, f1: 0.945 - i * 0.025, rows: Math.round(n / labels.length) })),
    confusion: labels.map((_, i) => labels.map((_, j) => (i === j ? (i ? right - a : a) : Math.round((n - right) / labels.length)))),
  };
}

/** More epochs are what it asks for. @param {any} config */
function judged(config) {
  const metric = config.evaluation?.success_metric;
  if (!metric) return { verdict: null, hints: [] };
  if ((config.training.num_epochs ?? 2) >= 4) return { verdict: { met: true, metric, gain: 0.41, interval: [0.31, 0.51], message: `${metric} got better by 0.4100 (95 % interval 0.3100 to 0.5100); at least 0.02 was asked for.` }, hints: [] };
  const hints = [
    { cause: 'not_enough_steps', message: 'The training loss was still falling at the end (0.231): train for 4 epochs.', changes: { 'training.num_epochs': '4', 'recovery.max_skipped_rows': '3' } },
    { cause: 'few_rows', message: '48 training rows teach little: add rows.', changes: {} },
  ];
  return { verdict: { met: false, metric, gain: 0.012, interval: [-0.01, 0.034], message: `${metric} got better by 0.0120, but that can be chance (95 % interval -0.0100 to 0.0340).` }, hints };
}

const clear = () => (plugins = []);
const listed = () => emit({ type: 'plugins', plugins: plugins.map(({ info }) => ({ ...info })) });
const nothing = () => fail('There is no trained model yet.', 'Finish a run, or open an adapter, first.');

/** @param {string} id */
function find(id) {
  const found = plugins.find(({ info }) => info.id === id);
  const there = plugins.map(({ info }) => `\`${info.id}\``).join(', ');
  if (!found) fail(`There is no plugin \`${id}\`; ${there ? `there is ${there}` : 'there is none'}.`, 'Add it, or name another one.');
  return found;
}

/** Adds one, or takes the place of the one with its id. @param {string} id @param {string} name @param {any} it */
function put(id, name, it) {
  const info = { id, name: name.trim() || id, task: it.task, labels: it.labels, generates: generates(it.task), before: it.before ?? null, after: it.after ?? null, uses: 0 };
  const place = plugins.findIndex((one) => one.info.id === id);
  if (place >= 0) plugins[place] = { info, applied: it };
  else plugins.push({ info, applied: it });
}

/** An adapter's files or its zip. @param {File[]} files @param {(it: any, manifest: any) => void} done */
async function opening(files, done) {
  const names = files.map(({ name }) => name);
  if (!names.includes('adapter_config.json') && !names[0]?.endsWith('.zip')) return fail(`adapter_config.json is missing; there is ${names.join(', ')}`, 'Choose the folder that PEFT or Paddock wrote, or the zip of it.');
  const manifest = await manifestOf(files);
  if (manifest?.base === 'another') return fail(`plugin.json: base: expected the base \`another\`, got ${model.name}, whose tokenizer.json is another one`, 'Choose a folder with a LLaMA model.');
  emit({ type: 'state', state: 'preparing' });
  if (names[0] === 'other.zip') {
    work = [() => (emit({ type: 'state', state: 'failed' }), fail('adapter_model.safetensors, tensor q_proj: expected [64, 8], got [32, 8]', 'Download the weight file again.'))];
    return;
  }
  const task = manifest?.scenario ?? 'text-classification';
  const labels = generates(task) || names[0] === 'score.zip' ? [] : manifest?.labels ?? ['ham', 'spam'];
  work = [
    () => {
      if (manifest?.base === 'near') emit({ type: 'warning', message: `\`${manifest.id}\` was trained on other weights than ${model.name} has (\`near\`): its answers may be worse than they were.` });
    },
    ...[0, 10, 20].map((done) => () => emit({ type: 'progress', phase: 'loading_weights', done, total: 20 })),
    () => {
      done({ labels, task, r: 8, name: manifest?.name, before: manifest?.before, after: manifest?.after }, manifest);
      emit({ type: 'state', state: 'idle' });
    },
  ];
}

/** One text, answered in pieces where the task writes. @param {any} command */
function predict(command) {
  if (command.plugin !== undefined && command.plugin !== null) {
    const found = find(command.plugin);
    if (!found) return;
    found.info.uses += command.texts.length;
    applied = found.applied;
  }
  if (!applied) return nothing();
  const [text] = command.texts;
  if (generates(applied.task) && text.length > 15_000) return fail('text 1 has 5000 tokens, and the model takes 512.', 'Shorten it.');
  const idle = () => emit({ type: 'state', state: 'idle' });
  emit({ type: 'state', state: 'applying' });
  stopped = false;
  if (!generates(applied.task)) {
    const spam = /free|win|click|money/i.test(text) ? 0.968 : 0.041;
    const [a, b] = applied.labels;
    const told = applied.labels.length ? { label: spam > 0.5 ? b : a, scores: [[a, 1 - spam], [b, spam]] } : { label: '3.2500', scores: [['value', 3.25]] };
    work = [() => sleep(40), () => (emit({ type: 'prediction', index: 0, ...told }), idle())];
    return;
  }
  const whole = `You said: ${text} ${JSON.stringify(command.fields?.[0] ?? {})}${applied.name ? ` (${applied.name})` : ''}`;
  let said = '';
  work = [
    () => {
      if (stopped || said === whole) return true;
      const piece = whole.slice(said.length, said.length + Math.max(8, whole.length / 60));
      said += piece;
      emit({ type: 'progress', phase: 'generating', done: said.length, total: 0 });
      emit({ type: 'text_delta', index: 0, text: piece });
      return false;
    },
    () => (emit({ type: 'prediction', index: 0, label: said, scores: [], finish_reason: stopped ? 'abort' : 'stop' }), idle()),
  ];
}

/** An empty zip, with what a plugin is in its comment. @param {any} command */
function handOut(command) {
  if (!applied) return nothing();
  if (applied.r === null && ['adapter', 'gguf_lora'].includes(command.format)) return fail('There is no adapter: every weight of this model was trained.', 'Export the whole model (merged, or gguf).');
  if (command.name) applied.name = command.name;
  const { name, task, labels, before, after } = applied;
  const about = new TextEncoder().encode(name ? JSON.stringify({ id: idOf(name), name, scenario: task, labels, before, after }) : '');
  const bytes = new Uint8Array([80, 75, 5, 6, ...new Array(16).fill(0), about.length & 255, about.length >> 8, ...about]);
  const files = [{ name: command.format === 'merged' ? 'model.zip' : 'adapter.zip', bytes: bytes.length }];
  emit({ type: 'state', state: 'applying' });
  emit({ type: 'export_started', format: command.format, files });
  work = [
    () => emit({ type: 'export_chunk', file: files[0].name, offset: 0, bytes: bytes.length }, bytes),
    () => (emit({ type: 'exported', format: command.format, files }), emit({ type: 'state', state: 'idle' })),
  ];
}

/** @param {any} config @param {number} [smaller] */
function start(config, smaller = 0) {
  id += 1;
  paused = stopped = false;
  if (config.training.method === 'full' && plugins.length) {
    clear();
    emit({ type: 'warning', message: 'The plugins were let go: this run holds the base in another way than they do.' });
    listed();
  }
  emit({ type: 'state', state: 'preparing' });
  const it = plan(config);
  if (it?.type !== 'plan') return;
  applied = null;
  applying = { task: config.task ?? 'text-classification', columns: it.columns };
  const begun = performance.now();
  /** @type {any} */ let before = null;
  let step = 0;
  work = [
    ...[0, 5, 10, 15, 20].map((done) => () => emit({ type: 'progress', phase: 'loading_weights', done, total: 20 })),
    ...[0, 200, 400].map((done) => () => emit({ type: 'progress', phase: 'tokenizing', done, total: 400 })),
    () => emit({ type: 'state', state: 'evaluating' }),
    () => emit((before = evaluation('before', 0, 0.512, it.labels))),
    () => emit({ type: 'state', state: 'training' }),
    () => {
      if (step === it.total_steps || stopped) return true;
      step += 1;
      if (config.training.learning_rate === 666) return panic();
      // There is room for a quarter of the batch; for none of it.
      if ((config.training.learning_rate === 667 && smaller < 2) || config.training.learning_rate === 668) return starve();
      const share = step / it.total_steps;
      const noise = Math.sin(step * 12.9898) * 0.08 + Math.sin(step * 3.17) * 0.05;
      emit({
        type: 'step', step, total_steps: it.total_steps, epoch: share * 2, loss: 0.69 * Math.exp(-2 * share) + 0.12 + noise * (1 - share * 0.5), accuracy: Math.min(1, Math.max(0, 0.52 + 0.42 * share + noise)),
        grad_norm: 1.2 - 0.7 * share + noise, learning_rate: 0.002 * (1 - share), tokens_per_second: 1560 + noise * 400, seconds: 0.03,
      });
      if (step === Math.round(it.total_steps / 2)) emit(evaluation('during', step, 0.81, it.labels)), emit({ type: 'warning', message: '3 texts were cut to 128 tokens.' });
      return false;
    },
    () => emit({ type: 'state', state: 'evaluating' }),
    () => emit({ type: 'progress', phase: 'evaluating', done: 60, total: 121 }),
    () => {
      const after = evaluation('after', step, 0.934, it.labels);
      emit(after);
      applied = { labels: it.labels, task: applying.task, r: config.training.method === 'full' ? null : 8, before: before.metrics, after: after.metrics };
      emit({ ...judged(config), type: 'finished', completed: !stopped, ended: stopped ? 'stopped' : 'finished', best_step: null, recoveries: [], steps: step, seconds: (performance.now() - begun) / 1000, before: null, after: after.metrics, rows: after.rows });
      emit({ type: 'state', state: 'succeeded' });
    },
  ];
}

/** As a trap in wasm looks from outside: an uncaught error, and a promise that never settles. */
function panic() {
  console.error('panicked at crate/src/train/step.rs:1:1:\nmade up by the fake engine');
  setTimeout(() => {
    throw new WebAssembly.RuntimeError('unreachable');
  });
  return new Promise(() => {});
}

/** As an allocation that fails: the same, and nothing was said before it. */
function starve() {
  setTimeout(() => {
    throw new WebAssembly.RuntimeError('unreachable');
  });
  return new Promise(() => {});
}

/** What commands would do that have to wait for the end of other work. @type {Record<string, string>} */
const ALONE = {
  open_model: 'open a model', open_data: 'open data', start: 'start a run', open_adapter: 'open an adapter', add_plugin: 'add a plugin', keep_plugin: 'keep a plugin',
  use_plugin: 'change to another plugin', evaluate: 'evaluate', predict: 'predict', export: 'export',
};

/** @param {any} command @param {File[]} files */
async function handle(command, files) {
  if (work.length && ALONE[command.type]) return fail(`Cannot ${ALONE[command.type]} while other work is under way.`, 'Wait until it has ended, or stop the run.');
  switch (command.type) {
    case 'inspect': {
      const gpu = Boolean(/** @type {any} */ (navigator).gpu);
      return emit({
        type: 'environment', version: '0.1.0', platform: 'browser', devices: gpu ? [DEVICE_CPU, DEVICE_GPU] : [DEVICE_CPU], chosen: 'cpu',
        reason: gpu ? 'The GPU here is imitated on the CPU, which is slower than the CPU itself.' : 'WebGPU is not available here.', storage_free: 5e9, notes: [], scenarios: SCENARIOS,
      });
    }
    case 'open_model': {
      const config = files.find(({ name }) => name === 'config.json');
      if (!config) return fail(`${command.name}: config.json is missing.`, 'Choose a folder in Hugging Face’s layout with config.json, model.safetensors and tokenizer.json.');
      await sleep(200);
      applied = null;
      clear();
      model = { type: 'model_opened', name: command.name, architecture: 'LlamaForCausalLM', parameters: 2_293_760, hidden_size: 192, layers: 4, vocab_size: 4096, max_position_embeddings: 512, dtype: 'F16', file_bytes: 4_602_000, device_bytes: 9_175_040 };
      return emit(model);
    }
    case 'open_data': {
      /** @type {any[]} */ const tables = [];
      for (const file of files) {
        try {
          tables.push(await readTable(file, tables.length === 1));
        } catch (error) {
          const [message, advice = 'Close the quote, or double it where it belongs to the text.'] = /** @type {Error} */ (error).message.split('|');
          return fail(message.startsWith(file.name) ? `${message}.` : `${file.name}, ${message}.`, advice);
        }
      }
      [data, heldOut = null] = tables;
      for (const { summary } of tables) emit(summary);
      return;
    }
    case 'open_config':
      try {
        return emit({ type: 'config', config: parseYaml(await files[0].text(), files[0].name) });
      } catch (error) {
        return fail(/** @type {Error} */ (error).message, 'Did you mean `batch_size`?');
      }
    case 'open_adapter':
      // Without files the model's own head answers, or it writes.
      if (!files.length) {
        applied = { labels: [], task: 'text-generation', r: null };
        emit({ type: 'state', state: 'preparing' });
        work = [() => (emit({ type: 'adapter_opened', task: 'text-generation', labels: [], r: null }), emit({ type: 'state', state: 'idle' }))];
        return;
      }
      await opening(files, (it) => {
        applied = it;
        applying = null;
        emit({ type: 'adapter_opened', task: it.task, labels: it.labels, r: it.r });
      });
      if (work.length) applied = null;
      return;
    case 'add_plugin': {
      if (!files.length) return fail('A plugin without files.', "Choose an adapter's folder, or the zip of it.");
      if (command.id !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(command.id)) return fail(`\`${command.id}\` cannot name a plugin.`, 'Take letters, digits, `.`, `_` and `-`.');
      return opening(files, (it, manifest) => {
        const name = command.name ?? manifest?.name ?? '';
        put(command.id ?? manifest?.id ?? idOf(name), name, it);
        listed();
      });
    }
    case 'keep_plugin':
      if (!applied) return nothing();
      put(idOf(command.name), command.name, { ...applied, name: command.name });
      return listed();
    case 'use_plugin': {
      const found = find(command.id);
      if (!found) return;
      applied = found.applied;
      return emit({ type: 'adapter_opened', task: applied.task, labels: applied.labels, r: applied.r });
    }
    case 'remove_plugin':
      if (!find(command.id)) return;
      plugins = plugins.filter(({ info }) => info.id !== command.id);
      return listed();
    case 'list_plugins':
      return listed();
    case 'evaluate': {
      if (!applied) return nothing();
      if (!data) return fail('No data is open.', 'Choose a file of examples first.');
      const table = heldOut ?? data;
      if (!table.header.includes(command.columns.label)) return fail(`${table.name} has no column ${command.columns.label}`, 'Set data.label_column to one of the file’s columns.');
      emit({ type: 'warning', message: `${table.name}: 2 rows cannot be used` });
      emit({ type: 'state', state: 'evaluating' });
      work = [
        () => emit({ type: 'progress', phase: 'evaluating', done: 1, total: 3 }),
        () => {
          emit({ ...evaluation('after', 0, 0.9, applied.labels), rows: table.rows.length });
          emit({ type: 'state', state: 'idle' });
        },
      ];
      return;
    }
    case 'check': {
      await sleep(80);
      const it = plan(command.config);
      return it && emit(it);
    }
    case 'start':
      return start(command.config, command.smaller);
    case 'pause':
      paused = true;
      return emit({ type: 'state', state: 'paused' });
    case 'resume':
      paused = false;
      return emit({ type: 'state', state: 'training' });
    case 'stop':
      stopped = true;
      paused = false;
      return;
    case 'predict':
      return predict(command);
    case 'export':
      return handOut(command);
  }
}

export class Engine {
  /** @param {(envelope: any, files?: any[]) => void} emit */
  constructor(emit) {
    send = emit;
  }

  /** @param {any} command @param {File[]} files */
  async handle(command, files) {
    await handle(command, files);
  }

  use_storage() {}

  use_cache() {}

  async advance() {
    await sleep(20);
    if ((await work[0]()) !== false) work.shift();
  }

  busy() {
    return work.length > 0 && !paused;
  }
}

export default async function init() {}
