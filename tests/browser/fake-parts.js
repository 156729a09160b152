/** What the fake engine (fake-engine.js) is made of that needs no engine: machines, scenarios, readers of files, made-up numbers. */

export const DEVICE_CPU = { id: 'cpu', name: 'One WebAssembly thread with SIMD', api: 'CPU', software: false, features: ['simd128'], limits: {} };
export const DEVICE_GPU = {
  id: 'gpu',
  name: 'google swiftshader',
  api: 'WebGPU',
  software: true,
  features: ['subgroups', 'timestamp-query'],
  limits: { maxBufferSize: 1 << 30, maxStorageBufferBindingSize: 1 << 30, maxComputeInvocationsPerWorkgroup: 256, maxComputeWorkgroupStorageSize: 32768 },
};
/** As in the engine's table: `-` where lower is better, `#` what is no share of 1. @param {string} words */
const metrics = (words) => words.split(' ').map((word, i) => ({ id: word.replace(/[-#]/g, ''), greater_is_better: !word.includes('-'), share: !word.includes('#'), default: i === 0 }));
/** @param {string} id @param {string} name @param {string} about @param {boolean} generates @param {Record<string, string>} shapes roles by shape; `?` marks optional ones @param {string} measured @param {string} [number] */
const scenario = (id, name, about, generates, shapes, measured, number) => ({
  id, name, about, generates,
  shapes: Object.entries(shapes).map(([id, roles]) => ({ id, roles: roles.split(' ').map((role) => ({ id: role.replace('?', ''), required: !role.endsWith('?') })) })),
  metrics: metrics(measured),
  number_metrics: number ? metrics(number) : [],
});
const TEXT = 'perplexity-# bits_per_byte-# accuracy rougeL bleu# loss-#';
export const SCENARIOS = [
  scenario('text-classification', 'Sentiment analysis and other classification', 'Tells which of a few classes a text belongs to, or which number it deserves.', false, { 'text-label': 'text label' }, 'macro_f1 accuracy balanced_accuracy micro_f1 calibration_error- loss-#', 'mse-# mae-# r2# pearson# loss-#'),
  scenario('text-generation', 'Text generation', 'Writes on in the manner of a text, follows instructions, or talks.', true, { messages: 'messages system?', 'prompt-completion': 'prompt input? completion system?', text: 'text' }, TEXT),
  scenario('question-answering', 'Question answering', 'Answers a question from the text that is given with it, or without one.', true, { 'question-answer': 'question context? answer' }, 'f1 exact_match perplexity-# accuracy loss-#'),
  scenario('summarization', 'Summarisation', 'Says in a few sentences what a document says.', true, { 'document-summary': 'text summary' }, 'rougeL rouge1 rouge2 perplexity-# accuracy loss-#'),
  // The page has no words of its own for this one.
  scenario('haiku', 'Haiku', 'Makes a haiku of a text.', true, { 'text-label': 'text label' }, TEXT),
];
/** The order in which shapes are tried, as the engine's. */
const SHAPES = ['prompt-completion', 'messages', 'question-answer', 'document-summary', 'text-label', 'text'];
/** @type {Record<string, RegExp>} */
const NAMES = { text: /text|document/, label: /^(label|score)/, answer: /^answers?$/ };

/** @param {string[]} header */
export const fitsOf = (header) =>
  SCENARIOS.filter(({ id }) => id !== 'haiku')
    .flatMap(({ id, shapes }) => {
      for (const shape of shapes) {
        const found = shape.roles.map((role) => [role, header.find((name) => (NAMES[role.id] ?? new RegExp(`^${role.id}$`)).test(name))]);
        const columns = Object.fromEntries(found.filter(([, name]) => name).map(([role, name]) => [/** @type {any} */ (role).id, name]));
        if (found.every(([role, name]) => name || !(/** @type {any} */ (role).required))) return [{ task: id, shape: shape.id, columns }];
      }
      return [];
    })
    .sort((a, b) => SHAPES.indexOf(a.shape) - SHAPES.indexOf(b.shape));

/** @param {string} task */
export const generates = (task) => SCENARIOS.find(({ id }) => id === task)?.generates ?? false;

/** @param {string} text */
export function parse(text) {
  /** @type {string[][]} */ const rows = [];
  let row = [''], quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const c = text[i];
    if (quoted) {
      if (c === '"' && text[i + 1] === '"') (row[row.length - 1] += '"'), (i += 1);
      else if (c === '"') quoted = false;
      else row[row.length - 1] += c;
    } else if (c === '"') quoted = true;
    else if (c === ',') row.push('');
    else if (c === '\n') rows.push(row), (row = ['']);
    else row[row.length - 1] += c;
  }
  if (quoted) throw new Error(`row ${rows.length + 1}: a quote is opened and never closed`);
  if (row.length > 1 || row[0]) rows.push(row);
  return rows;
}

/**
 * Just enough YAML for the tests: `key: value` and sections, as JSON values where they are some.
 * @param {string} text @param {string} name
 */
export function parseYaml(text, name) {
  /** @type {any} */ const config = { task: null, device: null, kernels: null, model: {}, data: {}, training: { seed: null }, evaluation: {}, lora: {}, recovery: {} };
  let section = config;
  for (const [i, line] of text.split('\n').entries()) {
    const [, indent, key, value] = /^( *)(\w+): *(.*?) *$/.exec(line) ?? [];
    if (!key) {
      if (line.trim()) throw new Error(`${name} line ${i + 1}: \`${line.trim()}\`: expected keys with values here`);
      continue;
    }
    if (!value && config[key] && typeof config[key] === 'object') {
      section = config[key];
      continue;
    }
    if (!indent) section = config;
    if (key === 'batch_sise') throw new Error(`${name} line ${i + 1}: unknown key \`${key}\``);
    try {
      section[key] = JSON.parse(value);
    } catch {
      section[key] = value;
    }
  }
  return config;
}

/** Numbers by task: before, after, and half the width of their interval. @type {Record<string, Record<string, [number, number, number]>>} */
export const NUMBERS = {
  'question-answering': { f1: [0.081, 0.634, 0.09], exact_match: [0, 0.47, 0.11], perplexity: [21.3, 4.21, 0.6], accuracy: [0.41, 0.66, 0.02], loss: [3.06, 1.44, 0.14] },
  summarization: { rougeL: [0.142, 0.151, 0.03], rouge1: [0.19, 0.23, 0.02], rouge2: [0.04, 0.061, 0.01], perplexity: [18.2, 9.8, 0.7], accuracy: [0.43, 0.52, 0.02], loss: [2.9, 2.28, 0.08] },
  'text-generation': { perplexity: [34.1, 12.6, 1.1], bits_per_byte: [1.31, 0.94, 0.03], rougeL: [0.11, 0.19, 0.04], bleu: [1.2, 6.3, 2.1], accuracy: [0.37, 0.5, 0.02], loss: [3.53, 2.53, 0.09] },
  'text-classification': {},
};

/** As the engine makes one of a name. @param {string} name */
export const idOf = (name) => name.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-/, '').slice(0, 64).replace(/-$/, '') || 'plugin';

/**
 * A package of the tests is a description in JSON, where a real one has weights too: `{ id, name, scenario, labels, base }`; in an export it
 * is the zip's comment. None where there is none, as in PEFT's own files. @param {File[]} files
 */
export async function manifestOf(files) {
  const text = await (files.find(({ name }) => name === 'plugin.json') ?? files[0]).text();
  const at = text.indexOf('{"');
  return at < 0 ? null : JSON.parse(text.slice(at));
}
