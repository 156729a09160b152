// @ts-check
/**
 * What the page knows, made from events alone: `reduce(state, envelope)`. Panels draw from it and never from each other.
 *
 * @typedef {import('../protocol.js').Envelope} Envelope
 * @typedef {import('../protocol.js').Command} Command
 * @typedef {import('../protocol.js').Step} Step
 * @typedef {import('../protocol.js').Evaluation} Evaluation
 * @typedef {'machine' | 'model' | 'data' | 'settings' | 'train' | 'result'} Panel
 * @typedef {Panel | 'config'} Place
 * @typedef {{ message: string, advice: string, engine?: boolean }} Trouble `engine`: in the engine's own words
 * @typedef {{ phase: import('../protocol.js').Phase, done: number, total: number } | null} Progress
 * @typedef {{
 *   id: string, state: import('../protocol.js').State, progress: Progress, steps: Step[], checks: Evaluation[],
 *   before: Evaluation | null, after: Evaluation | null, warnings: string[],
 *   summary: import('../protocol.js').Summary | null, clock: Clock, stopping: boolean,
 *   saved: import('../protocol.js').CheckpointInfo | null, recoveries: import('../protocol.js').Recovery[],
 * }} Run
 * @typedef {{
 *   adapter: import('../protocol.js').AdapterSummary | null, name: string, measured: Evaluation | null, measuredOn: string,
 *   warnings: string[], progress: Progress,
 * }} Use a trained model that was opened, and what was measured outside a run
 * @typedef {{ name: string, files: string[] }} LoadedConfig
 * @typedef {{ since: number, step: number, rate: number }} Clock `rate`: seconds a step, smoothed; pauses do not count.
 * @typedef {{
 *   step: Panel, engine: 'starting' | 'ready' | 'crashed', crash: string,
 *   gpu: import('./webgpu.js').WebGpu | null, quota: { quota: number, usage: number } | null,
 *   environment: import('../protocol.js').Environment | null, device: string,
 *   model: import('../protocol.js').ModelSummary | null,
 *   data: import('../protocol.js').DataSummary | null, heldOut: import('../protocol.js').DataSummary | null,
 *   textColumn: string, labelColumn: string, regression: boolean,
 *   form: import('./config.js').Form, kept: import('./config.js').Kept, loaded: LoadedConfig | null, plan: import('../protocol.js').Plan | null, stale: boolean,
 *   busy: Partial<Record<Command['type'], boolean>>,
 *   run: Run, use: Use, trained: boolean, settings: RunSettings | null, asked: string, exported: string,
 *   prediction: import('../protocol.js').Prediction | null,
 *   trouble: Partial<Record<Place, Trouble>>,
 *   tuning: Tuning,
 *   cut: import('./runs.js').CutRun | null, resuming: string | null,
 * }} State cut: a run that can be gone on with; resuming: the folder of the run that is being gone on with
 * @typedef {{
 *   points: Step[], curve: import('../protocol.js').LrCurve | null,
 *   running: boolean, report: import('../protocol.js').Report | null, runs: number, trial: string, best: Record<string, unknown> | null,
 * }} Tuning points: of the learning-rate test; the rest is the small sweep's, `best` the settings that came out first
 * @typedef {{
 *   modelName: string, full: boolean, task: 'classification' | 'regression' | 'generation', data: State['data'], heldOut: State['heldOut'],
 * }} RunSettings what the last run was started with
 */
import { fromConfig } from './config.js';

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
export const noUse = () => ({ adapter: null, name: '', measured: null, measuredOn: '', warnings: [], progress: null });

/** @param {import('./config.js').Form} form @param {string} device @returns {State} */
export const initial = (form, device) => ({
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
  textColumn: '',
  labelColumn: '',
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
  exported: '',
  prediction: null,
  trouble: {},
  tuning: { points: [], curve: null, running: false, report: null, runs: 0, trial: '', best: null },
  cut: null,
  resuming: null,
});

/** A run is under way. @param {State} state */
export const active = (state) => ['preparing', 'training', 'paused', 'evaluating', 'recovering'].includes(state.run.state);

/** Work outside a run; beside one it would be refused. @param {State} state */
const aside = (state) => !active(state) && Boolean(state.busy.open_adapter || state.busy.evaluate || state.busy.lr_find);

/** The engine would refuse other long work. @param {State} state */
export const occupied = (state) => active(state) || aside(state);

/** @param {State} state */
export const targetColumn = ({ data, labelColumn }) => data?.columns.find(({ name }) => name === labelColumn);

/** What the model in use was trained for. @param {State} state @returns {RunSettings['task'] | undefined} */
export function taskOf({ use: { adapter }, settings }) {
  if (!adapter) return settings?.task;
  return adapter.task === 'text-generation' ? 'generation' : adapter.labels.length ? 'classification' : 'regression';
}

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
      if (state.resuming) return { ...state, model: event };
      return { ...state, model: event, plan: null, stale: true, trained: false, prediction: null, run: noRun(), use: noUse() };
    case 'data_opened':
      return event.held_out ? { ...state, heldOut: event } : openedData(state, event);
    case 'config':
      return { ...state, ...written(state, event.config), plan: null, stale: true };
    case 'adapter_opened':
      return { ...state, trained: true, use: { ...state.use, adapter: event } };
    case 'plan':
      return { ...state, plan: event, stale: false };
    case 'state': {
      // Classifying can fail too; that says nothing about the run that is over. Only work outside a run ends idle.
      // What a model is used for shows in the answer.
      if (event.state === 'idle' || event.state === 'applying' || (event.state === 'failed' && !active(state))) return state;
      // From here on the engine has let go of the model that was trained or opened before.
      if (aside(state)) return state.busy.open_adapter || state.busy.lr_find ? { ...state, run: noRun(), settings: null, trained: false, prediction: null, use: noUse() } : state;
      const clock = event.state === 'training' ? { ...run.clock, since: now } : run.clock;
      const progress = event.state === run.state ? run.progress : null;
      const next = { ...run, id: event.run || run.id, state: event.state, progress, clock };
      return { ...state, run: next, trained: state.trained || event.state === 'succeeded' };
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
    case 'prediction':
      return { ...state, prediction: event };
    case 'exported':
      return { ...state, exported: event.files[0]?.name ?? '' };
    case 'warning':
      if (aside(state)) return { ...state, use: { ...state.use, warnings: [...state.use.warnings, event.message] } };
      return { ...state, run: { ...run, warnings: [...run.warnings, event.message] } };
    case 'finished':
      return { ...state, trained: true, run: { ...run, summary: event, progress: null, stopping: false } };
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
  if (state.data?.name === data.name && [state.textColumn, state.labelColumn].every((name) => name === '' || names.includes(name))) return next;
  const chosen = { ...next, textColumn: data.text_column ?? '', labelColumn: data.label_column ?? '' };
  return { ...chosen, regression: manyNumbers(targetColumn(chosen)) };
}

/** @param {State} state @param {import('../protocol.js').RawConfig} config @returns {Partial<State>} */
function written(state, config) {
  const { form, kept, files, regression, device, textColumn, labelColumn } = fromConfig(config);
  // The device and the columns stay as they were chosen where the file does not name them.
  return {
    form,
    kept,
    regression,
    device: device ?? state.device,
    textColumn: textColumn ?? state.textColumn,
    labelColumn: labelColumn ?? state.labelColumn,
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
