// What the benchmarks count and show, without a browser: bench/peers/counting.js over a WebGPU of our own, the arithmetic, the report.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { activations, bound, ofBlock, ofState } from '../../bench/lib/bound.mjs'
import { report } from '../../bench/report.mjs'

const SIZES = { num_hidden_layers: 4, hidden_size: 128, intermediate_size: 352, num_attention_heads: 2, num_key_value_heads: 1, vocab_size: 1024 }

test('a tab’s WebGPU is counted and works as before', async () => {
  globalThis.GPUBuffer = class {
    destroy() {
      this.gone = true
    }

    mapAsync(mode) {
      return Promise.resolve(mode)
    }
  }
  globalThis.GPUDevice = class {
    createBuffer() {
      return new GPUBuffer()
    }

    createComputePipeline(descriptor) {
      return descriptor
    }
  }
  globalThis.GPUQueue = class {
    submit(list) {
      return list.length
    }
  }
  globalThis.GPUComputePassEncoder = class {
    dispatchWorkgroups(...count) {
      return count
    }
  }
  const { counts } = await import('../../bench/peers/counting.js')
  const device = new GPUDevice()
  const [storage, staging] = [device.createBuffer({ size: 100, usage: 0x80 }), device.createBuffer({ size: 28, usage: 1 })]
  assert.deepEqual(device.createComputePipeline({ label: 'a' }), { label: 'a' })
  assert.deepEqual(new GPUComputePassEncoder().dispatchWorkgroups(1, 2, 3), [1, 2, 3])
  assert.equal(new GPUQueue().submit([1, 2]), 2)
  assert.equal(await staging.mapAsync(1), 1)
  assert.equal(await staging.mapAsync(2), 2)
  // A second time is none.
  storage.destroy()
  storage.destroy()
  assert.ok(storage.gone)
  const { held, ...asked } = counts()
  assert.deepEqual(held, { buffers: 28, storage: 0, most_buffers: 128, most_storage: 100 })
  const { launches, submissions, pipelines, read, buffers, created_bytes: bytes, destroyed, copies } = asked
  assert.deepEqual({ launches, submissions, pipelines, read, buffers, bytes, destroyed, copies }, { launches: 1, submissions: 1, pipelines: 1, read: 1, buffers: 2, bytes: 128, destroyed: 1, copies: 0 })
})

test('what is needed at least goes by tokens and blocks', () => {
  const of = (layers, recompute, tokens = 2048) => activations({ ...SIZES, num_hidden_layers: layers }, { tokens, r: 8, recompute })
  assert.equal(of(16, false) - of(8, false), 8 * 2048 * ofBlock(SIZES, 8))
  assert.equal(of(16, true) - of(8, true), 8 * 2048 * ofState(SIZES))
  assert.ok(of(8, true) < of(8, false))
  // Gradients are not there while activations are at their most.
  const [weights, training] = [1e6, 3e5]
  assert.equal(bound(SIZES, { tokens: 2048, r: 8, recompute: true }, { weights, training }), weights + training + of(4, true) - 1e5)
  assert.equal(bound(SIZES, { tokens: 1, recompute: true }, { weights, training: 3e9 }), weights + 3e9)
})

test('the report shows all that suites find, and user text as text', () => {
  const machine = { cpu: '<b>cpu</b>', cores: 2, adapter: { name: 'card', software: false } }
  const side = { tokens_per_second: 100, first_step_seconds: 1 }
  const step = { launches: 300, submissions: 4, read: 1, written: 5, buffers: 2, pipelines: 0 }
  const row = (kind, seq, layers, held) => ({ where: 'native', device: 'cpu', kind, seq, layers, tokens: 2048, recompute: true, weights: 1e6, training: 1e6, activations: 3e6, planned: 5e6, bound: 4e6, held: held && { bytes: held } })
  const long = {
    steps: 2000,
    first: 10,
    last: 9,
    change: -0.1,
    memory: [{ name: 'GPU buffers', before: 2 ** 20, after: 2 ** 20 }],
    points: [100, 200].map((at) => ({ step: at, tokens_per_second: 9, 'GPU buffers': 2 ** 20 })),
  }
  const html = report({
    browser: {
      machine,
      alternations: 5,
      results: [
        { model: 'full-2', about: 'a <model>', device: 'gpu', sides: { ours: side, 'jax-js': side }, over_peer: { ratio: 1, losses_apart: 1e-7, same_work: true }, asked: { ours: { first: { pipelines: 40 }, step, most_buffers: 2 ** 20 } } },
        { model: 'full-2', about: '', device: 'cpu', skipped: 'why' },
      ],
    },
    memory: {
      machine,
      flat: 0.15,
      rows: [row('length', 128, 4, 5e6), row('length', 256, 4, 6e6), row('1.1 B, QLoRA', 512, 22, null)],
      conclusions: [
        { name: 'native cpu', what: 'length', from: 128, to: 256, bytes: [1024, 2048], change: 1, flat: false },
        { name: 'native cpu', what: 'depth', from: 2, to: 16, bytes: [1024, 1024], least: 512, change: 0, flat: true },
      ],
    },
    growth: {
      machine,
      sizes: SIZES,
      tokens: 128,
      within: 0.15,
      results: [
        { where: 'browser', device: 'gpu', skipped: 'no <WebGPU>' },
        { where: 'browser', device: 'cpu', fine: true, long, accumulation: { by_number: [1, 32].map((micro) => ({ micro, tokens_per_second: 10, change: 0 })) } },
      ],
    },
  })
  assert.doesNotMatch(html, /undefined|NaN|<b>cpu|<model>|<WebGPU>/)
  for (const part of ['Launches a step', 'id="growth"', '1.1 B, QLoRA', 'a further block adds', 'MiB over the steps', '&lt;WebGPU&gt;']) assert.ok(html.includes(part), part)
})
