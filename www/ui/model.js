// @ts-check
import { h, region, updateAll } from './dom.js';
import { button, card, dropZone, fact, facts, fileButton, spinner, trouble } from './common.js';
import { bytes, compact, int, t } from '../app/i18n.js';
import { fromDialog, fromDrop } from '../app/files.js';
import { hubPart } from './hub.js';

/** @typedef {import('../app/store.js').State} State */

/** wasm32 can address 4 GiB; the CPU device keeps weights, gradients and the page's own data in it. */
const WASM_MEMORY = 4 * 1024 ** 3;

/** @param {{ openStarter(): void, openModel(folder: import('../app/files.js').Folder): void, go(step: import('../app/store.js').Panel): void }} act */
export function modelPanel(act) {
  const error = trouble('model');
  const starter = button(t('model.starter_open'), 'open-starter', act.openStarter, 'primary');
  const choose = h(
    'div',
    { class: 'grid-2' },
    h('article', { class: 'offer' }, h('h3', null, t('model.starter')), h('p', null, t('model.starter_hint')), h('div', { class: 'actions' }, starter)),
    dropZone({
      title: t('model.drop'),
      hint: t('model.drop_hint'),
      testid: 'model-drop',
      ondrop: async (transfer) => act.openModel(await fromDrop(transfer)),
      children: [
        fileButton(t('model.choose_folder'), 'model-folder', (list) => act.openModel(fromDialog(list)), { webkitdirectory: true }),
        fileButton(t('model.choose_files'), 'model-files', (list) => act.openModel({ name: '', files: [...list] }), { multiple: true }),
      ],
    }),
  );
  const summary = region(
    h('div', { class: 'stack', 'aria-live': 'polite' }),
    (state) => [state.model, state.busy.open_model, state.environment, state.device],
    (state) => [spinner(Boolean(state.busy.open_model), t('model.opening')), state.model && !state.busy.open_model ? modelCard(state) : null],
  );
  const next = button(t('common.continue'), 'next-model', () => act.go('data'), 'primary');
  const use = button(t('model.use_adapter'), 'use-adapter', () => act.go('result'));
  return {
    element: card('model', choose, hubPart(act.openModel), error.element, summary.element, h('footer', { class: 'panel-foot' }, use, next)),
    update: updateAll([
      error,
      summary,
      {
        element: next,
        update: (/** @type {State} */ state) => {
          next.disabled = !state.model;
          starter.disabled = Boolean(state.busy.open_model);
        },
      },
    ]),
  };
}

/** @param {State} state */
function modelCard(state) {
  const model = /** @type {NonNullable<State['model']>} */ (state.model);
  return h(
    'article',
    { class: 'sheet', 'data-testid': 'model-summary' },
    h('p', { class: 'overline' }, t('model.opened')),
    h('h3', null, model.name),
    h('p', { class: 'tags' }, h('span', { class: 'tag tag-code' }, model.architecture), h('span', { class: 'tag' }, model.dtype)),
    facts(
      fact(t('model.parameters'), compact(model.parameters), { hint: int(model.parameters), testid: 'model-parameters' }),
      fact(t('model.layers'), int(model.layers), { hint: t('model.hidden', { n: model.hidden_size }) }),
      fact(t('model.vocabulary'), int(model.vocab_size)),
      fact(t('model.context'), int(model.max_position_embeddings), { hint: t('model.tokens') }),
      fact(t('model.file'), bytes(model.file_bytes)),
      fact(t('model.on_device'), bytes(model.device_bytes), { hint: t(model.device_bytes < model.parameters * 4 ? 'model.as_blocks' : 'model.as_f32') }),
    ),
    fits(state),
  );
}

/**
 * What can be told before the data is known: the weights alone. The plan tells the rest.
 * @param {State} state
 */
function fits({ model, environment, device }) {
  if (!model || !environment) return null;
  const id = device === 'auto' ? environment.chosen : device;
  const weights = model.device_bytes;
  const key = id === 'cpu' && environment.platform === 'browser' && weights > WASM_MEMORY * 0.75 ? 'too_large_cpu' : 'fits';
  const text = t(`model.${key}`, { device: t(`device.${id}`), bytes: bytes(weights), limit: bytes(WASM_MEMORY) });
  return h('p', { class: key === 'fits' ? 'verdict verdict-good' : 'verdict verdict-bad', 'data-testid': 'model-fits' }, text);
}
