// What the real engine holds in a tab. On its CPU device everything is in the WebAssembly memory, which never shrinks: its size at the end is the
// most that there ever was. bench/peers/measuring-worker.js becomes the engine's worker and tells that size.

import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { emptyPage, site, train } from '../../bench/lib/browser.mjs'
import { make, parameters, shapes, text, tokenizer } from '../../bench/lib/model.mjs'
import { BLOCKS, gguf, inBlocks, inVectors } from './gguf.mjs'
import { DIST, ROOT, launch } from './harness.mjs'

const LONG = { timeout: 900_000 }
const WORKER = '/peers/measuring-worker.js'
const MIB = 2 ** 20
const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`

async function folder(t) {
  const made = await mkdtemp(join(tmpdir(), 'paddock-memory-'))
  t.after(() => rm(made, { recursive: true, force: true }))
  return made
}

/** Opens empty pages, each in a context of its own, of a site that has the built page and a model's folder. */
async function pages(t, model) {
  const server = await site(DIST, { '/model/': model, '/peers/': join(ROOT, 'bench', 'peers') })
  t.after(() => server.close())
  const browser = await launch(t, { webgpu: 'off' })
  return async (work) => {
    const context = await browser.newContext()
    try {
      return await work(await emptyPage(context, server.url))
    } finally {
      await context.close()
    }
  }
}

/** Puts a model's weights onto the CPU device; gives the size of the WebAssembly memory before there was a model, and after. */
function load(page, names, quantization) {
  return page.evaluate(
    async ({ script, names, quantization }) => {
      const get = async (name) => new File([await (await fetch(`/model/${name}`)).blob()], name)
      const files = await Promise.all(names.map(get))
      const worker = new Worker(script, { type: 'module' })
      let [id, begun] = [0, false]
      const send = (command, files = []) => worker.postMessage({ id: id++, command, files })
      try {
        return await new Promise((done, failed) => {
          worker.onerror = (event) => failed(new Error(event.message || `${script} could not be loaded`))
          worker.onmessage = ({ data }) => {
            if (data.crash !== undefined) failed(new Error(data.crash))
            if (data.memory) done({ before: data.memory.wasm_empty, after: data.memory.wasm })
            if (data.ready) {
              const sections = { data: {}, training: {}, evaluation: {}, lora: {}, recovery: {} }
              send({ type: 'open_model', name: 'model' }, files)
              // The base by itself: its weights are loaded, and nothing is computed.
              send({ type: 'open_adapter', config: { device: 'cpu', model: { name_or_path: 'model', quantization }, ...sections } })
            }
            const event = data.envelope
            if (event?.type === 'failed') failed(new Error(`${event.message} ${event.advice}`))
            begun ||= event?.type === 'progress' && event.phase === 'loading_weights'
            if (begun && event?.type === 'state' && event.state === 'idle') worker.postMessage({ measure: true })
          }
        })
      } finally {
        worker.terminate()
      }
    },
    { script: WORKER, names, quantization },
  )
}

test('loading a model takes what stays of it, its largest tensor and at most 64 MiB more', LONG, async (t) => {
  const sizes = { num_hidden_layers: 8, hidden_size: 512, intermediate_size: 1376, num_attention_heads: 8, num_key_value_heads: 8, vocab_size: 8192 }
  const model = make(await folder(t), { sizes })
  const bytes = ([, shape]) => 4 * shape.reduce((a, b) => a * b)
  const largest = Math.max(...shapes(sizes).map(bytes))
  const dense = 4 * parameters(sizes)
  const spare = largest + 64 * MIB
  assert.ok(dense > spare, 'large enough that a second copy would show')
  const linears = shapes(sizes).filter(([name]) => name.endsWith('_proj.weight')).reduce((sum, one) => sum + bytes(one), 0)
  const inTab = await pages(t, model)
  // The embedding, which is the head too, stays as it is in the file.
  for (const [quantization, stays] of [
    ['none', dense],
    ['q4_0', dense - linears + (linears / 128) * 18],
  ]) {
    const { before, after } = await inTab((page) => load(page, ['config.json', 'tokenizer.json', 'model.safetensors'], quantization))
    const grown = after - before
    t.diagnostic(`quantization ${quantization}: ${mib(before)} before, ${mib(after)} at most: ${mib(grown)} for ${mib(stays)} that stay of a file of ${mib(dense)}; the largest tensor has ${mib(largest)}`)
    assert.ok(before > 0 && grown > 0.9 * stays, `${mib(grown)}: the weights are in this memory`)
    assert.ok(grown <= stays + spare, `${mib(grown)} for ${mib(stays)}`)
  }
})

const TOKENS = { batch: 4, seq: 32 }

/** Ten steps of LoRA on the CPU device. */
const learn = (page, quantization) =>
  train(page, {
    worker: WORKER,
    model: ['/model/model.gguf', '/model/tokenizer.json'],
    train: '/model/train.txt',
    held: '/model/held-out.txt',
    config: {
      task: 'text-generation',
      device: 'cpu',
      model: { max_seq_length: TOKENS.seq, quantization },
      data: { text_column: 'text' },
      training: { method: 'lora', batch_size: TOKENS.batch, max_steps: 10, learning_rate: 0.01, warmup_ratio: 0, mixed_precision: 'no', save_steps: 0 },
      evaluation: { max_generated_samples: 0 },
      lora: { r: 8, lora_alpha: 16, lora_dropout: 0 },
    },
  })

test('QLoRA in the tab: the losses of the unpacked base, in the memory of its blocks', LONG, async (t) => {
  const sizes = { num_hidden_layers: 6, hidden_size: 384, intermediate_size: 1024, num_attention_heads: 6, num_key_value_heads: 3, vocab_size: 512 }
  for (const kind of ['Q8_0', 'Q4_0']) {
    const model = await folder(t)
    await writeFile(join(model, 'model.gguf'), gguf(sizes, kind))
    await writeFile(join(model, 'tokenizer.json'), JSON.stringify(tokenizer()))
    // One batch: a step is an epoch, and every step learns the same rows.
    await writeFile(join(model, 'train.txt'), `${text(TOKENS.batch * TOKENS.seq - 1, 1)}\n`)
    await writeFile(join(model, 'held-out.txt'), `${text(30, 2)}\n`)
    const inTab = await pages(t, model)
    const packed = await inTab((page) => learn(page, 'auto'))
    const dense = await inTab((page) => learn(page, 'none'))

    assert.equal(packed.losses.length, 10)
    assert.equal(dense.losses.length, 10)
    const off = dense.losses.map((loss, step) => Math.abs(packed.losses[step] / loss - 1))
    t.diagnostic(`${kind}: losses ${packed.losses.map((loss) => loss.toFixed(4)).join(' ')}, at most ${Math.max(...off).toExponential(1)} from those of the unpacked base`)
    assert.ok(off.every((share) => share < 1e-3), `${packed.losses} against ${dense.losses}`)
    assert.ok(dense.losses[9] < dense.losses[0] - 0.1, `it learns: ${dense.losses}`)

    // The plan: blocks in place of numbers of four bytes, and the same beside them.
    const blocks = (inBlocks(sizes) / 32) * BLOCKS[kind].bytes
    const saved = 4 * inBlocks(sizes) - blocks
    assert.equal(dense.plan.weight_bytes - packed.plan.weight_bytes, saved)
    assert.ok(packed.plan.weight_bytes > blocks + 4 * inVectors(sizes))
    const [held, unpacked] = [packed, dense].map(({ held }) => held.wasm - held.wasm_empty)
    t.diagnostic(`${kind}: ${mib(held)} at most, ${mib(unpacked)} with the base unpacked; the arithmetic saves ${mib(saved)}`)
    // What is freed between two tensors is not always used again, so a quarter is let go.
    assert.ok(unpacked - held > 0.75 * saved, `${mib(unpacked)} against ${mib(held)}`)
  }
})

const GPU = { num_hidden_layers: 4, hidden_size: 128, intermediate_size: 352, num_attention_heads: 2, num_key_value_heads: 2, vocab_size: 512 }
const BATCH_TOKENS = 2048

/** A run on WebGPU: what was planned, and the buffers that there were. */
async function onGpu(t, { train: rows, batch, seq, steps, recompute = false }) {
  const model = await folder(t)
  make(model, { sizes: GPU })
  await writeFile(join(model, 'rows.csv'), `text\n${rows.join('\n')}\n`)
  await writeFile(join(model, 'held.csv'), `text\n${text(60, 9)}\n`)
  const server = await site(DIST, { '/model/': model, '/peers/': join(ROOT, 'bench', 'peers') })
  t.after(() => server.close())
  const page = await emptyPage(await (await launch(t)).newContext(), server.url)
  return train(page, {
    worker: WORKER,
    model: ['config.json', 'tokenizer.json', 'model.safetensors'].map((name) => `/model/${name}`),
    train: '/model/rows.csv',
    held: '/model/held.csv',
    config: {
      task: 'text-generation',
      device: 'gpu',
      model: { max_seq_length: seq, quantization: 'none' },
      data: { text_column: 'text' },
      evaluation: { max_generated_samples: 0 },
      training: { method: 'lora', batch_size: batch, max_steps: steps, learning_rate: 1e-4, gradient_checkpointing: recompute, mixed_precision: 'no', save_steps: 0, logging_steps: 1 },
    },
  })
}

test('on WebGPU a run holds what is planned, from the first step to the last', LONG, async (t) => {
  const seq = 512
  const rows = Array.from({ length: (2 * BATCH_TOKENS) / seq }, (_, i) => text(seq - 2, 20 + i))
  const found = {}
  for (const recompute of [false, true]) {
    const { plan, held, counted } = await onGpu(t, { train: rows, batch: BATCH_TOKENS / seq, seq, steps: 4, recompute })
    const planned = plan.weight_bytes + plan.training_bytes + plan.activation_bytes
    t.diagnostic(`${recompute ? 'by blocks: ' : ''}${mib(held.most_storage)} of ${mib(planned)} planned`)
    assert.ok(held.most_storage < 1.15 * planned && held.most_storage > 0.85 * planned, `${held.most_storage} of ${planned}`)
    assert.ok(counted.at(-1).held.most_storage < 1.02 * counted[0].held.most_storage, 'a later step needs no more than the first')
    found[recompute] = held.most_storage
  }
  assert.ok(found.true < 0.7 * found.false, 'recomputation saves bytes')
})

test('on WebGPU what rows of other lengths needed is given back', LONG, async (t) => {
  const lengths = [2048, 640, 1408, 896, 1920, 1152, 1664, 768, 1792, 1024, 1536, 1280]
  const { plan, held, counted } = await onGpu(t, { train: lengths.map((length, i) => text(length - 2, 40 + i)), batch: 1, seq: 2048, steps: lengths.length })
  const planned = plan.weight_bytes + plan.training_bytes + plan.activation_bytes
  const { destroyed, created_bytes: created } = counted.at(-1)
  t.diagnostic(`${mib(held.most_storage)} of ${mib(planned)} planned for the longest; ${destroyed} buffers destroyed, ${mib(created)} made in all`)
  assert.ok(destroyed > 0, 'some are given back')
  // What is left of other lengths is at most the spare 64 MiB (device.rs).
  assert.ok(held.most_storage < 1.15 * planned + 64 * MIB, `${held.most_storage} of ${planned}`)
})
