// @ts-check
import { clip, h, region, setText, updateAll } from './dom.js';
import { bars, button, card, spinner, trouble } from './common.js';
import { formatChoice } from './take.js';
import { confusionMatrix, MOST_CLASSES } from '../charts/confusion.js';
import { active } from '../app/store.js';
import { int, num, pct, points, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../protocol.js').Evaluation} Evaluation */
/** @typedef {import('../protocol.js').Metrics} Metrics */

/** @param {{ predict(text: string): void, exportAs(choice: import('./take.js').Choice): void, again(): void }} act */
export function resultPanel(act) {
  const error = trouble('result');
  const verdict = region(
    h('div', { class: 'stack' }),
    (state) => [state.run.before, state.run.after, state.run.summary],
    (state) => [headline(state), comparison(state)],
  );
  const details = region(
    h('div', { class: 'stack' }),
    (state) => [state.run.before, state.run.after],
    ({ run }) => [matrices(run.before, run.after), samples(run.before, run.after)],
  );
  const attempt = tryIt(act.predict);
  const take = takeAway(act.exportAs);
  const again = button(t('result.again'), 'train-again', act.again);
  const foot = {
    element: h('footer', { class: 'panel-foot' }, again),
    update: (/** @type {State} */ state) => {
      again.disabled = active(state);
    },
  };
  return {
    element: card('result', error.element, verdict.element, attempt.element, take.element, details.element, foot.element),
    update: updateAll([error, verdict, attempt, take, details, foot]),
  };
}

/** @param {State} state */
function headline({ run }) {
  const [before, after] = [run.before?.metrics, run.after?.metrics];
  if (after?.accuracy === undefined || before?.accuracy === undefined) return null;
  const gain = after.accuracy - before.accuracy;
  const majority = after.majority ?? 0;
  // Better than before is not yet good: always answering the commonest class is the bar to pass.
  const key = after.accuracy <= majority ? 'not_above_majority' : gain > 0 ? 'better' : 'not_better';
  return h(
    'div',
    { class: `headline ${key === 'better' ? 'headline-good' : 'headline-plain'}`, 'data-testid': 'headline' },
    h(
      'p',
      { class: 'headline-numbers' },
      h('span', { 'data-testid': 'before-accuracy', 'data-value': before.accuracy }, pct(before.accuracy)),
      h('span', { class: 'arrow', 'aria-label': t('result.to') }, '→'),
      h('strong', { 'data-testid': 'after-accuracy', 'data-value': after.accuracy }, pct(after.accuracy)),
    ),
    h('p', null, t(`result.${key}`, { points: points(gain), majority: pct(majority), rows: run.after?.rows ?? 0 })),
    run.summary && !run.summary.completed ? h('p', { class: 'hint' }, t('result.stopped_early')) : null,
  );
}

/** @param {State} state */
function comparison({ run }) {
  const [before, after] = [run.before?.metrics, run.after?.metrics];
  if (!before && !after) return null;
  /** @type {Array<{ key: keyof Metrics, share: boolean, lower?: boolean }>} */
  const rows = [
    { key: 'accuracy', share: true },
    { key: 'macro_f1', share: true },
    { key: 'loss', share: false, lower: true },
    { key: 'perplexity', share: false, lower: true },
    { key: 'mse', share: false, lower: true },
  ];
  /** @param {number | undefined} value @param {boolean} share */
  const show = (value, share) => (value === undefined ? '–' : share ? pct(value) : num(value));
  /** @param {number | undefined} a @param {number | undefined} b @param {boolean} share */
  const change = (a, b, share) => (a === undefined || b === undefined ? '' : share ? t('result.points', { n: points(b - a) }) : `${b > a ? '+' : ''}${num(b - a, 3)}`);
  const shown = rows.filter(({ key }) => before?.[key] !== undefined || after?.[key] !== undefined);
  return h(
    'div',
    { class: 'grid-2' },
    h(
      'div',
      { class: 'table-scroll' },
      h(
        'table',
        { class: 'table compare', 'data-testid': 'comparison' },
        h('caption', { class: 'sr-only' }, t('result.comparison')),
        h('thead', null, h('tr', null, ['metric', 'before', 'after', 'change'].map((name, i) => h('th', { scope: 'col', class: i ? 'number' : null }, t(`result.${name}`))))),
        h(
          'tbody',
          null,
          shown.map(({ key, share, lower }) => {
            const [a, b] = [before?.[key], after?.[key]];
            const better = a !== undefined && b !== undefined && a !== b ? (lower ? b < a : b > a) : null;
            return h(
              'tr',
              null,
              h('th', { scope: 'row' }, t(`metric.${key}`)),
              h('td', { class: 'number', 'data-testid': `metric-before-${key}` }, show(a, share)),
              h('td', { class: 'number', 'data-testid': `metric-after-${key}` }, show(b, share)),
              h('td', { class: `number ${better === null ? '' : better ? 'good' : 'bad'}` }, change(a, b, share)),
            );
          }),
        ),
      ),
    ),
    after?.accuracy === undefined && before?.accuracy === undefined
      ? null
      : h(
          'div',
          { class: 'stack-tight' },
          bars(
            /** @type {const} */ ([
              ['before', before],
              ['after', after],
            ]).flatMap(([when, metrics]) =>
              metrics?.accuracy === undefined ? [] : [{ label: t(`result.${when}`), share: metrics.accuracy, text: pct(metrics.accuracy), tone: `fill-${when}`, mark: metrics.majority }],
            ),
          ),
          h('p', { class: 'hint' }, t('result.majority_mark', { share: pct(after?.majority ?? before?.majority ?? 0) })),
        ),
  );
}

/** @param {Evaluation | null} before @param {Evaluation | null} after */
function matrices(before, after) {
  const some = [
    { when: 'before', it: before },
    { when: 'after', it: after },
  ].filter(({ it }) => it?.confusion.length);
  if (!some.length || (some[0].it?.labels.length ?? 0) > MOST_CLASSES) return null;
  return h(
    'section',
    null,
    h('h3', null, t('result.confusion')),
    h('div', { class: 'grid-2', 'data-testid': 'confusion' }, some.map(({ when, it }) => it && confusionMatrix(t(`result.${when}`), it.labels, it.confusion))),
  );
}

/** @param {Evaluation | null} before @param {Evaluation | null} after */
function samples(before, after) {
  if (!after?.samples.length) return null;
  // The same held-out rows come in both evaluations; the text is what ties them.
  const earlier = new Map(before?.samples.map((sample) => [sample.text, sample]));
  /** @param {import('../protocol.js').Sample | undefined} sample */
  const answer = (sample) =>
    sample
      ? h('span', { class: sample.predicted === sample.expected ? 'answer answer-right' : 'answer answer-wrong' }, sample.predicted, h('span', { class: 'hint' }, ` ${pct(sample.confidence, 0)}`))
      : '–';
  return h(
    'section',
    null,
    h('h3', null, t('result.samples')),
    h(
      'div',
      { class: 'table-scroll', tabindex: '0', role: 'region', 'aria-label': t('result.samples') },
      h(
        'table',
        { class: 'table', 'data-testid': 'samples' },
        h('thead', null, h('tr', null, ['text', 'actual', 'before', 'after'].map((name) => h('th', { scope: 'col' }, t(`result.${name}`))))),
        h(
          'tbody',
          null,
          after.samples.map((sample) =>
            h(
              'tr',
              null,
              h('td', { class: 'col-text' }, h('div', { class: 'cell' }, clip(sample.text, 200))),
              h('td', null, sample.expected),
              h('td', null, answer(earlier.get(sample.text))),
              h('td', null, answer(sample)),
            ),
          ),
        ),
      ),
    ),
  );
}

/** What is typed outlives a change of language, which draws the page anew. */
let draft = '';

/** @param {(text: string) => void} predict */
function tryIt(predict) {
  const input = h('textarea', { id: 'try-text', rows: 3, 'data-testid': 'try-text', maxlength: 20000, placeholder: t('result.try_placeholder') });
  const classify = h('button', { type: 'submit', class: 'button button-primary', 'data-testid': 'classify' }, t('result.classify'));
  const submit = () => {
    const text = input.value.trim();
    if (text) predict(text);
  };
  const form = h(
    'form',
    { class: 'stack-tight', onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), submit()) },
    h('label', { for: 'try-text', class: 'field-name' }, t('result.try')),
    input,
    h('div', { class: 'actions' }, classify),
  );
  input.value = draft;
  input.addEventListener('input', () => (draft = input.value));
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) submit();
  });
  const answer = region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.prediction, state.busy.predict],
    ({ prediction, busy, asked }) =>
      busy.predict
        ? spinner(true, t('result.classifying'))
        : prediction
          ? h(
              'div',
              { class: 'stack-tight' },
              h('p', { class: 'asked' }, clip(asked, 120)),
              h('p', { class: 'prediction' }, h('strong', { 'data-testid': 'prediction-label' }, prediction.label)),
              h(
                'div',
                { 'data-testid': 'prediction-scores', 'data-scores': JSON.stringify(prediction.scores) },
                bars(
                  [...prediction.scores]
                    .sort((a, b) => b[1] - a[1])
                    .slice(0, MOST_CLASSES)
                    .map(([label, score]) => ({ label, share: score, text: pct(score), tone: label === prediction.label ? 'fill-after' : 'fill-before' })),
                ),
              ),
            )
          : h('p', { class: 'hint' }, t('result.try_hint')),
  );
  return {
    element: h('section', { class: 'sheet' }, h('h3', null, t('result.try_title')), h('div', { class: 'grid-2' }, form, answer.element)),
    /** @param {State} state */
    update(state) {
      classify.disabled = Boolean(state.busy.predict || state.busy.export) || active(state) || !state.trained;
      answer.update(state);
    },
  };
}

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
  return {
    element: h('section', { class: 'sheet' }, h('h3', null, t('result.take')), hint, h('div', { class: 'actions' }, format.element, save), progress.element, how.element),
    /** @param {State} state */
    update(state) {
      setText(hint, t(state.settings?.full ? 'result.take_hint_full' : 'result.take_hint'));
      save.disabled = Boolean(state.busy.predict || state.busy.export) || active(state) || !state.trained;
      format.update(state);
      progress.update(state);
      how.update(state);
    },
  };
}
