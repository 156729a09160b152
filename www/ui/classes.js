// @ts-check
/** A classifier's classes one by one, and its confidence held against how often it is right. */
import { clip, h, s } from './dom.js';
import { int, num, pct, t } from '../app/i18n.js';

/** @typedef {import('../protocol.js').Evaluation} Evaluation */

/** Rows of classes that are shown; the others are in the confusion's sums. */
const MOST_ROWS = 50;

/** @param {Evaluation} evaluation */
export function classTable({ classes, labels }) {
  if (!classes?.length) return null;
  const names = /** @type {const} */ (['precision', 'recall', 'f1']);
  return h(
    'details',
    null,
    h('summary', { 'data-testid': 'classes-open' }, t('result.classes')),
    h(
      'div',
      { class: 'table-scroll' },
      h(
        'table',
        { class: 'table', 'data-testid': 'classes' },
        h('thead', null, h('tr', null, ['label', ...names, 'rows'].map((name, i) => h('th', { scope: 'col', class: i ? 'number' : null, title: told(name) }, t(`result.class_${name}`))))),
        h(
          'tbody',
          null,
          classes.slice(0, MOST_ROWS).map((one, i) =>
            h('tr', null, h('th', { scope: 'row' }, clip(labels[i] ?? '', 60)), names.map((name) => h('td', { class: 'number' }, pct(one[name]))), h('td', { class: 'number' }, int(one.rows))),
          ),
        ),
      ),
    ),
    classes.length > MOST_ROWS ? h('p', { class: 'hint' }, t('common.more', { n: classes.length - MOST_ROWS })) : null,
    h('p', { class: 'hint' }, t('result.classes_hint')),
  );
}

/** @param {string} name */
const told = (name) => (name === 'precision' || name === 'recall' ? t(`result.class_${name}_hint`) : null);

const SIZE = 240;
const MARGIN = { top: 10, right: 12, bottom: 34, left: 46 };

/** @param {Evaluation} evaluation */
export function reliability({ calibration, metrics }) {
  const bins = (calibration ?? []).filter(({ rows }) => rows > 0);
  if (!bins.length) return null;
  const most = Math.max(...bins.map(({ rows }) => rows));
  const x = (/** @type {number} */ share) => MARGIN.left + share * (SIZE - MARGIN.left - MARGIN.right);
  const y = (/** @type {number} */ share) => SIZE - MARGIN.bottom - share * (SIZE - MARGIN.top - MARGIN.bottom);
  const svg = s('svg', { class: 'chart reliability-chart', role: 'img', viewBox: `0 0 ${SIZE} ${SIZE}`, 'aria-label': t('result.reliability') });
  for (const share of [0, 0.5, 1]) {
    svg.append(
      s('line', { class: 'grid', x1: x(0), x2: x(1), y1: y(share), y2: y(share) }),
      s('text', { class: 'tick', x: x(0) - 6, y: y(share) + 4, 'text-anchor': 'end' }, pct(share, 0)),
      s('text', { class: 'tick', x: x(share), y: SIZE - 16, 'text-anchor': share === 1 ? 'end' : share ? 'middle' : 'start' }, pct(share, 0)),
    );
  }
  svg.append(s('line', { class: 'ideal', x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  svg.append(s('path', { class: 'line', d: bins.map(({ confidence, accuracy }, i) => `${i ? 'L' : 'M'}${x(confidence).toFixed(1)} ${y(accuracy).toFixed(1)}`).join('') }));
  for (const { rows, confidence, accuracy } of bins) {
    // The area is the share of rows.
    const dot = s('circle', { class: 'dot', cx: x(confidence), cy: y(accuracy), r: (3 + 7 * Math.sqrt(rows / most)).toFixed(1) });
    dot.append(s('title', {}, t('result.reliability_bin', { rows, confidence: pct(confidence, 0), accuracy: pct(accuracy, 0) })));
    svg.append(dot);
  }
  svg.append(s('text', { class: 'tick', x: (x(0) + x(1)) / 2, y: SIZE - 2, 'text-anchor': 'middle' }, t('result.confidence')));
  const error = metrics.calibration_error;
  return h(
    'details',
    null,
    h('summary', { 'data-testid': 'reliability-open' }, t('result.reliability')),
    h(
      'div',
      { class: 'reliability', 'data-testid': 'reliability' },
      /** @type {any} */ (svg),
      h(
        'div',
        { class: 'stack-tight' },
        h('p', null, t('result.reliability_hint')),
        typeof error === 'number' ? h('p', { class: 'hint' }, t('result.reliability_error', { error: pct(error) })) : null,
        h('ul', { class: 'sr-only' }, bins.map(({ rows, confidence, accuracy }) => h('li', null, t('result.reliability_bin', { rows, confidence: num(confidence, 2), accuracy: num(accuracy, 2) })))),
      ),
    ),
  );
}
