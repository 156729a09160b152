// @ts-check
/** Good settings found by trying: the learning-rate test, and a small sweep over rates and ranks against the settings as they are. */
import { h, region, updateAll } from './dom.js';
import { button, spinner } from './common.js';
import { lineChart } from '../charts/line.js';
import { occupied } from '../app/store.js';
import { int, num, short, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {{ findRate(): void, stop(): void, useRate(rate: number): void, trySettings(tried: Tried): void, useBest(): void }} Act */
/** @typedef {{ rates: number[], ranks: number[], steps: number | null }} Tried */

/** Numbers out of what a person typed, with commas or blanks between; null where one is none. @param {string} text */
export function numbersOf(text) {
  const parts = text.split(/[\s,;]+/).filter(Boolean);
  const numbers = parts.map(Number);
  return numbers.every((number) => Number.isFinite(number) && number > 0) ? numbers : null;
}

/** @param {Act} act */
export function tuningPart(act) {
  const rate = rateTest(act);
  const sweep = smallSweep(act);
  return {
    element: h('details', { class: 'group' }, h('summary', { 'data-testid': 'tuning' }, t('tune.title')), h('div', { class: 'stack' }, rate.element, sweep.element)),
    update: updateAll([rate, sweep]),
  };
}

const ready = (/** @type {State} */ state) => Boolean(state.model && state.data && state.engine === 'ready' && !occupied(state) && !state.tuning.running && !state.trouble.settings);

/** @param {Act} act */
function rateTest(act) {
  const find = button(t('tune.find'), 'find-rate', act.findRate);
  const stop = button(t('train.stop'), 'stop-find', act.stop, 'danger');
  const chart = lineChart({
    title: t('tune.curve'),
    describe: (last, first) => t('train.from_to', { from: num(first.y), to: num(last.y) }),
    xName: t('train.x'),
    format: (value) => num(value, 3),
    tick: short,
    tone: 'tone-loss',
    markName: t('tune.steepest'),
    testid: 'rate-curve',
  });
  /** @type {unknown} */
  let drawn = null;
  const told = region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.tuning.curve],
    ({ tuning: { curve } }) => {
      if (!curve) return '';
      const rate = curve.suggestion;
      if (rate === null) return h('p', { 'data-testid': 'rate-told' }, t('tune.flat'));
      return h('p', { class: 'actions' }, h('span', { 'data-testid': 'rate-told' }, t('tune.suggested', { rate: num(rate, 2) })), button(t('tune.use'), 'use-rate', () => act.useRate(rate)));
    },
  );
  return {
    element: h('div', { class: 'stack-tight' }, h('p', { class: 'hint' }, t('tune.find_hint')), h('div', { class: 'actions' }, find, stop), chart.element, told.element),
    /** @param {State} state */
    update(state) {
      const { points, curve } = state.tuning;
      find.disabled = !ready(state);
      stop.hidden = !state.busy.lr_find;
      chart.element.hidden = !points.length;
      if (drawn !== points || curve) {
        drawn = points;
        const at = curve?.points.findIndex(({ learning_rate }) => learning_rate === curve.suggestion) ?? -1;
        const marks = at < 0 || !curve ? [] : [{ x: at + 1, y: curve.points[at].smoothed }];
        // A loss that runs away would flatten everything before it.
        const most = 1.5 * Math.max(...points.slice(0, 10).map(({ loss }) => loss));
        const shown = points.map(({ step, loss }) => ({ x: step, y: Math.min(loss, most) }));
        chart.update({ points: shown, marks, end: points.at(-1)?.total_steps ?? 1, weight: 0.8 });
      }
      told.update(state);
    },
  };
}

/** @param {Act} act */
function smallSweep(act) {
  const rates = h('input', { type: 'text', id: 'sweep-rates', 'data-testid': 'sweep-rates', value: '0.0005, 0.002, 0.008', spellcheck: 'false' });
  const ranks = h('input', { type: 'text', id: 'sweep-ranks', 'data-testid': 'sweep-ranks', value: '', placeholder: '4, 16', spellcheck: 'false' });
  const steps = h('input', { type: 'text', id: 'sweep-steps', 'data-testid': 'sweep-steps', value: '', inputmode: 'numeric', spellcheck: 'false' });
  /** @returns {Tried | null} */
  const tried = () => {
    const [a, b, c] = [rates, ranks, steps].map((input) => numbersOf(/** @type {HTMLInputElement} */ (input).value));
    if (!a || !b || !c || c.length > 1 || a.length + b.length === 0 || ![...b, ...c].every(Number.isInteger)) return null;
    return { rates: a, ranks: b, steps: c[0] ?? null };
  };
  const go = button(t('tune.try'), 'try-settings', () => {
    const what = tried();
    if (what) act.trySettings(what);
  });
  const stop = button(t('train.stop'), 'stop-sweep', act.stop, 'danger');
  const odd = h('p', { class: 'verdict verdict-bad', role: 'alert', hidden: true }, t('tune.odd'));
  /** @param {string} id @param {string} name @param {HTMLElement} input */
  const field = (id, name, input) => h('div', { class: 'field' }, h('label', { for: id, class: 'field-name' }, name), input);
  const table = region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.tuning],
    ({ tuning: { running, report, runs, trial } }) => {
      if (!report) return '';
      const done = report.rows.length;
      return [
        spinner(running, t('tune.trial', { n: int(Math.min(done + 1, runs)), total: int(runs), what: trial })),
        done ? rows(report) : '',
        running ? '' : h('p', { 'data-testid': 'sweep-verdict' }, report.verdict),
        !running && report.best ? h('div', { class: 'actions' }, button(t('tune.use_best'), 'use-best', act.useBest)) : '',
      ];
    },
  );
  let latest = /** @type {State | null} */ (null);
  const update = (/** @type {State} */ state) => {
    latest = state;
    const fine = tried() !== null;
    odd.hidden = fine;
    go.disabled = !fine || !ready(state);
    stop.hidden = !state.tuning.running;
    table.update(state);
  };
  for (const input of [rates, ranks, steps]) input.addEventListener('input', () => latest && update(latest));
  return {
    element: h(
      'div',
      { class: 'stack-tight' },
      h('p', { class: 'hint' }, t('tune.try_hint')),
      h('div', { class: 'form-grid' }, field('sweep-rates', t('tune.rates'), rates), field('sweep-ranks', t('tune.ranks'), ranks), field('sweep-steps', t('tune.steps'), steps)),
      odd,
      h('div', { class: 'actions' }, go, stop),
      table.element,
    ),
    update,
  };
}

/** @param {import('../protocol.js').Report} report */
function rows({ metric, rows }) {
  const cell = (/** @type {string} */ text) => h('td', null, text);
  const number = (/** @type {number | null} */ value) => (value === null ? '–' : num(value, 3));
  return h(
    'div',
    { class: 'table-scroll' },
    h(
      'table',
      { class: 'table', 'data-testid': 'sweep-table' },
      h('thead', null, h('tr', null, [t('tune.settings'), metric, t('train.loss'), t('tune.steps_taken')].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', null, rows.map((row) => h('tr', null, cell(row.what), cell(number(row.value)), cell(number(row.loss)), cell(int(row.steps))))),
    ),
  );
}
