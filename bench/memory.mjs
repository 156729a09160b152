// Bytes that a run holds at most, against its plan's arithmetic, over lengths and depths: `cargo xtask bench memory`.
//
//   node bench/memory.mjs [--where native,browser] [--kinds length,depth,qlora] [--devices gpu,cpu] [--native-gpu]
//                         [--lengths 128,256,512,1024,2048] [--depths 2,4,8,16] [--adapter auto|software|hardware]
//
// Natively by the suite's ignored test `bench::memory`, which does all kinds: on the CPU every allocation is counted; with `--native-gpu`
// what is in use on the graphics adapter is watched as well. In a Chromium through a worker that counts GPU buffers and the WebAssembly
// memory. Always 2,048 tokens a micro-batch, so that bytes a token can be compared; a small model, whose activations outweigh its weights.
// Beside the plan stands what no program can do without (lib/bound.mjs). QLoRA of SmolLM2-135M takes minutes on a software adapter.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bound, ofBlock, ofState } from './lib/bound.mjs'
import { ADAPTERS, browser, built, choose, emptyPage, site, train } from './lib/browser.mjs'
import { make, text } from './lib/model.mjs'
import { Usage, main, options } from './lib/options.mjs'
import { ROOT, WORK, machine, save } from './lib/results.mjs'

const TOKENS = 2048
const LENGTHS = ['128', '256', '512', '1024', '2048']
const DEPTHS = ['2', '4', '8', '16']
const [LAYERS, SEQ] = [4, 512]
/** As tests/suite/plan.rs has it, but for the groups of its attention. */
const SIZES = { hidden_size: 128, intermediate_size: 352, num_attention_heads: 2, num_key_value_heads: 2, vocab_size: 1024 }
const NATIVE = { ...SIZES, num_key_value_heads: 1 }
const SMOLLM2 = { num_hidden_layers: 30, hidden_size: 576, intermediate_size: 1536, num_attention_heads: 9, num_key_value_heads: 3, vocab_size: 49152 }
const TINYLLAMA = { num_hidden_layers: 22, hidden_size: 2048, intermediate_size: 5632, num_attention_heads: 32, num_key_value_heads: 4, vocab_size: 32000 }
const GGUF = 'SmolLM2-135M-Instruct.Q4_1.gguf'
const MODELS = join(ROOT, '.paddock', 'models')
/** The engine's default. */
const RANK = 8
/** What a figure may be over the one that it is compared with. */
const FLAT = 0.15
const OVER = 1.25
/** In bytes: QLoRA of SmolLM2-135M, and the plan of a base of a billion. */
const MOST = { SmolLM2: 400e6, '1.1 B': 2e9 }

const mib = (bytes) => (bytes / 2 ** 20).toFixed(1)
const most = (kind) => Object.entries(MOST).find(([name]) => kind.startsWith(name))?.[1]

/** A row with its bound. */
function judged(row, sizes, r) {
  const { weights, training, tokens, recompute } = row
  return { ...row, r, sizes, bound: bound(sizes, { tokens, r, recompute }, { weights, training }) }
}

function show({ where, device, kind, seq, layers, recompute, held, planned, bound: least }) {
  const has = held ? `${mib(held.bytes)} of ${mib(planned)} MiB planned (${(held.bytes / planned).toFixed(2)})` : `${mib(planned)} MiB planned`
  const limit = most(kind)
  const allowed = limit ? `, ${(held?.bytes ?? planned) < limit ? 'within' : 'OVER'} the ${limit / 1e6} MB it is to take at most` : ''
  console.log(`  ${where} ${device} ${kind}, ${seq} tokens, ${layers} layers${recompute ? ', by blocks' : ''}: ${has}, at least ${mib(least)} are needed (${((held?.bytes ?? planned) / least).toFixed(2)})${allowed}`)
}

/** Bytes of activations that were held. */
const worked = (row) => row.held.bytes - row.weights - row.training

/**
 * What rows say together, by place, device and recomputation: how bytes a token change from the shortest sequences to the longest, and
 * what each further block adds at either end of the depths.
 */
function conclusions(rows) {
  const found = []
  const groups = new Map()
  for (const row of rows) {
    const name = `${row.where} ${row.device}${row.recompute ? ', by blocks' : ''}`
    groups.set(name, [...(groups.get(name) ?? []), row])
  }
  for (const [name, group] of groups) {
    const of = (kind, axis) => group.filter((row) => row.kind === kind && row.held).sort((a, b) => a[axis] - b[axis])
    const [lengths, depths] = [of('length', 'seq'), of('depth', 'layers')]
    if (lengths.length > 1) {
      const [short, long] = [lengths[0], lengths.at(-1)]
      const change = worked(long) / worked(short) - 1
      found.push({ name, what: 'length', from: short.seq, to: long.seq, bytes: [short, long].map((row) => worked(row) / row.tokens), change, flat: Math.abs(change) <= FLAT })
    }
    if (depths.length > 2) {
      const added = (less, more) => (worked(more) - worked(less)) / (more.layers - less.layers) / more.tokens
      const ends = [added(depths[0], depths[1]), added(depths.at(-2), depths.at(-1))]
      const { sizes, r, recompute, layers } = depths.at(-1)
      const least = recompute ? ofState(sizes) : ofBlock(sizes, r)
      const change = ends[1] / ends[0] - 1
      found.push({ name, what: 'depth', from: depths[0].layers, to: layers, bytes: ends, change, least, flat: Math.abs(change) <= FLAT, over: ends[1] / least })
    }
  }
  for (const { name, what, from, to, bytes, change, flat, least } of found) {
    const unit = what === 'length' ? `${(bytes[0] / 1024).toFixed(1)} KiB a token at ${from} tokens a sequence, ${(bytes[1] / 1024).toFixed(1)} at ${to}` : `a further block adds ${(bytes[0] / 1024).toFixed(2)} KiB a token from ${from} layers on, ${(bytes[1] / 1024).toFixed(2)} up to ${to}; ${(least / 1024).toFixed(2)} are needed`
    console.log(`${name}: ${unit} (${change >= 0 ? '+' : ''}${(100 * change).toFixed(0)} %, ${flat ? 'flat' : 'not flat'})`)
  }
  return found
}

function native(withGpu) {
  const out = join(WORK, 'memory.json')
  mkdirSync(WORK, { recursive: true })
  rmSync(out, { force: true })
  const gguf = join(MODELS, GGUF)
  const env = { ...process.env, PADDOCK_BENCH_OUT: out, ...(withGpu && { PADDOCK_BENCH_GPU: '1' }), ...(existsSync(gguf) && { PADDOCK_BENCH_GGUF: gguf }) }
  const words = ['test', '--release', '-p', 'paddock', '--test', 'suite', '--', '--ignored', '--exact', 'bench::memory', '--nocapture']
  const { error, status } = spawnSync('cargo', words, { cwd: ROOT, env, stdio: ['ignore', 'inherit', 'inherit'] })
  if (error) throw new Usage(`cargo cannot be started: ${error.message}`)
  if (status !== 0 || !existsSync(out)) throw new Usage('the native measurement failed: what stands above says why')
  const { rows, skipped } = JSON.parse(readFileSync(out, 'utf8'))
  if (skipped) console.log(`native GPU: left out: ${skipped}`)
  const shapes = { SmolLM2: SMOLLM2, '1.1 B': TINYLLAMA }
  return rows.map((row) => {
    const sizes = Object.entries(shapes).find(([name]) => row.kind.startsWith(name))?.[1] ?? { ...NATIVE, num_hidden_layers: row.layers }
    const recompute = row.keys.some((key) => key.endsWith('gradient_checkpointing=true'))
    const full = row.keys.includes('training.method=full')
    return judged({ where: 'native', ...row, recompute }, sizes, full ? 0 : RANK)
  })
}

/** What is measured in a tab: cases of a kind, each on one model. */
function cases({ kinds, lengths, depths }) {
  const found = []
  const both = (kind, layers, seq) => [false, true].map((recompute) => ({ kind, model: `memory-${layers}`, layers, seq, tokens: TOKENS, recompute, sizes: { ...SIZES, num_hidden_layers: layers } }))
  if (kinds.includes('length')) found.push(...lengths.flatMap((seq) => both('length', LAYERS, Number(seq))))
  if (kinds.includes('depth')) found.push(...depths.flatMap((layers) => both('depth', Number(layers), SEQ)))
  if (kinds.includes('qlora')) {
    if (existsSync(join(MODELS, GGUF))) found.push({ kind: 'SmolLM2-135M, QLoRA, 1 × 512', gguf: true, layers: SMOLLM2.num_hidden_layers, seq: 512, tokens: 512, recompute: true, sizes: SMOLLM2 })
    else console.log(`QLoRA of SmolLM2-135M is left out: .paddock/models/${GGUF} is not there; cargo xtask bench native (or tests/reference/smollm2_to_hf.py) brings it`)
  }
  return found
}

/** A run of two steps in a tab of its own. */
async function once(opened, url, device, { kind, model, gguf, layers, seq, tokens, recompute, sizes }) {
  const context = await opened.newContext()
  try {
    const page = await emptyPage(context, url)
    const { plan, held } = await train(page, {
      worker: '/peers/measuring-worker.js',
      model: gguf ? [`/gguf/${GGUF}`] : ['config.json', 'tokenizer.json', 'model.safetensors'].map((name) => `/${model}/${name}`),
      train: '/texts/long.txt',
      held: '/texts/held-out.txt',
      config: {
        task: 'text-generation',
        device,
        model: { max_seq_length: seq, quantization: gguf ? 'auto' : 'none' },
        data: { text_column: 'text' },
        training: { method: 'lora', batch_size: tokens / seq, max_steps: 2, learning_rate: 1e-4, gradient_checkpointing: recompute, mixed_precision: 'no', save_steps: 0 },
      },
    })
    const [weights, training, activations] = [plan.weight_bytes, plan.training_bytes, plan.activation_bytes]
    const bytes = device === 'gpu' ? held.most_storage : held.wasm - held.wasm_empty
    const row = judged({ where: 'browser', kind, device, layers, seq, tokens, recompute, planned: weights + training + activations, weights, training, activations, held: { bytes, ...held } }, sizes, RANK)
    show(row)
    return row
  } finally {
    await context.close()
  }
}

async function tab(taken) {
  const all = cases(taken)
  const texts = make(join(WORK, 'models', `memory-${LAYERS}`), { sizes: { ...SIZES, num_hidden_layers: LAYERS } })
  writeFileSync(join(texts, 'long.txt'), `${text(2 * TOKENS - 1, 3)}\n`)
  const mounts = { '/texts/': texts, '/gguf/': MODELS, '/peers/': join(ROOT, 'bench', 'peers') }
  for (const { model, sizes } of all) if (model) mounts[`/${model}/`] ??= make(join(WORK, 'models', model), { sizes })
  const server = await site(built(), mounts)
  try {
    const found = await choose(taken.adapter, server.url)
    const opened = await browser(found.kind)
    const rows = []
    try {
      for (const device of taken.devices) {
        if (device === 'gpu' && !found.adapter) {
          console.log('browser gpu: left out: this browser has no WebGPU')
          continue
        }
        for (const one of all) rows.push(await once(opened, server.url, device, one))
      }
    } finally {
      await opened.close()
    }
    return { rows, version: found.version, adapter: found.adapter }
  } finally {
    await server.close()
  }
}

await main(async () => {
  const taken = options(process.argv.slice(2), {
    where: { some: ['native', 'browser'] },
    kinds: { some: ['length', 'depth', 'qlora'] },
    devices: { some: ['gpu', 'cpu'] },
    'native-gpu': { flag: true },
    lengths: { some: LENGTHS },
    depths: { some: DEPTHS },
    adapter: { one: ADAPTERS },
  })
  const rows = []
  let more = {}
  if (taken.where.includes('native')) {
    rows.push(...native(taken['native-gpu']))
    rows.forEach(show)
    save('memory', { machine: machine(more), over: OVER, flat: FLAT, rows })
  }
  if (taken.where.includes('browser')) {
    const { rows: found, version, adapter } = await tab(taken)
    rows.push(...found)
    more = { browser: version, adapter }
  }
  save('memory', { machine: machine(more), over: OVER, flat: FLAT, rows, conclusions: conclusions(rows) })
  const over = rows.filter((row) => (row.held?.bytes ?? row.planned) > OVER * row.bound)
  if (over.length > 0) console.log(`${over.length} of ${rows.length} runs hold more than ${OVER} times what is needed`)
  const large = rows.filter((row) => (row.held?.bytes ?? row.planned) >= (most(row.kind) ?? Infinity))
  for (const { where, device, kind } of large) console.error(`${where} ${device} ${kind}: more than it is to take`)
  return rows.length > 0 && large.length === 0
})
