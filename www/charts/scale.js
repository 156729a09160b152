// @ts-check
/** Numbers for axes, and the moving average; no DOM here. */

/** @typedef {{ x: number, y: number }} Point */

/**
 * About `count` round values that span the interval.
 * @param {number} low @param {number} high @param {number} count @returns {number[]}
 */
export function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 2.5, 5, 10].find((nice) => nice * power >= raw) ?? 10) * power;
  /** @type {number[]} */
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/**
 * Exponential moving average, corrected for its start (Kingma and Ba, 2014, section 3).
 * @param {Point[]} points @param {number} weight of the past, 0 to 1 @returns {Point[]}
 */
export function smooth(points, weight) {
  let mean = 0;
  let norm = 0;
  return points.map(({ x, y }) => {
    if (!Number.isFinite(y)) return { x, y };
    mean = weight * mean + (1 - weight) * y;
    norm = weight * norm + (1 - weight);
    return { x, y: mean / norm };
  });
}

/**
 * At most two points a pixel column, its lowest and highest, so that long runs draw as fast as short ones and keep their spikes.
 * @param {Point[]} points @param {number} columns @returns {Point[]}
 */
export function thin(points, columns) {
  if (points.length <= columns * 2 || columns < 1) return points;
  const first = points[0].x;
  const width = (points[points.length - 1].x - first) / columns || 1;
  /** @type {Point[]} */
  const out = [];
  let column = 0;
  /** @type {Point | null} */
  let low = null;
  /** @type {Point | null} */
  let high = null;
  const flush = () => {
    if (!low || !high) return;
    out.push(...(low === high ? [low] : low.x < high.x ? [low, high] : [high, low]));
  };
  for (const point of points) {
    const at = Math.floor((point.x - first) / width);
    if (at !== column) {
      flush();
      low = high = null;
      column = at;
    }
    if (!low || point.y < low.y) low = point;
    if (!high || point.y > high.y) high = point;
  }
  flush();
  return out;
}

/** The value at or just before x. @param {Point[]} points sorted by x @param {number} x @returns {number} index */
export function nearest(points, x) {
  let low = 0;
  let high = points.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (points[middle].x <= x) low = middle;
    else high = middle - 1;
  }
  if (low + 1 < points.length && Math.abs(points[low + 1].x - x) < Math.abs(points[low].x - x)) return low + 1;
  return low;
}
