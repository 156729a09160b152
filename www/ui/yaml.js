// @ts-check
/** The configuration as YAML: loaded from a file, edited, copied, taken along. The engine alone reads and writes it. */
import { h, region, setText } from './dom.js';
import { button, fileButton } from './common.js';
import { download } from '../app/files.js';
import { t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {{ openConfig(files: File[]): void }} Act */

/** @param {Act} act */
export const loadButton = (act) => fileButton(t('yaml.load'), 'config-input', (list) => act.openConfig([...list]), { accept: '.yaml,.yml,.json,application/yaml' });

/** What a loaded file holds beyond the form. */
export function loadedPart() {
  return region(
    h('div', { 'aria-live': 'polite' }),
    (state) => [state.loaded, state.kept, state.model, state.data, state.heldOut],
    ({ loaded, kept, model, data, heldOut }) => {
      if (!loaded) return [];
      const opened = [model?.name, data?.name, heldOut?.name].filter((name) => name !== undefined);
      const missing = loaded.files.filter((path) => !opened.includes(path) && !opened.includes(path.split(/[\\/]/).at(-1) ?? ''));
      const others = Object.entries(kept);
      return h(
        'div',
        { class: 'notice notice-info', 'data-testid': 'config-loaded' },
        h('p', { class: 'notice-title' }, t('yaml.loaded', { name: loaded.name })),
        others.length ? h('p', null, t('yaml.kept')) : null,
        others.length ? h('p', { class: 'tags' }, others.map(([key, value]) => h('code', { class: 'tag tag-code' }, `${key}: ${value}`))) : null,
        missing.length ? h('p', { 'data-testid': 'config-files' }, t('yaml.files', { named: missing.join(', '), opened: opened.join(', ') })) : null,
      );
    },
  );
}

/** An edit that is not applied yet; outlives a change of language, which draws the page anew. @type {string | null} */
let draft = null;

/** @param {Act} act */
export function yamlPart(act) {
  const text = h('textarea', { class: 'code', rows: 16, wrap: 'off', spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', 'data-testid': 'config-yaml', 'aria-label': t('yaml.title') });
  const done = h('span', { class: 'hint', role: 'status' });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text.value);
      setText(done, t('common.copied'));
    } catch {
      setText(done, t('common.not_copied'));
    }
  };
  const apply = button(t('yaml.apply'), 'apply-yaml', () => act.openConfig([new File([text.value], 'run.yaml', { type: 'application/yaml' })]), 'primary');
  const undo = button(t('yaml.undo'), 'undo-yaml', () => {
    draft = null;
    show();
  });
  /** The engine's, of the last plan. */
  let yaml = '';
  /** @type {State['loaded'] | undefined} */
  let loaded;
  /** The form has taken the edit, and the next plan says how the whole reads. */
  let taken = false;
  const show = () => {
    const wanted = draft ?? yaml;
    if (text.value !== wanted) text.value = wanted;
    apply.hidden = undo.hidden = draft === null || taken;
  };
  text.addEventListener('input', () => {
    draft = text.value === yaml ? null : text.value;
    taken = false;
    setText(done, '');
    show();
  });
  const element = h(
    'details',
    { class: 'yaml', hidden: true },
    h('summary', { 'data-testid': 'yaml' }, t('yaml.title')),
    h('div', { class: 'stack-tight' }, h('p', { class: 'hint' }, t('yaml.hint')), text, h('div', { class: 'actions' }, apply, undo, button(t('common.copy'), 'copy-yaml', copy), button(t('yaml.download'), 'download-yaml', () => download('run.yaml', text.value, 'application/yaml')), done)),
  );
  return {
    element,
    /** @param {State} state */
    update(state) {
      if (loaded !== undefined && state.loaded !== loaded) taken = draft !== null;
      loaded = state.loaded;
      if (state.plan && state.plan.config_yaml !== yaml) {
        yaml = state.plan.config_yaml;
        setText(done, '');
      }
      if (taken && !state.stale) {
        draft = null;
        taken = false;
      }
      element.hidden = !yaml && draft === null;
      show();
    },
  };
}
