// @ts-check
/**
 * The settings form and the configuration it stands for. An empty field is an absent key: the defaults are the engine's alone,
 * and come back in the plan's `config`. Values are checked by the engine, so that form, file and command line agree.
 *
 * @typedef {import('../protocol.js').RawConfig} RawConfig
 * @typedef {'model' | 'data' | 'training' | 'evaluation' | 'lora' | 'recovery'} Section
 * @typedef {'basic' | 'lora' | 'measuring' | 'advanced' | 'care'} Group
 * @typedef {{ key: string, section: Section, group: Group, kind: 'integer' | 'number' | 'choice' | 'modules', options?: string[] | 'metrics',
 *   answers?: true }} Field answers: of tasks whose model writes its answers only
 * @typedef {Record<string, string>} Form
 * @typedef {Record<string, any>} Kept keys of a file that have no field here, by their full names
 */
import { DEFAULT_TASK } from './tasks.js';

export const MODULES = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

/** In the place of a choice's options: those metrics that the task has, as the engine lists them. */
export const METRICS_OF_TASK = 'metrics';

/** @type {Field[]} */
export const FIELDS = [
  { key: 'method', section: 'training', group: 'basic', kind: 'choice', options: ['lora', 'full'] },
  { key: 'num_epochs', section: 'training', group: 'basic', kind: 'number' },
  { key: 'batch_size', section: 'training', group: 'basic', kind: 'integer' },
  { key: 'learning_rate', section: 'training', group: 'basic', kind: 'number' },
  { key: 'max_seq_length', section: 'model', group: 'basic', kind: 'integer' },
  { key: 'validation_split', section: 'data', group: 'basic', kind: 'number' },

  { key: 'quantization', section: 'model', group: 'lora', kind: 'choice', options: ['auto', 'none', 'q4_0', 'q4_1', 'q8_0'] },
  { key: 'r', section: 'lora', group: 'lora', kind: 'integer' },
  { key: 'lora_alpha', section: 'lora', group: 'lora', kind: 'number' },
  { key: 'lora_dropout', section: 'lora', group: 'lora', kind: 'number' },
  { key: 'target_modules', section: 'lora', group: 'lora', kind: 'modules' },

  { key: 'success_metric', section: 'evaluation', group: 'measuring', kind: 'choice', options: METRICS_OF_TASK },
  { key: 'min_gain', section: 'evaluation', group: 'measuring', kind: 'number' },
  { key: 'max_generated_samples', section: 'evaluation', group: 'measuring', kind: 'integer', answers: true },
  { key: 'max_new_tokens', section: 'evaluation', group: 'measuring', kind: 'integer', answers: true },

  { key: 'apply_chat_template', section: 'data', group: 'advanced', kind: 'choice', options: ['false', 'true'], answers: true },
  { key: 'max_steps', section: 'training', group: 'advanced', kind: 'integer' },
  { key: 'max_train_samples', section: 'data', group: 'advanced', kind: 'integer' },
  { key: 'max_eval_samples', section: 'data', group: 'advanced', kind: 'integer' },
  { key: 'gradient_accumulation_steps', section: 'training', group: 'advanced', kind: 'integer' },
  { key: 'packing', section: 'training', group: 'advanced', kind: 'choice', options: ['false', 'true'], answers: true },
  { key: 'gradient_checkpointing', section: 'training', group: 'advanced', kind: 'choice', options: ['false', 'true'] },
  { key: 'mixed_precision', section: 'training', group: 'advanced', kind: 'choice', options: ['auto', 'no', 'fp16'] },
  { key: 'lr_scheduler_type', section: 'training', group: 'advanced', kind: 'choice', options: ['linear', 'cosine', 'constant'] },
  { key: 'warmup_ratio', section: 'training', group: 'advanced', kind: 'number' },
  { key: 'warmup_steps', section: 'training', group: 'advanced', kind: 'integer' },
  { key: 'weight_decay', section: 'training', group: 'advanced', kind: 'number' },
  { key: 'max_grad_norm', section: 'training', group: 'advanced', kind: 'number' },
  { key: 'adam_beta1', section: 'training', group: 'advanced', kind: 'number' },
  { key: 'adam_beta2', section: 'training', group: 'advanced', kind: 'number' },
  { key: 'adam_epsilon', section: 'training', group: 'advanced', kind: 'number' },
  { key: 'logging_steps', section: 'training', group: 'advanced', kind: 'integer' },
  { key: 'seed', section: 'training', group: 'advanced', kind: 'integer' },

  { key: 'eval_steps', section: 'training', group: 'care', kind: 'integer' },
  { key: 'metric_for_best_model', section: 'training', group: 'care', kind: 'choice', options: METRICS_OF_TASK },
  { key: 'load_best_model_at_end', section: 'training', group: 'care', kind: 'choice', options: ['false', 'true'] },
  { key: 'early_stopping_patience', section: 'training', group: 'care', kind: 'integer' },
  { key: 'early_stopping_threshold', section: 'training', group: 'care', kind: 'number' },
  { key: 'max_minutes', section: 'training', group: 'care', kind: 'number' },
  { key: 'save_steps', section: 'training', group: 'care', kind: 'integer' },
  { key: 'save_total_limit', section: 'training', group: 'care', kind: 'integer' },
  { key: 'max_retries', section: 'recovery', group: 'care', kind: 'integer' },
  { key: 'max_skipped_batches', section: 'recovery', group: 'care', kind: 'integer' },
  { key: 'learning_rate_factor', section: 'recovery', group: 'care', kind: 'number' },
  { key: 'divergence_threshold', section: 'recovery', group: 'care', kind: 'number' },
  { key: 'divergence_patience', section: 'recovery', group: 'care', kind: 'integer' },
];

export const DEVICES = ['auto', 'cpu', 'gpu'];

/**
 * What was remembered, as far as it is a form: strings under known keys.
 * @param {unknown} remembered @returns {Form}
 */
export function readForm(remembered) {
  /** @type {Form} */
  const form = {};
  if (!remembered || typeof remembered !== 'object') return form;
  for (const { key, options } of FIELDS) {
    const value = /** @type {any} */ (remembered)[key];
    if (typeof value === 'string' && value.length < 200 && (!Array.isArray(options) || options.includes(value))) form[key] = value;
  }
  return form;
}

/**
 * What a configuration is made of here: the form's fields, and choices made in other steps.
 * @typedef {{ form: Form, kept: Kept, device: string, model: string, data: string, heldOut: string, task: string, shape: string,
 *   columns: import('./tasks.js').Columns, regression: boolean, answers?: boolean }} Choices answers: whether the task's model
 *   writes answers
 */

/** @param {Choices} choices @returns {RawConfig} */
export function toConfig({ form, kept, device, model, data, heldOut, task, shape, columns, regression, answers = true }) {
  /** @type {Record<Section, Record<string, any>>} */
  const sections = { model: {}, data: {}, training: {}, evaluation: {}, lora: {}, recovery: {} };
  if (model) sections.model.name_or_path = model;
  if (data) sections.data.train_file = data;
  if (heldOut) sections.data.validation_file = heldOut;
  if (shape) sections.data.shape = shape;
  for (const [role, name] of Object.entries(columns)) if (name) sections.data[`${role}_column`] = name;
  for (const { key, section, kind, options, answers: ofAnswers } of FIELDS) {
    const value = form[key] ?? '';
    // A file of held-out rows takes the place of a share of the training rows; a field that is hidden is not meant.
    if (value === '' || (heldOut && key === 'validation_split') || (ofAnswers && !answers)) continue;
    if (kind === 'modules') sections[section][key] = value.split(',');
    else if (value === 'true' || value === 'false') sections[section][key] = value === 'true';
    else sections[section][key] = options ? value : Number(value);
  }
  /** @type {RawConfig & Record<string, any>} */
  const config = { task: task || DEFAULT_TASK, device, ...sections };
  for (const [key, value] of Object.entries(kept)) {
    const [section, name] = key.split('.');
    if (name) (config[section] ??= {})[name] = value;
    else config[section] = value;
  }
  if (regression) config.model.num_labels = 1;
  return config;
}

/** Keys that other steps choose, beside the columns. */
const CHOSEN = ['task', 'model.name_or_path', 'data.train_file', 'data.validation_file', 'data.shape'];
/** The key of a role's column. */
const COLUMN = /^data\.(.+)_column$/;

/**
 * Every key with its full name.
 * @param {RawConfig} config @returns {Array<[string, any]>}
 */
const keysOf = (config) =>
  Object.entries(config).flatMap(([name, value]) => {
    if (!value || typeof value !== 'object') return [[name, value]];
    return Object.entries(value).map(([key, inner]) => /** @type {[string, any]} */ ([`${name}.${key}`, inner]));
  });

/**
 * The way back: a configuration as a file has it onto the form. What has no field is kept and sent on; the files that it names are
 * told, since a page can open none by its name.
 * @param {RawConfig} config
 * @returns {{ form: Form, kept: Kept, device?: string, task?: string, shape: string, columns: import('./tasks.js').Columns, regression: boolean, files: string[] }}
 */
export function fromConfig(config) {
  /** @type {Form} */
  const form = {};
  for (const { key, section, kind } of FIELDS) {
    const value = /** @type {any} */ (config[section] ?? {})[key] ?? null;
    if (value === null) continue;
    // An empty list is not the default's empty field: the engine refuses it.
    if (kind === 'modules') form[key] = value.length === MODULES.length && MODULES.every((name) => value.includes(name)) ? '' : value.join(',') || ',';
    else form[key] = String(value);
  }
  const { model, data } = config;
  const regression = model.num_labels === 1;
  const known = new Set([...FIELDS.map(({ section, key }) => `${section}.${key}`), ...CHOSEN]);
  if (regression) known.add('model.num_labels');
  if (DEVICES.includes(config.device ?? 'auto')) known.add('device');
  /** @type {Kept} */
  const kept = {};
  /** @type {import('./tasks.js').Columns} */
  const columns = {};
  for (const [key, value] of keysOf(config)) {
    if (value === null || value === undefined || known.has(key)) continue;
    const role = COLUMN.exec(key)?.[1];
    if (role) columns[role] = String(value);
    else kept[key] = value;
  }
  return {
    form,
    kept,
    device: (!kept.device && config.device) || undefined,
    task: config.task ?? undefined,
    shape: data.shape ?? '',
    columns,
    regression,
    files: [model.name_or_path, data.train_file, data.validation_file].filter((name) => typeof name === 'string'),
  };
}

/**
 * Changes by their full names put into the form, or where it has no field among what is kept.
 * @param {{ form: Form, kept: Kept }} before @param {Record<string, string>} changes @returns {{ form: Form, kept: Kept }}
 */
export function changed({ form, kept }, changes) {
  const next = { form: { ...form }, kept: { ...kept } };
  for (const [name, value] of Object.entries(changes)) {
    const field = FIELDS.find(({ key, section }) => name === `${section}.${key}`);
    if (field) next.form[field.key] = value;
    else next.kept[name] = typed(value);
  }
  return next;
}

/** A number or a truth value as one. @param {string} value */
const typed = (value) => (value === 'true' || value === 'false' ? value === 'true' : value.trim() !== '' && Number.isFinite(Number(value)) ? Number(value) : value);

/**
 * The fields that hold something that is no number (or no whole one), which the protocol could not carry.
 * @param {Form} form @returns {string[]}
 */
export function unreadable(form) {
  return FIELDS.filter(({ key, kind }) => {
    const value = form[key] ?? '';
    if (value === '' || (kind !== 'integer' && kind !== 'number')) return false;
    const number = Number(value);
    return kind === 'integer' ? !Number.isSafeInteger(number) || number < 0 : !Number.isFinite(number);
  }).map(({ key }) => key);
}

/**
 * The field that a failure's message names, as `batch_size` or `training.batch_size`.
 * @param {string} message @returns {string | undefined}
 */
export function namedField(message) {
  const words = new Set(message.match(/[a-z_0-9]+/g));
  // `r` is also an ordinary letter, so it only counts with its section.
  return FIELDS.find(({ key, section }) => (key.length > 1 ? words.has(key) : message.includes(`${section}.${key}`)))?.key;
}

/**
 * The value that the engine took for a field, as the form would have it.
 * @param {RawConfig} config a plan's, every default filled in @param {Field} field @returns {string | undefined}
 */
export function taken(config, { key, section }) {
  const value = /** @type {any} */ (config[section] ?? {})[key] ?? undefined;
  return value === undefined ? undefined : String(value);
}
