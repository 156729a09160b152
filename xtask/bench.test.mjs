// What the benchmarks count with: flags, medians, models, and the report's text. What they measure needs a browser or a peer.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { BATCH, MODELS, SEQ, TRAIN, make, parameters, rows, text, tokenizer } from '../bench/lib/model.mjs'
import { Usage, options } from '../bench/lib/options.mjs'
import { bars, escaped, lines } from '../bench/lib/plot.mjs'
import { apart, median, ratio, speed, summary, written } from '../bench/lib/results.mjs'
import { SHAPES, shares } from '../bench/lib/shapes.mjs'
import { report } from '../bench/report.mjs'

const KNOWN = { steps: { number: 4, least: 3 }, devices: { some: ['gpu', 'cpu'] }, sides: { some: ['a', 'b', 'c'], usual: ['a', 'b'] }, adapter: { one: ['auto', 'software'] }, model: { text: 'here' }, stock: { flag: true } }

test('flags have defaults, and two ways to be written', () => {
  assert.deepEqual(options([], KNOWN), { steps: 4, devices: ['gpu', 'cpu'], sides: ['a', 'b'], adapter: 'auto', model: 'here', stock: false })
  assert.deepEqual(options(['--steps', '9', '--devices=cpu', '--stock', '--model=a=b', '--sides', 'c,a'], KNOWN), { steps: 9, devices: ['cpu'], sides: ['c', 'a'], adapter: 'auto', model: 'a=b', stock: true })
})

test('a wrong flag is named with what would do', () => {
  for (const [words, said] of [
    [['--step', '3'], /"--step" is not understood; there is --steps/],
    [['steps'], /"steps" is not understood/],
    [['--constructor', '1'], /"--constructor" is not understood/],
    [['--steps', '2'], /--steps 2: a whole number from 3/],
    [['--steps', '1e9'], /whole number/],
    [['--steps'], /--steps wants a value/],
    [['--devices', 'gpu,tpu'], /--devices: there is no "tpu"; any of gpu, cpu/],
    [['--adapter', 'auto,software'], /one of auto, software/],
    [['--stock=1'], /--stock takes no value/],
  ]) {
    assert.throws(() => options(words, KNOWN), (error) => error instanceof Usage && said.test(error.message), words.join(' '))
  }
})

test('medians leave out what is no number', () => {
  assert.equal(median([3, 1, 2]), 2)
  assert.equal(median([4, NaN, 1, 2, 3]), 2.5)
  assert.equal(median([]), null)
  assert.equal(median([Infinity]), null)
})

test('figures are written a list a line, and read back the same', () => {
  const value = { name: '[1,\n 2]', each: [1.5, -2e-9, 3], empty: [], deep: [{ losses: [1, 2] }, null] }
  assert.deepEqual(JSON.parse(written(value)), value)
  assert.match(written(value), /"each": \[ 1\.5, -2e-9, 3 \]/)
})

test('losses are compared step by step', () => {
  assert.equal(apart([2, 4], [2, 5]), 0.2)
  assert.equal(apart([2], [2, 5]), Infinity)
  assert.equal(apart([NaN], [1]), Infinity)
  assert.equal(apart([], []), Infinity)
})

test('alternations become one figure a side, without the first step', () => {
  const run = (seconds, first = 9) => ({ losses: [3, 2, 1], step_seconds: [first, seconds, seconds], first_step_seconds: first + 1 })
  const runs = [
    { ours: run(1), peer: run(2) },
    { ours: run(2), peer: run(8) },
    { ours: run(4), peer: { error: 'gone' } },
  ]
  const sides = summary(runs, 8)
  assert.deepEqual([sides.ours.tokens_per_second, sides.ours.each, sides.ours.first_step_seconds], [4, [8, 4, 2], 10])
  assert.deepEqual([sides.peer.tokens_per_second, sides.peer.error], [2.5, 'gone'])
  // Of each alternation's two: 2 and 4.
  assert.equal(ratio(runs.slice(0, 2), 'ours', 'peer', speed), 3)
})

test('a text is one batch of rows, and the engine packs it so', () => {
  const ids = [...Buffer.from(TRAIN().trimEnd()), 257]
  assert.equal(ids.length, BATCH * SEQ)
  assert.deepEqual(rows().flat(), ids)
  for (let seed = 0; seed < 20; seed += 1) assert.match(text(200, seed), /^[a-z]+( [a-z]+)*$/)
  assert.equal(text(200, 3).length, 200)
  // Every byte has a token, and its number is the byte's.
  const { vocab } = tokenizer().model
  assert.equal(Object.keys(vocab).length, 258)
  assert.deepEqual([vocab.a, vocab['Ġ'], vocab['</s>']], [97, 32, 257])
})

test('a model is made once, and anew where its sizes are others', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'paddock-bench-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const place = join(folder, 'model')
  const sizes = { num_hidden_layers: 1, hidden_size: 8, intermediate_size: 16, num_attention_heads: 2, num_key_value_heads: 1, vocab_size: 300 }
  make(place, { sizes, r: 2, alpha: 4 })
  const read = (name) => {
    const bytes = readFileSync(join(place, name))
    const length = Number(bytes.readBigUInt64LE())
    return { header: JSON.parse(bytes.subarray(8, 8 + length).toString()), data: bytes.length - 8 - length, at: 8 + length }
  }
  const { header, data, at } = read('model.safetensors')
  assert.equal(data, 4 * parameters(sizes))
  assert.equal(at % 8, 0)
  assert.deepEqual(header['model.layers.0.self_attn.k_proj.weight'].shape, [4, 8])
  const low = read('adapter/adapter_model.safetensors').header
  assert.equal(Object.keys(low).length, 14)
  assert.deepEqual(low['base_model.model.model.layers.0.mlp.down_proj.lora_B.weight'].shape, [8, 2])
  writeFileSync(join(place, 'mine'), '')
  make(place, { sizes, r: 2, alpha: 4 })
  assert.ok(existsSync(join(place, 'mine')))
  make(place, { sizes: { ...sizes, vocab_size: 320 } })
  assert.ok(!existsSync(join(place, 'mine')))
  assert.equal(statSync(join(place, 'model.safetensors')).size, read('model.safetensors').at + 4 * parameters({ ...sizes, vocab_size: 320 }))
})

test('the models have the sizes that their names say', () => {
  assert.equal(parameters(MODELS['full-2'].sizes), 2_139_552)
  assert.ok(Math.abs(parameters(MODELS['lora-30m'].sizes) - 30e6) < 1e6)
  assert.deepEqual([SHAPES['full-2'].r, SHAPES['lora-30m'].r, SHAPES['lora-30m'].hidden_size], [undefined, 8, 512])
})

test('a share is that of the nearer ceiling', () => {
  const ceilings = { flops: 100, bytes: 10, launch: 0.01 }
  const [compute, memory, launch] = shares([{ flops: 100, bytes: 1, seconds: 2 }, { flops: 1, bytes: 10, seconds: 4 }, { flops: 0, bytes: 0.01, seconds: 0.02 }], ceilings)
  assert.deepEqual([compute.share, compute.bound], [0.5, 'compute'])
  assert.deepEqual([memory.share, memory.bound], [0.25, 'memory'])
  assert.equal(launch.bound, 'launch')
  // A product beside a kernel was twice as fast as beside another: the machine was slow then, and the faster one is a ceiling.
  const [slow, fast] = shares([{ flops: 100, bytes: 1, seconds: 1, beside: 100 }, { flops: 100, bytes: 1, seconds: 1, beside: 200 }], ceilings)
  assert.deepEqual([slow.share, fast.share], [1, 0.5])
})

test('plots show no text as markup, and nothing where there is nothing', () => {
  const shown = bars('<b>', ['a'], [{ name: '"x" & <y>', values: [1] }]) + lines('l', 'x', [{ name: '<z>', points: [[1, 2]] }])
  assert.ok(!/<b>|<y>|<z>/.test(shown), shown)
  assert.equal(escaped(`<'&">`), '&lt;&#39;&amp;&quot;&gt;')
  assert.equal(bars('l', ['a'], [{ name: 'x', values: [NaN, null] }]), '')
  assert.equal(lines('l', 'x', [{ name: 'a', points: [] }]), '')
})

test('the report has what every suite writes', () => {
  const machine = { cpu: 'A <fast> one', cores: 2, date: '2026-11-26 12:00', commit: 'abc', changed: true, adapter: { name: 'card', software: true } }
  const side = { tokens_per_second: 100, each: [100], first_step_seconds: 2, losses: [3, 2] }
  const over_peer = { ratio: 2.5, first_step_ratio: 3, losses_apart: 1e-5, same_work: true }
  const entry = { model: 'm', about: 'small', device: 'gpu', sides: { ours: side, 'jax-js': side }, over_peer }
  const rate = { kernel: 'product', part: 'head', shape: '1 × 2 × 3', share: 0.5, bound: 'compute', seconds: 1e-4 }
  const row = { where: 'native', kind: 'length', device: 'cpu', layers: 4, seq: 128, tokens: 2048, recompute: false, planned: 4e6, weights: 1e6, training: 1e6, activations: 2e6, held: { bytes: 5e6 } }
  const html = report({
    browser: { machine, peer: 'jax-js 0.1.25', alternations: 5, results: [entry, { model: 'n', device: 'gpu', skipped: 'no WebGPU' }] },
    native: { machine, alternations: 5, results: [{ ...entry, device: 'cpu', sides: { ours: side, peft: { ...side, error: 'gone' } }, over_peer: undefined }] },
    kernels: { machine, results: [{ where: 'native', skipped: 'no adapter' }, { where: 'browser', device: { name: 'card', software: true, api: 'WebGPU' }, ceilings: { flops: 1e9, bytes: 1e9, launch: 1e-5, tried: [{ kernel: 'copy', size: 1 << 20, rate: 1e9 }] }, models: [{ name: 'm', stock: false, rates: [rate] }, { name: 'm', stock: true, rates: [rate] }] }] },
    memory: { machine, rows: [row, { ...row, seq: 256 }, { ...row, kind: 'depth', recompute: true }] },
    page: { machine, files: [{ path: '/a.wasm', raw: 3e6, gzip: 1e6, brotli: 9e5 }], total: { raw: 3e6, gzip: 1e6, brotli: 9e5, ready_gzip: 1e6, ready_brotli: 9e5 }, times: [{ device: 'cpu', median: { paint: 0.1, engine: 1, ready: 1.1, first_step: 2 } }] },
  })
  for (const said of ['2.50 ×', 'no WebGPU', 'gone', 'Burn’s own', '50.0 % compute', '/a.wasm', 'A &lt;fast&gt; one', 'imitated in software', 'commit abc with changes']) assert.ok(html.includes(said), said)
  assert.ok(!/NaN|undefined|\[object/.test(html), html.match(/.{60}(NaN|undefined|\[object).{40}/)?.[0])
  assert.ok(!/<script|https?:/.test(html))
})
