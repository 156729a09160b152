// @ts-check
/** What a person writes to get an answer: one text, or the parts of a row (a question and the text that answers it). */
import { clip, h, setText } from './dom.js';
import { button } from './common.js';
import { roleName } from './tasks.js';
import { settingsInUse } from '../app/store.js';
import { answerRole, inputRoles, shapeInUse } from '../app/tasks.js';
import { t, told } from '../app/i18n.js';

/** @typedef {import('../app/store.js').State} State */
/** @typedef {import('../protocol.js').ShapeInfo} ShapeInfo */
/** @typedef {{ main: string, others: Record<string, string>, known: string }} Example known: the row's own answer */

/** What is typed outlives a change of language, which draws the page anew. By role; '' is the main one. @type {Record<string, string>} */
const drafts = {};

/**
 * Rows to try it with: the held-out ones that the model was measured with, by role; before that those of the preview.
 * @param {State} state @param {ShapeInfo} shape @returns {Example[]}
 */
export function examplesOf(state, shape) {
  const [main, ...rest] = inputRoles(shape);
  const { adapter, measured } = state.use;
  const samples = (adapter ? measured : state.run.after)?.samples ?? [];
  // A conversation in JSON is nothing that a person would write.
  if (!main || main.id === 'messages') return [];
  const unseen = samples
    .filter(({ fields }) => fields?.[main.id])
    .map(({ fields, expected }) => ({ main: fields[main.id].trim(), others: Object.fromEntries(rest.map(({ id }) => [id, fields[id]?.trim() ?? '']).filter(([, text]) => text)), known: expected }));
  if (unseen.length) return unseen;
  // What came from a file is tried on the rows that are open.
  const from = settingsInUse(state) ?? (adapter && { data: state.data, heldOut: state.heldOut, columns: state.columns });
  const data = from?.heldOut ?? from?.data;
  if (!from || !data) return [];
  const at = (/** @type {string | undefined} */ role) => data.columns.findIndex(({ name }) => role !== undefined && name === from.columns[role]);
  const cell = (/** @type {string[]} */ row, /** @type {string | undefined} */ role) => row[at(role)]?.trim() ?? '';
  return data.preview
    .map((row) => ({ main: cell(row, main.id), others: Object.fromEntries(rest.map(({ id }) => [id, cell(row, id)]).filter(([, text]) => text)), known: cell(row, answerRole(shape)?.id) }))
    .filter((one) => one.main);
}

/** @param {() => void} submit */
export function tryFields(submit) {
  const label = h('label', { for: 'try-text', class: 'field-name' }, t('result.try'));
  const main = h('textarea', { id: 'try-text', rows: 3, 'data-testid': 'try-text', maxlength: 20000, placeholder: t('result.try_placeholder') });
  const others = h('div', { class: 'stack-tight', hidden: true });
  const fill = button(t('result.try_example'), 'try-example', () => example(), 'plain', { hidden: true });
  const known = h('p', { class: 'hint', 'data-testid': 'try-known', hidden: true });
  /** @type {Map<string, HTMLTextAreaElement>} */
  let inputs = new Map();
  /** @type {unknown[]} */
  let shown = [];
  /** @type {Example[]} */
  let rows = [];
  let next = 0;

  /** @param {HTMLTextAreaElement} input @param {string} role */
  function wire(input, role) {
    input.value = drafts[role] ?? '';
    input.addEventListener('input', () => {
      drafts[role] = input.value;
      known.hidden = true;
    });
    input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) submit();
    });
    return input;
  }
  wire(main, '');

  function example() {
    const row = rows[next % rows.length];
    if (!row) return;
    next += 1;
    main.value = drafts[''] = row.main;
    for (const [role, input] of inputs) input.value = drafts[role] = row.others[role] ?? '';
    known.hidden = !row.known;
    setText(known, t('result.try_known', { answer: clip(row.known, 200) }));
  }

  return {
    element: h('div', { class: 'stack-tight' }, label, main, others, known),
    /** Beside the button that asks. */
    fill,
    /** @returns {{ text: string, fields: Record<string, string> }} */
    values: () => ({ text: main.value.trim(), fields: Object.fromEntries([...inputs].map(([role, { value }]) => [role, value.trim()]).filter(([, value]) => value)) }),
    /** @param {State} state */
    update(state) {
      const wanted = [state.environment, state.use.adapter, state.use.measured, state.use.settings, state.settings, state.run.after, state.data, state.heldOut, state.columns];
      if (wanted.every((value, i) => value === shown[i])) return;
      shown = wanted;
      const shape = shapeInUse(state);
      const [first, ...rest] = shape ? inputRoles(shape) : [];
      setText(label, told(`try.${first?.id}`) ?? (first ? roleName(first.id) : t('result.try')));
      // Where texts are long by nature there is room to see some of one.
      main.rows = rest.length ? 2 : shape && answerRole(shape)?.id === 'summary' ? 8 : 3;
      if (rest.map(({ id }) => id).join() !== [...inputs.keys()].join()) {
        inputs = new Map(rest.map(({ id }) => [id, wire(h('textarea', { id: `try-${id}`, rows: 4, 'data-testid': `try-${id}`, maxlength: 200000 }), id)]));
        others.replaceChildren(
          ...rest.map(({ id, required }) =>
            h('div', { class: 'field' }, h('label', { for: `try-${id}`, class: 'field-name' }, told(`try.${id}`) ?? roleName(id), required ? null : h('span', { class: 'hint' }, ` ${t('data.optional')}`)), /** @type {HTMLTextAreaElement} */ (inputs.get(id))),
          ),
        );
        others.hidden = !rest.length;
      }
      rows = shape ? examplesOf(state, shape) : [];
      next = 0;
      fill.hidden = !rows.length;
    },
  };
}
