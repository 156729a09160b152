// @ts-check
import { h } from './dom.js';
import { active } from '../app/store.js';
import { mainMetric } from '../app/metrics.js';
import { shown } from './evaluation.js';
import { compact, int, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').Panel} Panel */
/** @typedef {import('../app/store.js').State} State */

/** @type {Panel[]} */
export const STEPS = ['machine', 'model', 'data', 'settings', 'train', 'result'];

/** @param {State} state @param {Panel} step */
export function reachable(state, step) {
  if (step === 'settings') return Boolean(state.model && state.data);
  if (step === 'train') return state.run.state !== 'idle';
  return true;
}

/** @param {State} state @returns {Record<Panel, string>} One line a finished step, so that the whole run reads at a glance. */
function summaries(state) {
  const { environment, model, data, run, use, plan } = state;
  const device = state.device === 'auto' ? environment?.chosen : state.device;
  const last = run.steps.at(-1);
  const after = (use.measured ?? run.after)?.metrics;
  return {
    machine: device ? t(`device.${device}`) : '',
    model: model ? `${model.name} · ${compact(model.parameters)}` : '',
    data: data ? t('steps.rows', { count: data.rows }) : '',
    settings: plan ? t('steps.planned', { count: plan.total_steps }) : '',
    train: active(state) && last ? `${int(last.step)} / ${int(last.total_steps)}` : run.state === 'idle' ? '' : t(`state.${run.state}`),
    result: after ? shown(mainMetric(after), after[mainMetric(after)]) : use.adapter ? use.name : '',
  };
}

/** @param {(step: Panel) => void} go */
export function stepper(go) {
  const items = STEPS.map((step, i) => {
    const line = h('span', { class: 'step-sub' });
    const button = h(
      'button',
      { type: 'button', class: 'step', 'data-testid': `step-${step}`, onclick: () => go(step) },
      h('span', { class: 'step-dot', 'aria-hidden': 'true' }, i + 1),
      h('span', { class: 'step-text' }, h('span', { class: 'step-name' }, t(`steps.${step}`)), line),
    );
    return { step, button, line, item: h('li', null, button) };
  });
  const element = h('nav', { class: 'stepper', 'aria-label': t('steps.label') }, h('ol', null, items.map(({ item }) => item)));
  return {
    element,
    /** @param {State} state */
    update(state) {
      const lines = summaries(state);
      for (const { step, button, line } of items) {
        const here = state.step === step;
        if (here) button.setAttribute('aria-current', 'step');
        else button.removeAttribute('aria-current');
        button.disabled = !here && !reachable(state, step);
        const trouble = Boolean(state.trouble[step]) || (step === 'train' && state.run.state === 'failed');
        button.classList.toggle('step-done', Boolean(lines[step]) && !trouble);
        button.classList.toggle('step-trouble', trouble);
        if (line.textContent !== lines[step]) line.textContent = lines[step];
      }
    },
  };
}
