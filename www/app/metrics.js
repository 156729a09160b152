// @ts-check
/**
 * What an evaluation's numbers mean: which one tells most, which are shares, and which way is better. The engine lists them with
 * its scenarios; the words are under `metric.` in the locales.
 *
 * @typedef {import('../protocol.js').MetricInfo} MetricInfo
 * @typedef {import('../protocol.js').ScenarioInfo} ScenarioInfo
 * @typedef {import('../protocol.js').Metrics} Metrics
 * @typedef {import('../protocol.js').Evaluation} Evaluation
 * @typedef {keyof Metrics} Metric
 * @typedef {{ share: boolean, lower: boolean }} Kind
 * @typedef {{ value: number, interval: [number, number] | null, tone: 'good' | 'bad' | 'same' | 'chance' }} Change
 *   chance: its interval has 0 in it; none where there is no interval
 */

/** The loss is everyone's, and there before the engine has told anything. @type {MetricInfo} */
const LOSS = { id: 'loss', greater_is_better: false, share: false, default: true };

/** Each kind of task's own, the one that tells most first. @type {MetricInfo[][]} */
let lists = [[LOSS]];

/** What the engine measures; said once, with its environment. @param {ScenarioInfo[]} scenarios */
export function know(scenarios) {
  lists = scenarios.flatMap(({ metrics, number_metrics }) => [metrics, number_metrics]).filter((list) => list.length);
  if (!lists.length) lists = [[LOSS]];
}

/** What a task's runs can be judged by. @param {ScenarioInfo | undefined} scenario @param {boolean} number whether a number is learnt */
export const metricsOf = (scenario, number) => {
  const list = number && scenario?.number_metrics.length ? scenario.number_metrics : scenario?.metrics;
  return (list ?? [LOSS]).map(({ id }) => id);
};

/** @param {string} metric @returns {Kind} */
export function kindOf(metric) {
  const info = lists.flat().find(({ id }) => id === metric);
  return { share: info?.share ?? false, lower: info ? !info.greater_is_better : false };
}

/** @param {Metrics | null | undefined} metrics @param {string} metric */
const has = (metrics, metric) => typeof metrics?.[/** @type {Metric} */ (metric)] === 'number';

/** The list of which most was measured: a task has numbers that no other has. @param {Metrics} metrics */
function listOf(metrics) {
  const there = (/** @type {MetricInfo[]} */ list) => list.filter(({ id }) => has(metrics, id)).length;
  return lists.reduce((best, list) => (there(list) > there(best) ? list : best));
}

/**
 * The one that tells most.
 * @param {Metrics} metrics @returns {Metric}
 */
export function mainMetric(metrics) {
  // To a person a share of right answers says more than F1 does; a share of right next tokens says nothing.
  if (has(metrics, 'accuracy') && !has(metrics, 'perplexity')) return 'accuracy';
  const there = listOf(metrics).filter(({ id }) => has(metrics, id));
  return /** @type {Metric} */ ((there.find((one) => one.default) ?? there[0] ?? LOSS).id);
}

/** What there is to show, the main one first. @param {Array<Metrics | null | undefined>} all @returns {Metric[]} */
export function shownMetrics(...all) {
  const last = all.findLast((metrics) => metrics);
  if (!last) return [];
  const main = mainMetric(last);
  // In the task's own order; what else was measured comes behind it.
  const order = [...new Set([...listOf(last), ...lists.flat()].map(({ id }) => id))];
  // The loss of regression is its mean squared error: once is enough.
  const some = order.filter((metric) => all.some((metrics) => has(metrics, metric)) && !(metric === 'loss' && has(last, 'mse')));
  return /** @type {Metric[]} */ ([...some.filter((metric) => metric === main), ...some.filter((metric) => metric !== main)]);
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
