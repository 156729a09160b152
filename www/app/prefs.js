// @ts-check
/** What the page remembers between visits: the language and the settings form. Storage may be off, full or hand-edited. */

const PREFIX = 'paddock.';

/** @param {string} key @returns {unknown} */
export function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + key) ?? 'null');
  } catch {
    return null;
  }
}

/** @param {string} key @param {unknown} value */
export function remember(key, value) {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // Private windows refuse storage; the page works without a memory.
  }
}
