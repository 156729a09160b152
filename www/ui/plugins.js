// @ts-check
/** Trained adapters that share the opened model: kept, added, changed between, taken along; and how often each is asked. */
import { clip, h, region, setText, updateAll } from './dom.js';
import { button, dropZone, fileButton, spinner, trouble, warnings } from './common.js';
import { shown } from './evaluation.js';
import { scenarioName } from './tasks.js';
import { shareTable } from '../charts/shares.js';
import { fromDialog, fromDrop } from '../app/files.js';
import { mainMetric, metricName } from '../app/metrics.js';
import { idOf, isStored, kindOfPlugin, pluginOf, suggestedName, taken } from '../app/plugins.js';
import { active } from '../app/store.js';
import { shares } from '../app/uses.js';
import { bytes, int, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../protocol.js').PluginInfo} PluginInfo */
/**
 * @typedef {{
 *   addPlugins(folder: import('../app/files.js').Folder): void, loadPlugins(ids: string[]): void, keepPlugin(name: string): void,
 *   usePlugin(id: string): void, removePlugin(id: string): void, forgetPlugin(id: string): void, downloadPlugin(id: string): void,
 *   clearUses(): void,
 * }} Act
 */

const MOST_LABELS = 6;
const MOST_NOTES = 8;
/** As the field takes it; the engine's bound is longer. */
const LONGEST_NAME = 80;

/** The engine is at other work. @param {State} state */
export function blocked(state) {
  const { busy, plugins } = state;
  return active(state) || Boolean(busy.open_adapter || busy.evaluate || busy.lr_find || (!plugins.working && (busy.predict || busy.export)));
}

/**
 * A button that does nothing while work with plugins goes on: unlike one that is disabled it keeps the keyboard.
 * @param {State} state @param {string} text @param {string} testid @param {() => void} onclick @param {'primary' | 'plain'} look @param {string} [of] whose button it is
 */
function patient(state, text, testid, onclick, look, of) {
  const waits = state.plugins.working !== '';
  return button(text, testid, () => waits || onclick(), look, { disabled: blocked(state), 'aria-disabled': waits ? 'true' : null, 'aria-label': of === undefined ? null : `${text}: ${of}` });
}

/** @param {Act} act */
export function pluginsPart(act) {
  const head = h('h3', { id: 'title-plugins', tabindex: '-1' }, t('plugins.title'));
  const error = trouble('plugins', 'plugins-error');
  const said = notes();
  const keep = keepForm(act.keepPlugin);
  const list = region(
    h('div', null),
    (state) => [state.plugins.list, state.plugins.stored, state.plugins.replaced, state.plugins.working, state.use.plugin, state.environment, blocked(state)],
    (state) => {
      const { list } = state.plugins;
      return list.length ? h('ul', { class: 'plain plugin-list', 'data-testid': 'plugins' }, list.map((plugin) => card(state, plugin, act, head))) : [];
    },
  );
  const waiting = storedList(act, head);
  const add = addPart(act);
  const chart = usesPart(act);
  const element = h(
    'section',
    { class: 'sheet', 'aria-labelledby': 'title-plugins', 'data-testid': 'plugins-part' },
    head,
    h('p', { class: 'hint' }, t('plugins.hint')),
    keep.element,
    list.element,
    waiting.element,
    // Below what is clicked, so that it does not move under the mouse.
    error.element,
    said.element,
    add,
    chart.element,
  );
  const parts = updateAll([error, said, keep, list, waiting, chart]);
  return {
    element,
    /** @param {State} state */
    update(state) {
      element.hidden = !state.model;
      add.hidden = active(state);
      parts(state);
    },
  };
}

/** What goes on and what came of it. */
function notes() {
  return region(
    h('div', { class: 'stack-tight', role: 'status', 'data-testid': 'plugins-notes' }),
    (state) => [state.plugins.working, state.plugins.notes, state.plugins.warnings, state.busy.add_plugin && state.use.progress],
    ({ plugins: { working, notes, warnings: remarks }, busy, use }) => {
      const progress = busy.add_plugin && use.progress?.total && use.progress.total > 1 ? ` · ${int(use.progress.done)} / ${int(use.progress.total)}` : '';
      return [
        spinner(working !== '', t(`plugins.working.${working}`) + progress),
        ...notes.slice(-MOST_NOTES).map(({ key, params, bad }) => h('p', { class: `verdict ${bad ? 'verdict-warn' : 'verdict-good'}`, 'data-testid': `note-${key}` }, t(`plugins.note.${key}`, params))),
        warnings(remarks, t('train.warnings'), 'plugins-warnings'),
      ];
    },
  );
}

/** The model in use as one more plugin. @param {(name: string) => void} keep */
function keepForm(keep) {
  const input = h('input', { id: 'plugin-name', type: 'text', 'data-testid': 'plugin-name', maxlength: LONGEST_NAME, autocomplete: 'off', spellcheck: 'false' });
  const submit = h('button', { type: 'submit', class: 'button button-plain', 'data-testid': 'keep-plugin' }, t('plugins.keep'));
  const clash = h('p', { class: 'hint', id: 'plugin-name-clash', 'data-testid': 'plugin-name-clash', 'aria-live': 'polite' });
  /** @type {State | null} */
  let latest = null;
  /** The proposal that stands in the field; what a person typed stays. */
  let proposed = '';
  const form = h(
    'form',
    {
      class: 'stack-tight plugin-keep',
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        const name = input.value.trim();
        if (name && !latest?.plugins.working) keep(name);
      },
    },
    h('label', { for: 'plugin-name', class: 'field-name' }, t('plugins.name')),
    h('div', { class: 'actions' }, input, submit),
    clash,
  );
  input.setAttribute('aria-describedby', 'plugin-name-clash');
  /** Engine and storage know a plugin by what its name comes to. */
  const told = () => {
    const name = input.value.trim();
    const there = latest && name && taken(latest).has(idOf(name)) ? [...latest.plugins.list, ...latest.plugins.stored].find(({ id }) => id === idOf(name)) : null;
    setText(clash, there ? t('plugins.replaces', { name: there.name }) : '');
    submit.disabled = !name || !latest || blocked(latest);
    submit.setAttribute('aria-disabled', String(Boolean(latest?.plugins.working)));
  };
  input.addEventListener('input', told);
  return {
    element: form,
    /** @param {State} state */
    update(state) {
      latest = state;
      const hidden = !state.trained || state.use.plugin !== null || active(state);
      // A form that goes away must not take the keyboard along.
      if (hidden && !form.hidden && form.contains(document.activeElement)) document.getElementById('title-plugins')?.focus();
      form.hidden = hidden;
      if (hidden) {
        proposed = input.value = '';
        return;
      }
      const name = suggestedName(state, scenarioName(state, state.use.adapter?.task ?? state.settings?.task ?? ''));
      if (input.value === proposed && name !== proposed && document.activeElement !== input) input.value = proposed = name;
      told();
    },
  };
}

/** @param {State} state @param {PluginInfo} plugin @param {Act} act @param {HTMLElement} head where the keyboard goes when a card goes */
function card(state, plugin, act, head) {
  const { id, name, task, labels, uses } = plugin;
  const current = state.use.plugin === id;
  const use = patient(state, t(current ? 'plugins.in_use' : 'plugins.use'), `use-${id}`, () => act.usePlugin(id), current ? 'plain' : 'primary', name);
  use.setAttribute('aria-pressed', String(current));
  const same = state.plugins.list.filter((one) => one.name === name).length > 1;
  const kept = isStored(state, id);
  const regression = kindOfPlugin(plugin) === 'regression';
  return h(
    'li',
    { class: `plugin ${current ? 'plugin-current' : ''}`, 'data-testid': `plugin-${id}`, 'aria-current': current ? 'true' : null },
    h('h4', null, clip(name, 100), same ? h('span', { class: 'tag tag-code' }, id) : null),
    h(
      'p',
      { class: 'tags' },
      h('span', { class: 'tag' }, regression ? t('use.task_regression') : scenarioName(state, task)),
      labels.slice(0, MOST_LABELS).map((label) => h('span', { class: 'tag tag-code' }, clip(label, 24) || t('common.empty'))),
      labels.length > MOST_LABELS ? h('span', { class: 'tag' }, t('common.more', { n: labels.length - MOST_LABELS })) : null,
      kept ? h('span', { class: 'tag tag-good' }, t('plugins.stays')) : null,
    ),
    h('p', { class: 'plugin-facts' }, metricText(plugin), h('span', { class: 'hint' }, uses ? t('plugins.uses', { count: uses }) : t('plugins.unused'))),
    removable(
      state,
      { id, name },
      [use, patient(state, t('result.download'), `download-${id}`, () => act.downloadPlugin(id), 'plain', name)],
      t(kept ? 'plugins.remove_kept' : 'plugins.remove_sure', { name: clip(name, 60) }) + (current ? ` ${t('plugins.remove_current')}` : ''),
      () => (head.focus(), act.removePlugin(id)),
    ),
  );
}

/** The number that tells most, before and after training. @param {PluginInfo} plugin */
function metricText({ before, after }) {
  if (!after) return null;
  const key = mainMetric(after);
  const name = t(`metric.${metricName(key, after)}`);
  const old = before?.[key];
  return h('span', { 'data-testid': 'plugin-metric' }, `${name} `, typeof old === 'number' ? `${shown(key, old)} → ` : null, h('strong', null, shown(key, after[key])));
}

/**
 * Buttons with one to remove, which asks first, in its own place.
 * @param {State} state @param {{ id: string, name: string }} plugin @param {HTMLElement[]} buttons @param {string} question @param {() => void} remove
 */
function removable(state, { id, name }, buttons, question, remove) {
  const row = h('div', { class: 'actions' });
  const first = patient(state, t('plugins.remove'), `remove-${id}`, () => ask(), 'plain', name);
  const rest = () => row.replaceChildren(...buttons, first);
  const back = () => {
    rest();
    first.focus();
  };
  function ask() {
    const no = button(t('plugins.remove_no'), `remove-no-${id}`, back);
    const yes = button(t('plugins.remove'), `remove-yes-${id}`, remove, 'danger');
    const asked = h('div', { class: 'actions', role: 'group', 'aria-label': question, onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === 'Escape' && back() }, h('p', { class: 'plugin-sure' }, question), yes, no);
    row.replaceChildren(asked);
    no.focus();
  }
  rest();
  return row;
}

/** What this browser kept from earlier visits and the engine does not have yet. @param {Act} act @param {HTMLElement} head */
const storedList = (act, head) =>
  region(
    h('div', null),
    (state) => [state.plugins.list, state.plugins.stored, state.plugins.working, state.environment, blocked(state)],
    (state) => {
      const { stored } = state.plugins;
      const missing = stored.filter(({ id }) => !pluginOf(state, id));
      if (!missing.length) return [];
      return h(
        'section',
        { class: 'stack-tight', 'data-testid': 'stored-plugins' },
        h('h4', null, t('plugins.stored')),
        h(
          'ul',
          { class: 'plain plugin-list' },
          missing.map(({ id, name, task, bytes: size }) =>
            h(
              'li',
              { class: 'plugin plugin-stored', 'data-testid': `stored-${id}` },
              h('p', null, h('strong', null, clip(name, 100)), h('span', { class: 'hint' }, ` ${scenarioName(state, task)} · ${bytes(size)}`)),
              removable(
                state,
                { id, name },
                [patient(state, t('plugins.load'), `load-${id}`, () => act.loadPlugins([id]), 'plain', name)],
                t('plugins.remove_kept', { name: clip(name, 60) }),
                () => (head.focus(), act.forgetPlugin(id)),
              ),
            ),
          ),
        ),
        missing.length > 1 ? h('div', { class: 'actions' }, patient(state, t('plugins.load_all', { n: missing.length }), 'load-all', () => act.loadPlugins(missing.map(({ id }) => id)), 'primary')) : null,
      );
    },
  );

/** @param {Act} act */
function addPart(act) {
  const zone = dropZone({
    title: t('plugins.drop'),
    hint: t('plugins.drop_hint'),
    testid: 'plugin-drop',
    ondrop: async (transfer) => act.addPlugins(await fromDrop(transfer)),
    children: [
      fileButton(t('use.choose_file'), 'plugin-files', (list) => act.addPlugins({ name: '', files: [...list] }), { multiple: true, accept: '.zip,.json,.safetensors,.yaml' }),
      fileButton(t('model.choose_folder'), 'plugin-folder', (list) => act.addPlugins(fromDialog(list)), { webkitdirectory: true }),
    ],
  });
  return h('details', null, h('summary', { 'data-testid': 'add-plugin' }, t('plugins.add')), zone);
}

/** Shares of all answers, by plugin and by scenario. @param {Act} act */
function usesPart(act) {
  const inside = region(
    h('div', { class: 'stack' }),
    (state) => [state.uses, state.plugins.list, state.plugins.stored, state.environment],
    (state) => {
      const { uses, plugins } = state;
      const name = (/** @type {string} */ id) => [...plugins.list, ...plugins.stored].find((one) => one.id === id)?.name ?? id;
      return [
        h('p', { class: 'hint' }, t('plugins.uses_hint')),
        h(
          'div',
          { class: 'grid-2' },
          shareTable({ title: t('plugins.by_plugin'), of: t('plugins.plugin'), rows: shares(uses, 'id').map(({ key, ...rest }) => ({ label: name(key), ...rest })), testid: 'uses-plugins' }),
          shareTable({ title: t('plugins.by_task'), of: t('plugins.task'), rows: shares(uses, 'task').map(({ key, ...rest }) => ({ label: scenarioName(state, key), ...rest })), testid: 'uses-tasks' }),
        ),
        h('div', { class: 'actions' }, button(t('plugins.clear_uses'), 'clear-uses', act.clearUses)),
      ];
    },
  );
  const element = h('details', { hidden: true }, h('summary', { 'data-testid': 'uses-open' }, t('plugins.uses_title')), inside.element);
  return {
    element,
    /** @param {State} state */
    update(state) {
      const gone = !state.uses.length;
      if (gone && !element.hidden && element.contains(document.activeElement)) document.getElementById('title-plugins')?.focus();
      element.hidden = gone;
      inside.update(state);
    },
  };
}
