// @ts-check
/** Whether a run reached what was asked of it, and what could make the next one better, each a click away. */
import { h, region } from './dom.js';
import { button, engineSpeaks } from './common.js';
import { kindOf } from '../app/metrics.js';
import { shownChange, shownRange } from './evaluation.js';
import { FIELDS } from '../app/config.js';
import { occupied } from '../app/store.js';
import { t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {{ retry(changes: Record<string, string>): void }} Act */

/** @param {Act} act */
export function verdictPart(act) {
  return region(
    h('div', { class: 'stack' }),
    (state) => [state.run.summary, occupied(state), state.model, state.data, state.engine],
    (state) => {
      const { summary } = state.run;
      if (!summary) return [];
      const ready = Boolean(state.model && state.data) && !occupied(state) && state.engine === 'ready';
      return [summary.verdict ? box(summary.verdict) : null, summary.hints?.length ? hints(summary.hints, ready, act) : null];
    },
  );
}

/** @param {import('../protocol.js').Verdict} verdict */
function box({ met, metric, gain, interval, message }) {
  // The gain counts upwards whichever way is better.
  const { lower } = kindOf(metric);
  const turned = /** @type {[number, number] | null} */ (interval && (lower ? [-interval[1], -interval[0]] : interval));
  return h(
    'div',
    { class: `goal ${met ? 'goal-met' : 'goal-missed'}`, 'data-testid': 'verdict', 'data-met': String(met), role: 'status' },
    h('span', { class: 'goal-mark', 'aria-hidden': 'true' }, met ? '✓' : '✗'),
    h(
      'div',
      null,
      h('p', { class: 'notice-title' }, t(met ? 'result.goal_met' : 'result.goal_missed')),
      h('p', null, t('result.goal_gain', { metric: t(`metric.${metric}`), change: shownChange(metric, lower ? -gain : gain) }), turned ? h('span', { class: 'hint' }, ` ${t('result.goal_interval', { range: shownRange(metric, turned) })}`) : null),
      h('p', { class: 'hint', lang: 'en' }, message),
    ),
  );
}

/** @param {string} key a full one */
const keyName = (key) => {
  const field = FIELDS.find((one) => key === `${one.section}.${one.key}`);
  return field ? t(`fields.${field.key}.name`) : key;
};

/** @param {import('../protocol.js').Hint[]} all @param {boolean} ready @param {Act} act */
function hints(all, ready, act) {
  return h(
    'section',
    { class: 'hints', 'data-testid': 'hints' },
    h('h3', null, t('result.hints')),
    engineSpeaks(),
    h(
      'ul',
      { class: 'plain' },
      all.map(({ cause, message, changes }) => {
        const list = Object.entries(changes);
        return h(
          'li',
          { class: 'hint-card', 'data-testid': `hint-${cause}` },
          h('p', { class: 'notice-title' }, t(`hint.${cause}`)),
          h('p', { lang: 'en' }, message),
          list.length
            ? h(
                'div',
                { class: 'actions' },
                h('span', { class: 'tags' }, list.map(([key, value]) => h('span', { class: 'tag', title: key }, `${keyName(key)}: ${value}`))),
                h('span', { class: 'push' }),
                button(t('result.retry'), `retry-${cause}`, () => act.retry(changes), 'primary', { disabled: !ready }),
              )
            : null,
        );
      }),
    ),
  );
}
