// @ts-check
/**
 * What an evaluation's numbers mean: which one tells most, which are shares, and which way is better. No words here; those are
 * under `metric.` in the locales.
 *
 * @typedef {import('../protocol.js').Metrics} Metrics
 * @typedef {import('../protocol.js').Evaluation} Evaluation
 * @typedef {keyof Metrics} Metric
 * @typedef {{ share: boolean, lower: boolean }} Kind
 * @typedef {{ value: number, interval: [number, number] | null, tone: 'good' | 'bad' | 'same' | 'chance' }} Change
 *   chance: its interval has 0 in it; none where there is no interval
 */

/** Every word of `metric_for_best_model`, as the engine lists them. @type {Metric[]} */
export const METRICS = [
  'loss', 'accuracy', 'macro_f1', 'micro_f1', 'balanced_accuracy', 'calibration_error', 'majority', 'perplexity', 'bits_per_byte', 'exact_match', 'f1',
  'rouge1', 'rouge2', 'rougeL', 'bleu', 'entity_f1', 'parsed', 'mse', 'mae', 'r2', 'pearson',
];

/** In the order of a table, whatever the task. The majority is a mark to compare with, and no result. @type {Metric[]} */
const SHOWN = [
  'entity_f1', 'parsed', 'f1', 'exact_match', 'rougeL', 'rouge1', 'rouge2', 'bleu', 'perplexity', 'bits_per_byte', 'accuracy', 'macro_f1',
  'balanced_accuracy', 'micro_f1', 'calibration_error', 'mse', 'mae', 'r2', 'pearson', 'loss',
];

const LOWER = new Set(['loss', 'calibration_error', 'perplexity', 'bits_per_byte', 'mse', 'mae']);
const NUMBERS = new Set(['loss', 'perplexity', 'bits_per_byte', 'bleu', 'mse', 'mae', 'r2', 'pearson']);

/** @param {string} metric @returns {Kind} */
export const kindOf = (metric) => ({ share: !NUMBERS.has(metric), lower: LOWER.has(metric) });

/** @param {Metrics | null | undefined} metrics @param {Metric} metric */
const has = (metrics, metric) => typeof metrics?.[metric] === 'number';

/**
 * The one that tells most. Each task has numbers that no other has, so that a further scenario needs no line here.
 * @param {Metrics} metrics @returns {Metric}
 */
export function mainMetric(metrics) {
  // ROUGE-L beside the others is a summary's; by itself it is one of several views of a generated text.
  if (has(metrics, 'rouge1')) return 'rougeL';
  return /** @type {Metric[]} */ (['mse', 'entity_f1', 'f1', 'perplexity', 'accuracy']).find((metric) => has(metrics, metric)) ?? 'loss';
}

/** What there is to show, the main one first. @param {Array<Metrics | null | undefined>} all @returns {Metric[]} */
export function shownMetrics(...all) {
  const last = all.findLast((metrics) => metrics);
  if (!last) return [];
  const main = mainMetric(last);
  // The loss of regression is its mean squared error: once is enough.
  const some = SHOWN.filter((metric) => all.some((metrics) => has(metrics, metric)) && !(metric === 'loss' && has(last, 'mse')));
  return [...some.filter((metric) => metric === main), ...some.filter((metric) => metric !== main)];
}

/** A right answer is one thing, a right next token another. @param {Metric} metric @param {Metrics} metrics */
export const metricName = (metric, metrics) => (metric === 'accuracy' && has(metrics, 'perplexity') ? 'token_accuracy' : metric);

/**
 * How a metric moved in training; null where it was not measured twice.
 * @param {Evaluation | null} before @param {Evaluation | null} after @param {Metric} metric @returns {Change | null}
 */
export function changeOf(before, after, metric) {
  const [a, b] = [before?.metrics[metric], after?.metrics[metric]];
  if (typeof a !== 'number' || typeof b !== 'number') return null;
  const { value, interval } = after?.changes?.[metric] ?? { value: b - a, interval: null };
  const better = kindOf(metric).lower ? value < 0 : value > 0;
  const chance = interval !== null && interval[0] <= 0 && interval[1] >= 0;
  return { value, interval, tone: value === 0 ? 'same' : chance ? 'chance' : better ? 'good' : 'bad' };
}
