// @ts-check
/**
 * What the page knows, made from events alone: `reduce(state, envelope)`. Panels draw from it and never from each other.
 *
 * @typedef {import('../protocol.js').Envelope} Envelope
 * @typedef {import('../protocol.js').Command} Command
 * @typedef {import('../protocol.js').Step} Step
 * @typedef {import('../protocol.js').Evaluation} Evaluation
 * @typedef {'machine' | 'model' | 'data' | 'settings' | 'train' | 'result'} Panel
 * @typedef {Panel | 'config' | 'plugins'} Place
 * @typedef {{ message: string, advice: string, engine?: boolean }} Trouble `engine`: in the engine's own words
 * @typedef {{ phase: import('../protocol.js').Phase, done: number, total: number } | null} Progress
 * @typedef {{
 *   id: string, state: import('../protocol.js').State, progress: Progress, steps: Step[], checks: Evaluation[],
 *   before: Evaluation | null, after: Evaluation | null, warnings: string[],
 *   summary: import('../protocol.js').Summary | null, clock: Clock, stopping: boolean,
 *   saved: import('../protocol.js').CheckpointInfo | null, recoveries: import('../protocol.js').Recovery[],
 * }} Run
 * @typedef {{
 *   adapter: import('../protocol.js').AdapterSummary | null, name: string, plugin: string | null, loose: boolean,
 *   settings: RunSettings | null, measured: Evaluation | null, measuredOn: string, warnings: string[], progress: Progress,
 * }} Use a trained model that was opened, and what was measured outside a run; plugin: its id, where it is one; loose: another
 *   model in its place would lose it; settings: of the run that a plugin in use came from, where it was here
 * @typedef {{ name: string, files: string[] }} LoadedConfig
 * @typedef {{ since: number, step: number, rate: number }} Clock `rate`: seconds a step, smoothed; pauses do not count.
 * @typedef {{
 *   step: Panel, engine: 'starting' | 'ready' | 'crashed', crash: string,
 *   gpu: import('./webgpu.js').WebGpu | null, quota: { quota: number, usage: number } | null,
 *   environment: import('../protocol.js').Environment | null, device: string,
 *   model: import('../protocol.js').ModelSummary | null,
 *   data: import('../protocol.js').DataSummary | null, heldOut: import('../protocol.js').DataSummary | null,
 *   task: string, shape: string, columns: import('./tasks.js').Columns, regression: boolean,
 *   form: import('./config.js').Form, kept: import('./config.js').Kept, loaded: LoadedConfig | null, plan: import('../protocol.js').Plan | null, stale: boolean,
 *   busy: Partial<Record<Command['type'], boolean>>,
 *   run: Run, use: Use, trained: boolean, settings: RunSettings | null, asked: string, asker: string, exported: string,
 *   prediction: import('../protocol.js').Prediction | null, answer: string,
 *   trouble: Partial<Record<Place, Trouble>>,
 *   tuning: Tuning, plugins: import('./plugins.js').Plugins, uses: import('./uses.js').Use[],
 *   cut: import('./runs.js').CutRun | null, resuming: string | null,
 * }} State cut: a run that can be gone on with; resuming: the folder of the run that is being gone on with; asker: the plugin that was asked
 * @typedef {{
 *   points: Step[], curve: import('../protocol.js').LrCurve | null,
 *   running: boolean, report: import('../protocol.js').Report | null, runs: number, trial: string, best: Record<string, unknown> | null,
 * }} Tuning points: of the learning-rate test; the rest is the small sweep's, `best` the settings that came out first
 * @typedef {'classification' | 'regression' | 'generation'} Kind of what a model answers
 * @typedef {{
 *   modelName: string, full: boolean, task: string, kind: Kind, shape: string, columns: import('./tasks.js').Columns,
 *   data: State['data'], heldOut: State['heldOut'],
 * }} RunSettings what the last run was started with
 */
import { fromConfig } from './config.js';
import { kindOfPlugin, noPlugins, withList } from './plugins.js';
import { DEFAULT_TASK, generates, preset, shapeOf } from './tasks.js';

/** @type {Record<Command['type'], Place>} Where a command's failure is shown. */
export const PANEL_OF = {
  inspect: 'machine',
  open_model: 'model',
  open_data: 'data',
  open_config: 'config',
  check: 'settings',
  start: 'train',
  lr_find: 'settings',
  sweep_next: 'settings',
  pause: 'train',
  resume: 'train',
  stop: 'train',
  open_adapter: 'result',
  evaluate: 'result',
  predict: 'result',
  add_plugin: 'plugins',
  keep_plugin: 'plugins',
  use_plugin: 'plugins',
  remove_plugin: 'plugins',
  list_plugins: 'plugins',
  export: 'result',
};

/** @returns {Run} */
export const noRun = () => ({
  id: '',
  state: 'idle',
  progress: null,
  steps: [],
  checks: [],
  before: null,
  after: null,
  warnings: [],
  summary: null,
  clock: { since: 0, step: 0, rate: 0 },
  stopping: false,
  saved: null,
  recoveries: [],
});

/** @returns {Use} */
export const noUse = () => ({ adapter: null, name: '', plugin: null, loose: false, settings: null, measured: null, measuredOn: '', warnings: [], progress: null });

/** @param {import('./config.js').Form} form @param {string} device @param {State['uses']} [uses] @returns {State} */
export const initial = (form, device, uses = []) => ({
  step: 'machine',
  engine: 'starting',
  crash: '',
  gpu: null,
  quota: null,
  environment: null,
  device,
  model: null,
  data: null,
  heldOut: null,
  task: '',
  shape: '',
  columns: {},
  regression: false,
  form,
  kept: {},
  loaded: null,
  plan: null,
  stale: true,
  busy: {},
  run: noRun(),
  use: noUse(),
  trained: false,
  settings: null,
  asked: '',
  asker: '',
  exported: '',
  prediction: null,
  answer: '',
  trouble: {},
  tuning: { points: [], curve: null, running: false, report: null, runs: 0, trial: '', best: null },
  plugins: noPlugins(),
  uses,
  cut: null,
  resuming: null,
});

/** A run is under way. @param {State} state */
export const active = (state) => ['preparing', 'training', 'paused', 'evaluating', 'recovering'].includes(state.run.state);

/** Work outside a run; beside one it would be refused. @param {State} state */
const aside = (state) => !active(state) && Boolean(state.busy.open_adapter || state.busy.add_plugin || state.busy.evaluate || state.busy.lr_find);

/** The engine would refuse other long work. @param {State} state */
export const occupied = (state) => active(state) || aside(state) || state.plugins.working !== '';

/** @param {State} state */
export const targetColumn = ({ data, columns }) => data?.columns.find(({ name }) => name === columns.label);

/** What the model in use answers. @param {State} state @returns {Kind | undefined} */
export function taskOf(state) {
  const { adapter } = state.use;
  return adapter ? kindOfPlugin({ generates: generates(state, adapter.task), labels: adapter.labels }) : state.settings?.kind;
}

/** What the model in use was trained with, where that was here. @param {State} state */
export const settingsInUse = (state) => (state.use.adapter ? state.use.settings : state.settings);

/** What a run is started with, so that its result can be told after the form has moved on. @param {State} state @returns {RunSettings} */
export const runSettings = (state) => ({
  modelName: state.model?.name ?? '',
  full: state.form.method === 'full',
  task: state.task,
  kind: generates(state, state.task) ? 'generation' : state.regression ? 'regression' : 'classification',
  shape: shapeOf(state)?.id ?? '',
  columns: state.columns,
  data: state.data,
  heldOut: state.heldOut,
});

/** Numbers too many to be classes: the number itself is what can be learned. @param {import('../protocol.js').Column | undefined} column */
export const manyNumbers = (column) => Boolean(column?.numeric && !column.values.length);

/**
 * @param {State} state @param {Envelope} event @param {Command['type'] | null} about the command it answers
 * @param {number} now milliseconds @returns {State}
 */
export function reduce(state, event, about, now) {
  const run = state.run;
  switch (event.type) {
    case 'environment':
      return { ...state, environment: event };
    case 'model_opened':
      // A run that is gone on with brings its own past; else what was trained belonged to the model before.
      if (state.resuming) return { ...state, model: event, plugins: noPlugins() };
      return { ...state, model: event, plugins: noPlugins(), plan: null, stale: true, trained: false, prediction: null, run: noRun(), use: noUse() };
    case 'data_opened':
      return event.held_out ? { ...state, heldOut: event } : openedData(state, event);
    case 'config':
      return { ...state, ...written(state, event.config), plan: null, stale: true };
    case 'adapter_opened':
      return { ...state, trained: true, use: { ...state.use, adapter: event } };
    case 'plugins':
      return withList(state, event.plugins, about);
    case 'plan':
      return { ...state, plan: event, stale: false };
    case 'state': {
      // Classifying can fail too; that says nothing about the run that is over. Only work outside a run ends idle.
      // What a model is used for shows in the answer.
      if (event.state === 'idle' || event.state === 'applying' || (event.state === 'failed' && !active(state))) return state;
      // From here on the engine has let go of the model that was trained or opened before.
      const fresh = state.plugins.answers.length ? { ...state, plugins: { ...state.plugins, answers: [] } } : state;
      if (aside(state)) return state.busy.open_adapter || state.busy.lr_find ? { ...fresh, run: noRun(), settings: null, trained: false, prediction: null, use: noUse() } : state;
      const clock = event.state === 'training' ? { ...run.clock, since: now } : run.clock;
      const progress = event.state === run.state ? run.progress : null;
      const next = { ...run, id: event.run || run.id, state: event.state, progress, clock };
      return { ...fresh, run: next, trained: state.trained || event.state === 'succeeded' };
    }
    case 'progress': {
      const progress = event.total && event.done >= event.total ? null : { phase: event.phase, done: event.done, total: event.total };
      return aside(state) ? { ...state, use: { ...state.use, progress } } : { ...state, run: { ...run, progress } };
    }
    case 'lr_curve':
      return { ...state, tuning: { ...state.tuning, curve: event } };
    case 'step':
      if (aside(state)) return { ...state, tuning: { ...state.tuning, points: [...state.tuning.points, event] } };
      return { ...state, run: { ...run, progress: null, steps: [...run.steps, event], clock: tick(run.clock, event.step, now) } };
    case 'checkpoint':
      return { ...state, run: { ...run, progress: null, saved: event } };
    case 'resumed':
      return { ...state, run: { ...back(run, event.step), warnings: [...run.warnings, ...event.damaged] } };
    case 'recovery':
      return { ...state, run: { ...back(run, event.back_to ?? Infinity), recoveries: [...run.recoveries, event] } };
    case 'evaluation':
      if (aside(state)) return { ...state, use: { ...state.use, progress: null, measured: event, measuredOn: (state.heldOut ?? state.data)?.name ?? '' } };
      if (event.when === 'before') return { ...state, run: { ...run, progress: null, before: event } };
      if (event.when === 'after') return { ...state, run: { ...run, progress: null, after: event } };
      return { ...state, run: { ...run, progress: null, checks: [...run.checks, event] } };
    case 'text_delta':
      return { ...state, answer: state.answer + event.text };
    case 'prediction':
      return { ...state, prediction: event };
    case 'exported':
      return { ...state, exported: event.files[0]?.name ?? '' };
    case 'warning':
      if (aside(state) && state.busy.add_plugin) return { ...state, plugins: { ...state.plugins, warnings: [...state.plugins.warnings, event.message] } };
      if (aside(state)) return { ...state, use: { ...state.use, warnings: [...state.use.warnings, event.message] } };
      return { ...state, run: { ...run, warnings: [...run.warnings, event.message] } };
    case 'finished':
      return { ...state, trained: true, use: { ...state.use, loose: true }, run: { ...run, summary: event, progress: null, stopping: false } };
    case 'failed': {
      const panel = about ? PANEL_OF[about] : active(state) || event.run ? 'train' : 'result';
      const failed = panel === 'train' && (!about || about === 'start');
      return {
        ...state,
        run: failed ? { ...run, state: 'failed', progress: null, stopping: false } : run,
        use: { ...state.use, progress: null },
        trouble: { ...state.trouble, [panel]: { message: event.message, advice: event.advice, engine: true } },
      };
    }
    default:
      return state;
  }
}

/**
 * The same file opened again (with held-out rows beside it, or corrected) keeps its columns' choice.
 * @param {State} state @param {import('../protocol.js').DataSummary} data @returns {State}
 */
function openedData(state, data) {
  const next = { ...state, data, heldOut: null, plan: null, stale: true };
  const names = data.columns.map(({ name }) => name);
  const chosen = Object.values(state.columns).filter(Boolean);
  // So does what a configuration chose before there was a table.
  const known = state.data ? state.data.name === data.name : chosen.length > 0;
  if (known && chosen.every((name) => names.includes(name))) return { ...next, task: state.task || data.fits[0]?.task || DEFAULT_TASK };
  const asked = state.data === null ? state.task : '';
  return mapped({ ...next, ...preset(state, data, asked || data.fits[0]?.task || DEFAULT_TASK) });
}

/** With a mapping that was just made: many numbers for labels are to be predicted themselves. @param {State} state @returns {State} */
export const mapped = (state) => ({ ...state, regression: !generates(state, state.task) && manyNumbers(targetColumn(state)) });

/** @param {State} state @param {import('../protocol.js').RawConfig} config @returns {Partial<State>} */
function written(state, config) {
  const { form, kept, files, regression, device, task = state.task, shape, columns } = fromConfig(config);
  // Device, task and columns stay as they were chosen where the file does not name them; another task begins with its own columns.
  const same = task === state.task && (!shape || shape === state.shape);
  const begun = same ? state : state.data ? preset(state, state.data, task, shape) : { shape, columns: {} };
  return {
    form,
    kept,
    regression,
    device: device ?? state.device,
    task,
    shape: shape || begun.shape,
    columns: { ...begun.columns, ...columns },
    loaded: { name: '', files },
  };
}

/** What came after a step that a run went back to is taken again. @param {Run} run @param {number} step @returns {Run} */
function back(run, step) {
  const kept = (/** @type {{ step: number }} */ one) => one.step <= step;
  return { ...run, progress: null, steps: run.steps.filter(kept), checks: run.checks.filter(kept), clock: { ...run.clock, since: 0, step: Math.min(step, run.clock.step) } };
}

/** @param {Clock} clock @param {number} step @param {number} now @returns {Clock} */
function tick(clock, step, now) {
  const steps = step - clock.step;
  if (!clock.since || steps <= 0) return { since: now, step, rate: clock.rate };
  const rate = (now - clock.since) / 1000 / steps;
  return { since: now, step, rate: clock.rate ? clock.rate * 0.8 + rate * 0.2 : rate };
}

/** Seconds that training still takes, as far as the last steps tell. @param {Run} run */
export function remaining(run) {
  const last = run.steps.at(-1);
  return last && run.clock.rate ? (last.total_steps - last.step) * run.clock.rate : NaN;
}
