// The loops of a matrix product that the engine makes as a module while the page runs (crate/src/kernels/flex/relaxed): the module by
// itself, whose bytes a unit test of the engine holds equal to what it makes, and products of the page's CPU device.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { emptyPage, site } from '../../bench/lib/browser.mjs'
import { DIST, ROOT, launch } from './harness.mjs'

const read = (name) => readFile(join(ROOT, 'tests', 'golden', 'product', `${name}.wasm`))
// As in relaxed/module.rs.
const [ROWS, COLUMNS] = [4, 8]

/** Packs `count` lines of `depth` numbers into panels of `wide`. @param {(line: number, step: number) => number} number */
function pack(to, count, depth, wide, number) {
  for (let line = 0; line < count; line += 1) {
    for (let step = 0; step < depth; step += 1) to[((Math.floor(line / wide) * depth + step) * wide) + (line % wide)] = number(line, step)
  }
}

for (const name of ['plain', 'fused']) {
  test(`the ${name} module multiplies packed operands and writes nothing else`, async (t) => {
    const bytes = await read(name)
    if (!WebAssembly.validate(bytes)) {
      assert.equal(name, 'fused', 'only relaxed SIMD may be missing')
      return t.skip('this Node has no relaxed SIMD')
    }
    const memory = new WebAssembly.Memory({ initial: 4 })
    const { multiply } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { paddock: { memory } }).exports
    const [block, rows, columns, out] = [1 << 10, 1 << 12, 1 << 16, 1 << 17]
    const numbers = new Float32Array(memory.buffer)
    for (const [down, across, depth] of [[1, 1, 1], [1, 1, 7], [3, 1, 2], [1, 4, 5], [5, 3, 40]]) {
      const [m, n] = [down * ROWS, across * COLUMNS]
      const stride = n + 3
      const [a, b] = [(i, s) => Math.sin(1 + i * 31 + s * 7), (j, s) => Math.cos(2 + j * 17 + s * 5)]
      pack(numbers.subarray(rows / 4), m, depth, ROWS, a)
      pack(numbers.subarray(columns / 4), n, depth, COLUMNS, b)
      for (const add of [0, 1]) {
        const result = numbers.subarray(out / 4, out / 4 + m * stride).fill(9)
        new Uint32Array(memory.buffer, block, 8).set([rows, columns, out, stride * 4, down, across, depth * COLUMNS * 4, add])
        multiply(block)
        for (let i = 0; i < m; i += 1) {
          for (let j = 0; j < stride; j += 1) {
            let wanted = add ? 9 : 0
            for (let s = 0; j < n && s < depth; s += 1) wanted += a(i, s) * b(j, s)
            if (j >= n) wanted = 9
            assert.ok(Math.abs(result[i * stride + j] - wanted) < 1e-4, `${m} × ${n} × ${depth}, add ${add} [${i}, ${j}]: ${result[i * stride + j]}, not ${wanted}`)
          }
        }
      }
    }
  })
}

// Batch, rows, columns, steps: whole panels and parts, rests of each, several parts of each; thin and small ones, which go another way.
const SIZES = [[1, 96, 64, 128], [1, 37, 41, 53], [2, 100, 17, 65], [1, 97, 9, 385], [1, 9, 1100, 70], [1, 203, 50, 801], [3, 33, 34, 35], [1, 8, 70, 300], [1, 64, 7, 300], [1, 5, 6, 7]]

/** What a page's browser refuses: nothing, modules with relaxed SIMD, or all that a page makes by itself. */
const REFUSED = ['nothing', 'relaxed SIMD', 'every module']

for (const refused of REFUSED) {
  test(`products on the tab’s CPU are right where the browser refuses ${refused}`, { timeout: 300_000 }, async (t) => {
    const server = await site(DIST)
    t.after(() => server.close())
    const browser = await launch(t, { webgpu: 'off' })
    const page = await emptyPage(await browser.newContext(), server.url)
    const fused = [...(await read('fused'))]
    const found = await page.evaluate(
      async ({ refused, sizes, fused }) => {
        const known = WebAssembly.validate(new Uint8Array(fused))
        const relaxed = (bytes) => bytes.some((byte, at) => byte === 0xfd && bytes[at + 1] === 0x85 && bytes[at + 2] === 0x02)
        let made = 0
        WebAssembly.Module = new Proxy(WebAssembly.Module, {
          construct(target, [bytes, ...more]) {
            if (refused === 'every module' || (refused === 'relaxed SIMD' && relaxed(bytes))) throw new WebAssembly.CompileError('refused by the test')
            const module = Reflect.construct(target, [bytes, ...more])
            made += 1
            return module
          },
        })
        const module = await import('/paddock-web.js')
        await module.default()
        let environment = null
        const engine = new module.Engine((envelope) => {
          if (envelope.type === 'environment') environment = envelope
        })
        await engine.handle({ type: 'inspect' }, [])
        const errors = []
        for (const size of sizes) errors.push(await module.product_error(new Uint32Array(size), false))
        return { known, made, errors, features: environment.devices.find(({ id }) => id === 'cpu').features }
      },
      { refused, sizes: SIZES, fused },
    )
    found.errors.forEach((error, at) => assert.ok(error < 1e-5, `${SIZES[at].join(' × ')}: ${error}`))
    assert.deepEqual(found.features, refused === 'nothing' && found.known ? ['relaxed-simd'] : [])
    // Once, however many products there are.
    assert.equal(found.made, refused === 'every module' ? 0 : 1)
  })
}
