// @ts-check
import { recall, remember } from './prefs.js';

export const LANGUAGES = /** @type {const} */ ({ en: 'English', 'zh-Hant': '繁體中文' });

/** @type {Record<string, string>} */
let messages = {};
/** @type {Record<string, string>} What a translation lacks is shown in English. */
let fallback = {};
let language = 'en';
let plural = new Intl.PluralRules('en');

/** @param {string} name @returns {Promise<Record<string, string>>} */
async function load(name) {
  const response = await fetch(`locales/${name}.json`);
  if (!response.ok) throw new Error(`locales/${name}.json: HTTP ${response.status}`);
  return flatten(await response.json());
}

/** @param {any} tree @param {string} [prefix] @param {Record<string, string>} [out] */
function flatten(tree, prefix = '', out = {}) {
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === 'string') out[prefix + key] = value;
    else flatten(value, `${prefix}${key}.`, out);
  }
  return out;
}

/** The remembered language, else the browser's. @returns {string} */
export function preferredLanguage() {
  const known = recall('language');
  if (typeof known === 'string' && known in LANGUAGES) return known;
  for (const wanted of navigator.languages ?? []) {
    if (/^zh/i.test(wanted)) return 'zh-Hant';
    if (/^en/i.test(wanted)) return 'en';
  }
  return 'en';
}

/** @param {string} name */
export async function setLanguage(name) {
  const [english, own] = await Promise.all([
    Object.keys(fallback).length ? fallback : load('en'),
    name === 'en' ? null : load(name),
  ]);
  fallback = english;
  messages = own ?? english;
  language = name;
  plural = new Intl.PluralRules(name);
  document.documentElement.lang = name;
  remember('language', name);
}

export const currentLanguage = () => language;

/**
 * The text under `key`; `{n}` takes params. With a param `count`, `key.one` and `key.other` are tried first.
 * @param {string} key @param {Record<string, string | number>} [params]
 */
export function t(key, params) {
  const form = params && typeof params.count === 'number' ? `${key}.${plural.select(params.count)}` : key;
  const text = messages[form] ?? messages[`${key}.other`] ?? messages[key] ?? fallback[form] ?? fallback[`${key}.other`] ?? fallback[key] ?? key;
  if (!params) return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = params[name];
    if (value === undefined) return whole;
    return typeof value === 'number' ? int(value) : value;
  });
}

/** The text under a key that may not be there: what the engine has a word for today and the page none. @param {string} key */
export const told = (key) => messages[key] ?? fallback[key];

/** @param {Intl.NumberFormatOptions} options @param {number} value */
const format = (options, value) => new Intl.NumberFormat(language, options).format(value);

/** @param {number} value */
export const int = (value) => format({ maximumFractionDigits: 0 }, value);

/** @param {number} value @param {number} [digits] significant ones */
export const num = (value, digits = 4) => {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return '0';
  if ((Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(2);
  return format({ maximumSignificantDigits: digits, minimumSignificantDigits: Math.min(3, digits) }, value);
};

/** With its sign, for differences. @param {number} value */
export const signed = (value) => `${value > 0 ? '+' : ''}${num(value, 3)}`;

/** For axes: no more digits than it takes. @param {number} value */
export const short = (value) => (value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(0) : format({ maximumSignificantDigits: 3 }, value));

/** @param {number} value a share from 0 to 1 @param {number} [digits] */
export const pct = (value, digits = 1) =>
  format({ style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: digits }, value);

/** @param {number} value difference of two shares, in percentage points */
export const points = (value) =>
  format({ signDisplay: 'exceptZero', minimumFractionDigits: 1, maximumFractionDigits: 1 }, value * 100);

/** @param {number} value */
export const compact = (value) => format({ notation: 'compact', maximumSignificantDigits: 3 }, value);

/** @param {number} bytes */
export function bytes(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${format({ maximumFractionDigits: value < 10 && unit > 0 ? 1 : 0 }, value)} ${units[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  /** @param {number} value @param {string} unit */
  const part = (value, unit) => format({ style: 'unit', unit, unitDisplay: 'narrow' }, value);
  if (hours) return `${part(hours, 'hour')} ${part(minutes, 'minute')}`;
  if (minutes) return `${part(minutes, 'minute')} ${part(rest, 'second')}`;
  return part(rest, 'second');
}
