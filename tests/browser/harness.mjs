// What every browser test starts with: the built page on a local server and a Chromium that opens it.
//
//   const page = await openPage(t)                     // CPU and, where the browser has one, a software WebGPU adapter
//   const page = await openPage(t, { webgpu: 'off' })  // a browser without WebGPU
//
// A test ends with an error where the page threw or logged one; `page.faults` lists them, and a test that provokes
// errors on purpose empties it.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import { serve } from './serve.mjs'

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..', '..')
export const DIST = join(ROOT, 'dist')

const QUIET = ['--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

// Chromium's own software adapter: the same on every machine, with or without a graphics card.
const WEBGPU = {
  software: ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'],
  hardware: ['--enable-unsafe-webgpu', '--enable-features=Vulkan'],
  // navigator.gpu is there, but it finds no adapter.
  off: ['--disable-gpu'],
}

/** The browser's program: CHROME (cargo xtask sets it), or the first one on PATH. */
export function executable() {
  if (process.env.CHROME) return process.env.CHROME
  for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']) {
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      const file = join(folder, name)
      if (existsSync(file)) return file
    }
  }
  throw new Error('no Chromium found: run cargo xtask setup, or set CHROME to its program')
}

/** A Chromium that closes with the test. `webgpu`: software, hardware or off. */
export async function launch(t, { webgpu = 'software' } = {}) {
  const browser = await chromium.launch({
    executablePath: executable(),
    headless: true,
    // Chromium's sandbox refuses to run as root, and does not exist in most containers.
    chromiumSandbox: false,
    args: [...QUIET, ...WEBGPU[webgpu]],
  })
  t.after(() => browser.close())
  return browser
}

/** Lists in `page.faults` what a page throws or logs as an error. */
export function watch(page, faults = []) {
  page.faults = faults
  page.on('pageerror', (error) => faults.push(String(error?.stack ?? error)))
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`${message.text()} (${message.location().url})`)
  })
  page.on('crash', () => faults.push('the page crashed'))
  return page
}

/** Serves `folder` (the built page) and opens it; server, browser and page close with the test. */
export async function openPage(t, { webgpu = 'software', folder = DIST, path = '', locale = 'en-US', viewport = { width: 1280, height: 900 }, first = undefined } = {}) {
  assert.ok(existsSync(join(folder, 'index.html')), `${folder} has no index.html: run cargo xtask test --browser`)
  const server = await serve(folder, 0, first)
  let browser = null
  let page = null
  t.after(async () => {
    // First, as a page that still asks for its icon would report a server that is gone.
    await browser?.close()
    await server.close()
    assert.deepEqual(page?.faults ?? [], [], 'the page reported errors')
  })
  browser = await launch(t, { webgpu })
  const context = await browser.newContext({ acceptDownloads: true, locale, viewport })
  page = watch(await context.newPage())
  await page.goto(server.url + path, { waitUntil: 'load' })
  return page
}

/** What the tab says of its WebGPU adapter, or null where it has none. */
export function adapter(page) {
  return page.evaluate(async () => {
    const found = await navigator.gpu?.requestAdapter()
    if (!found) return null
    const { vendor, architecture } = found.info
    return { vendor, architecture, features: [...found.features].sort() }
  })
}

/** A picture of the page under dist/../.paddock/shots, for people to look at. */
export async function shot(page, name) {
  const folder = join(ROOT, '.paddock', 'shots')
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${name}.png`)
  await page.screenshot({ path, fullPage: true })
  return path
}
