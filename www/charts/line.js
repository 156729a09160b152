// @ts-check
/** A live line chart in SVG: axes, the raw values behind their average, held-out marks, and a read-out by pointer or arrow keys. */
import { h, s } from '../ui/dom.js';
import { nearest, smooth, thin, ticks } from './scale.js';
import { int } from '../app/i18n.js';

/** @typedef {import('./scale.js').Point} Point */
/** @typedef {{ points: Point[], marks: Point[], end: number, weight: number }} Series `end`: the x that the run will reach. */

const HEIGHT = 220;
const MARGIN = { top: 12, right: 14, bottom: 26, left: 48 };

/**
 * @param {{ title: string, describe(last: Point, first: Point): string, xName: string, format(value: number): string, tick?(value: number): string, range?: [number, number],
 *   tone: string, markName: string, testid: string }} options
 */
export function lineChart({ title, describe, xName, format, tick = format, range, tone, markName, testid }) {
  const svg = /** @type {SVGSVGElement} */ (s('svg', { class: `chart ${tone}`, role: 'img', tabindex: 0, height: HEIGHT, 'aria-label': title }));
  const readout = h('p', { class: 'readout', 'aria-hidden': 'true' });
  const element = h('figure', { class: 'figure', 'data-testid': testid }, h('figcaption', null, title, readout), svg);
  /** @type {Series} */
  let series = { points: [], marks: [], end: 1, weight: 0 };
  let width = 600;
  /** @type {number | null} index of the point that is read out */
  let held = null;
  /** @type {Point[]} */
  let smoothed = [];

  const x = (/** @type {number} */ value) => MARGIN.left + (value / Math.max(1, series.end)) * (width - MARGIN.left - MARGIN.right);
  /** @type {[number, number]} */
  let domain = [0, 1];
  const y = (/** @type {number} */ value) => {
    const share = (Math.min(domain[1], Math.max(domain[0], value)) - domain[0]) / (domain[1] - domain[0]);
    return HEIGHT - MARGIN.bottom - share * (HEIGHT - MARGIN.top - MARGIN.bottom);
  };
  /** @param {Point[]} points */
  const path = (points) =>
    thin(points.filter((point) => Number.isFinite(point.y)), Math.max(1, width - MARGIN.left - MARGIN.right))
      .map((point, i) => `${i ? 'L' : 'M'}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`)
      .join('');

  function draw() {
    const { points, marks, end } = series;
    const values = [...points, ...marks].map((point) => point.y).filter(Number.isFinite);
    domain = range ?? extent(values);
    svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren();
    for (const value of ticks(domain[0], domain[1], 4)) {
      svg.append(
        s('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
        s('text', { class: 'tick', x: MARGIN.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, tick(value)),
      );
    }
    for (const value of ticks(0, Math.max(1, end), width < 320 ? 3 : 5).filter(Number.isInteger)) {
      svg.append(s('text', { class: 'tick', x: x(value), y: HEIGHT - 8, 'text-anchor': value === end ? 'end' : 'middle' }, int(value)));
    }
    svg.append(s('line', { class: 'axis', x1: MARGIN.left, x2: width - MARGIN.right, y1: HEIGHT - MARGIN.bottom, y2: HEIGHT - MARGIN.bottom }));
    if (series.weight > 0) svg.append(s('path', { class: 'raw', d: path(points) }));
    svg.append(s('path', { class: 'line', d: path(smoothed) }));
    for (const mark of marks) {
      const at = s('circle', { class: 'mark', cx: x(mark.x), cy: y(mark.y), r: 5 });
      at.append(s('title', {}, `${markName}: ${format(mark.y)}`));
      svg.append(at);
    }
    drawHeld();
  }

  const cursor = s('g', { class: 'cursor' });
  function drawHeld() {
    const { points, marks } = series;
    cursor.remove();
    const index = held ?? points.length - 1;
    const point = points[index];
    if (!point) {
      readout.textContent = '';
      return;
    }
    const parts = [`${xName} ${int(point.x)}`, format(smoothed[index].y)];
    const mark = marks.find((one) => one.x === point.x);
    if (mark) parts.push(`${markName} ${format(mark.y)}`);
    readout.textContent = parts.join(' · ');
    if (held === null) return;
    cursor.replaceChildren(
      s('line', { x1: x(point.x), x2: x(point.x), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      s('circle', { cx: x(point.x), cy: y(smoothed[index].y), r: 4 }),
    );
    svg.append(cursor);
  }

  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const value = ((event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right)) * series.end;
    held = series.points.length ? nearest(series.points, value) : null;
    drawHeld();
  });
  const release = () => {
    held = null;
    drawHeld();
  };
  svg.addEventListener('pointerleave', release);
  svg.addEventListener('blur', release);
  svg.addEventListener('keydown', (event) => {
    const last = series.points.length - 1;
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || last < 0) return;
    event.preventDefault();
    held = Math.min(last, Math.max(0, (held ?? last) + by));
    drawHeld();
  });
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now && now !== width) {
      width = now;
      draw();
    }
  }).observe(svg);

  draw();
  return {
    element,
    /** @param {Series} next */
    update(next) {
      series = next;
      smoothed = next.weight > 0 ? smooth(next.points, next.weight) : next.points;
      if (held !== null && held >= next.points.length) held = null;
      const last = next.points.at(-1);
      svg.setAttribute('aria-label', last ? `${title}: ${describe(last, next.points[0])}` : title);
      draw();
    },
  };
}

/** @param {number[]} values @returns {[number, number]} */
function extent(values) {
  if (!values.length) return [0, 1];
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}
