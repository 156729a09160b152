// Plots as SVG text: bars beside each other, and lines. No library, nothing to load.

export const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[c])

/** Colours that stay apart for those who see red and green alike. */
const COLOURS = ['#0b6bcb', '#e07b00', '#6a737d', '#0a8a6a', '#b3427a', '#7a5cc9']

/** Three or four digits that matter. */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–'
  const size = Math.abs(value)
  if (size >= 1e4) return Math.round(value).toLocaleString('en')
  if (size >= 100) return value.toFixed(0)
  if (size >= 10) return value.toFixed(1)
  return size >= 0.01 || size === 0 ? value.toFixed(2) : value.toExponential(1)
}

const svg = (width, height, label, inner) => `<svg viewBox="0 0 ${width} ${height}" width="${width}" role="img" aria-label="${escaped(label)}">${inner}</svg>`

const legend = (names) => `<p class="legend">${names.map((name, i) => `<span><i style="background:${COLOURS[i % COLOURS.length]}"></i>${escaped(name)}</span>`).join('')}</p>`

/**
 * Groups of bars from the left.
 *
 * @param {string} label what the plot shows, with its unit
 * @param {string[]} series names of a group's bars
 * @param {Array<{ name: string, values: Array<number | null>, notes?: string[] }>} groups
 * @param {{ most?: number, mark?: number }} more the axis' end, and a line at a value
 */
export function bars(label, series, groups, { most, mark } = {}) {
  const values = groups.flatMap((group) => group.values).filter(Number.isFinite)
  if (values.length === 0) return ''
  const end = most ?? (Math.max(...values, mark ?? 0) || 1)
  const [left, wide, thick] = [270, 520, 16]
  let y = 6
  let inner = ''
  for (const { name, values, notes = [] } of groups) {
    inner += `<text x="${left - 8}" y="${y + (values.length * thick) / 2 + 4}" text-anchor="end">${escaped(name)}</text>`
    values.forEach((value, i) => {
      const known = Number.isFinite(value)
      const length = known ? Math.max(1, (Math.min(value, end) / end) * wide) : 0
      inner += `<rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="${thick - 3}" fill="${COLOURS[i % COLOURS.length]}"><title>${escaped(`${series[i]}: ${short(value)}`)}</title></rect>`
      inner += `<text x="${(left + length + 6).toFixed(1)}" y="${y + 11}" class="value">${escaped(`${short(value)}${notes[i] ? ` ${notes[i]}` : ''}`)}</text>`
      y += thick
    })
    y += 8
  }
  if (mark !== undefined) {
    const x = left + (Math.min(mark, end) / end) * wide
    inner += `<line x1="${x}" x2="${x}" y1="0" y2="${y}" class="mark"/>`
  }
  return `<figure><figcaption>${escaped(label)}</figcaption>${series.length > 1 ? legend(series) : ''}${svg(left + wide + 190, y, label, inner)}</figure>`
}

/** Values of an axis that are written below it. */
const MOST_LABELS = 12

/**
 * Lines of points over a logarithmic axis, or an even one.
 *
 * @param {string} label @param {string} across the axis' name
 * @param {Array<{ name: string, points: Array<[number, number]> }>} series
 */
export function lines(label, across, series, { even = false } = {}) {
  const drawn = series.filter(({ points }) => points.length > 0)
  const all = drawn.flatMap(({ points }) => points)
  if (all.length === 0) return ''
  const [left, top, wide, high] = [70, 10, 620, 240]
  const xs = [...new Set(all.map(([x]) => x))].sort((a, b) => a - b)
  const along = even ? (value) => value : Math.log
  const [first, last] = [along(xs[0]), along(xs.at(-1))]
  const most = Math.max(...all.map(([, y]) => y)) * 1.1 || 1
  const x = (value) => left + (last > first ? ((along(value) - first) / (last - first)) * wide : wide / 2)
  const y = (value) => top + high - (value / most) * high
  let inner = ''
  for (let i = 0; i <= 4; i += 1) {
    const value = (most / 4) * i
    inner += `<line x1="${left}" x2="${left + wide}" y1="${y(value)}" y2="${y(value)}" class="grid"/><text x="${left - 8}" y="${y(value) + 4}" text-anchor="end">${short(value)}</text>`
  }
  const each = Math.ceil(xs.length / MOST_LABELS)
  for (const value of xs.filter((_, i) => i % each === 0)) inner += `<text x="${x(value)}" y="${top + high + 18}" text-anchor="middle">${escaped(value)}</text>`
  inner += `<text x="${left + wide / 2}" y="${top + high + 36}" text-anchor="middle">${escaped(across)}</text>`
  drawn.forEach(({ name, points }, i) => {
    const colour = COLOURS[i % COLOURS.length]
    const sorted = [...points].sort((a, b) => a[0] - b[0])
    inner += `<polyline points="${sorted.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`
    for (const [a, b] of sorted) inner += `<circle cx="${x(a).toFixed(1)}" cy="${y(b).toFixed(1)}" r="3" fill="${colour}"><title>${escaped(`${name}, ${a}: ${short(b)}`)}</title></circle>`
  })
  return `<figure><figcaption>${escaped(label)}</figcaption>${legend(drawn.map(({ name }) => name))}${svg(left + wide + 20, top + high + 44, label, inner)}</figure>`
}

/** @param {string[]} head @param {Array<Array<string | number>>} rows */
export const table = (head, rows) =>
  `<table><thead><tr>${head.map((cell) => `<th>${escaped(cell)}</th>`).join('')}</tr></thead><tbody>${rows.map((row) => `<tr>${row.map((cell) => `<td>${escaped(cell)}</td>`).join('')}</tr>`).join('')}</tbody></table>`
