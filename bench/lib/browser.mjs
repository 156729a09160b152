// A Chromium for measuring, sites with a page that does nothing by itself, and our engine driven in it without our page.

import { createReadStream, existsSync, statSync } from 'node:fs'
import { extname, join } from 'node:path'
import { chromium } from 'playwright-core'
import { DIST, executable } from '../../tests/browser/harness.mjs'
import { serve } from '../../tests/browser/serve.mjs'
import { Usage } from './options.mjs'

export { DIST }

const QUIET = ['--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
// A tab that is measured must not be slowed down because nobody looks at it.
const AWAKE = ['--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows']
const WEBGPU = {
  software: ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
  hardware: ['--enable-unsafe-webgpu', '--enable-features=Vulkan'],
}
export const ADAPTERS = ['auto', 'software', 'hardware']

const BLANK = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>bench</title>'
const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.json': 'application/json', '.wasm': 'application/wasm' }

/**
 * Serves `folder` with an empty page, /bench.html, and more folders below a prefix each.
 *
 * @param {string} folder @param {Record<string, string>} mounts prefix (`/model/`) → folder, of which files without folders are served
 * @param {{ isolated?: boolean, asked?: (path: string) => void }} more cross-origin isolation (shared memory); who hears of every request
 */
export async function site(folder, mounts = {}, { isolated = false, asked = () => {} } = {}) {
  return serve(folder, 0, (request, response) => {
    if (isolated) {
      response.setHeader('cross-origin-opener-policy', 'same-origin')
      response.setHeader('cross-origin-embedder-policy', 'require-corp')
    }
    const path = new URL(request.url, 'http://localhost').pathname
    asked(path)
    if (path === '/bench.html') {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' }).end(BLANK)
      return true
    }
    const prefix = Object.keys(mounts).find((prefix) => path.startsWith(prefix))
    if (!prefix) return false
    const name = path.slice(prefix.length)
    const file = join(mounts[prefix], name)
    if (!/^[\w.-]+$/.test(name) || !existsSync(file) || !statSync(file).isFile()) response.writeHead(404).end()
    else {
      response.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream', 'content-length': statSync(file).size, 'cache-control': 'no-store' })
      createReadStream(file).pipe(response)
    }
    return true
  })
}

/** The page of {@link site} built by trunk; a clear word where it is not there. */
export function built() {
  if (!existsSync(join(DIST, 'paddock-web.js'))) throw new Usage('the page is not built: cargo xtask bench builds it, or run trunk build --release')
  return DIST
}

// What may tell pages about each other is off elsewhere: times inside of a pass, and times to the nanosecond.
const TIMED = ['--enable-dawn-features=allow_unsafe_apis', '--disable-dawn-features=timestamp_quantization']

/**
 * A browser of its own, as cold as it gets. @param {{ collects?: boolean, timed?: boolean }} more `collects`: scripts can ask for a collection
 * of garbage; `timed`: and for when the adapter began and ended a launch
 */
export async function browser(kind, { collects = false, timed = false } = {}) {
  const args = [...QUIET, ...AWAKE, ...WEBGPU[kind], ...(collects ? ['--js-flags=--expose-gc'] : []), ...(timed ? TIMED : [])]
  return chromium.launch({ executablePath: executable(), headless: true, chromiumSandbox: false, args })
}

/** What a tab says of its adapter; null where there is none. */
async function adapterOf(opened, url) {
  const page = await opened.newPage()
  await page.goto(`${url}bench.html`)
  const found = await page.evaluate(async () => {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' })
    if (!adapter) return null
    const { vendor, architecture, description, isFallbackAdapter } = adapter.info
    return { vendor, architecture, description, fallback: Boolean(isFallbackAdapter ?? adapter.isFallbackAdapter), features: [...adapter.features].sort() }
  })
  await page.close()
  if (!found) return null
  const { vendor, architecture, description, fallback, features } = found
  const software = fallback || ['swiftshader', 'llvmpipe', 'warp'].includes(architecture)
  return { name: description || `${vendor} ${architecture}`.trim() || 'WebGPU adapter', software, features }
}

/**
 * Which adapter the suites measure: a graphics card's where Chromium offers one, else the software one.
 *
 * @param {string} wanted one of ADAPTERS @param {string} url of a site
 * @returns {Promise<{ kind: 'software' | 'hardware', version: string, adapter: { name: string, software: boolean, features: string[] } | null }>}
 */
export async function choose(wanted, url) {
  for (const kind of wanted === 'auto' ? ['hardware', 'software'] : [wanted]) {
    const opened = await browser(kind)
    const adapter = await adapterOf(opened, url).finally(() => opened.close())
    const version = `Chromium ${opened.version()}`
    if (adapter && !adapter.software) return { kind, version, adapter }
    if (kind === 'software') return { kind, version, adapter }
  }
  throw new Usage('Chromium offers no graphics card here: leave --adapter out, or take --adapter software')
}

/** An empty page of a site; what goes wrong in it is shown. */
export async function emptyPage(context, url) {
  const page = await context.newPage()
  page.setDefaultTimeout(0)
  page.on('pageerror', (error) => console.error(`  ${String(error?.stack ?? error).slice(0, 600)}`))
  page.on('console', (message) => message.type() === 'error' && console.error(`  ${message.text().slice(0, 300)}`))
  await page.goto(`${url}bench.html`)
  return page
}

/**
 * One run of our engine in an empty page: opens model and data, trains, and waits for the end. The clock starts when model and engine
 * are in the tab.
 *
 * @param {import('playwright-core').Page} page
 * @param {{ worker?: string, model: string[], adapter?: string[], train: string, held: string, config: object }} run paths on the site
 * @returns {Promise<{ losses: number[], rates: number[], step_seconds: number[], first_step_seconds: number, plan: object, cpu_features: string[] | null, held: object, counted: object[] }>}
 *   `rates`: tokens a second of each step; `cpu_features` of a run on the CPU; `held` and `counted` (by step) only of the measuring worker, see
 *   peers/counting.js
 */
export function train(page, run) {
  return page.evaluate(
    async ({ worker: script = '/worker.js', model, adapter = [], train, held, config }) => {
      const get = async (path) => {
        const response = await fetch(path)
        if (!response.ok) throw new Error(`${path}: ${response.status}`)
        return new File([await response.blob()], path.split('/').pop())
      }
      const [base, lora, data] = await Promise.all([model, adapter, [train, held]].map((paths) => Promise.all(paths.map(get))))
      const worker = new Worker(script, { type: 'module' })
      let id = 0
      const send = (command, files = []) => worker.postMessage({ id: id++, command, files })
      let begun = 0
      const steps = []
      let plan = null
      let measured = null
      let environment = null
      const finished = new Promise((done, failed) => {
        worker.onerror = (event) => failed(new Error(event.message || `${script} could not be loaded`))
        worker.onmessage = ({ data: message }) => {
          if (message.crash !== undefined) failed(new Error(message.crash))
          if (message.memory) measured = message.memory
          if (message.ready) {
            begun = performance.now()
            send({ type: 'open_model', name: 'bench' }, base)
            send({ type: 'open_data' }, data)
            send({ type: 'start', config }, lora)
          }
          const event = message.envelope
          if (event?.type === 'failed') failed(new Error(`${event.message} ${event.advice}`))
          if (event?.type === 'recovery') failed(new Error(`a recovery would be measured: ${event.message}`))
          if (event?.type === 'plan') plan = event
          if (event?.type === 'environment') environment = event
          if (event?.type === 'step') steps.push({ loss: event.loss, rate: event.tokens_per_second, at: performance.now(), counted: message.counted })
          if (event?.type === 'finished') done()
        }
      })
      try {
        await finished
        // Not before: what looks for a GPU must not be timed.
        if (config.device === 'cpu') {
          send({ type: 'inspect' })
          while (!environment) await new Promise((later) => setTimeout(later, 5))
        }
        if (script !== '/worker.js') {
          // The measuring worker answers this one itself.
          worker.postMessage({ measure: true })
          while (!measured) await new Promise((later) => setTimeout(later, 5))
        }
      } finally {
        worker.terminate()
      }
      const tokens = config.training.batch_size * config.model.max_seq_length * (config.training.gradient_accumulation_steps ?? 1)
      return {
        losses: steps.map((step) => step.loss),
        rates: steps.map((step) => step.rate),
        step_seconds: steps.map((step) => tokens / step.rate),
        first_step_seconds: (steps[0].at - begun) / 1000,
        plan,
        cpu_features: environment?.devices.find(({ id }) => id === 'cpu').features ?? null,
        held: measured,
        counted: steps.map((step) => step.counted).filter(Boolean),
      }
    },
    run,
  )
}
