// What the page costs before it trains: bytes over the wire by file, and seconds from the navigation to a page that is ready and to the
// first training step: `cargo xtask bench page`.
//
//   node bench/page.mjs [--visits 5] [--devices cpu,gpu] [--adapter auto|software|hardware]
//
// Bytes as a server sends them that has the packed files of `cargo xtask page`, which is how they travel here; only of files that the page
// asks for until the first step. Every visit has a browser of its own, which has nothing in any cache. The first step is that of the
// starter model on 200 labelled messages, asked for as soon as the engine can be asked: no time that a person takes is in it.

import { existsSync, statSync } from 'node:fs'
import { extname, join } from 'node:path'
import { messages } from '../tests/browser/steps.mjs'
import { ADAPTERS, DIST, browser, built, choose, site } from './lib/browser.mjs'
import { Usage, main, options } from './lib/options.mjs'
import { machine, median, save } from './lib/results.mjs'

const STARTER = ['config.json', 'model.safetensors', 'tokenizer.json'].map((name) => `starter/${name}`)

/** Runs in the page before its own scripts: notes when the engine says what, and keeps its worker. */
function listen() {
  const at = {}
  const mark = (name) => (at[name] ??= performance.now())
  window.bench = { at, worker: null, failed: null }
  window.Worker = class extends Worker {
    constructor(...words) {
      super(...words)
      if (!String(words[0]).endsWith('/worker.js')) return
      window.bench.worker = this
      this.addEventListener('message', ({ data }) => {
        if (data?.ready) mark('engine')
        if (data?.crash !== undefined) window.bench.failed = data.crash
        const event = data?.envelope
        if (event?.type === 'environment') mark('ready')
        if (event?.type === 'step') mark('first_step')
        if (event?.type === 'failed') window.bench.failed = `${event.message} ${event.advice}`
      })
    }
  }
}

/** Asks the page's engine for a run, in its place. */
async function ask({ paths, rows, device }) {
  const get = async (path) => new File([await (await fetch(path)).blob()], path.split('/').pop())
  const files = await Promise.all(paths.map(get))
  let id = 1e6
  const send = (command, files = []) => window.bench.worker.postMessage({ id: id++, command, files })
  const config = {
    task: 'text-classification',
    device,
    model: { max_seq_length: 64 },
    data: { text_column: 'message', label_column: 'kind' },
    training: { max_steps: 2, save_steps: 0 },
  }
  send({ type: 'open_model', name: 'starter' }, files)
  send({ type: 'open_data' }, [new File([rows], 'messages.csv')])
  send({ type: 'start', config })
}

/** Waits for a mark, without a function that the page's security policy would have to let in. */
const until = (page, name) =>
  page.evaluate(async (name) => {
    while (!window.bench.at[name] && window.bench.failed === null) await new Promise((later) => setTimeout(later, 20))
    if (window.bench.failed !== null) throw new Error(window.bench.failed)
  }, name)

async function visit(kind, url, device, seen) {
  const opened = await browser(kind)
  try {
    const page = await (await opened.newContext()).newPage()
    page.setDefaultTimeout(600_000)
    await page.addInitScript(listen)
    await page.goto(url)
    await until(page, 'ready')
    const before = new Set(seen)
    await page.evaluate(ask, { paths: STARTER, rows: messages(200), device })
    await until(page, 'first_step')
    const at = await page.evaluate(() => window.bench.at)
    const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null)
    const seconds = Object.fromEntries(Object.entries({ paint, ...at }).map(([name, time]) => [name, time === null ? null : time / 1000]))
    return { seconds, before }
  } finally {
    await opened.close()
  }
}

const fileOf = (path) => join(DIST, path === '/' ? 'index.html' : decodeURIComponent(path))

/** Bytes of a file in the form that `cargo xtask page` has laid beside it; as they are where it has none. */
const sent = (file, ending) => statSync(existsSync(file + ending) ? file + ending : file).size

function sizes(path, before) {
  const file = fileOf(path)
  return { path, kind: extname(path).slice(1) || 'html', until: before ? 'ready' : 'first step', raw: statSync(file).size, gzip: sent(file, '.gz'), brotli: sent(file, '.br') }
}

const mb = (bytes) => (bytes / 1e6).toFixed(2)

await main(async () => {
  const { visits, devices, adapter } = options(process.argv.slice(2), { visits: { number: 5 }, devices: { some: ['cpu', 'gpu'] }, adapter: { one: ADAPTERS } })
  const seen = new Set()
  const folder = built()
  if (!existsSync(fileOf('/paddock-web_bg.wasm.br'))) throw new Usage('the page is not packed: cargo xtask bench page builds it as it is published, or run cargo xtask page')
  const server = await site(folder, {}, { asked: (path) => seen.add(path) })
  try {
    const found = await choose(adapter, server.url)
    const times = []
    let before = null
    seen.clear()
    for (const device of devices) {
      if (device === 'gpu' && !found.adapter) {
        console.log('gpu: left out: this browser has no WebGPU')
        continue
      }
      const each = []
      for (let i = 0; i < visits; i += 1) {
        const one = await visit(found.kind, server.url, device, seen)
        before ??= one.before
        each.push(one.seconds)
        console.log(`  ${device} ${i + 1}/${visits}: engine ${one.seconds.engine.toFixed(2)} s, ready ${one.seconds.ready.toFixed(2)} s, first step ${one.seconds.first_step.toFixed(2)} s`)
      }
      times.push({ device, median: Object.fromEntries(Object.keys(each[0]).map((name) => [name, median(each.map((seconds) => seconds[name] ?? NaN))])), each })
    }
    const files = [...seen].sort().filter((path) => existsSync(fileOf(path))).map((path) => sizes(path, before.has(path)))
    files.sort((a, b) => b.brotli - a.brotli)
    const sum = (key, until) => files.filter((file) => !until || file.until === until).reduce((all, file) => all + file[key], 0)
    const total = { raw: sum('raw'), gzip: sum('gzip'), brotli: sum('brotli'), ready_gzip: sum('gzip', 'ready'), ready_brotli: sum('brotli', 'ready') }
    for (const { path, raw, gzip: zipped, brotli } of files.slice(0, 8)) console.log(`  ${mb(raw).padStart(8)} MB ${mb(zipped).padStart(7)} gzip ${mb(brotli).padStart(7)} brotli  ${path}`)
    console.log(`${files.length} files with the starter model: ${mb(total.raw)} MB, ${mb(total.gzip)} MB gzip, ${mb(total.brotli)} MB brotli`)
    console.log(`until the page is ready: ${mb(total.ready_gzip)} MB gzip, ${mb(total.ready_brotli)} MB brotli`)
    save('page', { machine: machine({ browser: found.version, adapter: found.adapter }), visits, times, files, total })
    return times.length > 0
  } finally {
    await server.close()
  }
})
