// @ts-check
/** Elements by function calls. Every string becomes a text node: nothing that a file holds can turn into markup. */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {{ element: HTMLElement, update(state: import('../app/store.js').State): void }} Part */

/**
 * `on…` keys are listeners, `style` an object of properties, `true` an empty attribute; null and false leave the key out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Record<string, any> | null} [props] @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'style') for (const [name, setting] of Object.entries(value)) element.style.setProperty(name, String(setting));
    else if (key === 'value') /** @type {any} */ (element).value = value;
    else element.setAttribute(key, value === true ? '' : String(value));
  }
  append(element, children.flat());
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** @param {string} tag @param {Record<string, string | number>} [attributes] @param {...(Node | string)} children */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

/** @param {Element} parent @param {Child[]} children */
export function append(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(typeof child === 'number' ? String(child) : child);
  }
}

/**
 * A part that is drawn anew when what it shows has changed, and only then, so that focus and scrolling stay.
 * @param {HTMLElement} element
 * @param {(state: import('../app/store.js').State) => unknown[]} pick what it shows
 * @param {(state: import('../app/store.js').State) => Child | Child[]} draw
 * @returns {Part}
 */
export function region(element, pick, draw) {
  /** @type {unknown[] | null} */
  let shown = null;
  return {
    element,
    update(state) {
      const wanted = pick(state);
      if (shown && wanted.length === shown.length && wanted.every((value, i) => value === shown?.[i])) return;
      shown = wanted;
      const inside = element.contains(document.activeElement) ? document.activeElement : null;
      const focused = inside?.getAttribute('data-testid');
      element.replaceChildren();
      append(element, [draw(state)].flat());
      if (focused) /** @type {HTMLElement | null} */ (element.querySelector(`[data-testid="${focused}"]`))?.focus();
    },
  };
}

/** @param {Array<Part | null>} parts */
export const updateAll = (parts) => (/** @type {import('../app/store.js').State} */ state) => {
  for (const part of parts) part?.update(state);
};

/** Long cells would cost layout time and tell no more. @param {string} text @param {number} [most] */
export const clip = (text, most = 280) => (text.length > most ? `${text.slice(0, most)}…` : text);

/** Sets an element's text only when it changed. @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
