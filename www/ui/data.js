// @ts-check
import { clip, h, region, updateAll } from './dom.js';
import { bars, button, card, dropZone, droppable, fact, facts, fileButton, spinner, trouble, warnings } from './common.js';
import { mapping, roleName, taskChoice } from './tasks.js';
import { manyNumbers, targetColumn } from '../app/store.js';
import { generates, partOf, shapeOf, unmapped } from '../app/tasks.js';
import { int, pct, t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../protocol.js').DataSummary} DataSummary */

const ACCEPT = '.csv,.tsv,.jsonl,.json,.txt,.parquet,text/csv,text/tab-separated-values';
const MOST_BARS = 12;
/** More classes than that are seldom meant where they are numbers. */
const FEW_CLASSES = 20;

/**
 * @param {{ openSample(): void, openData(files: File[]): void, openHeldOut(files: File[]): void, closeHeldOut(): void,
 *   setRegression(on: boolean): void, go(step: import('../app/store.js').Panel): void } & import('./tasks.js').Act} act
 */
export function dataPanel(act) {
  const error = trouble('data');
  const sample = button(t('data.sample_open'), 'use-sample', act.openSample, 'primary');
  const choose = h(
    'div',
    { class: 'grid-2' },
    dropZone({
      title: t('data.drop'),
      hint: t('data.drop_hint'),
      testid: 'data-drop',
      ondrop: (transfer) => act.openData([...transfer.files]),
      children: [fileButton(t('data.choose'), 'data-input', (list) => act.openData([...list]), { accept: ACCEPT })],
    }),
    h('article', { class: 'offer' }, h('h3', null, t('data.sample')), h('p', null, t('data.sample_hint')), h('div', { class: 'actions' }, sample)),
  );
  const overview = region(
    h('div', { class: 'stack', 'aria-live': 'polite' }),
    (state) => [state.data, state.busy.open_data],
    ({ data, busy }) =>
      busy.open_data
        ? spinner(true, t('data.reading'))
        : data
          ? [
              h('h3', null, data.name),
              tableFacts(data, 'data-rows'),
              warnings(data.warnings, t('data.warnings'), 'data-warnings'),
            ]
          : [],
  );
  const tasks = taskChoice(act);
  const columns = mapping(act);
  const target = targetChoice(act.setRegression);
  const heldOut = heldOutPart(act);
  const labels = region(
    h('div', { class: 'stack' }),
    (state) => [state.data, state.task, state.shape, state.columns, state.regression, state.busy.open_data],
    (state) => (state.data && !state.busy.open_data ? remarks(state) : []),
  );
  const table = region(
    h('div', { class: 'stack' }),
    (state) => [state.data, state.environment, state.task, state.shape, state.columns, state.busy.open_data],
    (state) => (state.data && !state.busy.open_data ? preview(state) : []),
  );
  const next = button(t('common.continue'), 'next-data', () => act.go('settings'), 'primary');
  return {
    element: card('data', choose, error.element, overview.element, tasks.element, columns.element, target.element, labels.element, heldOut.element, table.element, h('footer', { class: 'panel-foot' }, next)),
    update: updateAll([
      error,
      overview,
      tasks,
      columns,
      target,
      labels,
      heldOut,
      table,
      {
        element: next,
        update: (/** @type {State} */ state) => {
          const { missing, twice } = unmapped(state);
          next.disabled = !state.data || !state.model || missing.length > 0 || twice !== null;
          next.title = state.data && !state.model ? t('data.model_first') : '';
          sample.disabled = Boolean(state.busy.open_data);
        },
      },
    ]),
  };
}

/** @param {DataSummary} data @param {string} testid */
const tableFacts = (data, testid) =>
  facts(
    fact(t('data.rows'), int(data.rows), { testid }),
    fact(t('data.columns'), int(data.columns.length)),
    fact(t('data.format'), data.format.toUpperCase(), { hint: data.encoding }),
  );

/** A column of numbers can be learned as classes or as a number. @param {(on: boolean) => void} setRegression */
function targetChoice(setRegression) {
  return region(
    h('div', null),
    (state) => [targetColumn(state), state.environment, state.task, state.columns, state.regression, state.busy.open_data],
    (state) => {
      const column = targetColumn(state);
      if (!column || !(column.numeric || state.regression) || generates(state, state.task) || unmapped(state).twice || state.busy.open_data) return [];
      const many = manyNumbers(column) ? 'data.many_numbers' : column.values.length > FEW_CLASSES ? 'data.some_numbers' : '';
      return h(
        'fieldset',
        { class: 'choices' },
        h('legend', null, t('data.target', { column: column.name })),
        h(
          'div',
          { class: 'choice-row' },
          [false, true].map((number) => {
            const name = number ? 'number' : 'class';
            return h(
              'label',
              { class: 'choice' },
              h('input', { type: 'radio', name: 'target', checked: state.regression === number, 'data-testid': `target-${name}`, onchange: () => setRegression(number) }),
              h('span', { class: 'choice-text' }, h('strong', null, t(`data.target_${name}`)), h('span', { class: 'hint' }, t(`data.target_${name}_hint`))),
            );
          }),
        ),
        many ? h('p', { class: 'hint reason', 'data-testid': 'target-reason' }, t(many, { column: column.name, n: column.values.length })) : null,
      );
    },
  );
}

/** @param {{ openHeldOut(files: File[]): void, closeHeldOut(): void }} act */
function heldOutPart(act) {
  return region(
    h('div', null),
    (state) => [state.data, state.heldOut, state.columns, state.busy.open_data],
    ({ data, heldOut, columns, busy }) => {
      if (!data || busy.open_data) return [];
      const lacking = heldOut ? Object.values(columns).filter((name) => name && !heldOut.columns.some((column) => column.name === name)) : [];
      const choose = fileButton(t(heldOut ? 'data.held_out_other' : 'data.held_out_choose'), 'held-out-input', (list) => act.openHeldOut([...list]), { accept: ACCEPT });
      const zone = h(
        'section',
        { class: 'sheet', 'data-testid': 'held-out' },
        h('h3', null, heldOut ? heldOut.name : t('data.held_out')),
        h('p', { class: 'hint' }, t(heldOut ? 'data.held_out_used' : 'data.held_out_hint')),
        heldOut ? tableFacts(heldOut, 'held-out-rows') : null,
        lacking.length ? h('p', { class: 'notice notice-warning' }, t('data.held_out_lacks', { columns: lacking.join(', ') })) : null,
        heldOut ? warnings(heldOut.warnings, t('data.warnings')) : null,
        h('div', { class: 'actions' }, choose, heldOut ? button(t('data.held_out_remove'), 'held-out-remove', act.closeHeldOut) : null),
      );
      return droppable(zone, (transfer) => act.openHeldOut([...transfer.files]));
    },
  );
}

/** What is odd about the mapping; of classes, how many rows each has. @param {State} state */
function remarks(state) {
  const { twice } = unmapped(state);
  if (twice) return h('p', { class: 'notice notice-warning' }, t('data.same_column', { a: roleName(twice[0]), b: roleName(twice[1]) }));
  return generates(state, state.task) || state.regression ? [] : labelCounts(state);
}

/** @param {State} state */
function labelCounts(state) {
  const column = targetColumn(state);
  if (!column) return [];
  if (!column.values.length) return h('p', { class: 'notice notice-warning' }, t('data.not_labels', { column: column.name }));
  const total = column.values.reduce((sum, [, count]) => sum + count, 0);
  const top = Math.max(...column.values.map(([, count]) => count));
  const rest = column.values.slice(MOST_BARS);
  return [
    h('h4', null, t('data.labels', { count: column.values.length })),
    h(
      'div',
      { 'data-testid': 'label-counts' },
      bars(column.values.slice(0, MOST_BARS).map(([label, count]) => ({ label, share: count / top, text: `${int(count)} · ${pct(count / total)}` }))),
    ),
    rest.length ? h('p', { class: 'hint' }, t('common.more', { n: rest.length })) : null,
    column.values.length === 1 ? h('p', { class: 'notice notice-warning' }, t('data.one_label')) : null,
  ];
}

/** A cell of this length wants a wide column. */
const LONG_CELL = 40;

/** @param {State} state */
function preview(state) {
  const { data, columns } = state;
  if (!data) return [];
  const shape = shapeOf(state);
  const roles = new Map((shape?.roles ?? []).map(({ id }) => [columns[id], id]));
  const title = t('data.preview', { n: data.preview.length });
  const looks = data.columns.map(({ name }, i) => {
    const role = roles.get(name);
    const wide = data.preview.some((row) => (row[i] ?? '').length > LONG_CELL) ? 'col-text' : '';
    return { name, role, look: role && shape ? `col-role role-${partOf(shape, role)} ${wide}` : wide };
  });
  return [
    h('h4', null, title),
    h(
      'div',
      { class: 'table-scroll', tabindex: '0', role: 'region', 'aria-label': title },
      h(
        'table',
        { class: 'table', 'data-testid': 'preview' },
        h('thead', null, h('tr', null, looks.map(({ name, role, look }) => h('th', { scope: 'col', class: look }, clip(name, 80), role ? h('span', { class: 'role-tag' }, roleName(role)) : null)))),
        h('tbody', null, data.preview.map((row) => h('tr', null, looks.map(({ look }, i) => h('td', { class: look }, h('div', { class: 'cell' }, clip(row[i] ?? ''))))))),
      ),
    ),
  ];
}
