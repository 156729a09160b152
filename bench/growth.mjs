// Whether cost grows with work alone: `cargo xtask bench growth`.
//
//   node bench/growth.mjs [--where browser,native] [--devices gpu,cpu] [--native-gpu] [--micro 1,2,4,8,16,32] [--rounds 3]
//                         [--steps 2000] [--adapter auto|software|hardware]
//
// A model so small that much can be done of it: 1 layer, dim 64, 4 × 32 tokens a micro-batch, all weights trained. First the same
// micro-batches in optimizer steps of 1 to 32 of them; each number of them has runs of its own, in changing order, and a median. Then one
// long run: speed is held against its beginning, memory against its middle, as an allocator finds its size in the first half and a leak goes
// on. In a tab live GPU buffers and the WebAssembly memory are counted at every step (peers/counting.js), natively the memory that the process
// has of the system (Linux). A GPU buffer that nothing holds any more counts until the browser collects it, so what is left after a collection
// at the end stands beside what there is.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ADAPTERS, browser, built, choose, emptyPage, site, train } from './lib/browser.mjs'
import { make, text } from './lib/model.mjs'
import { Usage, main, options } from './lib/options.mjs'
import { lines } from './lib/program.mjs'
import { ROOT, WORK, machine, median, save } from './lib/results.mjs'

const [BATCH, SEQ] = [4, 32]
const SIZES = { num_hidden_layers: 1, hidden_size: 64, intermediate_size: 176, num_attention_heads: 2, num_key_value_heads: 2, vocab_size: 512 }
const MICRO = ['1', '2', '4', '8', '16', '32']
/** Micro-batches of an accumulation's run, the warm-up beside. */
const MICRO_BATCHES = 96
/** Steps at the beginning that fill pools and caches. */
const FILLING = 50
/** Steps of which the beginning's and the end's figures are medians. */
const PART = 200
/** A drop in tokens a second up to here is no growth of cost. */
const WITHIN = 0.15
/** Live bytes move by so much, up and down. */
const SLACK = 0.02

const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(2)} MiB`
const percent = (share) => `${share >= 0 ? '+' : ''}${(100 * share).toFixed(1)} %`

function made() {
  const model = make(join(WORK, 'models', 'growth'), { sizes: SIZES })
  // Whole steps of every size: an epoch is 32 full micro-batches.
  writeFileSync(join(model, 'long.txt'), `${text(32 * BATCH * SEQ - 1, 5)}\n`)
  return model
}

/** A run in a tab of its own. */
async function inTab(opened, url, device, { micro, steps, counted = false }) {
  const context = await opened.newContext()
  try {
    const page = await emptyPage(context, url)
    const found = await train(page, {
      ...(counted && { worker: '/peers/measuring-worker.js' }),
      model: ['config.json', 'tokenizer.json', 'model.safetensors'].map((name) => `/model/${name}`),
      train: '/model/long.txt',
      held: '/model/held-out.txt',
      config: {
        task: 'text-generation',
        device,
        model: { max_seq_length: SEQ, quantization: 'none' },
        data: { text_column: 'text' },
        training: {
          method: 'full',
          batch_size: BATCH,
          gradient_accumulation_steps: micro,
          max_steps: steps,
          learning_rate: 1e-4,
          lr_scheduler_type: 'constant',
          mixed_precision: 'no',
          logging_steps: 1,
          save_steps: 0,
        },
      },
    })
    const kinds = { 'GPU buffers': ({ held }) => held.buffers, 'WebAssembly memory': ({ wasm }) => wasm }
    const memory = Object.fromEntries(Object.entries(kinds).map(([name, of]) => [name, found.counted.map(of)]))
    return { rates: found.rates, memory: counted ? memory : {}, left: { 'GPU buffers': found.held?.collected } }
  } finally {
    await context.close()
  }
}

/** Bytes of a process that are in memory; NaN where the system does not tell. */
function resident(pid) {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024
  } catch {
    return NaN
  }
}

async function natively(model, device, { micro, steps }) {
  const bytes = []
  const words = [
    ...['train', '--model_name_or_path', model, '--task', 'text-generation', '--device', device, '--method', 'full'],
    ...['--train_file', join(model, 'long.txt'), '--validation_file', join(model, 'held-out.txt'), '--text_column', 'text'],
    ...['--output_dir', join(WORK, 'growth-out'), '--overwrite_output_dir', '--batch_size', `${BATCH}`, '--max_seq_length', `${SEQ}`],
    ...['--gradient_accumulation_steps', `${micro}`, '--max_steps', `${steps}`, '--learning_rate', '1e-4', '--lr_scheduler_type', 'constant'],
    ...['--logging_steps', '1', '--save_steps', '0', '--quantization', 'none', '--mixed_precision', 'no', '--log_format', 'json'],
  ]
  const found = await lines(process.env.PADDOCK_BIN, words, {}, ({ event }, pid) => event === 'step' && bytes.push(resident(pid)))
  const rates = found.filter(({ event }) => event === 'step').map(({ tokens_per_second: rate }) => rate)
  return { rates, memory: bytes.every(Number.isFinite) ? { 'process memory': bytes } : {} }
}

/** Tokens a second by micro-batches a step, against one a step. */
async function accumulating(run, place, numbers, rounds) {
  const each = new Map(numbers.map((micro) => [micro, []]))
  for (let round = 0; round < rounds; round += 1) {
    for (const micro of round % 2 ? [...numbers].reverse() : numbers) {
      const { rates } = await run({ micro, steps: Math.max(4, Math.ceil(MICRO_BATCHES / micro)) + 1 })
      // The first step compiles.
      each.get(micro).push(median(rates.slice(1)))
    }
  }
  const one = median(each.get(numbers[0]))
  const found = numbers.map((micro) => ({ micro, tokens_per_second: median(each.get(micro)), each: each.get(micro), change: median(each.get(micro)) / one - 1 }))
  for (const { micro, tokens_per_second: rate, change } of found) console.log(`  ${place}, ${micro} micro-batches a step: ${rate.toFixed(0)} tokens/s (${percent(change)})`)
  const rates = found.map((entry) => entry.tokens_per_second)
  const slowest = Math.min(...found.map((entry) => entry.change))
  return { by_number: found, slowest, spread: Math.max(...rates) / Math.min(...rates) - 1, linear: slowest >= -WITHIN }
}

/** One long run: its beginning and its end, and what lies between in a few points. */
async function lasting(run, place, steps) {
  const { rates, memory, left = {} } = await run({ micro: 1, steps, counted: true })
  if (rates.length < 2 * FILLING + 2) throw new Usage(`--steps ${steps}: at least ${2 * FILLING + 2} are needed to tell the beginning from the end`)
  const settled = rates.slice(FILLING)
  const part = Math.min(PART, Math.floor(settled.length / 2))
  const ends = (values) => [median(values.slice(0, part)), median(values.slice(-part))]
  const [first, last] = ends(settled)
  const change = last / first - 1
  console.log(`  ${place}, ${steps} steps: ${first.toFixed(0)} tokens/s in the first ${part}, ${last.toFixed(0)} in the last (${percent(change)})`)
  const held = Object.entries(memory).map(([name, values]) => {
    const [first, after] = ends(values.slice(FILLING))
    const [before] = ends(values.slice(Math.floor(values.length / 2)))
    // What the browser only has not collected yet is no growth.
    const collected = left[name] ?? null
    const grown = Math.min(after, collected ?? after) - before
    console.log(`    ${name}: ${mib(first)} in the first ${part}, from the middle on ${mib(before)}, at the end ${mib(after)}${collected === null ? '' : `, ${mib(collected)} after a collection`} (most in the first ${FILLING} steps ${mib(Math.max(...values.slice(0, FILLING)))}, later ${mib(Math.max(...values.slice(FILLING)))})`)
    return { name, first, before, after, collected, grown, most_first: Math.max(...values.slice(0, FILLING)), most_later: Math.max(...values.slice(FILLING)), steady: grown <= SLACK * before }
  })
  const every = Math.max(1, Math.ceil(rates.length / 40))
  const points = []
  for (let at = 0; at < rates.length; at += every) {
    const end = Math.min(at + every, rates.length)
    points.push({ step: end, tokens_per_second: median(rates.slice(at, end)), ...Object.fromEntries(Object.entries(memory).map(([name, values]) => [name, values[end - 1]])) })
  }
  return { steps, part, first, last, change, even: change >= -WITHIN, memory: held, points }
}

async function measured(run, entry, { micro, rounds, steps }) {
  const place = `${entry.where} ${entry.device}`
  const accumulation = await accumulating(run, place, micro, rounds)
  const long = await lasting(run, place, steps)
  const held = long.memory.every(({ steady }) => steady)
  if (!accumulation.linear) console.error(`  ${place}: more micro-batches a step cost more than ${100 * WITHIN} % of the speed`)
  if (!long.even) console.error(`  ${place}: the last steps are more than ${100 * WITHIN} % slower than the first`)
  if (!held) console.error(`  ${place}: memory grows over the steps`)
  return { ...entry, accumulation, long, fine: accumulation.linear && long.even && held }
}

async function tab(model, taken) {
  const server = await site(built(), { '/model/': model, '/peers/': join(ROOT, 'bench', 'peers') })
  try {
    const found = await choose(taken.adapter, server.url)
    const opened = await browser(found.kind, { collects: true })
    const results = []
    try {
      for (const device of taken.devices) {
        const entry = { where: 'browser', device }
        if (device === 'gpu' && !found.adapter) results.push({ ...entry, skipped: 'this browser has no WebGPU' })
        else results.push(await measured((run) => inTab(opened, server.url, device, run), entry, taken))
      }
    } finally {
      await opened.close()
    }
    return { results, browser: found.version, adapter: found.adapter }
  } finally {
    await server.close()
  }
}

await main(async () => {
  const flags = options(process.argv.slice(2), {
    where: { some: ['browser', 'native'] },
    devices: { some: ['gpu', 'cpu'] },
    'native-gpu': { flag: true },
    micro: { some: MICRO },
    rounds: { number: 3 },
    steps: { number: 2000, least: 2 * FILLING + 2 },
    adapter: { one: ADAPTERS },
  })
  const taken = { ...flags, micro: flags.micro.map(Number).sort((a, b) => a - b) }
  const model = made()
  const results = []
  let more = {}
  if (taken.where.includes('browser')) {
    const { results: found, ...place } = await tab(model, taken)
    results.push(...found)
    more = place
    save('growth', { machine: machine(more), sizes: SIZES, tokens: BATCH * SEQ, within: WITHIN, results })
  }
  if (taken.where.includes('native')) {
    if (!existsSync(process.env.PADDOCK_BIN ?? '')) throw new Usage('PADDOCK_BIN does not name the paddock program: cargo xtask bench growth builds it and says so')
    for (const device of taken['native-gpu'] ? ['cpu', 'gpu'] : ['cpu']) {
      results.push(await measured((run) => natively(model, device, run), { where: 'native', device }, taken))
    }
    save('growth', { machine: machine(more), sizes: SIZES, tokens: BATCH * SEQ, within: WITHIN, results })
  }
  for (const { where, device, skipped } of results) if (skipped) console.log(`${where} ${device}: left out: ${skipped}`)
  return results.some((result) => !result.skipped) && results.every((result) => result.skipped || result.fine)
})
