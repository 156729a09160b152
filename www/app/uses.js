// @ts-check
/**
 * How often each plugin has answered in this browser, across visits: numbers by plugin id and scenario, never a text.
 *
 * @typedef {{ id: string, task: string, n: number }} Use
 * @typedef {{ key: string, n: number, share: number }} Share
 */
import { recall, remember } from './prefs.js';

const KEY = 'uses';
/** Ids come and go; those that were asked least are forgotten first. */
const MOST = 200;
const LONGEST = 64;

/** What was remembered, as far as it is that; storage may be edited by hand. @param {unknown} remembered @returns {Use[]} */
export function readUses(remembered) {
  if (!Array.isArray(remembered)) return [];
  const word = (/** @type {unknown} */ it) => typeof it === 'string' && it !== '' && it.length <= LONGEST;
  const good = remembered.filter((one) => word(one?.id) && word(one?.task) && Number.isSafeInteger(one.n) && one.n > 0);
  return good.slice(0, MOST).map(({ id, task, n }) => ({ id, task, n }));
}

export const recallUses = () => readUses(recall(KEY));

/** One more answer. Read anew, as another tab may have counted meanwhile. @param {string} id @param {string} task */
export function count(id, task) {
  const all = recallUses();
  const found = all.find((one) => one.id === id && one.task === task);
  const next = found ? all.map((one) => (one === found ? { ...one, n: one.n + 1 } : one)) : [...all, { id, task, n: 1 }];
  const kept = next.toSorted((a, b) => b.n - a.n).slice(0, MOST);
  // The newest has its place, however many were asked more often.
  if (!found && !kept.some((one) => one.id === id && one.task === task)) kept[MOST - 1] = { id, task, n: 1 };
  remember(KEY, kept);
  return kept;
}

/** @returns {Use[]} */
export function forgetUses() {
  remember(KEY, []);
  return [];
}

/** Shares by id or by scenario, the largest first; they add up to 1. @param {Use[]} uses @param {'id' | 'task'} by @returns {Share[]} */
export function shares(uses, by) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const one of uses) sums.set(one[by], (sums.get(one[by]) ?? 0) + one.n);
  const total = uses.reduce((sum, { n }) => sum + n, 0);
  return [...sums].map(([key, n]) => ({ key, n, share: n / total })).sort((a, b) => b.n - a.n);
}
