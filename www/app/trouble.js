// @ts-check
/** What a page that uses the module is told when something goes wrong: what it was, and what to do about it. */
export class PaddockError extends Error {
  name = 'PaddockError';

  /** @param {string} message @param {string} advice @param {unknown} [cause] */
  constructor(message, advice, cause) {
    super(message, cause === undefined ? undefined : { cause });
    this.advice = advice;
  }
}

/** What was given in place of what is expected, short enough to be shown. @param {unknown} value */
export function shown(value) {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (value === null) return 'null';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return typeof value === 'object' || typeof value === 'function' ? `a ${Object.prototype.toString.call(value).slice(8, -1)}` : String(value);
}

/** Calls what the page gave; what it throws is the page's own and must not stop the engine's events. @param {unknown} call @param {unknown[]} args */
export function tell(call, ...args) {
  if (typeof call !== 'function') return;
  try {
    call(...args);
  } catch (error) {
    reportError(error);
  }
}
