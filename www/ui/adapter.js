// @ts-check
/** A model that was trained elsewhere: opened by its adapter, and measured on the opened data. */
import { h, region } from './dom.js';
import { button, dropZone, fileButton, spinner } from './common.js';
import { measured } from './evaluation.js';
import { scenarioName } from './tasks.js';
import { fromDialog, fromDrop } from '../app/files.js';
import { active, occupied, taskOf } from '../app/store.js';
import { int, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/**
 * @typedef {{ openStarter(): void, openAdapter(folder: import('../app/files.js').Folder): void, evaluate(): void, go(step: import('../app/store.js').Panel): void }} Act
 */

/** While a run or a measurement lasts no other model is opened; work with plugins is too short to move the page for. @param {State} state */
const hidden = (state) => active(state) || Boolean(state.busy.evaluate || state.busy.lr_find);

/** What was opened. */
export const adapterPart = () =>
  region(
    h('div', null),
    (state) => [state.use.adapter, state.use.name, state.use.plugin, state.model],
    // A plugin's card stands among the plugins.
    (state) => (state.use.adapter && state.use.plugin === null ? adapterCard(state) : []),
  );

/** Where one is opened. @param {Act} act */
export function adapterChoice(act) {
  return region(
    h('div', null),
    (state) => [state.trained, state.model, state.busy.open_adapter, state.busy.open_model, state.busy.open_adapter && state.use.progress, hidden(state)],
    (state) => {
      if (state.busy.open_adapter) return working(state, 'use.opening');
      if (hidden(state)) return [];
      if (!state.model) return modelFirst(act, Boolean(state.busy.open_model));
      const zone = chooser(act, state.model);
      // Where there is a model to use already, another one is not the first thing to look at.
      return state.trained ? h('details', null, h('summary', { 'data-testid': 'other-adapter' }, t('use.other')), zone) : zone;
    },
  );
}

/** @param {Act} act @param {boolean} opening */
const modelFirst = (act, opening) =>
  h(
    'article',
    { class: 'sheet', 'data-testid': 'model-first' },
    h('h3', null, t('use.model_first')),
    h('p', null, t('use.model_first_hint')),
    opening ? spinner(true, t('model.opening')) : h('div', { class: 'actions' }, button(t('model.starter_open'), 'use-starter', act.openStarter), button(t('use.other_model'), 'use-other-model', () => act.go('model'))),
  );

/** @param {Act} act @param {NonNullable<State['model']>} model */
function chooser(act, model) {
  return dropZone({
    title: t('use.drop'),
    hint: t('use.drop_hint', { model: model.name }),
    testid: 'adapter-drop',
    ondrop: async (transfer) => act.openAdapter(await fromDrop(transfer)),
    children: [
      fileButton(t('use.choose_file'), 'adapter-files', (list) => act.openAdapter({ name: '', files: [...list] }), { multiple: true, accept: '.zip,.json,.safetensors,.yaml' }),
      fileButton(t('model.choose_folder'), 'adapter-folder', (list) => act.openAdapter(fromDialog(list)), { webkitdirectory: true }),
      // A classifier brings its own head; any other model answers with text.
      button(t('use.as_it_is'), 'use-model', () => act.openAdapter({ name: '', files: [] })),
    ],
  });
}

/** @param {State} state */
function adapterCard(state) {
  const { adapter, name } = state.use;
  if (!adapter) return [];
  const kind = taskOf(state);
  const tags = [kind === 'generation' ? scenarioName(state, adapter.task) : t(`use.task_${kind}`), adapter.r ? t('use.rank', { n: adapter.r }) : '', state.model?.name ?? ''];
  return h(
    'article',
    { class: 'sheet', 'data-testid': 'adapter-summary' },
    h('p', { class: 'overline' }, t('use.opened')),
    h('h3', null, name || state.model?.name),
    h('p', { class: 'tags' }, tags.filter(Boolean).map((tag) => h('span', { class: 'tag' }, tag))),
    adapter.labels.length ? h('p', { 'data-testid': 'adapter-labels' }, t('use.labels', { labels: adapter.labels.slice(0, 12).join(' · ') }), adapter.labels.length > 12 ? ` ${t('common.more', { n: adapter.labels.length - 12 })}` : '') : null,
  );
}

/** @param {State} state @param {string} fallback what is said before there is progress */
function working({ use: { progress } }, fallback) {
  const count = progress && progress.total > 1 ? ` · ${int(progress.done)} / ${int(progress.total)}` : '';
  return spinner(true, (progress ? t(`phase.${progress.phase}`) : t(fallback)) + count);
}

/** Whether measuring tells something new: right after a run its own held-out rows were measured already. @param {State} state */
const measurable = ({ trained, use, settings, data, heldOut }) => trained && (use.adapter !== null || settings?.data !== data || settings?.heldOut !== heldOut);

/** @param {Act} act */
export function measurePart(act) {
  const measure = button(t('use.measure'), 'measure', act.evaluate, 'primary');
  const open = button(t('use.open_data'), 'measure-open-data', () => act.go('data'));
  const hint = region(
    h('div', null),
    (state) => [state.data, state.heldOut],
    ({ data, heldOut }) => h('p', { class: 'hint' }, data ? t('use.measure_hint', { name: (heldOut ?? data).name, n: (heldOut ?? data).rows }) : t('use.no_data')),
  );
  const found = region(
    h('div', { class: 'stack', 'aria-live': 'polite', 'data-testid': 'measured' }),
    (state) => [state.use.measured, state.use.measuredOn, state.busy.evaluate, state.use.progress],
    (state) => (state.busy.evaluate ? working(state, 'phase.evaluating') : measured(state)),
  );
  const element = h('section', { class: 'sheet' }, h('h3', null, t('use.measure_title')), hint.element, h('div', { class: 'actions' }, measure, open), found.element);
  return {
    element,
    /** @param {State} state */
    update(state) {
      element.hidden = !measurable(state);
      measure.hidden = !state.data;
      measure.disabled = occupied(state) || Boolean(state.busy.predict || state.busy.export);
      open.hidden = Boolean(state.data);
      hint.update(state);
      found.update(state);
    },
  };
}
