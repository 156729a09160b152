// @ts-check
/** What an evaluation found: before and after a run beside each other, or one by itself. */
import { clip, h } from './dom.js';
import { bars, fact, facts, warnings } from './common.js';
import { classTable, reliability } from './classes.js';
import { samples } from './samples.js';
import { confusionMatrix, MOST_CLASSES } from '../charts/confusion.js';
import { changeOf, kindOf, mainMetric, metricName, shownMetrics } from '../app/metrics.js';
import { int, num, pct, points, signed, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../protocol.js').Evaluation} Evaluation */
/** @typedef {import('../protocol.js').Metrics} Metrics */
/** @typedef {import('../app/metrics.js').Metric} Metric */

/** @param {string} metric @param {number | null | undefined} value */
export const shown = (metric, value) => (typeof value !== 'number' ? '–' : kindOf(metric).share ? pct(value) : num(value));

/** @param {string} metric @param {number} value */
export const shownChange = (metric, value) => (kindOf(metric).share ? t('result.points', { n: points(value) }) : signed(value));

/** A change's interval: of shares in points, with its unit said once. @param {string} metric @param {[number, number]} interval */
export const shownRange = (metric, [low, high]) =>
  kindOf(metric).share ? t('result.points', { n: t('result.range', { low: points(low), high: points(high) }) }) : t('result.range', { low: signed(low), high: signed(high) });

/** The same in a table's cell, where there is no room for words. @param {string} low @param {string} high */
const narrow = (low, high) => h('div', { class: 'interval' }, `${low} … ${high}`);

/** @param {State} state */
export function headline({ run }) {
  const { before, after } = run;
  if (!before || !after) return null;
  const key = mainMetric(after.metrics);
  const [a, b] = [before.metrics[key], after.metrics[key]];
  const change = changeOf(before, after, key);
  if (typeof a !== 'number' || typeof b !== 'number' || !change) return null;
  const { good, text } = words(key, a, b, after);
  return h(
    'div',
    { class: `headline ${good && change.tone !== 'chance' ? 'headline-good' : 'headline-plain'}`, 'data-testid': 'headline' },
    h('p', { class: 'overline' }, t(`metric.${metricName(key, after.metrics)}`)),
    h(
      'p',
      { class: 'headline-numbers' },
      h('span', { 'data-testid': `before-${key}`, 'data-value': a }, shown(key, a)),
      h('span', { class: 'arrow', 'aria-label': t('result.to') }, '→'),
      h('strong', { 'data-testid': `after-${key}`, 'data-value': b }, shown(key, b)),
    ),
    h('p', null, text),
    change.interval && change.tone !== 'same' ? h('p', { class: 'certainty', 'data-testid': 'certainty' }, t(change.tone === 'chance' ? 'result.chance' : 'result.certain', { range: shownRange(key, change.interval) })) : null,
    run.summary && !run.summary.completed ? h('p', { class: 'hint' }, t('result.stopped_early')) : null,
  );
}

/** Whether it got better, in a sentence. @param {Metric} key @param {number} before @param {number} after @param {Evaluation} evaluation */
function words(key, before, after, { rows, answered, metrics }) {
  const { lower } = kindOf(key);
  const better = lower ? after < before : after > before;
  const outcome = better ? 'better' : 'not_better';
  if (key === 'accuracy') {
    // Better than before is not yet good: always answering the commonest class is the bar to pass.
    const majority = metrics.majority ?? 0;
    const said = after <= majority ? 'not_above_majority' : outcome;
    return { good: said === 'better', text: t(`result.${said}`, { points: points(after - before), majority: pct(majority), rows }) };
  }
  if (lower) return { good: better, text: t(`result.${key === 'mse' ? 'mse' : 'perplexity'}_${outcome}`, { share: pct(1 - after / before, 0), typical: num(Math.sqrt(after), 3), rows }) };
  return { good: better, text: t(`result.answers_${outcome}`, { change: shownChange(key, after - before), rows: answered || rows, about: t(`metric_about.${key}`) }) };
}

/** @param {string} metric @param {Evaluation | null} it */
function interval(metric, it) {
  const found = it?.intervals?.[metric];
  return found ? narrow(shown(metric, found[0]), shown(metric, found[1])) : null;
}

/** @param {State} state */
export function comparison({ run: { before, after } }) {
  const rows = shownMetrics(before?.metrics, after?.metrics);
  // The headline says as much of a single metric.
  if (rows.length < 2) return null;
  const metrics = /** @type {Metrics} */ (after?.metrics ?? before?.metrics);
  const intervals = rows.some((metric) => after?.intervals?.[metric]);
  const table = h(
    'table',
    { class: 'table compare', 'data-testid': 'comparison' },
    h('caption', { class: 'sr-only' }, t('result.comparison')),
    h('thead', null, h('tr', null, ['metric', 'before', 'after', 'change'].map((name, i) => h('th', { scope: 'col', class: i ? 'number' : null }, t(`result.${name}`))))),
    h(
      'tbody',
      null,
      rows.map((metric, i) => {
        const change = changeOf(before, after, metric);
        const name = metricName(metric, metrics);
        return h(
          'tr',
          { class: i ? null : 'main-metric' },
          h('th', { scope: 'row', title: t(`metric_about.${name}`) }, t(`metric.${name}`)),
          h('td', { class: 'number', 'data-testid': `metric-before-${metric}` }, shown(metric, before?.metrics[metric]), interval(metric, before)),
          h('td', { class: 'number', 'data-testid': `metric-after-${metric}` }, shown(metric, after?.metrics[metric]), interval(metric, after)),
          h('td', { class: `number ${change?.tone ?? ''}`, 'data-testid': `metric-change-${metric}` }, change ? changeCell(metric, change) : ''),
        );
      }),
    ),
  );
  return h(
    'div',
    { class: 'stack' },
    accuracyBars(before?.metrics, after?.metrics),
    h('div', { class: 'table-scroll', tabindex: '0', role: 'region', 'aria-label': t('result.comparison') }, table),
    intervals ? h('p', { class: 'hint' }, t('result.intervals_hint')) : null,
  );
}

/** @param {Metric} metric @param {import('../app/metrics.js').Change} change */
function changeCell(metric, { value, interval, tone }) {
  const number = kindOf(metric).share ? points : signed;
  return [
    h('span', null, shownChange(metric, value)),
    interval ? narrow(number(interval[0]), number(interval[1])) : null,
    tone === 'chance' ? h('div', { class: 'interval chance-tag' }, t('result.may_be_chance')) : null,
  ];
}

/** @param {Metrics | undefined} before @param {Metrics | undefined} after */
function accuracyBars(before, after) {
  const majority = after?.majority ?? before?.majority;
  if (typeof majority !== 'number') return null;
  const rows = /** @type {const} */ ([
    ['before', before],
    ['after', after],
  ]).flatMap(([when, metrics]) =>
    typeof metrics?.accuracy === 'number' ? [{ label: t(`result.${when}`), share: metrics.accuracy, text: pct(metrics.accuracy), tone: `fill-${when}`, mark: majority }] : [],
  );
  return h('div', { class: 'stack-tight' }, bars(rows), h('p', { class: 'hint' }, t('result.majority_mark', { share: pct(majority) })));
}

/** Each class by itself, and whether its confidence can be believed. @param {Array<{ title: string, it: Evaluation | null }>} evaluations */
export function matrices(...evaluations) {
  const some = evaluations.filter(({ it }) => it?.confusion.length);
  const last = some.at(-1)?.it;
  if (!last) return null;
  return h(
    'section',
    { class: 'stack-tight' },
    last.labels.length > MOST_CLASSES
      ? null
      : h('section', null, h('h3', null, t('result.confusion')), h('div', { class: 'grid-2', 'data-testid': 'confusion' }, some.map(({ title, it }) => it && confusionMatrix(title, it.labels, it.confusion)))),
    classTable(last),
    reliability(last),
  );
}

/** One evaluation outside a run. @param {State} state */
export function measured(state) {
  const { measured, measuredOn, warnings: remarks } = state.use;
  if (!measured) return [];
  const { metrics, rows, intervals } = measured;
  /** @param {Metric} metric */
  const hint = (metric) => {
    const between = intervals?.[metric];
    const typical = metric === 'mse' ? t('use.typical', { n: num(Math.sqrt(metrics.mse ?? NaN), 3) }) : '';
    return [typical, between ? t('result.range', { low: shown(metric, between[0]), high: shown(metric, between[1]) }) : ''].filter(Boolean).join(' · ') || undefined;
  };
  return [
    h('p', { class: 'overline' }, t('use.measured', { name: measuredOn, rows })),
    facts(
      ...shownMetrics(metrics).map((metric) => fact(t(`metric.${metricName(metric, metrics)}`), shown(metric, metrics[metric]), { testid: `measured-${metric}`, hint: hint(metric) })),
      fact(t('data.rows'), int(rows), { testid: 'measured-rows' }),
    ),
    typeof metrics.majority === 'number' ? h('p', null, t('use.majority', { share: pct(metrics.majority) })) : null,
    warnings(remarks, t('train.warnings'), 'measured-warnings'),
    matrices({ title: clip(measuredOn, 40), it: measured }),
    samples(state, null, measured),
  ];
}
