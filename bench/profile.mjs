// Where a training step's time goes on the tab's GPU, by kernel: `cargo xtask bench profile`.
//
//   node bench/profile.mjs [--models full-2] [--steps 6] [--kernels auto|registers|shared] [--sources] [--adapter auto|software|hardware]
//
// The adapter itself says when each launch began and ended (peers/timing-worker.js), in a Chromium that was started so that it may. Of each kernel
// the median over the steps, the first left out. What lies between launches is the rest of a step. `--sources` writes each kernel's WGSL beside,
// as .paddock/bench/profile/NUMBER.wgsl. The run is slower than one that is not watched: speeds are the suite `browser`'s.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ADAPTERS, browser, built, choose, emptyPage, site, train } from './lib/browser.mjs'
import { BATCH, MODELS, SEQ, make } from './lib/model.mjs'
import { main, options } from './lib/options.mjs'
import { ROOT, WORK, machine, median, save } from './lib/results.mjs'

/** Kernels that are printed; all are kept. */
const SHOWN = 24

/** What a person calls a kernel: the first line of our sources says what it is and is not, Burn's entry points have names. */
function title(source) {
  const [, own] = /^\/\/ (.*)/.exec(source) ?? []
  const without = own?.replace(/\w+: (false|None),? ?/g, '').replace(/: true/g, '')
  return without ?? /fn (kernel_\w+)\(/.exec(source)?.[1] ?? 'main'
}

/** @param {{ launches: { kernel: number, ns: number, workgroups: number[] }[], kernels: string[] }[]} steps the timed ones */
function byKernel(steps) {
  const of = (step, kernel) => step.launches.filter((launch) => launch.kernel === kernel)
  const { kernels } = steps.at(-1)
  return kernels
    .map((source, kernel) => ({
      kernel,
      name: title(source),
      launches: median(steps.map((step) => of(step, kernel).length)),
      seconds: median(steps.map((step) => of(step, kernel).reduce((sum, { ns }) => sum + ns, 0))) / 1e9,
    }))
    .filter(({ launches }) => launches > 0)
    .sort((a, b) => b.seconds - a.seconds)
}

async function profile(opened, url, name, kernels, steps) {
  const model = MODELS[name]
  const at = (file) => `/${name}/${file}`
  const page = await emptyPage(await opened.newContext(), url)
  const { counted, step_seconds: whole } = await train(page, {
    worker: '/peers/timing-worker.js',
    model: ['config.json', 'tokenizer.json', 'model.safetensors'].map(at),
    adapter: model.r ? ['adapter_config.json', 'adapter_model.safetensors'].map((file) => `/${name}-adapter/${file}`) : [],
    train: at('train.txt'),
    held: at('held-out.txt'),
    config: {
      task: 'text-generation',
      device: 'gpu',
      kernels,
      model: { max_seq_length: SEQ, quantization: 'none' },
      data: { text_column: 'text' },
      training: { method: model.r ? 'lora' : 'full', batch_size: BATCH, max_steps: steps, mixed_precision: 'no', save_steps: 0 },
    },
  })
  const found = byKernel(counted.slice(1))
  return { found, sources: counted.at(-1).kernels, step_seconds: median(whole.slice(1)) }
}

await main(async () => {
  const { models, steps, kernels, sources, adapter } = options(process.argv.slice(2), {
    models: { some: Object.keys(MODELS), usual: ['full-2'] },
    steps: { number: 6, least: 3 },
    kernels: { one: ['auto', 'registers', 'shared'] },
    sources: { flag: true },
    adapter: { one: ADAPTERS },
  })
  const mounts = { '/peers/': join(ROOT, 'bench', 'peers') }
  for (const name of models) {
    const place = make(join(WORK, 'models', name), MODELS[name])
    Object.assign(mounts, { [`/${name}/`]: place, [`/${name}-adapter/`]: join(place, 'adapter') })
  }
  const server = await site(built(), mounts)
  const results = []
  try {
    const { kind, version, adapter: card } = await choose(adapter, server.url)
    if (!card) {
      console.log('left out: this browser has no WebGPU')
      return false
    }
    const opened = await browser(kind, { timed: true })
    try {
      for (const name of models) {
        const { found, sources: texts, step_seconds } = await profile(opened, server.url, name, kernels, steps)
        const all = found.reduce((sum, { seconds }) => sum + seconds, 0)
        console.log(`${name}, ${card.name}: ${(1000 * all).toFixed(0)} ms in ${found.reduce((sum, { launches }) => sum + launches, 0)} launches of a step of ${(1000 * step_seconds).toFixed(0)} ms`)
        for (const { kernel, name, launches, seconds } of found.slice(0, SHOWN)) {
          console.log(`  ${`${((100 * seconds) / all).toFixed(1)} %`.padStart(7)} ${`${(1000 * seconds).toFixed(1)} ms`.padStart(10)} ${String(launches).padStart(4)} ×  #${kernel} ${name}`)
        }
        results.push({ model: name, kernels, step_seconds, seconds: all, by_kernel: found })
        if (sources) {
          const folder = join(WORK, 'profile')
          rmSync(folder, { recursive: true, force: true })
          mkdirSync(folder, { recursive: true })
          texts.forEach((text, i) => writeFileSync(join(folder, `${i}.wgsl`), text))
          console.log(`  sources in ${folder}`)
        }
        save('profile', { machine: machine({ browser: version, adapter: card }), steps, results })
      }
    } finally {
      await opened.close()
    }
  } finally {
    await server.close()
  }
  return true
})
