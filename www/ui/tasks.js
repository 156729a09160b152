// @ts-check
/** What the model is to learn from the opened table: the scenario, the shape of its rows, and the column of each role. */
import { h, region } from './dom.js';
import { byFit, fitOf, partOf, possibleShapes, required, scenarioOf, shapeOf } from '../app/tasks.js';
import { t, told } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../protocol.js').ScenarioInfo} ScenarioInfo */
/** @typedef {{ setTask(task: string): void, setShape(shape: string): void, setColumn(role: string, name: string): void }} Act */

/** @param {string} role */
export const roleName = (role) => told(`roles.${role}.name`) ?? role;

/** A scenario's words come from the engine where the page has none of its own. @param {ScenarioInfo} scenario @param {'name' | 'about'} which */
function words(scenario, which) {
  const own = told(`scenarios.${scenario.id}.${which}`);
  return h('span', { lang: own ? null : 'en' }, own ?? scenario[which]);
}

/** @param {Pick<State, 'environment'>} state @param {string} task */
export const scenarioName = (state, task) => told(`scenarios.${task}.name`) ?? scenarioOf(state, task)?.name ?? task;

/** @param {string} shape */
export const shapeName = (shape) => told(`shapes.${shape}`) ?? shape;

/** The cards. @param {Act} act */
export function taskChoice(act) {
  return region(
    h('div', null),
    (state) => [state.data, state.environment, state.task, state.busy.open_data],
    ({ data, environment, task, busy }) => {
      if (!data || !environment || busy.open_data) return [];
      return h(
        'fieldset',
        { class: 'choices', 'data-testid': 'tasks' },
        h('legend', null, t('data.task')),
        h('div', { class: 'choice-row task-row' }, byFit(environment.scenarios, data).map((one) => taskCard(one, data, task, act.setTask))),
      );
    },
  );
}

/** @param {ScenarioInfo} scenario @param {NonNullable<State['data']>} data @param {string} task @param {(task: string) => void} setTask */
function taskCard(scenario, data, task, setTask) {
  const { id } = scenario;
  const fits = fitOf(data, id);
  const possible = possibleShapes(scenario, data);
  const needs = (possible.length ? possible : scenario.shapes).map((shape) => required(shape).map((role) => roleName(role.id)).join(t('common.and')));
  const why = fits ? '' : t(possible.length ? 'data.task_unclear' : 'data.task_needs', { columns: needs.join(t('common.or')) });
  return h(
    'label',
    { class: `choice task-card ${fits ? '' : 'task-unfit'}` },
    h('input', { type: 'radio', name: 'task', checked: id === task, disabled: !possible.length && id !== task, 'data-testid': `task-${id}`, onchange: () => setTask(id) }),
    h(
      'span',
      { class: 'choice-text' },
      h('strong', null, words(scenario, 'name')),
      h('span', { class: 'hint' }, words(scenario, 'about')),
      data.fits[0]?.task === id ? h('span', { class: 'tag tag-good' }, t('data.task_best')) : null,
      why ? h('span', { class: 'hint task-why', 'data-testid': `task-${id}-why` }, why) : null,
    ),
  );
}

/** Shape and columns. @param {Act} act */
export function mapping(act) {
  return region(
    h('div', { class: 'form-grid' }),
    (state) => [state.data, state.environment, state.task, state.shape, state.columns, state.busy.open_data],
    (state) => {
      const { data, columns, busy } = state;
      const shape = shapeOf(state);
      if (!data || !shape || busy.open_data) return [];
      return [
        shapeField(state, act.setShape),
        ...shape.roles.toSorted((a, b) => Number(b.required) - Number(a.required)).map((role) => {
          const chosen = columns[role.id] ?? '';
          const there = !chosen || data.columns.some(({ name }) => name === chosen);
          return field(
            [h('span', { class: `swatch role-${partOf(shape, role.id)}`, 'aria-hidden': 'true' }), t('data.column_of', { role: roleName(role.id) }), role.required ? null : h('span', { class: 'hint' }, ` ${t('data.optional')}`)],
            { 'data-testid': `${role.id}-column`, onchange: (/** @type {any} */ event) => act.setColumn(role.id, event.target.value) },
            [
              h('option', { value: '', selected: !chosen }, t(role.required ? 'data.choose_column' : 'data.no_column')),
              ...(there ? [] : [h('option', { value: chosen, selected: true }, t('data.column_missing', { column: chosen }))]),
              ...data.columns.map(({ name }) => h('option', { value: name, selected: name === chosen }, name)),
            ],
            told(`roles.${role.id}.hint`) ?? '',
          );
        }),
      ];
    },
  );
}

/** @param {State} state @param {(shape: string) => void} setShape */
function shapeField(state, setShape) {
  const { data, task, shape } = state;
  const scenario = scenarioOf(state, task);
  const shapes = data && scenario ? possibleShapes(scenario, data) : [];
  if (shapes.length < 2 && !shape) return null;
  const found = fitOf(data, task);
  const known = [...new Set([...shapes.map(({ id }) => id), ...(shape ? [shape] : [])])];
  return field(
    [t('data.shape')],
    { 'data-testid': 'shape', onchange: (/** @type {any} */ event) => setShape(event.target.value) },
    [
      found ? h('option', { value: '', selected: !shape }, t('data.shape_auto', { shape: shapeName(found.shape) })) : null,
      ...known.map((id) => h('option', { value: id, selected: shape === id }, shapeName(id))),
    ],
    t('data.shape_hint'),
  );
}

/** @param {import('./dom.js').Child[]} name @param {Record<string, any>} select @param {Array<HTMLOptionElement | null>} options @param {string} hint */
const field = (name, select, options, hint) =>
  h('label', { class: 'field' }, h('span', { class: 'field-name' }, name), h('select', select, options), h('span', { class: 'hint' }, hint));
