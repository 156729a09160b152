// @ts-check
/** A text of the person's own, answered by the model in use, by a plugin of their choice, or by all that take it. */
import { clip, h, region, setText } from './dom.js';
import { bars, button, spinner } from './common.js';
import { tryFields } from './fields.js';
import { blocked } from './plugins.js';
import { scenarioName } from './tasks.js';
import { MOST_CLASSES } from '../charts/confusion.js';
import { alike, unkept } from '../app/plugins.js';
import { occupied, taskOf } from '../app/store.js';
import { num, pct, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../app/store.js').Kind} Kind */
/** @typedef {import('../protocol.js').Prediction} Prediction */
/**
 * @typedef {{ predict(text: string, fields: Record<string, string>): void, askAll(text: string, fields: Record<string, string>): void,
 *   usePlugin(id: string): void, endAnswer(): void }} Act
 */

/** @param {Act} act */
export function tryOut(act) {
  const classify = h('button', { type: 'submit', class: 'button button-primary', 'data-testid': 'classify' }, t('result.classify'));
  const end = button(t('train.stop'), 'end-answer', act.endAnswer);
  /** @param {(text: string, fields: Record<string, string>) => void} ask */
  const submit = (ask) => {
    const { text, fields } = input.values();
    if (text && !classify.disabled) ask(text, fields);
  };
  const all = button(t('plugins.ask_all'), 'ask-all', () => submit(act.askAll));
  const input = tryFields(() => submit(act.predict));
  const who = whoAnswers(act.usePlugin);
  const form = h(
    'form',
    { class: 'stack-tight', onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), submit(act.predict)) },
    who.element,
    input.element,
    h('div', { class: 'actions' }, classify, all, end, input.fill),
  );
  /** The button that was pressed: while it is disabled it cannot have the keyboard. @type {HTMLElement | null} */
  let pressed = null;
  const one = oneAnswer();
  const several = allAnswers();
  const element = h('section', { class: 'sheet' }, h('h3', null, t('result.try_title')), h('div', { class: 'grid-2' }, form, one.element), several.element);
  return {
    element,
    /** @param {State} state */
    update(state) {
      element.hidden = !state.trained;
      who.update(state);
      input.update(state);
      setText(classify, t({ regression: 'result.predict', generation: 'result.write', classification: 'result.classify' }[taskOf(state) ?? 'classification']));
      const wait = Boolean(state.busy.predict || state.busy.export) || occupied(state) || !state.trained;
      if (wait && [classify, all].includes(/** @type {any} */ (document.activeElement))) pressed = /** @type {HTMLElement} */ (document.activeElement);
      classify.disabled = all.disabled = wait;
      if (!wait) {
        if (document.activeElement === document.body) pressed?.focus();
        pressed = null;
      }
      // What is no plugin yet becomes one before others are asked.
      const asked = alike(state).length + (unkept(state) ? 1 : 0);
      all.hidden = asked < 2;
      setText(all, t('plugins.ask_all', { n: asked }));
      // Before its first word there is nothing to keep.
      end.hidden = !(state.busy.predict && state.answer);
      one.update(state);
      several.update(state);
    },
  };
}

/** Which plugin answers, where there are some. @param {(id: string) => void} use */
function whoAnswers(use) {
  const select = h('select', { id: 'try-plugin', 'data-testid': 'try-plugin', onchange: () => select.value && use(select.value) });
  const element = h('div', { class: 'field', hidden: true }, h('label', { for: 'try-plugin', class: 'field-name' }, t('plugins.who')), select);
  /** @type {unknown[]} */
  let shown = [];
  return {
    element,
    /** @param {State} state */
    update(state) {
      const { plugins, use: inUse } = state;
      element.hidden = !plugins.list.length;
      // Disabled it would lose the keyboard to the work that a choice begins.
      select.disabled = blocked(state);
      select.setAttribute('aria-disabled', String(plugins.working !== ''));
      const wanted = [plugins.list, inUse.plugin, inUse.name, state.settings];
      if (wanted.some((value, i) => value !== shown[i])) {
        shown = wanted;
        select.replaceChildren(
          ...(inUse.plugin === null ? [h('option', { value: '' }, (inUse.adapter && inUse.name) || t('plugins.this_one'))] : []),
          ...plugins.list.map(({ id, name, task }) => h('option', { value: id }, `${clip(name, 60)} · ${scenarioName(state, task)}`)),
        );
      }
      // What was chosen and refused is not what answers.
      if (!plugins.working) select.value = inUse.plugin ?? '';
    },
  };
}

const oneAnswer = () =>
  region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.prediction, state.busy.predict, state.answer, state.asker, state.plugins.answers.length > 0, state.plugins.working],
    (state) => {
      const { prediction, busy, asked } = state;
      if (state.plugins.answers.length) return [];
      // As it is written; read out once it is whole.
      if (busy.predict && state.answer) return h('div', { class: 'stack-tight', 'aria-busy': 'true' }, heading(state), h('p', { class: 'answer', 'data-testid': 'answer-so-far' }, state.answer));
      if (busy.predict) return spinner(true, t(taskOf(state) === 'generation' ? 'result.answering' : 'result.classifying'));
      if (!prediction) return h('p', { class: 'hint' }, t('result.try_hint'));
      const kind = taskOf(state) ?? 'classification';
      const number = kind === 'regression';
      return h(
        'div',
        { class: 'stack-tight' },
        heading(state),
        h('p', { class: kind === 'generation' ? 'answer' : 'prediction' }, h(kind === 'generation' ? 'span' : 'strong', { 'data-testid': 'prediction-label' }, number ? num(prediction.scores[0]?.[1] ?? NaN) : prediction.label)),
        h('div', { 'data-testid': 'prediction-scores', 'data-scores': JSON.stringify(prediction.scores) }, prediction.scores.length && !number ? bars(scoreRows(prediction)) : null),
      );
    },
  );

/** What was asked, and who answers. @param {State} state */
const heading = ({ asked, asker }) =>
  h('div', null, h('p', { class: 'asked' }, clip(asked, 120)), asker ? h('p', { class: 'hint', 'data-testid': 'answered-by' }, t('plugins.answered_by', { name: clip(asker, 80) })) : null);

/** The answers of several plugins beside each other. */
const allAnswers = () =>
  region(
    h('div', { class: 'stack-tight', 'aria-live': 'polite' }),
    (state) => [state.plugins.answers, state.answer, state.plugins.working],
    (state) => {
      const { answers, working } = state.plugins;
      if (!answers.length) return [];
      const waiting = working === 'asking' ? answers.find(({ prediction, failed }) => !prediction && !failed) : undefined;
      return [
        h('p', { class: 'asked' }, clip(state.asked, 120)),
        h(
          'ul',
          { class: 'plain sample-answers', 'data-testid': 'answers', 'aria-busy': waiting ? 'true' : null },
          answers.map((one) =>
            h('li', { class: 'said said-after', 'data-testid': `answer-${one.id}` }, h('p', { class: 'example-name' }, clip(one.name, 80)), one === waiting && !one.prediction ? soFar(state) : answerOf(one)),
          ),
        ),
      ];
    },
  );

/** @param {State} state */
const soFar = ({ answer }) => (answer ? h('p', { class: 'answer' }, answer) : spinner(true, t('plugins.working.asking')));

/** @param {import('../app/plugins.js').Answer} answer */
function answerOf({ kind, prediction, failed }) {
  if (failed) return h('p', { class: 'bad', lang: 'en' }, failed);
  if (!prediction) return h('p', { class: 'hint' }, '…');
  if (kind === 'generation') return h('p', { class: 'answer' }, prediction.label || t('common.empty'));
  if (kind === 'regression') return h('p', null, h('strong', null, num(prediction.scores[0]?.[1] ?? NaN)));
  return h('div', { class: 'stack-tight' }, h('p', null, h('strong', null, clip(prediction.label, 200))), bars(scoreRows(prediction)));
}

/** The likeliest labels as bars. @param {Prediction} prediction */
const scoreRows = (prediction) =>
  [...prediction.scores]
    .sort((a, b) => b[1] - a[1])
    .slice(0, MOST_CLASSES)
    .map(([label, score]) => ({ label, share: score, text: pct(score), tone: label === prediction.label ? 'fill-after' : 'fill-before' }));
