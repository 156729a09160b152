// @ts-check
/**
 * What the page knows, made from events alone: `reduce(state, envelope)`. Panels draw from it and never from each other.
 *
 * @typedef {import('../protocol.js').Envelope} Envelope
 * @typedef {import('../protocol.js').Command} Command
 * @typedef {import('../protocol.js').Step} Step
 * @typedef {import('../protocol.js').Evaluation} Evaluation
 * @typedef {'machine' | 'model' | 'data' | 'settings' | 'train' | 'result'} Panel
 * @typedef {{ message: string, advice: string }} Trouble
 * @typedef {{ phase: import('../protocol.js').Phase, done: number, total: number } | null} Progress
 * @typedef {{
 *   id: string, state: import('../protocol.js').State, progress: Progress, steps: Step[], checks: Evaluation[],
 *   before: Evaluation | null, after: Evaluation | null, warnings: string[],
 *   summary: import('../protocol.js').Summary | null, clock: Clock, stopping: boolean,
 * }} Run
 * @typedef {{ since: number, step: number, rate: number }} Clock `rate`: seconds a step, smoothed; pauses do not count.
 * @typedef {{
 *   step: Panel, engine: 'starting' | 'ready' | 'crashed', crash: string,
 *   gpu: import('./webgpu.js').WebGpu | null, quota: { quota: number, usage: number } | null,
 *   environment: import('../protocol.js').Environment | null, device: string,
 *   model: import('../protocol.js').ModelSummary | null,
 *   data: import('../protocol.js').DataSummary | null, textColumn: string, labelColumn: string,
 *   form: import('./config.js').Form, plan: import('../protocol.js').Plan | null, stale: boolean,
 *   busy: Partial<Record<Command['type'], boolean>>,
 *   run: Run, trained: boolean, settings: RunSettings | null, asked: string,
 *   prediction: import('../protocol.js').Prediction | null,
 *   trouble: Partial<Record<Panel, Trouble>>,
 * }} State
 * @typedef {{ modelName: string, dataName: string, textColumn: string }} RunSettings
 */

/** @type {Record<Command['type'], Panel>} Where a command's failure is shown. */
export const PANEL_OF = {
  inspect: 'machine',
  open_model: 'model',
  open_data: 'data',
  check: 'settings',
  start: 'train',
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
});

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
  textColumn: '',
  labelColumn: '',
  form,
  plan: null,
  stale: true,
  busy: {},
  run: noRun(),
  trained: false,
  settings: null,
  asked: '',
  prediction: null,
  trouble: {},
});

/** @param {State} state */
export const active = (state) => ['preparing', 'training', 'paused', 'evaluating'].includes(state.run.state);

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
      // What was trained belonged to the model before.
      return { ...state, model: event, plan: null, stale: true, trained: false, prediction: null };
    case 'data_opened':
      return {
        ...state,
        data: event,
        textColumn: event.text_column ?? '',
        labelColumn: event.label_column ?? '',
        plan: null,
        stale: true,
      };
    case 'plan':
      return { ...state, plan: event, stale: false };
    case 'state': {
      const clock = event.state === 'training' ? { ...run.clock, since: now } : run.clock;
      const progress = event.state === run.state ? run.progress : null;
      const next = { ...run, id: event.run || run.id, state: event.state, progress, clock };
      return { ...state, run: next, trained: state.trained || event.state === 'succeeded' };
    }
    case 'progress':
      return { ...state, run: { ...run, progress: { phase: event.phase, done: event.done, total: event.total } } };
    case 'step':
      return { ...state, run: { ...run, progress: null, steps: [...run.steps, event], clock: tick(run.clock, event.step, now) } };
    case 'evaluation':
      if (event.when === 'before') return { ...state, run: { ...run, progress: null, before: event } };
      if (event.when === 'after') return { ...state, run: { ...run, progress: null, after: event } };
      return { ...state, run: { ...run, progress: null, checks: [...run.checks, event] } };
    case 'prediction':
      return { ...state, prediction: event };
    case 'warning':
      return { ...state, run: { ...run, warnings: [...run.warnings, event.message] } };
    case 'finished':
      return { ...state, trained: true, run: { ...run, summary: event, progress: null, stopping: false } };
    case 'failed': {
      const panel = about ? PANEL_OF[about] : active(state) || event.run ? 'train' : 'result';
      const failed = panel === 'train' && (!about || about === 'start');
      return {
        ...state,
        run: failed ? { ...run, state: 'failed', progress: null, stopping: false } : run,
        trouble: { ...state.trouble, [panel]: { message: event.message, advice: event.advice } },
      };
    }
    default:
      return state;
  }
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
