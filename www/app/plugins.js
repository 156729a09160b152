// @ts-check
/**
 * Plugins as the page knows them: trained adapters that share the opened base. Only what can be told from the state; the work is
 * done in app/plugin-work.js.
 *
 * @typedef {import('./store.js').State} State
 * @typedef {import('./store.js').Kind} Kind
 * @typedef {import('../protocol.js').PluginInfo} PluginInfo
 * @typedef {'' | 'adding' | 'keeping' | 'switching' | 'removing' | 'packing' | 'asking'} Working
 * @typedef {{ key: string, params?: Record<string, string>, bad?: boolean }} Note words under `plugins.note`
 * @typedef {{ id: string, name: string, kind: Kind, prediction: import('../protocol.js').Prediction | null, failed: string }} Answer
 *   of one plugin among several that were asked the same; neither a prediction nor a failure while it is waited for
 * @typedef {{
 *   list: PluginInfo[], working: Working, notes: Note[], warnings: string[], answers: Answer[],
 *   settings: Record<string, import('./store.js').RunSettings>, stored: import('./plugin-storage.js').Stored[], replaced: string[],
 * }} Plugins settings: by id, of those that were trained here; stored: packages in this browser's storage that belong to the base;
 *   replaced: ids under which another plugin than the loaded one is stored
 */
import { inputRoles, shapeFor, shapeInUse } from './tasks.js';

/** As the engine has it. */
const LONGEST_ID = 64;
/** Of a proposed name; the engine's bound is longer. */
const LONGEST_NAME = 80;

/** @returns {Plugins} */
export const noPlugins = () => ({ list: [], working: '', notes: [], warnings: [], answers: [], settings: {}, stored: [], replaced: [] });

/** What a plugin answers. @param {Pick<PluginInfo, 'generates' | 'labels'>} plugin @returns {Kind} */
export const kindOfPlugin = ({ generates, labels }) => (generates ? 'generation' : labels.length ? 'classification' : 'regression');

/** @param {State} state @param {string | null} id */
export const pluginOf = ({ plugins }, id) => plugins.list.find((one) => one.id === id);

/** Its package is in storage. @param {State} state @param {string} id */
export const isStored = ({ plugins }, id) => !plugins.replaced.includes(id) && plugins.stored.some((one) => one.id === id);

/** A model is in use that no plugin is: another one in its place would lose it. @param {State} state */
export const unkept = ({ trained, use }) => trained && use.plugin === null && use.loose;

/** The engine's list. @param {State} state @param {PluginInfo[]} list @param {string | null} about the command that it answers @returns {State} */
export function withList(state, list, about) {
  // A run that holds the base otherwise lets them go.
  const notes = about === 'start' && state.plugins.list.length && !list.length ? [{ key: 'let_go' }] : state.plugins.notes;
  const plugin = list.some(({ id }) => id === state.use.plugin) ? state.use.plugin : null;
  return { ...state, plugins: { ...state.plugins, list, notes }, use: plugin === state.use.plugin ? state.use : { ...state.use, plugin } };
}

/**
 * The id that the engine makes of a name (`plugin::id_of`).
 * @param {string} name
 */
export function idOf(name) {
  let id = '';
  for (const c of name.toLowerCase()) {
    if (/[a-z0-9]/.test(c)) id += c;
    else if (id && !id.endsWith('-')) id += '-';
  }
  return id.slice(0, LONGEST_ID).replace(/-+$/, '') || 'plugin';
}

/** Ids that another plugin would take the place of: those in use, and those in storage. @param {State} state */
export const taken = ({ plugins }) => new Set([...plugins.list, ...plugins.stored].map(({ id }) => id));

/** An id of its own for a package. @param {State} state @param {string} file its name, or its folder's */
export function freeId(state, file) {
  const ids = taken(state);
  const stem = idOf(file.replace(/\.zip$/i, '')).slice(0, LONGEST_ID - 8);
  let id = stem;
  for (let n = 2; ids.has(id); n += 1) id = `${stem}-${n}`;
  return id;
}

/** A name to begin with whose id is free: the task, and what it was learnt from. @param {State} state @param {string} task as the page says it */
export function suggestedName(state, task) {
  const { use, settings, model } = state;
  const from = (use.adapter ? use.name || model?.name : settings?.data?.name) ?? '';
  const stem = from.split(/[/\\]/).at(-1)?.replace(/(.)\..*$/, '$1') ?? '';
  const base = [...`${task} ${stem}`.trim()].slice(0, LONGEST_NAME - 8).join('');
  const ids = taken(state);
  let name = base;
  for (let n = 2; ids.has(idOf(name)) && n < 1000; n += 1) name = `${base} ${n}`;
  return name;
}

/** @param {State} state @param {PluginInfo} plugin */
function fieldsOf(state, { id, task }) {
  const shape = shapeFor(state, task, state.plugins.settings[id]?.shape);
  return shape ? inputRoles(shape).map((role) => role.id).join() : '';
}

/**
 * The plugins that take the same fields as the one in use, itself among them. What no plugin is yet becomes one before others are asked.
 * @param {State} state
 */
export function alike(state) {
  const { use, plugins } = state;
  const here = pluginOf(state, use.plugin);
  const shape = shapeInUse(state);
  const fields = here ? fieldsOf(state, here) : shape ? inputRoles(shape).map((role) => role.id).join() : '';
  return fields ? plugins.list.filter((one) => fieldsOf(state, one) === fields) : [];
}

/**
 * What a person handed over as packages: each zip is one, any other files are one adapter's.
 * @param {import('./files.js').Folder} folder @returns {import('./files.js').Folder[]}
 */
export function packagesOf({ name, files }) {
  if (files.length && files.every((file) => /\.zip$/i.test(file.name))) return files.map((file) => ({ name: file.name, files: [file] }));
  return files.length ? [{ name: name || 'adapter', files }] : [];
}
