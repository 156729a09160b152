// Each kernel's share of what the adapter gives: `cargo xtask bench kernels`.
//
//   node bench/kernels.mjs [--where native,browser] [--shapes full-2,lora-30m,smollm2] [--stock] [--adapter auto|software|hardware]
//
// First the ceilings, as WGSL sees them: the largest rate of a product over several kernels and sizes, and of a copy. Then every kernel of
// a training step at the shapes of the models, forward and backward. Natively through the suite's ignored test `bench::kernels`, in a
// Chromium through the built module. `--stock` measures Burn's own kernels beside ours, natively: the page is without them.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ADAPTERS, browser, built, choose, emptyPage, site } from './lib/browser.mjs'
import { Usage, main, options } from './lib/options.mjs'
import { ROOT, WORK, machine, save } from './lib/results.mjs'
import { SHAPES, shares } from './lib/shapes.mjs'

function show(place, { ceilings, models }) {
  console.log(`${place}: ${(ceilings.flops / 1e9).toFixed(1)} GFLOP/s, ${(ceilings.bytes / 1e9).toFixed(1)} GB/s, ${(ceilings.launch * 1e6).toFixed(0)} µs a launch`)
  for (const { name, stock, rates } of models) {
    console.log(`  ${name}${stock ? ', Burn’s kernels' : ''}`)
    for (const { kernel, part, shape, seconds, share, bound } of rates) {
      console.log(`  ${`${(100 * share).toFixed(0)} %`.padStart(7)} ${`${(seconds * 1e6).toFixed(0)} µs`.padStart(10)}  ${bound.padEnd(8)} ${part}: ${kernel}, ${shape}`)
    }
  }
}

/** With what a launch of each could take at best. */
const judged = ({ ceilings, models, ...rest }) => ({ ...rest, ceilings, models: models.map((model) => ({ ...model, rates: shares(model.rates, ceilings) })) })

function native(names, stock) {
  const out = join(WORK, 'kernels.json')
  mkdirSync(WORK, { recursive: true })
  rmSync(out, { force: true })
  const shapes = JSON.stringify(names.map((name) => ({ name, shapes: SHAPES[name] })))
  const env = { ...process.env, PADDOCK_BENCH_OUT: out, PADDOCK_BENCH_SHAPES: shapes, ...(stock && { PADDOCK_BENCH_STOCK: '1' }) }
  const words = ['test', '--release', '-p', 'paddock', '--test', 'suite', '--', '--ignored', '--exact', 'bench::kernels', '--nocapture']
  const { error, status } = spawnSync('cargo', words, { cwd: ROOT, env, stdio: ['ignore', 'inherit', 'inherit'] })
  if (error) throw new Usage(`cargo cannot be started: ${error.message}`)
  if (status !== 0 || !existsSync(out)) throw new Usage('the native measurement failed: what stands above says why')
  const found = JSON.parse(readFileSync(out, 'utf8'))
  return found.skipped ? found : judged(found)
}

async function tab(names, adapter) {
  const server = await site(built())
  try {
    const { kind, version, adapter: found } = await choose(adapter, server.url)
    if (!found) return { skipped: 'this browser has no WebGPU', browser: version }
    const opened = await browser(kind)
    try {
      const page = await emptyPage(await opened.newContext(), server.url)
      const call = (name, ...words) =>
        page.evaluate(
          async ([name, words]) => {
            // As the engine's worker does.
            await import('/app/wgpu.js')
            const module = await import('/paddock-web.js')
            await (window.begun ??= module.default())
            return module[name](...words)
          },
          [name, words],
        )
      const before = await call('kernel_ceilings')
      const models = []
      for (const name of names) {
        console.log(`  in the browser: ${name}`)
        models.push({ name, stock: false, rates: await call('kernel_rates', SHAPES[name], true) })
      }
      // Once more: what else a machine does changes from one minute to the next.
      const after = await call('kernel_ceilings')
      const [flops, bytes] = ['flops', 'bytes'].map((rate) => Math.max(before[rate], after[rate]))
      const ceilings = { flops, bytes, launch: Math.min(before.launch, after.launch), tried: [...before.tried, ...after.tried] }
      return judged({ browser: version, device: { ...found, api: 'WebGPU' }, ceilings, models })
    } finally {
      await opened.close()
    }
  } finally {
    await server.close()
  }
}

await main(async () => {
  const { where, shapes, stock, adapter } = options(process.argv.slice(2), {
    where: { some: ['native', 'browser'] },
    shapes: { some: Object.keys(SHAPES), usual: ['full-2', 'lora-30m'] },
    stock: { flag: true },
    adapter: { one: ADAPTERS },
  })
  const results = []
  for (const place of where) {
    const found = place === 'native' ? native(shapes, stock) : await tab(shapes, adapter)
    results.push({ where: place, ...found })
    if (found.skipped) console.log(`${place}: left out: ${found.skipped}`)
    else show(`${place}, ${found.device.name} (${found.device.api}${found.device.software ? ', software' : ''})`, found)
    save('kernels', { machine: machine({ browser: found.browser, adapter: found.device }), results })
  }
  return results.some((result) => !result.skipped)
})
