// Training speed in Chromium through the built page's own worker: `cargo xtask bench browser`.
//
// The model is the one that the peers were measured with: 2 layers, dim 288, 6 heads, ffn 768, vocabulary 512, batch 4 × 128 tokens,
// f32, AdamW, all weights trained. Three ways in one browser, one after the other: our kernels on WebGPU, Burn's stock operations on
// WebGPU, and the CPU. The same rows in the same order, so the losses must agree.
//
//   node bench/browser.mjs MODEL_FOLDER [steps]

import { readFileSync, writeFileSync, mkdirSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { cpus } from 'node:os'
import { DIST, ROOT, executable } from '../tests/browser/harness.mjs'
import { serve } from '../tests/browser/serve.mjs'
import { chromium } from 'playwright-core'

const folder = process.argv[2]
const steps = Number(process.argv[3] ?? 3)
if (!folder) throw new Error('usage: node bench/browser.mjs MODEL_FOLDER [steps]')
const model = readdirSync(folder).map((name) => ({ name, base64: readFileSync(join(folder, name)).toString('base64') }))
// Any text does: lines of words from a fixed pseudo-random sequence.
let state = 1
const word = () => 'aeiou'[(state = (state * 48271) % 2147483647) % 5] + 'bcdfghklmnprst'[state % 14] + 'aeiou'[state % 5]
const text = Array.from({ length: 400 }, () => Array.from({ length: 40 }, word).join(' ')).join('\n')

const WAYS = [
  { name: 'webgpu', device: 'gpu', kernels: 'auto' },
  { name: 'webgpu-stock', device: 'gpu', kernels: 'stock' },
  { name: 'cpu', device: 'cpu', kernels: 'auto' },
]
const only = (process.env.WAYS ?? '').split(',').filter(Boolean)

const launch = () =>
  chromium.launch({
    executablePath: executable(),
    chromiumSandbox: false,
    args: ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan', '--disable-quic', '--disable-background-networking'],
  })

const server = await serve(DIST)
const results = []
for (const way of WAYS.filter(({ name }) => only.length === 0 || only.includes(name))) {
  const browser = await launch()
  const page = await browser.newPage()
  page.on('console', (message) => message.type() === 'error' && console.error(`  ${message.text().slice(0, 300)}`))
  page.setDefaultTimeout(0)
  await page.goto(server.url)
  const config = {
    task: 'text-generation',
    device: way.device,
    kernels: way.kernels,
    model: { max_seq_length: 128 },
    data: { validation_split: 0.01, max_eval_samples: 4, text_column: 'text' },
    training: { method: 'full', batch_size: 4, max_steps: steps, learning_rate: 1e-3, logging_steps: 1 },
  }
  const run = await page.evaluate(
    async ({ model, text, config }) => {
      const worker = new Worker('worker.js', { type: 'module' })
      const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))
      const files = model.map(({ name, base64 }) => new File([bytes(base64)], name))
      const started = performance.now()
      const events = []
      return new Promise((done, failed) => {
        let id = 0
        const send = (command, files = []) => worker.postMessage({ id: id++, command, files })
        worker.onmessage = ({ data }) => {
          if (data.crash) failed(new Error(data.crash))
          if (data.ready) {
            send({ type: 'open_model', name: 'bench' }, files)
            send({ type: 'open_data' }, [new File([text], 'text.txt')])
            send({ type: 'start', config })
          }
          const event = data.envelope
          if (!event) return
          if (event.type === 'failed') failed(new Error(`${event.message} ${event.advice}`))
          if (event.type === 'step') events.push({ loss: event.loss, tokens_per_second: event.tokens_per_second, at: performance.now() - started })
          if (event.type === 'finished') done({ events, seconds: (performance.now() - started) / 1000, heap: performance.memory?.usedJSHeapSize })
        }
      })
    },
    { model, text, config },
  )
  await browser.close()
  const rates = run.events.slice(1).map((event) => event.tokens_per_second).sort((a, b) => a - b)
  const result = {
    way: way.name,
    tokens_per_second: rates[Math.floor(rates.length / 2)],
    first_step_seconds: 512 / run.events[0].tokens_per_second,
    losses: run.events.map((event) => event.loss),
    seconds: run.seconds,
  }
  results.push(result)
  console.log(JSON.stringify(result))
}

// The products of that model alone: forward, and both backward layouts.
const browser = await launch()
// The page itself runs no WebAssembly, only its worker does.
const page = await browser.newPage({ bypassCSP: true })
await page.goto(server.url)
const products = []
for (const [name, layout, m, n, k] of [
  ['512³', 'nt', 512, 512, 512],
  ['q, k, v, o', 'nt', 512, 288, 288],
  ['q, k, v, o: to the input', 'nn', 512, 288, 288],
  ['q, k, v, o: to the weight', 'tn', 288, 288, 512],
  ['gate, up', 'nt', 512, 768, 288],
  ['gate, up: to the input', 'nn', 512, 288, 768],
  ['gate, up: to the weight', 'tn', 768, 288, 512],
  ['down', 'nt', 512, 288, 768],
]) {
  const rate = (stock) =>
    page.evaluate(
      async ([m, n, k, layout, stock]) => {
        const module = await import(new URL('paddock-web.js', location.href).href)
        if (!window.engineReady) await (window.engineReady = module.default())
        return module.product_rate(true, m, n, k, layout, stock)
      },
      [m, n, k, layout, stock],
    )
  const [ours, stock] = [(await rate(false)) / 1e9, (await rate(true)) / 1e9]
  const product = { name, layout, m, n, k, gflops: ours, stock_gflops: stock, ratio: ours / stock }
  products.push(product)
  console.log(JSON.stringify(product))
}
await browser.close()
await server.close()
const by = Object.fromEntries(results.map((result) => [result.way, result]))
const ratio = (a, b) => (by[a] && by[b] ? by[a].tokens_per_second / by[b].tokens_per_second : undefined)
const summary = {
  model: basename(folder),
  adapter: 'Chromium, software WebGPU adapter (SwiftShader)',
  cpu: cpus()[0]?.model,
  kernels_over_stock: ratio('webgpu', 'webgpu-stock'),
  cpu_over_webgpu: ratio('cpu', 'webgpu'),
  results,
  products,
}
mkdirSync(join(ROOT, 'bench', 'results'), { recursive: true })
writeFileSync(join(ROOT, 'bench', 'results', 'browser.json'), `${JSON.stringify(summary, null, 2)}\n`)
console.log(JSON.stringify({ kernels_over_stock: summary.kernels_over_stock, cpu_over_webgpu: summary.cpu_over_webgpu }))
