// @ts-check
/** The pieces that several panels share. */
import { h, region } from './dom.js';
import { t } from '../app/i18n.js';

/** @typedef {import('../app/store.js').Panel} Panel */

/** The engine speaks English alone; where the page does not, it says so before it. */
export function engineSpeaks() {
  const text = t('common.engine_says');
  return text ? h('p', { class: 'hint', 'data-testid': 'engine-says' }, text) : null;
}

/**
 * A failure beside what it concerns, with what to do about it.
 * @param {import('../app/store.js').Place} place @param {string} [testid]
 */
export function trouble(place, testid = 'error') {
  return region(
    h('div', { role: 'alert' }),
    (state) => [state.trouble[place]],
    (state) => {
      const it = state.trouble[place];
      if (!it) return [];
      const lang = it.engine ? 'en' : null;
      const notice = h(
        'div',
        { class: 'notice notice-error', 'data-testid': testid },
        it.engine ? engineSpeaks() : null,
        h('p', { class: 'notice-title', lang }, it.message),
        it.advice ? h('p', { lang }, it.advice) : null,
      );
      // What went wrong may stand above what was clicked.
      requestAnimationFrame(() => notice.scrollIntoView({ block: 'nearest' }));
      return notice;
    },
  );
}

/** The engine's remarks. @param {string[]} items @param {string} title @param {string} [testid] */
export function warnings(items, title, testid) {
  if (!items.length) return null;
  return h(
    'div',
    { class: 'notice notice-warning', 'data-testid': testid ?? null },
    h('p', { class: 'notice-title' }, title),
    engineSpeaks(),
    h('ul', { lang: 'en' }, items.slice(0, 20).map((item) => h('li', null, item))),
    items.length > 20 ? h('p', { class: 'hint' }, t('common.more', { n: items.length - 20 })) : null,
  );
}

/** @param {string} label @param {string} value @param {{ testid?: string, hint?: string, tone?: string }} [more] */
export function fact(label, value, more = {}) {
  return h(
    'div',
    { class: `fact ${more.tone ?? ''}` },
    h('dt', null, label),
    h('dd', { 'data-testid': more.testid ?? null }, value),
    more.hint ? h('dd', { class: 'hint' }, more.hint) : null,
  );
}

/** @param {...(HTMLElement | null)} facts */
export const facts = (...facts) => h('dl', { class: 'facts' }, facts);

/** @param {Panel} panel @param {...(HTMLElement | null)} children */
export function card(panel, ...children) {
  return h(
    'section',
    { class: 'panel', id: `panel-${panel}`, 'aria-labelledby': `title-${panel}` },
    h(
      'header',
      { class: 'panel-head' },
      h('h2', { id: `title-${panel}`, tabindex: '-1' }, t(`${panel}.title`)),
      h('p', { class: 'lead' }, t(`${panel}.lead`)),
    ),
    ...children,
  );
}

/**
 * @param {string} text @param {string} testid @param {() => void} onclick @param {'primary' | 'plain' | 'danger'} [look]
 * @param {Record<string, any>} [more]
 */
export function button(text, testid, onclick, look = 'plain', more = {}) {
  return h('button', { type: 'button', class: `button button-${look}`, 'data-testid': testid, onclick, ...more }, text);
}

/** @param {boolean} on @param {string} text */
export const spinner = (on, text) => (on ? h('p', { class: 'working', role: 'status' }, h('span', { class: 'spin', 'aria-hidden': 'true' }), text) : null);

/**
 * Horizontal bars, one a row: label, bar, number.
 * @param {Array<{ label: string, share: number, text: string, tone?: string, mark?: number }>} rows
 */
export function bars(rows) {
  return h(
    'ul',
    { class: 'bars' },
    rows.map(({ label, share, text, tone, mark }) =>
      h(
        'li',
        { class: 'bar-row' },
        h('span', { class: 'bar-label', title: label }, label || t('common.empty')),
        h(
          'span',
          { class: 'bar-track', 'aria-hidden': 'true' },
          h('span', { class: `bar-fill ${tone ?? ''}`, style: { width: `${(Math.min(1, Math.max(0, share)) * 100).toFixed(2)}%` } }),
          mark === undefined ? null : h('span', { class: 'bar-mark', style: { left: `${(mark * 100).toFixed(2)}%` } }),
        ),
        h('span', { class: 'bar-text' }, text),
      ),
    ),
  );
}

/**
 * A place to drop on, with the same by dialog for those who don't drag.
 * @param {{ title: string, hint: string, testid: string, ondrop(transfer: DataTransfer): void, children: HTMLElement[] }} options
 */
export function dropZone({ title, hint, testid, ondrop, children }) {
  const zone = h(
    'div',
    { class: 'drop', 'data-testid': testid },
    h('p', { class: 'drop-title' }, title),
    h('p', { class: 'hint' }, hint),
    h('div', { class: 'actions actions-center' }, children),
  );
  return droppable(zone, ondrop);
}

/** @template {HTMLElement} E @param {E} zone @param {(transfer: DataTransfer) => void} ondrop @returns {E} */
export function droppable(zone, ondrop) {
  let depth = 0;
  /** @param {number} change */
  const over = (change) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle('drop-over', depth > 0);
  };
  zone.addEventListener('dragenter', (event) => (event.preventDefault(), over(1)));
  zone.addEventListener('dragleave', () => over(-1));
  zone.addEventListener('dragover', (event) => event.preventDefault());
  zone.addEventListener('drop', (event) => {
    event.preventDefault();
    over(-depth);
    if (event.dataTransfer) ondrop(event.dataTransfer);
  });
  return zone;
}

/**
 * A file input that looks like a button and keeps its keyboard focus.
 * @param {string} text @param {string} testid @param {(list: FileList) => void} onchoose @param {Record<string, any>} [more]
 */
export function fileButton(text, testid, onchoose, more = {}) {
  const input = h('input', { type: 'file', class: 'sr-only', 'data-testid': testid, ...more });
  input.addEventListener('change', () => {
    if (input.files?.length) onchoose(input.files);
    // The same file chosen again must count as a choice.
    input.value = '';
  });
  return h('label', { class: 'button button-plain' }, input, text);
}
