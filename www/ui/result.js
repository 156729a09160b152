// @ts-check
import { clip, h, region, setText, updateAll } from './dom.js';
import { bars, button, card, spinner, trouble } from './common.js';
import { formatChoice } from './take.js';
import { adapterChoice, adapterPart, measurePart } from './adapter.js';
import { comparison, headline, matrices } from './evaluation.js';
import { tryFields } from './fields.js';
import { samples } from './samples.js';
import { verdictPart } from './verdict.js';
import { MOST_CLASSES } from '../charts/confusion.js';
import { occupied, taskOf } from '../app/store.js';
import { num, pct, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */

/** @param {{ predict(text: string, fields: Record<string, string>): void, endAnswer(): void, exportAs(choice: import('./take.js').Choice): void, again(): void } & import('./adapter.js').Act & import('./verdict.js').Act} act */
export function resultPanel(act) {
  const error = trouble('result');
  const verdict = region(
    h('div', { class: 'stack' }),
    (state) => [state.run.before, state.run.after, state.run.summary],
    (state) => headline(state),
  );
  const goal = verdictPart(act);
  const compared = region(
    h('div', { class: 'stack' }),
    (state) => [state.run.before, state.run.after],
    comparison,
  );
  const details = region(
    h('div', { class: 'stack' }),
    (state) => [state.run.before, state.run.after, state.settings, state.use.adapter, state.environment],
    (state) => [
      samples(state, state.run.before, state.run.after),
      matrices({ title: t('result.before'), it: state.run.before }, { title: t('result.after'), it: state.run.after }),
    ],
  );
  const attempt = tryIt(act);
  const take = takeAway(act.exportAs);
  const adapter = adapterPart();
  const choice = adapterChoice(act);
  const measure = measurePart(act);
  const again = button(t('result.again'), 'train-again', act.again);
  const foot = {
    element: h('footer', { class: 'panel-foot' }, again),
    update: (/** @type {State} */ state) => {
      again.disabled = occupied(state);
      foot.element.hidden = !state.run.summary;
    },
  };
  const element = card('result', error.element, verdict.element, goal.element, compared.element, adapter.element, attempt.element, measure.element, take.element, details.element, choice.element, foot.element);
  const title = {
    element,
    update: (/** @type {State} */ { run, use }) => {
      // Without a run there is no before and after.
      const key = run.summary && !use.adapter ? 'result' : 'use';
      for (const [tag, name] of [['h2', 'title'], ['.lead', 'lead']]) setText(/** @type {Element} */ (element.querySelector(tag)), t(`${key}.${name}`));
    },
  };
  return { element, update: updateAll([title, error, verdict, goal, compared, adapter, attempt, measure, take, details, choice, foot]) };
}

/** @param {{ predict(text: string, fields: Record<string, string>): void, endAnswer(): void }} act */
function tryIt({ predict, endAnswer }) {
  const classify = h('button', { type: 'submit', class: 'button button-primary', 'data-testid': 'classify' }, t('result.classify'));
  const end = button(t('train.stop'), 'end-answer', endAnswer);
  const submit = () => {
    const { text, fields } = input.values();
    if (text && !classify.disabled) predict(text, fields);
  };
  const input = tryFields(submit);
  const form = h(
    'form',
    { class: 'stack-tight', onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), submit()) },
    input.element,
    h('div', { class: 'actions' }, classify, end, input.fill),
  );
  const answer = region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.prediction, state.busy.predict, state.answer],
    (state) => {
      const { prediction, busy, asked } = state;
      // As it is written; read out once it is whole.
      if (busy.predict && state.answer) return h('div', { class: 'stack-tight', 'aria-busy': 'true' }, h('p', { class: 'asked' }, clip(asked, 120)), h('p', { class: 'answer', 'data-testid': 'answer-so-far' }, state.answer));
      if (busy.predict) return spinner(true, t(taskOf(state) === 'generation' ? 'result.answering' : 'result.classifying'));
      if (!prediction) return h('p', { class: 'hint' }, t('result.try_hint'));
      const task = taskOf(state);
      const number = task === 'regression';
      return h(
        'div',
        { class: 'stack-tight' },
        h('p', { class: 'asked' }, clip(asked, 120)),
        h('p', { class: task === 'generation' ? 'answer' : 'prediction' }, h(task === 'generation' ? 'span' : 'strong', { 'data-testid': 'prediction-label' }, number ? num(prediction.scores[0]?.[1] ?? NaN) : prediction.label)),
        h(
          'div',
          { 'data-testid': 'prediction-scores', 'data-scores': JSON.stringify(prediction.scores) },
          prediction.scores.length && !number ? bars(scoreRows(prediction)) : null,
        ),
      );
    },
  );
  const element = h('section', { class: 'sheet' }, h('h3', null, t('result.try_title')), h('div', { class: 'grid-2' }, form, answer.element));
  return {
    element,
    /** @param {State} state */
    update(state) {
      element.hidden = !state.trained;
      input.update(state);
      setText(classify, t({ regression: 'result.predict', generation: 'result.write', classification: 'result.classify' }[taskOf(state) ?? 'classification']));
      classify.disabled = Boolean(state.busy.predict || state.busy.export) || occupied(state) || !state.trained;
      // Before its first word there is nothing to keep.
      end.hidden = !(state.busy.predict && state.answer);
      answer.update(state);
    },
  };
}

/** The likeliest labels as bars. @param {import('../protocol.js').Prediction} prediction */
const scoreRows = (prediction) =>
  [...prediction.scores]
    .sort((a, b) => b[1] - a[1])
    .slice(0, MOST_CLASSES)
    .map(([label, score]) => ({ label, share: score, text: pct(score), tone: label === prediction.label ? 'fill-after' : 'fill-before' }));

/** A longer text would hide the command that it is part of. */
const MOST_QUOTED = 160;

/** A name as one shell word. @param {string} name */
const word = (name) => (/^[\w./-]+$/.test(name) ? name : `'${name.replace(/'/g, `'\\''`)}'`);

/** @param {(choice: import('./take.js').Choice) => void} exportAs */
function takeAway(exportAs) {
  const format = formatChoice();
  const save = button(t('result.download'), 'download-adapter', () => exportAs(format.choice()), 'primary');
  const progress = region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.busy.export, state.run.progress],
    ({ busy, run }) => spinner(Boolean(busy.export), t('result.exporting', { share: pct(run.progress?.phase === 'exporting' ? run.progress.done / run.progress.total : 0, 0) })),
  );
  const hint = h('p', null);
  const how = region(
    h('div', { class: 'stack-tight' }),
    (state) => [state.settings, state.asked, state.exported],
    ({ settings, asked, exported }) => {
      if (!settings) return [];
      const zip = word(exported.endsWith('.zip') ? exported : settings.full ? 'model.zip' : 'adapter.zip');
      const text = word(asked && asked.length <= MOST_QUOTED ? asked : t('result.native_text'));
      const command = settings.full || zip === 'model.zip'
        ? [`unzip ${zip} -d model`, 'cargo run --release -p paddock -- predict \\', `  --model_name_or_path model --text ${text}`]
        : ['cargo run --release -p paddock -- predict \\', `  --model_name_or_path ${word(settings.modelName)} --adapter ${zip} \\`, `  --text ${text}`];
      return [h('p', null, t('result.native')), h('pre', { tabindex: '0' }, h('code', { 'data-testid': 'native-command' }, command.join('\n')))];
    },
  );
  const element = h('section', { class: 'sheet' }, h('h3', null, t('result.take')), hint, h('div', { class: 'actions' }, format.element, save), progress.element, how.element);
  return {
    element,
    /** @param {State} state */
    update(state) {
      // What was opened from a file is there already.
      element.hidden = !state.settings || !state.trained;
      setText(hint, t(state.settings?.full ? 'result.take_hint_full' : 'result.take_hint'));
      save.disabled = Boolean(state.busy.predict || state.busy.export) || occupied(state) || !state.trained;
      format.update(state);
      progress.update(state);
      how.update(state);
    },
  };
}
