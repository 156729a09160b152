// @ts-check
/** Text of rows and answers as it is: never markup, long ones clipped until someone wants all of it. */
import { h } from './dom.js';
import { int, t } from '../app/i18n.js';

/** More than that would make the page slow to draw and nobody read it. */
const MOST = 20_000;
/** What tokenizers put around a text: shown apart, as it is. */
const SPECIAL = /(<\|[^<>|]{1,40}\|>|<\/?s>|\[\/?(?:INST|CLS|SEP|PAD)\])/;

/** @param {string} text */
const marked = (text) => text.split(SPECIAL).map((part, i) => (i % 2 ? h('span', { class: 'special' }, part) : part));

/**
 * @param {string} text @param {{ most?: number, class?: string, testid?: string, special?: boolean, ends?: boolean }} [look]
 *   special: special tokens are set apart; ends: of a long text the end is shown too, where a prompt has its question
 */
export function longText(text, { most = 400, class: look = '', testid, special = false, ends = false } = {}) {
  const draw = (/** @type {string} */ part) => (special ? marked(part) : [part]);
  // A box of its own, so that line breaks of the text stay and those of the page don't count.
  const box = (/** @type {string} */ part, id = testid) => h('div', { class: `long-text ${look}`, 'data-testid': id ?? null, dir: 'auto' }, draw(part));
  if (text === '') return h('div', { class: `long-text ${look} hint`, 'data-testid': testid ?? null }, t('common.empty'));
  if (text.length <= most) return box(text);
  const short = box(ends ? `${text.slice(0, most * 0.6)} … ${text.slice(most * -0.4)}` : `${text.slice(0, most)}…`);
  /** @type {HTMLElement | null} */
  let whole = null;
  const details = h('details', { class: 'long-more' }, h('summary', { class: 'hint' }, t('common.show_all', { n: int(text.length) })));
  details.addEventListener('toggle', () => {
    if (details.open && !whole) details.append((whole = box(text.length > MOST ? `${text.slice(0, MOST)}…` : text, testid && `${testid}-all`)));
    short.hidden = details.open;
  });
  return h('div', { class: 'stack-tight' }, short, details);
}

/** The first rows as the model reads and answers them. @param {import('../protocol.js').Plan} plan @param {import('../app/store.js').Kind} kind */
export function examples({ examples }, kind) {
  if (!examples.length) return null;
  return h(
    'section',
    { class: 'stack-tight', 'data-testid': 'examples' },
    h('h3', { class: 'small-head' }, t('plan.examples')),
    h('p', { class: 'hint' }, t(kind === 'generation' ? 'plan.examples_hint' : 'plan.examples_hint_label')),
    examples.map(({ row, given, learnt }, i) => {
      const body = h(
        'div',
        { class: 'example' },
        given ? h('p', { class: 'example-name' }, t('plan.given')) : null,
        given ? longText(given, { most: 320, class: 'example-given', testid: 'example-given', special: true, ends: true }) : null,
        h('p', { class: 'example-name' }, t(given ? 'plan.learnt' : 'plan.learnt_all')),
        longText(learnt, { most: 320, class: 'example-learnt', testid: 'example-learnt', special: true }),
      );
      // One open example tells how rows look; the others are there for those who doubt.
      return h('details', { open: i === 0, class: 'example-row' }, h('summary', null, t('plan.example', { n: row })), body);
    }),
  );
}
