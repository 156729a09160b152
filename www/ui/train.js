// @ts-check
import { h, region, setText, updateAll } from './dom.js';
import { button, card, trouble, warnings } from './common.js';
import { lineChart } from '../charts/line.js';
import { active, remaining } from '../app/store.js';
import { bytes, duration, int, num, pct, short, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */

/** @param {{ pause(): void, resume(): void, stop(): void, go(step: import('../app/store.js').Panel): void }} act */
export function trainPanel(act) {
  const error = trouble('train');
  const head = progress();
  const numbers = tiles();
  const graphs = charts();
  const log = region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.run.warnings],
    (state) => warnings(state.run.warnings, t('train.warnings'), 'run-warnings'),
  );

  const care = region(
    h('div', { class: 'stack-tight' }),
    (state) => [state.run.saved, state.run.summary, state.run.recoveries, active(state), state.quota],
    carePart,
  );

  const pause = button(t('train.pause'), 'pause', act.pause);
  const resume = button(t('train.resume'), 'resume', act.resume, 'primary');
  const stop = button(t('train.stop'), 'stop', act.stop, 'danger');
  const back = button(t('train.back'), 'back-to-settings', () => act.go('settings'));
  const see = button(t('train.see'), 'see-result', () => act.go('result'), 'primary');
  const foot = {
    element: h('footer', { class: 'panel-foot' }, pause, resume, stop, back, see),
    update: (/** @type {State} */ state) => {
      const { run } = state;
      // Hiding the button that has the focus would drop the keyboard to the top of the page.
      const focused = document.activeElement;
      const last = run.steps.at(-1);
      pause.hidden = run.state !== 'training' || run.stopping;
      resume.hidden = run.state !== 'paused';
      stop.hidden = !active(state) || (last !== undefined && last.step === last.total_steps);
      stop.disabled = run.stopping;
      back.hidden = active(state);
      see.hidden = !run.summary;
      if (focused === pause && pause.hidden && !resume.hidden) resume.focus();
      else if (focused === resume && resume.hidden && !pause.hidden) pause.focus();
      else if (focused === stop && stop.hidden && !see.hidden) see.focus();
    },
  };
  const element = card('train', error.element, head.element, numbers.element, graphs.element, care.element, log.element, foot.element);
  const lead = {
    element,
    update: (/** @type {State} */ { settings }) => setText(/** @type {Element} */ (element.querySelector('.lead')), t(settings?.kind === 'regression' ? 'train.lead_number' : 'train.lead')),
  };
  return {
    element,
    update: updateAll([lead, error, head, numbers, graphs, care, log, foot]),
  };
}

/** What is saved, what a run got over, and what a hidden tab means. @param {State} state */
function carePart(state) {
  const { saved, recoveries } = state.run;
  const free = state.quota ? state.quota.quota - state.quota.usage : NaN;
  return [
    ...recoveries.map((one) => h('p', { class: 'notice notice-warning', 'data-testid': 'recovery' }, recoveryText(one), h('span', { class: 'hint' }, ` ${one.message}`))),
    // A run that is over is not gone on with.
    saved && !state.run.summary ? h('p', { class: 'hint', 'data-testid': 'saved' }, t('train.saved', { n: int(saved.step), size: bytes(saved.bytes) }), Number.isFinite(free) ? ` ${t('train.free', { size: bytes(free) })}` : '') : '',
    active(state) ? h('p', { class: 'hint' }, t('train.background')) : '',
  ];
}

/** @param {import('../protocol.js').Recovery} one */
function recoveryText({ action, step, back_to, attempt, max_attempts, learning_rate_factor, split }) {
  const done = t(`recovery.${action}`, { n: int(step), rate: pct(learning_rate_factor, 1), split: int(split) });
  const back = back_to === null ? '' : back_to === 0 ? ` ${t('recovery.back_to_start')}` : ` ${t('recovery.back', { n: int(back_to) })}`;
  return `${done}${back}${attempt ? ` ${t('recovery.attempt', { n: attempt, most: max_attempts })}` : ''}`;
}

function progress() {
  const state = h('strong', { 'data-testid': 'run-state' });
  const detail = h('span', { class: 'progress-detail' });
  const eta = h('span', { class: 'progress-eta', 'data-testid': 'eta' });
  const bar = h('progress', { max: 1, 'aria-label': t('train.progress') });
  const spoken = h('p', { class: 'sr-only', 'aria-live': 'polite' });
  return {
    element: h('div', { class: 'run-head' }, h('p', { class: 'progress-line' }, state, detail, eta), bar, spoken),
    /** @param {State} now */
    update(now) {
      const { run } = now;
      const { progress } = run;
      const last = run.steps.at(-1);
      element(state, run.stopping ? t('state.stopping') : t(`state.${run.state}`));
      state.dataset.state = run.state;
      if (progress) {
        element(detail, `${t(`phase.${progress.phase}`)}${progress.total > 1 ? ` · ${int(progress.done)} / ${int(progress.total)}` : ''}`);
        if (progress.total > 1) bar.value = progress.done / progress.total;
        else bar.removeAttribute('value');
      } else if (last) {
        element(detail, t('train.step', { n: last.step, total: last.total_steps, epoch: num(last.epoch, 3) }));
        bar.value = run.summary ? 1 : last.step / Math.max(1, last.total_steps);
      } else {
        element(detail, '');
        if (active(now)) bar.removeAttribute('value');
        else bar.value = 0;
      }
      if (run.summary) {
        element(detail, t(`train.ended.${run.summary.ended}`, { n: run.summary.steps, time: duration(run.summary.seconds) }));
        bar.value = 1;
      }
      const left = run.state === 'training' && !progress ? remaining(run) : NaN;
      element(eta, Number.isFinite(left) ? t('train.eta', { time: duration(left) }) : '');
      // Spoken at each tenth only: a screen reader that reads every step says nothing.
      const tenth = last ? Math.floor((last.step / Math.max(1, last.total_steps)) * 10) * 10 : 0;
      element(spoken, run.state === 'training' && tenth ? t('train.spoken', { n: tenth, loss: num(last?.loss ?? NaN) }) : t(`state.${run.state}`));
    },
  };
}

const element = setText;

function tiles() {
  const names = /** @type {const} */ (['loss', 'accuracy', 'speed', 'learning_rate', 'grad_norm']);
  const cells = Object.fromEntries(names.map((name) => [name, h('dd', { 'data-testid': `${name.replace('_', '-')}-value` }, '–')]));
  return {
    element: h('dl', { class: 'facts facts-run' }, names.map((name) => h('div', { class: 'fact' }, h('dt', null, t(`train.${name}`)), cells[name]))),
    /** @param {State} state */
    update({ run, settings }) {
      const last = run.steps.at(-1);
      /** @type {HTMLElement} */ (cells.accuracy.parentElement).hidden = settings?.kind === 'regression';
      setText(cells.loss, last ? num(last.loss) : '–');
      setText(cells.accuracy, last ? pct(last.accuracy, 0) : '–');
      setText(cells.speed, last ? t('train.tokens', { n: int(last.tokens_per_second) }) : '–');
      setText(cells.learning_rate, last ? num(last.learning_rate, 3) : '–');
      setText(cells.grad_norm, last ? num(last.grad_norm, 3) : '–');
    },
  };
}

function charts() {
  let weight = 0.8;
  /** @type {State | null} */
  let latest = null;
  /** @type {unknown[]} */
  let shown = [];
  const slider = h('input', { type: 'range', min: 0, max: 0.98, step: 0.02, 'data-testid': 'smoothing' });
  slider.value = String(weight);
  const loss = lineChart({
    title: t('train.loss_chart'),
    describe: (last, first) => t('train.from_to', { from: num(first.y), to: num(last.y) }),
    xName: t('train.x'),
    format: (value) => num(value, 3),
    tick: short,
    tone: 'tone-loss',
    markName: t('train.held_out'),
    testid: 'loss-chart',
  });
  const accuracy = lineChart({
    title: t('train.accuracy_chart'),
    describe: (last, first) => t('train.from_to', { from: pct(first.y, 0), to: pct(last.y, 0) }),
    xName: t('train.x'),
    format: (value) => pct(value, 0),
    range: [0, 1],
    tone: 'tone-accuracy',
    markName: t('train.held_out'),
    testid: 'accuracy-chart',
  });
  const draw = () => {
    if (!latest) return;
    const { steps, before, after, checks } = latest.run;
    if (shown[0] === steps && shown[1] === before && shown[2] === after && shown[3] === checks && shown[4] === weight) return;
    shown = [steps, before, after, checks, weight];
    const end = steps.at(-1)?.total_steps ?? latest.plan?.total_steps ?? 1;
    const held = [before, ...checks, after].filter((one) => one !== null);
    loss.update({ points: steps.map((step) => ({ x: step.step, y: step.loss })), marks: held.map((one) => ({ x: one.step, y: one.metrics.loss })), end, weight });
    accuracy.update({
      points: steps.map((step) => ({ x: step.step, y: step.accuracy })),
      marks: held.flatMap((one) => (typeof one.metrics.accuracy !== 'number' ? [] : [{ x: one.step, y: one.metrics.accuracy }])),
      end,
      weight,
    });
  };
  slider.addEventListener('input', () => {
    weight = Number(slider.value);
    draw();
  });
  return {
    element: h(
      'div',
      { class: 'stack' },
      h('div', { class: 'grid-2' }, loss.element, accuracy.element),
      h(
        'div',
        { class: 'chart-foot' },
        h('p', { class: 'hint legend-line' }, h('span', { class: 'mark-dot', 'aria-hidden': 'true' }), t('train.mark_hint')),
        h('label', { class: 'slider' }, h('span', null, t('train.smoothing')), slider),
      ),
    ),
    /** @param {State} state */
    update(state) {
      latest = state;
      // A number is near or far, not right or wrong.
      accuracy.element.hidden = state.settings?.kind === 'regression';
      draw();
    },
  };
}
