// @ts-check
import { h, region, setText, updateAll } from './dom.js';
import { button, card, spinner, trouble } from './common.js';
import { formatChoice } from './take.js';
import { adapterChoice, adapterPart, measurePart } from './adapter.js';
import { comparison, headline, matrices } from './evaluation.js';
import { pluginsPart } from './plugins.js';
import { samples } from './samples.js';
import { tryOut } from './tryout.js';
import { verdictPart } from './verdict.js';
import { occupied, settingsInUse } from '../app/store.js';
import { pct, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */

/** @param {{ exportAs(choice: import('./take.js').Choice): void, again(): void } & import('./tryout.js').Act & import('./plugins.js').Act & import('./adapter.js').Act & import('./verdict.js').Act} act */
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
  const attempt = tryOut(act);
  const plugins = pluginsPart(act);
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
  const element = card('result', error.element, verdict.element, goal.element, compared.element, adapter.element, attempt.element, plugins.element, measure.element, take.element, details.element, choice.element, foot.element);
  const title = {
    element,
    update: (/** @type {State} */ { run }) => {
      // Without a run there is no before and after; an adapter that is opened takes its place.
      const key = run.summary ? 'result' : 'use';
      for (const [tag, name] of [['h2', 'title'], ['.lead', 'lead']]) setText(/** @type {Element} */ (element.querySelector(tag)), t(`${key}.${name}`));
    },
  };
  return { element, update: updateAll([title, error, verdict, goal, compared, adapter, attempt, plugins, measure, take, details, choice, foot]) };
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
    (state) => [state.busy.export, state.plugins.working, state.run.progress],
    ({ busy, plugins, run }) => spinner(Boolean(busy.export && !plugins.working), t('result.exporting', { share: pct(run.progress?.phase === 'exporting' ? run.progress.done / run.progress.total : 0, 0) })),
  );
  const hint = h('p', null);
  const how = region(
    h('div', { class: 'stack-tight' }),
    (state) => [settingsInUse(state), state.asked, state.exported],
    (state) => {
      const { asked, exported } = state;
      const settings = settingsInUse(state);
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
      const settings = settingsInUse(state);
      element.hidden = !settings || !state.trained;
      setText(hint, t(settings?.full ? 'result.take_hint_full' : 'result.take_hint'));
      save.disabled = Boolean(state.busy.predict || state.busy.export) || occupied(state) || !state.trained;
      format.update(state);
      progress.update(state);
      how.update(state);
    },
  };
}
