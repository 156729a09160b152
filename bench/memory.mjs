// Bytes that a run holds at most, against its plan's arithmetic, over lengths and depths: `cargo xtask bench memory`.
//
//   node bench/memory.mjs [--where native,browser] [--devices gpu,cpu] [--native-gpu] [--lengths 128,256,512,1024,2048]
//                         [--adapter auto|software|hardware]
//
// Natively by the suite's ignored test `bench::memory`: on the CPU every allocation is counted; with `--native-gpu` what is in use on the
// graphics adapter is watched as well. In a Chromium through a worker that counts GPU buffers and the WebAssembly memory. Always 2,048
// tokens a micro-batch, so that bytes a token can be compared; a small model, whose activations outweigh its weights.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ADAPTERS, browser, built, choose, emptyPage, site, train } from './lib/browser.mjs'
import { make, text } from './lib/model.mjs'
import { Usage, main, options } from './lib/options.mjs'
import { ROOT, WORK, machine, save } from './lib/results.mjs'

const TOKENS = 2048
const LENGTHS = ['128', '256', '512', '1024', '2048']
/** As tests/suite/plan.rs has it, but for the groups of its attention. */
const SIZES = { num_hidden_layers: 4, hidden_size: 128, intermediate_size: 352, num_attention_heads: 2, num_key_value_heads: 2, vocab_size: 1024 }
const GGUF = join(ROOT, '.paddock', 'models', 'SmolLM2-135M-Instruct.Q4_1.gguf')

const mib = (bytes) => (bytes / 2 ** 20).toFixed(1)

function show(row) {
  const { held, planned } = row
  const over = held.bytes / planned
  console.log(`  ${row.where} ${row.device} ${row.kind}, ${row.seq} tokens, ${row.layers} layers${row.recompute ? ', by blocks' : ''}: ${mib(held.bytes)} of ${mib(planned)} MiB planned (${over.toFixed(2)})`)
}

function native(withGpu) {
  const out = join(WORK, 'memory.json')
  mkdirSync(WORK, { recursive: true })
  rmSync(out, { force: true })
  const env = { ...process.env, PADDOCK_BENCH_OUT: out, ...(withGpu && { PADDOCK_BENCH_GPU: '1' }), ...(existsSync(GGUF) && { PADDOCK_BENCH_GGUF: GGUF }) }
  if (!existsSync(GGUF)) console.log('QLoRA of SmolLM2-135M is left out: cargo xtask bench native (or tests/reference/smollm2_to_hf.py) brings its file')
  const words = ['test', '--release', '-p', 'paddock', '--test', 'suite', '--', '--ignored', '--exact', 'bench::memory', '--nocapture']
  const { error, status } = spawnSync('cargo', words, { cwd: ROOT, env, stdio: ['ignore', 'inherit', 'inherit'] })
  if (error) throw new Usage(`cargo cannot be started: ${error.message}`)
  if (status !== 0 || !existsSync(out)) throw new Usage('the native measurement failed: what stands above says why')
  const { rows, skipped } = JSON.parse(readFileSync(out, 'utf8'))
  if (skipped) console.log(`native GPU: left out: ${skipped}`)
  return rows.map((row) => ({ where: 'native', ...row, recompute: row.keys.some((key) => key.endsWith('gradient_checkpointing=true')) }))
}

/** A run of two steps in a tab of its own. */
async function once(opened, url, device, seq, recompute) {
  const context = await opened.newContext()
  try {
    const page = await emptyPage(context, url)
    const { plan, held } = await train(page, {
      worker: '/peers/measuring-worker.js',
      model: ['config.json', 'tokenizer.json', 'model.safetensors'].map((name) => `/model/${name}`),
      train: '/model/long.txt',
      held: '/model/held-out.txt',
      config: {
        task: 'text-generation',
        device,
        model: { max_seq_length: seq, quantization: 'none' },
        data: { text_column: 'text' },
        training: { method: 'lora', batch_size: TOKENS / seq, max_steps: 2, learning_rate: 1e-4, gradient_checkpointing: recompute, mixed_precision: 'no', save_steps: 0 },
      },
    })
    const [weights, training, activations] = [plan.weight_bytes, plan.training_bytes, plan.activation_bytes]
    const bytes = device === 'gpu' ? held.most_storage : held.wasm - held.wasm_empty
    const row = { where: 'browser', kind: 'length', device, layers: SIZES.num_hidden_layers, seq, tokens: TOKENS, recompute, planned: weights + training + activations, weights, training, activations, held: { bytes, ...held } }
    show(row)
    return row
  } finally {
    await context.close()
  }
}

async function tab(devices, lengths, adapter) {
  const model = make(join(WORK, 'models', 'memory'), { sizes: SIZES })
  writeFileSync(join(model, 'long.txt'), `${text(2 * TOKENS - 1, 3)}\n`)
  const server = await site(built(), { '/model/': model, '/peers/': join(ROOT, 'bench', 'peers') })
  try {
    const found = await choose(adapter, server.url)
    const opened = await browser(found.kind)
    const rows = []
    try {
      for (const device of devices) {
        if (device === 'gpu' && !found.adapter) {
          console.log('browser gpu: left out: this browser has no WebGPU')
          continue
        }
        for (const recompute of [false, true]) for (const seq of lengths) rows.push(await once(opened, server.url, device, Number(seq), recompute))
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
    devices: { some: ['gpu', 'cpu'] },
    'native-gpu': { flag: true },
    lengths: { some: LENGTHS },
    adapter: { one: ADAPTERS },
  })
  const rows = []
  let more = {}
  if (taken.where.includes('native')) {
    rows.push(...native(taken['native-gpu']))
    rows.forEach(show)
    save('memory', { machine: machine(more), rows })
  }
  if (taken.where.includes('browser')) {
    const { rows: found, version, adapter } = await tab(taken.devices, taken.lengths, taken.adapter)
    rows.push(...found)
    more = { browser: version, adapter }
  }
  save('memory', { machine: machine(more), rows })
  return rows.length > 0
})
