// @ts-check
/** What an evaluation found: before and after a run beside each other, or one by itself. */
import { clip, h } from './dom.js';
import { bars, fact, facts, warnings } from './common.js';
import { confusionMatrix, MOST_CLASSES } from '../charts/confusion.js';
import { int, num, pct, points, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../protocol.js').Evaluation} Evaluation */
/** @typedef {import('../protocol.js').Metrics} Metrics */

/** The metric that tells most; all but accuracy are better lower. @param {Metrics} metrics */
const first = ({ mse, perplexity }) => (typeof mse === 'number' ? 'mse' : typeof perplexity === 'number' ? 'perplexity' : 'accuracy');

/** @param {State} state */
export function headline({ run }) {
  const [before, after] = [run.before?.metrics, run.after?.metrics];
  if (!before || !after) return null;
  const key = first(after);
  const [a, b] = [before[key], after[key]];
  if (typeof a !== 'number' || typeof b !== 'number') return null;
  const { good, text } = key === 'accuracy' ? accuracyWords(a, b, after.majority ?? 0, run.after?.rows ?? 0) : lowerWords(key, a, b, run.after?.rows ?? 0);
  const show = key === 'accuracy' ? pct : num;
  return h(
    'div',
    { class: `headline ${good ? 'headline-good' : 'headline-plain'}`, 'data-testid': 'headline' },
    key === 'accuracy' ? null : h('p', { class: 'overline' }, t(`metric.${key}`)),
    h(
      'p',
      { class: 'headline-numbers' },
      h('span', { 'data-testid': `before-${key}`, 'data-value': a }, show(a)),
      h('span', { class: 'arrow', 'aria-label': t('result.to') }, '→'),
      h('strong', { 'data-testid': `after-${key}`, 'data-value': b }, show(b)),
    ),
    h('p', null, text),
    run.summary && !run.summary.completed ? h('p', { class: 'hint' }, t('result.stopped_early')) : null,
  );
}

/** @param {number} before @param {number} after @param {number} majority @param {number} rows */
function accuracyWords(before, after, majority, rows) {
  // Better than before is not yet good: always answering the commonest class is the bar to pass.
  const key = after <= majority ? 'not_above_majority' : after > before ? 'better' : 'not_better';
  return { good: key === 'better', text: t(`result.${key}`, { points: points(after - before), majority: pct(majority), rows }) };
}

/** @param {'mse' | 'perplexity'} key @param {number} before @param {number} after @param {number} rows */
function lowerWords(key, before, after, rows) {
  const good = after < before;
  return { good, text: t(`result.${key}_${good ? 'better' : 'not_better'}`, { share: pct(1 - after / before, 0), typical: num(Math.sqrt(after), 3), rows }) };
}

/** @type {Array<{ key: keyof Metrics, share: boolean, lower?: boolean }>} */
const ROWS = [
  { key: 'accuracy', share: true },
  { key: 'macro_f1', share: true },
  { key: 'loss', share: false, lower: true },
  { key: 'perplexity', share: false, lower: true },
  { key: 'mse', share: false, lower: true },
];

/** The loss of regression is its mean squared error: once is enough. @param {Array<Metrics | undefined>} all */
const shownRows = (...all) => ROWS.filter(({ key }) => all.some((metrics) => typeof metrics?.[key] === 'number') && !(key === 'loss' && all.some((metrics) => typeof metrics?.mse === 'number')));

/** @param {number | null | undefined} value @param {boolean} share */
const show = (value, share) => (typeof value !== 'number' ? '–' : share ? pct(value) : num(value));

/** @param {State} state */
export function comparison({ run }) {
  const [before, after] = [run.before?.metrics, run.after?.metrics];
  const rows = shownRows(before, after);
  // The headline says as much of a single metric.
  if (rows.length < 2) return null;
  /** @param {number} a @param {number} b @param {boolean} share */
  const change = (a, b, share) => (share ? t('result.points', { n: points(b - a) }) : `${b > a ? '+' : ''}${num(b - a, 3)}`);
  const table = h(
    'table',
    { class: 'table compare', 'data-testid': 'comparison' },
    h('caption', { class: 'sr-only' }, t('result.comparison')),
    h('thead', null, h('tr', null, ['metric', 'before', 'after', 'change'].map((name, i) => h('th', { scope: 'col', class: i ? 'number' : null }, t(`result.${name}`))))),
    h(
      'tbody',
      null,
      rows.map(({ key, share, lower }) => {
        const [a, b] = [before?.[key], after?.[key]];
        const both = typeof a === 'number' && typeof b === 'number';
        const tone = !both || a === b ? '' : (lower ? b < a : b > a) ? 'good' : 'bad';
        return h(
          'tr',
          null,
          h('th', { scope: 'row' }, t(`metric.${key}`)),
          h('td', { class: 'number', 'data-testid': `metric-before-${key}` }, show(a, share)),
          h('td', { class: 'number', 'data-testid': `metric-after-${key}` }, show(b, share)),
          h('td', { class: `number ${tone}` }, both ? change(a, b, share) : ''),
        );
      }),
    ),
  );
  return h('div', { class: 'grid-2' }, h('div', { class: 'table-scroll' }, table), accuracyBars(before, after));
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

/** @param {Array<{ title: string, it: Evaluation | null }>} evaluations */
export function matrices(...evaluations) {
  const some = evaluations.filter(({ it }) => it?.confusion.length);
  if (!some.length || (some[0].it?.labels.length ?? 0) > MOST_CLASSES) return null;
  return h(
    'section',
    null,
    h('h3', null, t('result.confusion')),
    h('div', { class: 'grid-2', 'data-testid': 'confusion' }, some.map(({ title, it }) => it && confusionMatrix(title, it.labels, it.confusion))),
  );
}

/** @param {Evaluation | null} before @param {Evaluation | null} after */
export function samples(before, after) {
  if (!after?.samples.length) return null;
  // The same held-out rows come in both evaluations; the text is what ties them.
  const earlier = new Map(before?.samples.map((sample) => [sample.text, sample]));
  const numbers = first(after.metrics) === 'mse';
  /** @param {import('../protocol.js').Sample | undefined} sample */
  const answer = (sample) => {
    if (!sample) return '–';
    if (numbers) return h('span', { class: 'answer' }, num(Number(sample.predicted)), h('span', { class: 'hint' }, ` ${t('result.off', { n: num(Math.abs(Number(sample.predicted) - Number(sample.expected)), 2) })}`));
    return h('span', { class: sample.predicted === sample.expected ? 'answer answer-right' : 'answer answer-wrong' }, sample.predicted, h('span', { class: 'hint' }, ` ${pct(sample.confidence, 0)}`));
  };
  const title = t(before ? 'result.samples' : 'use.samples');
  const columns = before ? ['text', 'actual', 'before', 'after'] : ['text', 'actual', 'answer'];
  return h(
    'section',
    null,
    h('h3', null, title),
    h(
      'div',
      { class: 'table-scroll', tabindex: '0', role: 'region', 'aria-label': title },
      h(
        'table',
        { class: 'table', 'data-testid': 'samples' },
        h('thead', null, h('tr', null, columns.map((name) => h('th', { scope: 'col' }, t(`result.${name}`))))),
        h(
          'tbody',
          null,
          after.samples.map((sample) =>
            h(
              'tr',
              null,
              h('td', { class: 'col-text' }, h('div', { class: 'cell' }, clip(sample.text, 200))),
              h('td', null, sample.expected),
              before ? h('td', null, answer(earlier.get(sample.text))) : null,
              h('td', null, answer(sample)),
            ),
          ),
        ),
      ),
    ),
  );
}

/** One evaluation outside a run. @param {State['use']} use */
export function measured({ measured, measuredOn, warnings: remarks }) {
  if (!measured) return [];
  const { metrics, rows } = measured;
  return [
    h('p', { class: 'overline' }, t('use.measured', { name: measuredOn, rows })),
    facts(
      ...shownRows(metrics).map(({ key, share }) =>
        fact(t(`metric.${key}`), show(metrics[key], share), { testid: `measured-${key}`, hint: key === 'mse' ? t('use.typical', { n: num(Math.sqrt(metrics.mse ?? NaN), 3) }) : undefined }),
      ),
      fact(t('data.rows'), int(rows), { testid: 'measured-rows' }),
    ),
    typeof metrics.majority === 'number' ? h('p', null, t('use.majority', { share: pct(metrics.majority) })) : null,
    warnings(remarks, t('train.warnings'), 'measured-warnings'),
    matrices({ title: clip(measuredOn, 40), it: measured }),
    samples(null, measured),
  ];
}
