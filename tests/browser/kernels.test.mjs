// The kernels for cards, which no rule takes on a software adapter, and those for quads: Chromium's compiler takes those for products of this
// size, within what WebGPU promises, and they train as a thread's own tiles do. (naga, the native tests' compiler, takes sources that Chromium's refuses.)

import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { emptyPage, site, train } from '../../bench/lib/browser.mjs'
import { text, tokenizer } from '../../bench/lib/model.mjs'
import { gguf } from './gguf.mjs'
import { DIST, launch } from './harness.mjs'

const TOKENS = { batch: 2, seq: 64 }
const SIZES = { num_hidden_layers: 1, hidden_size: 128, intermediate_size: 352, num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 512 }

/** Three steps on WebGPU. */
const learn = (page, kernels, more) =>
  train(page, {
    model: ['/model/model.gguf', '/model/tokenizer.json'],
    train: '/model/train.txt',
    held: '/model/held-out.txt',
    config: {
      task: 'text-generation',
      device: 'gpu',
      kernels,
      data: { text_column: 'text' },
      evaluation: { max_generated_samples: 0 },
      lora: { r: 8, lora_alpha: 16, lora_dropout: 0 },
      ...more,
      model: { max_seq_length: TOKENS.seq, ...more.model },
      training: { batch_size: TOKENS.batch, max_steps: 3, learning_rate: 0.01, warmup_ratio: 0, mixed_precision: 'no', save_steps: 0, ...more.training },
    },
  })

const RUNS = {
  'LoRA on blocks': { training: { method: 'lora' }, model: { quantization: 'auto' } },
  'all weights, rows side by side': { training: { method: 'full', packing: true }, model: { quantization: 'none' } },
}

test('the kernels for cards train as those for a thread alone do', { timeout: 600_000 }, async (t) => {
  const model = await mkdtemp(join(tmpdir(), 'paddock-kernels-'))
  t.after(() => rm(model, { recursive: true, force: true }))
  await writeFile(join(model, 'model.gguf'), gguf(SIZES, 'Q8_0'))
  await writeFile(join(model, 'tokenizer.json'), JSON.stringify(tokenizer()))
  await writeFile(join(model, 'train.txt'), `${text(TOKENS.batch * TOKENS.seq - 1, 1)}\n`)
  await writeFile(join(model, 'held-out.txt'), `${text(30, 2)}\n`)
  const server = await site(DIST, { '/model/': model })
  t.after(() => server.close())
  const browser = await launch(t)
  const losses = async (kernels, more) => {
    const context = await browser.newContext()
    try {
      return (await learn(await emptyPage(context, server.url), kernels, more)).losses
    } finally {
      await context.close()
    }
  }
  for (const [name, more] of Object.entries(RUNS)) {
    const alone = await losses('registers', more)
    assert.equal(alone.length, 3, name)
    assert.ok(alone[2] < alone[0], `${name} learns: ${alone}`)
    // On a software adapter with subgroups `auto` takes quads.
    for (const kernels of ['shared', 'auto']) {
      const others = await losses(kernels, more)
      assert.equal(others.length, 3, name)
      const off = Math.max(...alone.map((loss, step) => Math.abs(others[step] / loss - 1)))
      t.diagnostic(`${name}, ${kernels}: losses ${alone.map((loss) => loss.toFixed(4)).join(' ')}, ${off.toExponential(1)} apart`)
      assert.ok(off < 1e-4, `${name}: ${others} of ${kernels} against ${alone}`)
    }
  }
})

test('the engine is told of subgroups where the adapter has them', { timeout: 60_000 }, async (t) => {
  const server = await site(DIST)
  t.after(() => server.close())
  const page = await emptyPage(await (await launch(t)).newContext(), server.url)
  const [offered, told, opened] = await page.evaluate(async () => {
    await import('/app/wgpu.js')
    const adapter = await navigator.gpu.requestAdapter()
    const device = await adapter.requestDevice()
    return [adapter.features.has('subgroups'), globalThis.paddockSubgroups ?? false, device.features.has('subgroups')]
  })
  assert.deepEqual([told, opened], [offered, offered])
  if (!offered) t.skip('this Chromium offers no subgroups')
})
