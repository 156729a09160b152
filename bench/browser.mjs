// Training speed in a tab: Paddock and jax-js in one Chromium, alternating, on the same weights and rows: `cargo xtask bench browser`.
//
//   node bench/browser.mjs [--models full-2,full-6,lora-30m] [--devices gpu,cpu] [--alternations 5] [--steps 4]
//                          [--adapter auto|software|hardware] [--sides ours,jax-js,registers] [--isolated]
//
// f32, AdamW without decay or clipping, a constant rate, 4 × 128 tokens, the same rows at every step. The losses of every step are
// compared: a side that does other work is no peer. `registers` is our engine on the kernels for threads by themselves. `--isolated` serves both with the
// headers that shared memory needs, which gives jax-js threads. Medians; ratios are of each alternation's two, then their median.
//
// On the GPU one more run a side, which is not timed, counts what it asks of WebGPU: launches, submissions, pipelines, buffers.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ADAPTERS, browser, built, choose, emptyPage, site, train } from './lib/browser.mjs'
import { BATCH, MODELS, SEQ, make, parameters, rows } from './lib/model.mjs'
import { Usage, main, options } from './lib/options.mjs'
import { ROOT, WORK, apart, firstStep, machine, median, ratio, save, speed, summary } from './lib/results.mjs'

const SIDES = ['ours', 'jax-js', 'registers']
const DEVICES = ['gpu', 'cpu']
const RATE = 1e-3
/** Losses of f32 sums in another order: beyond it the sides compute different things. */
const ALIKE = 1e-3

const taken = () =>
  options(process.argv.slice(2), {
    models: { some: Object.keys(MODELS) },
    devices: { some: DEVICES },
    sides: { some: SIDES, usual: ['ours', 'jax-js'] },
    alternations: { number: 5 },
    steps: { number: 4, least: 3 },
    adapter: { one: ADAPTERS },
    isolated: { flag: true },
  })

function peer() {
  const folder = join(WORK, 'peers', 'node_modules', '@jax-js', 'jax')
  const file = join(folder, 'package.json')
  if (!existsSync(file)) throw new Usage('jax-js is not there: cargo xtask bench browser fetches it')
  return { dist: join(folder, 'dist'), version: JSON.parse(readFileSync(file, 'utf8')).version }
}

function settings(model, device, side, steps) {
  return {
    task: 'text-generation',
    device,
    kernels: side === 'registers' ? 'registers' : 'auto',
    model: { max_seq_length: SEQ, quantization: 'none' },
    data: { text_column: 'text' },
    training: {
      method: model.r ? 'lora' : 'full',
      batch_size: BATCH,
      max_steps: steps,
      learning_rate: RATE,
      lr_scheduler_type: 'constant',
      weight_decay: 0,
      max_grad_norm: 0,
      mixed_precision: 'no',
      logging_steps: 1,
      save_steps: 0,
    },
  }
}

/** One side's run in a tab of its own; `counted`: with what it asks of WebGPU. */
async function once(opened, url, { name, model, device, side, steps, counted = false }) {
  const context = await opened.newContext()
  const page = await emptyPage(context, url)
  const at = (file) => `/${name}/${file}`
  const lora = (file) => `/${name}-adapter/${file}`
  try {
    if (side !== 'jax-js') {
      const run = {
        model: ['config.json', 'tokenizer.json', 'model.safetensors'].map(at),
        adapter: model.r ? ['adapter_config.json', 'adapter_model.safetensors'].map(lora) : [],
        train: at('train.txt'),
        held: at('held-out.txt'),
        config: settings(model, device, side, steps),
        ...(counted && { worker: '/peers/measuring-worker.js' }),
      }
      const { losses, step_seconds, first_step_seconds, cpu_features, counted: found } = await train(page, run)
      return { losses, step_seconds, first_step_seconds, ...(cpu_features && { cpu_features }), ...(counted && { counted: found }) }
    }
    const run = {
      device: device === 'gpu' ? 'webgpu' : 'wasm',
      config: at('config.json'),
      weights: at('model.safetensors'),
      lora: model.r ? { weights: lora('adapter_model.safetensors'), scale: model.alpha / model.r } : null,
      rows: rows(),
      steps,
      learningRate: RATE,
    }
    const { counted: found, ...timed } = await page.evaluate(
      async ([run, counted]) => {
        const counts = counted ? (await import('/peers/counting.js')).counts : null
        return (await import('/peers/jax-llama.js')).train(run, counts)
      },
      [run, counted],
    )
    return { ...timed, ...(counted && { counted: found }) }
  } catch (error) {
    return { error: String(error.message ?? error).split('\n')[0].slice(0, 500) }
  } finally {
    await context.close()
  }
}

const round = (value, digits = 2) => (value === null || !Number.isFinite(value) ? '–' : value.toFixed(digits))

/** What steps ask of WebGPU: until the first one's end, and each later one. @param {object[]} counted by step, since the beginning */
function asked(counted) {
  const [first] = counted
  const names = Object.keys(first).filter((name) => typeof first[name] === 'number')
  const later = (name) => median(counted.slice(1).map((now, i) => now[name] - counted[i][name]))
  const of = (value) => Object.fromEntries(names.map((name) => [name, value(name)]))
  return { first: of((name) => first[name]), step: of(later), most_buffers: counted.at(-1).held.most_buffers, most_storage: counted.at(-1).held.most_storage }
}

/** One run of each side that is not timed. */
async function counting(opened, url, run, sides) {
  const found = {}
  for (const side of sides) {
    const { counted = [], error } = await once(opened, url, { ...run, side, steps: 4, counted: true })
    if (counted.length < 2) {
      console.error(`  ${run.name} ${run.device} ${side}: not counted: ${error ?? 'no steps'}`)
      continue
    }
    found[side] = asked(counted)
    const { first, step } = found[side]
    console.log(`  ${run.name} ${run.device} ${side}, a step: ${step.launches} launches in ${step.submissions} submissions, ${step.read} read back, ${step.written} written, ${step.buffers} buffers made; ${first.pipelines} pipelines before the first step's end, ${step.pipelines} in later ones`)
  }
  return found
}

function compared(entry, runs) {
  const sides = summary(runs, BATCH * SEQ)
  const result = { ...entry, sides, runs }
  for (const [other, name] of [['jax-js', 'over_peer'], ['registers', 'over_registers']]) {
    const both = runs.filter((run) => run.ours?.losses && run[other]?.losses)
    if (both.length === 0) continue
    const losses_apart = Math.max(...both.map((run) => apart(run.ours.losses, run[other].losses)))
    result[name] = {
      ratio: ratio(both, 'ours', other, speed),
      first_step_ratio: ratio(both, other, 'ours', firstStep),
      losses_apart,
      same_work: losses_apart < ALIKE,
    }
  }
  return result
}

await main(async () => {
  const { models, devices, sides, alternations, steps, adapter, isolated } = taken()
  const folder = built()
  const jax = sides.includes('jax-js') ? peer() : null
  const mounts = { '/peers/': join(ROOT, 'bench', 'peers') }
  if (jax) mounts['/jax/'] = jax.dist
  for (const name of models) {
    const place = make(join(WORK, 'models', name), MODELS[name])
    mounts[`/${name}/`] = place
    mounts[`/${name}-adapter/`] = join(place, 'adapter')
  }
  const server = await site(folder, mounts, { isolated })
  const results = []
  let fine = true
  try {
    const found = await choose(adapter, server.url)
    const place = machine({ browser: found.version, adapter: found.adapter })
    console.log(`${found.version}, ${found.adapter ? `${found.adapter.name}${found.adapter.software ? ' (software)' : ''}` : 'no WebGPU'}, ${place.cpu}`)
    const opened = await browser(found.kind)
    try {
      for (const name of models) {
        for (const device of devices) {
          const model = MODELS[name]
          const entry = { model: name, about: model.about, device, parameters: parameters(model.sizes), tokens_per_step: BATCH * SEQ, steps }
          if (device === 'gpu' && !found.adapter) {
            results.push({ ...entry, skipped: 'this browser has no WebGPU' })
            continue
          }
          const runs = []
          // What cannot do this model is not asked again.
          const failed = new Set()
          for (let turn = 0; turn < alternations; turn += 1) {
            // Who comes first changes, so that neither always has the warmer machine.
            const order = turn % 2 ? [...sides].reverse() : sides
            const run = {}
            for (const side of order) {
              // The CPU has one kind of kernels.
              if ((side === 'registers' && device === 'cpu') || failed.has(side)) continue
              run[side] = await once(opened, server.url, { name, model, device, side, steps })
              const { error } = run[side]
              if (error) failed.add(side)
              console.log(`  ${name} ${device} ${turn + 1}/${alternations} ${side}: ${error ?? `${round(speed(run[side]) * BATCH * SEQ, 0)} tokens/s, first step ${round(firstStep(run[side]))} s`}`)
            }
            runs.push(run)
          }
          const result = compared(entry, runs)
          if (device === 'gpu') result.asked = await counting(opened, server.url, { name, model, device }, sides.filter((side) => !failed.has(side)))
          results.push(result)
          const { over_peer: over } = result
          if (over) {
            console.log(`${name} on the ${device}: ${round(over.ratio)} × jax-js, first step ${round(over.first_step_ratio)} × as soon, losses ${over.losses_apart.toExponential(1)} apart`)
            if (!over.same_work) console.error(`  the losses differ by more than ${ALIKE}: this is not the same work`)
          }
          fine &&= !Object.values(result.sides).some((side) => side.error) && (!over || over.same_work)
          save('browser', { machine: place, peer: jax && `jax-js ${jax.version}`, isolated, alternations, results })
        }
      }
    } finally {
      await opened.close()
    }
  } finally {
    await server.close()
  }
  return fine
})
