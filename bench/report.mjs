// bench/report.html from bench/results/*.json: `cargo xtask bench report`.

import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Usage, main, options } from './lib/options.mjs'
import { bars, escaped, lines, short, table } from './lib/plot.mjs'
import { RESULTS, ROOT } from './lib/results.mjs'

const times = (value) => (Number.isFinite(value) ? `${short(value)} ×` : '–')
const percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(0)} %` : '–')
const mb = (bytes) => (Number.isFinite(bytes) ? (bytes / 1e6).toFixed(2) : '–')
const mib = (bytes) => bytes / 2 ** 20

function adapterOf(adapter) {
  if (!adapter) return null
  return `${adapter.name}${adapter.api ? `, ${adapter.api}` : ''}${adapter.software ? ' (imitated in software)' : ''}`
}

/** Where and when: beside every figure. */
function place(machine) {
  const { cpu, cores, system, browser, adapter, date, commit, changed } = machine ?? {}
  const parts = [adapterOf(adapter), browser, cpu && `${cpu}, ${cores} cores`, system, date, commit && `commit ${commit}${changed ? ' with changes' : ''}`]
  return `<p class="place">${escaped(parts.filter(Boolean).join(' · '))}</p>`
}

/** What steps ask of WebGPU, by side. */
function asked(rows) {
  const counted = rows.filter((row) => row.asked && Object.keys(row.asked).length > 0)
  if (counted.length === 0) return ''
  const names = { launches: 'launches', submissions: 'submissions', read: 'read back', written: 'written', buffers: 'buffers made' }
  const series = [...new Set(counted.flatMap((row) => Object.keys(row.asked)))]
  const groups = (key) => counted.map((row) => ({ name: row.model, values: series.map((side) => row.asked[side]?.step[key] ?? null) }))
  const body = counted.flatMap((row) =>
    Object.entries(row.asked).map(([side, { first, step, most_buffers: most }]) => [`${row.model}: ${side}`, ...Object.keys(names).map((name) => short(step[name])), short(first.pipelines), short(step.pipelines), short(mib(most))]),
  )
  return [
    '<h3>What a step asks of WebGPU</h3>',
    '<p>Counted in a run of its own, which is not timed; medians of the steps after the first.</p>',
    bars('Launches a step', series, groups('launches')),
    bars('Submissions a step', series, groups('submissions')),
    table(['', ...Object.values(names), 'pipelines until the first step’s end', 'in a later step', 'MiB of buffers at most'], body),
  ].join('\n')
}

/** Ours against a peer: browser and native alike. */
function speed(found, { title, ours, peer, other }) {
  const rows = found.results.filter((result) => !result.skipped)
  const left = found.results.filter((result) => result.skipped)
  const name = (row) => `${row.model}, ${row.device}${row.precision === 'half' ? ', 16 bits' : ''}`
  const head = ['', `ratio to ${peer}`, 'ours, tokens/s', `${peer}, tokens/s`, 'first step, ours', `first step, ${peer}`, 'losses apart', 'same work']
  const body = rows.map((row) => {
    const { over_peer: over, sides } = row
    const [mine, theirs] = [sides[ours], sides[other]]
    return [`${name(row)}: ${row.about}`, times(over?.ratio), short(mine?.tokens_per_second), short(theirs?.tokens_per_second), `${short(mine?.first_step_seconds)} s`, `${short(theirs?.first_step_seconds)} s`, over ? short(over.losses_apart) : '–', over ? (over.same_work ? 'yes' : 'no') : (theirs?.error ?? mine?.error ?? '–')]
  })
  const series = [...new Set(rows.flatMap((row) => Object.keys(row.sides)))]
  const group = (key) => (row) => ({ name: name(row), values: series.map((side) => row.sides[side]?.[key] ?? null), notes: series.map((side) => (side !== ours && side === other && row.over_peer && key === 'tokens_per_second' ? `(${times(row.over_peer.ratio)} is ours)` : '')) })
  const by = (device, key, label) => bars(`${label}, ${device}`, series, rows.filter((row) => row.device === device).map(group(key)))
  const devices = [...new Set(rows.map((row) => row.device))]
  return [
    `<h2>${escaped(title)}</h2>${place(found.machine)}`,
    `<p>Against ${escaped(found.peer ?? peer)}, ${escaped(found.alternations)} alternations; medians${found.isolated ? '; cross-origin isolated' : ''}.</p>`,
    table(head, body),
    ...devices.map((device) => by(device, 'tokens_per_second', 'Tokens a second')),
    ...devices.map((device) => by(device, 'first_step_seconds', 'Seconds to the first step')),
    asked(rows),
    ...left.map((result) => `<p>Left out: ${escaped(result.model)} on ${escaped(result.device)}: ${escaped(result.skipped)}</p>`),
  ].join('\n')
}

function kernels(found) {
  const parts = [`<h2>Kernels</h2>${place(found.machine)}`]
  for (const result of found.results) {
    if (result.skipped) {
      parts.push(`<p>${escaped(result.where)}: left out: ${escaped(result.skipped)}</p>`)
      continue
    }
    const { ceilings, models, device, where } = result
    parts.push(`<h3>${escaped(where)}: ${escaped(adapterOf(device))}</h3>`)
    parts.push(`<p>Ceilings as WGSL sees them: ${short(ceilings.flops / 1e9)} GFLOP/s, ${short(ceilings.bytes / 1e9)} GB/s, ${short(ceilings.launch * 1e6)} µs a launch.</p>`)
    parts.push(table(['tried', 'size', 'rate'], ceilings.tried.map(({ kernel, size, rate }) => [kernel, kernel === 'copy' ? `${short(size / 2 ** 20)} MiB` : `${size}³`, kernel === 'copy' ? `${short(rate / 1e9)} GB/s` : `${short(rate / 1e9)} GFLOP/s`])))
    for (const { name, stock, rates } of models.filter((model) => !model.stock)) {
      const burn = models.find((model) => model.stock && model.name === name)?.rates ?? []
      const same = (rate) => burn.find((other) => other.kernel === rate.kernel && other.part === rate.part)
      const series = burn.length ? ['ours', 'Burn’s own'] : ['ours']
      const groups = rates.map((rate) => ({ name: `${rate.part} (${rate.shape})`, values: [100 * rate.share, ...(burn.length ? [100 * (same(rate)?.share ?? NaN)] : [])], notes: [`% ${rate.bound}, ${short(rate.seconds * 1e6)} µs`, '%'] }))
      parts.push(bars(`Share of the ceiling in percent: ${name}${stock ? ', Burn’s kernels' : ''}`, series, groups, { most: 100, mark: 80 }))
    }
  }
  return parts.join('\n')
}

/** Of lengths and depths together: flat or not. */
function flatness({ conclusions = [], flat }) {
  if (conclusions.length === 0) return ''
  const kib = (bytes) => short(bytes / 1024)
  const words = ({ name, what, from, to }) => (what === 'length' ? `${name}: KiB a token, ${from} to ${to} tokens a sequence` : `${name}: KiB a token that a further block adds, ${from} to ${to} layers`)
  const body = conclusions.map((row) => [words(row), kib(row.bytes[0]), kib(row.bytes[1]), row.least === undefined ? '–' : kib(row.least), percent(row.change), row.flat ? 'yes' : 'no'])
  return table(['', 'at the first', 'at the last', 'needed', 'change', `within ${percent(flat)}`], body)
}

function memory(found) {
  const parts = [`<h2>Memory</h2>${place(found.machine)}`]
  parts.push(`<p>Held at most, against the plan and against what no program can do without: weights, gradients, moments, and what the backward pass reads, without scores and with a part of the logits at a time (bench/lib/bound.mjs).</p>`)
  parts.push(flatness(found))
  const groups = new Map()
  for (const row of found.rows) {
    const key = `${row.where}, ${row.device}`
    groups.set(key, [...(groups.get(key) ?? []), row])
  }
  for (const [name, rows] of groups) {
    const of = (kind, recompute, value, axis) => rows.filter((row) => row.kind === kind && row.recompute === recompute && row.held).map((row) => [row[axis], value(row)])
    const token = (row) => (row.held.bytes - row.weights - row.training) / row.tokens / 1024
    const planned = (row) => row.activations / row.tokens / 1024
    const least = (row) => (Number.isFinite(row.bound) ? (row.bound - row.weights - row.training) / row.tokens / 1024 : NaN)
    const known = (points) => points.filter(([, value]) => Number.isFinite(value))
    const ways = (kind, axis, values) =>
      [false, true].flatMap((recompute) => Object.entries(values).map(([word, value]) => ({ name: recompute ? `${word}, by blocks` : word, points: known(of(kind, recompute, value, axis)) })))
    parts.push(`<h3>${escaped(name)}</h3>`)
    parts.push(lines('Activations, KiB a token, by length of the sequences', 'tokens a sequence', ways('length', 'seq', { held: token, planned, needed: least })))
    parts.push(lines('Activations, KiB a token, by depth', 'blocks', ways('depth', 'layers', { held: token, planned, needed: least })))
    const label = (row) => `${row.kind}: ${row.seq} tokens, ${row.layers} layers${row.recompute ? ', by blocks' : ''}`
    const cells = (row) => [row.bound, row.planned, row.held?.bytes].map((bytes) => (Number.isFinite(bytes) ? short(mib(bytes)) : '–'))
    const over = (row, of) => (row.held && Number.isFinite(of) ? short(row.held.bytes / of) : '–')
    parts.push(table(['', 'needed, MiB', 'planned, MiB', 'held, MiB', 'held over planned', 'held over needed'], rows.map((row) => [label(row), ...cells(row), over(row, row.planned), over(row, row.bound)])))
  }
  return parts.join('\n')
}

function growth(found) {
  const parts = [`<h2>Growth</h2>${place(found.machine)}`]
  parts.push(`<p>A model of ${found.sizes.num_hidden_layers} layer, dim ${found.sizes.hidden_size}, ${found.tokens} tokens a micro-batch. A fall in tokens a second of up to ${percent(found.within)} is let pass.</p>`)
  const done = found.results.filter((result) => !result.skipped)
  const name = ({ where, device }) => `${where}, ${device}`
  for (const result of found.results.filter((result) => result.skipped)) parts.push(`<p>${escaped(name(result))}: left out: ${escaped(result.skipped)}</p>`)
  parts.push(
    table(
      ['', 'most accumulated: change of tokens/s', 'steps', 'tokens/s, first steps', 'last steps', 'change', 'memory, first steps', 'last steps', 'collected', 'as it should be'],
      done.map((result) => {
        const { accumulation, long, fine } = result
        const memory = (key) => long.memory.filter((entry) => Number.isFinite(entry[key])).map((entry) => `${entry.name} ${short(mib(entry[key]))} MiB`).join(', ') || '–'
        return [name(result), percent(accumulation.by_number.at(-1).change), long.steps, short(long.first), short(long.last), percent(long.change), memory('before'), memory('after'), memory('collected'), fine ? 'yes' : 'no']
      }),
    ),
  )
  for (const result of done) {
    const { accumulation, long } = result
    parts.push(`<h3>${escaped(name(result))}</h3>`)
    parts.push(lines('Tokens a second by micro-batches a step', 'micro-batches a step', [{ name: 'ours', points: accumulation.by_number.map(({ micro, tokens_per_second: rate }) => [micro, rate]) }]))
    parts.push(lines('Tokens a second over the steps', 'steps', [{ name: 'ours', points: long.points.map(({ step, tokens_per_second: rate }) => [step, rate]) }], { even: true }))
    parts.push(lines('MiB over the steps', 'steps', long.memory.map((entry) => ({ name: entry.name, points: long.points.map((point) => [point.step, mib(point[entry.name])]) })), { even: true }))
  }
  return parts.join('\n')
}

function page(found) {
  const names = { paint: 'first paint', engine: 'engine loaded', ready: 'ready', first_step: 'first training step' }
  const series = Object.keys(names)
  return [
    `<h2>Page</h2>${place(found.machine)}`,
    `<p>${found.files.length} files until the first step: ${mb(found.total.raw)} MB, ${mb(found.total.gzip)} MB with gzip, ${mb(found.total.brotli)} MB with brotli; until it is ready ${mb(found.total.ready_gzip)} and ${mb(found.total.ready_brotli)} MB.</p>`,
    bars('MB over the wire', ['raw', 'gzip', 'brotli'], found.files.slice(0, 6).map((file) => ({ name: file.path, values: [file.raw, file.gzip, file.brotli].map((bytes) => bytes / 1e6) }))),
    bars('Seconds from the navigation', series.map((name) => names[name]), found.times.map(({ device, median }) => ({ name: device, values: series.map((name) => median[name] ?? null) }))),
  ].join('\n')
}

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h2{margin-top:3rem;border-top:1px solid #d0d7de;padding-top:1rem}.place{color:#57606a}figure{margin:1.5rem 0;overflow-x:auto}
figcaption{font-weight:600}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .6rem;border-bottom:1px solid #d8dee4;text-align:left}
td:not(:first-child){font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:currentColor}
.value{fill:#57606a}.grid{stroke:#d8dee4}.mark{stroke:#cf222e;stroke-dasharray:4 3}.legend{margin:.2rem 0}.legend span{margin-right:1rem}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}`

const native = { ours: 'ours', other: 'peft', peer: 'PyTorch + PEFT' }
const PARTS = [
  ['browser', (found) => speed(found, { title: 'Training in a tab', ours: 'ours', other: 'jax-js', peer: 'jax-js' })],
  ['native', (found) => speed(found, { title: 'Training with the command, CPU', ...native })],
  ['native-gpu', (found) => speed(found, { title: 'Training with the command, graphics card', ...native })],
  ['native-gpu-half', (found) => speed(found, { title: 'Training with the command, graphics card, 16 bits', ...native })],
  ['kernels', kernels],
  ['memory', memory],
  ['growth', growth],
  ['page', page],
]

/** The whole page of what was found, by suite. @param {Record<string, any>} found */
export function report(found) {
  const parts = PARTS.filter(([name]) => found[name]).map(([name, make]) => `<section id="${name}">${make(found[name])}</section>`)
  const list = PARTS.filter(([name]) => found[name]).map(([name]) => `<a href="#${name}">${name}</a>`).join(' · ')
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Paddock: benchmarks</title>
<style>${STYLE}</style>
<h1>Paddock: benchmarks</h1>
<p>Ratios above 1 are in Paddock’s favour. Made by <code>cargo xtask bench report</code> from bench/results. ${list}</p>
${parts.join('\n')}
</html>
`
}

if (process.argv[1]?.endsWith('report.mjs')) {
  await main(async () => {
    options(process.argv.slice(2), {})
    if (!existsSync(RESULTS)) throw new Usage('bench/results is not there: run a suite first')
    const found = {}
    for (const file of readdirSync(RESULTS).filter((file) => file.endsWith('.json'))) {
      const content = JSON.parse(readFileSync(join(RESULTS, file), 'utf8'))
      // Files of other makers have no suite's name.
      if (content.suite) found[content.suite] = content
    }
    if (!PARTS.some(([name]) => found[name])) throw new Usage('bench/results holds no suite’s figures: run one first')
    const path = join(ROOT, 'bench', 'report.html')
    writeFileSync(path, report(found))
    console.log(`bench/report.html: ${PARTS.filter(([name]) => found[name]).map(([name]) => name).join(', ')}`)
    return true
  })
}
