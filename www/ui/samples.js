// @ts-check
/** Some held-out rows with what the model answers: a table of labels and numbers, or written answers side by side. */
import { clip, h } from './dom.js';
import { roleName } from './tasks.js';
import { longText } from './text.js';
import { inputRoles, shapeInUse } from '../app/tasks.js';
import { num, pct, t } from '../app/i18n.js';

/** @typedef {import('../protocol.js').Evaluation} Evaluation */
/** @typedef {import('../protocol.js').Sample} Sample */

/** @param {import('../app/store.js').State} state @param {Evaluation | null} before @param {Evaluation | null} after */
export function samples(state, before, after) {
  if (!after?.samples.length) return null;
  // The same held-out rows come in both evaluations, as a rule in the same order; two rows may begin alike.
  const same = (/** @type {Sample | undefined} */ a, /** @type {Sample} */ b) => a !== undefined && a.text === b.text && a.expected === b.expected;
  const earlier = after.samples.map((sample, i) => (same(before?.samples[i], sample) ? before?.samples[i] : before?.samples.find((one) => same(one, sample))));
  const title = t(before ? 'result.samples' : 'use.samples');
  const written = !after.labels.length && typeof after.metrics.mse !== 'number';
  const shape = shapeInUse(state);
  const roles = shape ? inputRoles(shape).map(({ id }) => id) : [];
  return h('section', null, h('h3', null, title), written ? answers(before !== null, after.samples, earlier, roles) : table(title, before !== null, after, earlier));
}

/**
 * What a row gave the model: its parts by name, the main one first; as one text where that is no part of its own (a conversation).
 * @param {Sample} sample @param {string[]} roles
 */
function given({ text, fields }, roles) {
  const there = roles.filter((role) => fields?.[role]);
  const parts = there.map((role) => ({ role, name: roleName(role), text: fields[role] }));
  if (!parts.length || parts[0].role !== roles[0]) parts.unshift({ role: '', name: t('result.asked'), text });
  return h(
    'div',
    { class: 'sample-asked' },
    parts.flatMap(({ role, name, text }, i) => [h('p', { class: 'example-name' }, name), longText(text, { most: 300, testid: i ? `sample-${role}` : 'sample-asked', ends: i === 0 })]),
  );
}

/** @param {string} text */
const plain = (text) => text.trim().toLowerCase();

/** @param {boolean} both @param {Sample[]} all @param {Array<Sample | undefined>} earlier @param {string[]} roles */
function answers(both, all, earlier, roles) {
  /** @param {string} name @param {string} text @param {string} tone @param {string} testid */
  const box = (name, text, tone, testid) => h('div', { class: `said ${tone}` }, h('p', { class: 'example-name' }, name), longText(text, { most: 280, testid }));
  /** @param {Sample} sample */
  const right = ({ predicted, expected }) => (expected && plain(predicted) === plain(expected) ? 'said-right' : '');
  return h(
    'div',
    { class: 'stack-tight', 'data-testid': 'samples' },
    all.map((sample, i) => {
      const old = earlier[i];
      return h(
        'article',
        { class: 'sample', 'data-testid': 'sample' },
        given(sample, roles),
        h(
          'div',
          { class: 'sample-answers' },
          sample.expected ? box(t('result.accepted'), sample.expected, 'said-accepted', 'sample-accepted') : null,
          both ? box(t('result.answer_before'), old?.predicted ?? '–', `said-before ${old ? right(old) : ''}`, 'sample-before') : null,
          box(t(both ? 'result.answer_after' : 'result.answer_now'), sample.predicted, `said-after ${right(sample)}`, 'sample-after'),
        ),
      );
    }),
  );
}

/** @param {string} title @param {boolean} both @param {Evaluation} after @param {Array<Sample | undefined>} earlier */
function table(title, both, after, earlier) {
  const numbers = typeof after.metrics.mse === 'number';
  /** @param {Sample | undefined} sample */
  const answer = (sample) => {
    if (!sample) return '–';
    if (numbers) return h('span', { class: 'answer' }, num(Number(sample.predicted)), h('span', { class: 'hint' }, ` ${t('result.off', { n: num(Math.abs(Number(sample.predicted) - Number(sample.expected)), 2) })}`));
    return h('span', { class: sample.predicted === sample.expected ? 'answer answer-right' : 'answer answer-wrong' }, clip(sample.predicted, 80), h('span', { class: 'hint' }, ` ${pct(sample.confidence, 0)}`));
  };
  const columns = both ? ['text', 'actual', 'before', 'after'] : ['text', 'actual', 'answer'];
  return h(
    'div',
    { class: 'table-scroll', tabindex: '0', role: 'region', 'aria-label': title },
    h(
      'table',
      { class: 'table', 'data-testid': 'samples' },
      h('thead', null, h('tr', null, columns.map((name) => h('th', { scope: 'col' }, t(`result.${name}`))))),
      h(
        'tbody',
        null,
        after.samples.map((sample, i) =>
          h(
            'tr',
            null,
            h('td', { class: 'col-text' }, h('div', { class: 'cell' }, clip(sample.text, 200))),
            h('td', null, clip(sample.expected, 80)),
            both ? h('td', null, answer(earlier[i])) : null,
            h('td', null, answer(sample)),
          ),
        ),
      ),
    ),
  );
}
