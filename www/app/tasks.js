// @ts-check
/**
 * What a table can teach: the engine's scenarios, the shapes of their rows, and which column plays which role. The page knows no
 * scenario by name; what there is comes with the environment.
 *
 * @typedef {import('./store.js').State} State
 * @typedef {import('../protocol.js').ScenarioInfo} ScenarioInfo
 * @typedef {import('../protocol.js').ShapeInfo} ShapeInfo
 * @typedef {import('../protocol.js').RoleInfo} RoleInfo
 * @typedef {import('../protocol.js').DataSummary} DataSummary
 * @typedef {Record<string, string>} Columns name by role; '' where none is chosen
 * @typedef {{ task: string, shape: string, columns: Columns }} Mapping shape: '' leaves the choice to the engine
 * @typedef {'given' | 'extra' | 'answer'} Part what a role is to the model
 */

/** The engine's own, where none is named. */
export const DEFAULT_TASK = 'text-classification';

/** @param {Pick<State, 'environment'>} state @param {string} task */
export const scenarioOf = ({ environment }, task) => environment?.scenarios.find(({ id }) => id === task);

/** Whether a model of this task writes its answers. @param {Pick<State, 'environment'>} state @param {string} task */
export const generates = (state, task) => scenarioOf(state, task)?.generates ?? (task || DEFAULT_TASK) !== DEFAULT_TASK;

/** @param {ShapeInfo} shape */
export const required = ({ roles }) => roles.filter(({ required }) => required);

/** The shapes that a table has columns enough for. @param {ScenarioInfo} scenario @param {DataSummary} data */
export const possibleShapes = ({ shapes }, data) => shapes.filter((shape) => required(shape).length <= data.columns.length);

/** @param {DataSummary | null} data @param {string} task */
export const fitOf = (data, task) => data?.fits.find((fit) => fit.task === task);

/** Scenarios by how well the rows fit: those that do, the likeliest first, then the others. @param {ScenarioInfo[]} scenarios @param {DataSummary} data */
export function byFit(scenarios, data) {
  const fits = data.fits.flatMap(({ task }) => scenarios.filter(({ id }) => id === task));
  return [...fits, ...scenarios.filter((one) => !fits.includes(one))];
}

/**
 * The shape whose columns are chosen: the one that was asked for, the engine's choice, or the last one, which asks least.
 * @param {Pick<State, 'environment' | 'data' | 'task' | 'shape'>} state @returns {ShapeInfo | undefined}
 */
export function shapeOf({ environment, data, task, shape }) {
  const scenario = scenarioOf({ environment }, task);
  if (!scenario) return undefined;
  const id = shape || fitOf(data, task)?.shape;
  return scenario.shapes.find((one) => one.id === id) ?? (data && possibleShapes(scenario, data).at(-1)) ?? scenario.shapes.at(-1);
}

/**
 * The columns to begin with: those that the engine found, or by name.
 * @param {Pick<State, 'environment'>} state @param {DataSummary} data @param {string} task @param {string} [shape] @returns {Mapping}
 */
export function preset({ environment }, data, task, shape = '') {
  const fit = fitOf(data, task);
  if (fit && (!shape || shape === fit.shape)) return { task, shape, columns: { ...fit.columns } };
  const scenario = scenarioOf({ environment }, task);
  // Nothing was found to choose by, so that the choice is the person's from the start.
  const several = scenario && possibleShapes(scenario, data).length > 1;
  const chosen = shapeOf({ environment, data, task, shape });
  return { task, shape: shape || (several && chosen ? chosen.id : ''), columns: chosen ? guess(chosen, data) : {} };
}

/** @param {ShapeInfo} shape @param {DataSummary} data @returns {Columns} */
function guess({ roles }, { columns, text_column, label_column }) {
  /** @type {Columns} */
  const found = {};
  const looksLike = /** @type {Record<string, string | null>} */ ({ text: text_column, label: label_column });
  for (const { id } of roles) {
    const name = columns.find((column) => column.name.toLowerCase() === id)?.name ?? looksLike[id] ?? '';
    if (name && !Object.values(found).includes(name)) found[id] = name;
  }
  return found;
}

/** The role that the model learns to fill: the last one that a row needs, unless it is the only one. @param {ShapeInfo} shape */
export const answerRole = (shape) => (required(shape).length > 1 ? required(shape).at(-1) : undefined);

/** @param {ShapeInfo} shape @param {string} role @returns {Part} */
export const partOf = (shape, role) => (role === answerRole(shape)?.id ? 'answer' : role === shape.roles[0]?.id ? 'given' : 'extra');

/** The roles that a person fills to get an answer, the main one first. @param {ShapeInfo} shape */
export function inputRoles(shape) {
  const roles = shape.roles.filter(({ id }) => partOf(shape, id) !== 'answer');
  return [...roles.filter(({ required }) => required), ...roles.filter(({ required }) => !required)];
}

/** The rows' shape that a task's model takes. @param {State} state @param {string} task @param {string} [id] */
export function shapeFor(state, task, id = '') {
  const shapes = scenarioOf(state, task)?.shapes ?? [];
  return shapes.find((shape) => shape.id === id) ?? shapes[0];
}

/** The rows' shape that the model in use takes. @param {State} state @returns {ShapeInfo | undefined} */
export function shapeInUse(state) {
  const { adapter, settings } = state.use;
  const task = adapter ? adapter.task : state.settings?.task ?? '';
  return shapeFor(state, task, (adapter ? settings : state.settings)?.shape);
}

/** What is still missing in a mapping, or chosen twice. @param {State} state @returns {{ missing: RoleInfo[], twice: [string, string] | null }} */
export function unmapped(state) {
  const shape = shapeOf(state);
  if (!shape) return { missing: [], twice: null };
  /** @type {Map<string, string>} */
  const seen = new Map();
  /** @type {[string, string] | null} */
  let twice = null;
  for (const { id } of shape.roles) {
    const name = state.columns[id];
    const other = name && seen.get(name);
    if (other) twice ??= [other, id];
    if (name) seen.set(name, id);
  }
  return { missing: required(shape).filter(({ id }) => !state.columns[id]), twice };
}
