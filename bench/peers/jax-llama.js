// The peer: the same LLaMA, written for jax-js the way its own examples are (one jitted step of forward, backward and AdamW; weights
// [in, out]; embedding and targets as one-hot rows, as a scatter is slower there). It reads the files that our engine reads.

import { defaultDevice, init, jit, nn, numpy as np, tree, valueAndGrad } from '/jax/index.js'

const LINEARS = {
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  o: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
}
const [BETA1, BETA2, EPSILON] = [0.9, 0.999, 1e-8]

/** Name → [numbers, shape] of a safetensors file of F32. */
function read(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)))
  const tensor = (name) => {
    const entry = header[name]
    if (!entry || entry.dtype !== 'F32') throw new Error(`${name} is missing, or no F32`)
    const [from, to] = entry.data_offsets
    return [new Float32Array(buffer.slice(8 + length + from, 8 + length + to)), entry.shape]
  }
  return tensor
}

/** An array of a tensor; of a matrix its transpose, as files have [out, in]. */
function array([values, shape], turned = true) {
  if (shape.length === 1 || !turned) return np.array(values).reshape(shape)
  const [rows, columns] = shape
  const other = new Float32Array(values.length)
  for (let row = 0; row < rows; row += 1) for (let column = 0; column < columns; column += 1) other[column * rows + row] = values[row * columns + column]
  return np.array(other).reshape([columns, rows])
}

function weights(tensor, layers) {
  const block = (layer) => {
    const at = `model.layers.${layer}`
    const linears = Object.entries(LINEARS).map(([short, name]) => [short, array(tensor(`${at}.${name}.weight`))])
    const norms = [['first', 'input_layernorm'], ['second', 'post_attention_layernorm']].map(([short, name]) => [short, array(tensor(`${at}.${name}.weight`))])
    return Object.fromEntries([...linears, ...norms])
  }
  return { embedding: array(tensor('model.embed_tokens.weight'), false), blocks: Array.from({ length: layers }, (_, layer) => block(layer)), norm: array(tensor('model.norm.weight')) }
}

function adapters(tensor, layers) {
  const part = (layer, name) => {
    const at = `base_model.model.model.layers.${layer}.${name}`
    return { a: array(tensor(`${at}.lora_A.weight`)), b: array(tensor(`${at}.lora_B.weight`)) }
  }
  return Array.from({ length: layers }, (_, layer) => Object.fromEntries(Object.entries(LINEARS).map(([short, name]) => [short, part(layer, name)])))
}

/** Rows of zeros with a one at each index; rows of zeros for a negative one. */
function oneHot(indices, width) {
  const values = new Float32Array(indices.length * width)
  indices.forEach((index, row) => index >= 0 && (values[row * width + index] = 1))
  return np.array(values).reshape([indices.length, width])
}

function tables(seq, half, theta) {
  const [cos, sin, mask] = [new Float32Array(seq * half), new Float32Array(seq * half), new Float32Array(seq * seq)]
  for (let at = 0; at < seq; at += 1) {
    for (let i = 0; i < half; i += 1) {
      const angle = at / theta ** (i / half)
      cos[at * half + i] = Math.cos(angle)
      sin[at * half + i] = Math.sin(angle)
    }
    mask.fill(-1e9, at * seq + at + 1, (at + 1) * seq)
  }
  return { cos: np.array(cos).reshape([1, 1, seq, half]), sin: np.array(sin).reshape([1, 1, seq, half]), mask: np.array(mask).reshape([1, 1, seq, seq]) }
}

const norm = (x, weight, eps) => {
  const mean = np.mean(np.square(x.ref), -1, { keepdims: true })
  return x.mul(np.reciprocal(np.sqrt(mean.add(eps)))).mul(weight)
}

/** Every function consumes what it is given, as jax-js wants it: `.ref` keeps an array for one more use. */
function network(config, batch, seq, scale) {
  const { hidden_size: width, num_attention_heads: heads, rms_norm_eps: eps } = config
  const dim = width / heads
  const half = dim / 2
  const linear = (x, weight, low) => {
    if (!low) return np.dot(x, weight)
    const base = np.dot(x.ref, weight)
    return base.add(np.dot(np.dot(x, low.a), low.b).mul(scale))
  }
  const rotate = (x, cos, sin) => {
    const [a, b] = [x.ref.slice([], [], [], [0, half]), x.slice([], [], [], [half, dim])]
    return np.concatenate([a.ref.mul(cos.ref).sub(b.ref.mul(sin.ref)), a.mul(sin).add(b.mul(cos))], -1)
  }
  const split = (x) => x.reshape([batch, seq, heads, dim]).transpose([0, 2, 1, 3])
  const block = (h, w, low, cos, sin, mask) => {
    const x = norm(h.ref, w.first, eps)
    const q = rotate(split(linear(x.ref, w.q, low?.q)), cos.ref, sin.ref)
    const k = rotate(split(linear(x.ref, w.k, low?.k)), cos, sin)
    const v = split(linear(x, w.v, low?.v))
    const scores = np.matmul(q, k.transpose([0, 1, 3, 2])).mul(1 / Math.sqrt(dim)).add(mask)
    const mixed = np.matmul(nn.softmax(scores, -1), v).transpose([0, 2, 1, 3]).reshape([batch * seq, width])
    h = h.add(linear(mixed, w.o, low?.o))
    const y = norm(h.ref, w.second, eps)
    const inner = nn.silu(linear(y.ref, w.gate, low?.gate)).mul(linear(y, w.up, low?.up))
    return h.add(linear(inner, w.down, low?.down))
  }
  /** Mean loss of the targets (one-hot rows, `counted` of them not empty), from the embedded tokens. */
  return (h, base, lows, targets, counted, { cos, sin, mask }) => {
    base.blocks.forEach((w, layer) => {
      h = block(h, w, lows?.[layer], cos.ref, sin.ref, mask.ref)
    })
    for (const table of [cos, sin, mask]) table.dispose()
    const logits = np.dot(norm(h, base.norm, eps), base.embedding.transpose([1, 0]))
    return np.sum(nn.logSoftmax(logits, -1).mul(targets)).mul(-1 / counted)
  }
}

/** PyTorch's AdamW without decay. `rate` = lr / (1 − β₁ᵗ), `second` = 1 / √(1 − β₂ᵗ). */
function adamw(values, m, v, gradients, rate, second) {
  const m2 = tree.map((m, g) => m.mul(BETA1).add(g.mul(1 - BETA1)), m, tree.ref(gradients))
  const v2 = tree.map((v, g) => v.mul(BETA2).add(np.square(g).mul(1 - BETA2)), v, gradients)
  const change = (m, v) => m.mul(rate.ref).div(np.sqrt(v).mul(second.ref).add(EPSILON))
  const moved = tree.map((value, m, v) => value.sub(change(m, v)), values, tree.ref(m2), tree.ref(v2))
  rate.dispose()
  second.dispose()
  return [moved, m2, v2]
}

/**
 * Trains on the same rows at every step.
 *
 * @param {{ device: 'webgpu' | 'wasm', config: string, weights: string, lora: { weights: string, scale: number } | null,
 *   rows: number[][], steps: number, learningRate: number }} run files by their addresses
 * @param {(() => object) | null} counts what was asked of WebGPU until now, where that is to be told by step
 * @returns {Promise<{ losses: number[], step_seconds: number[], first_step_seconds: number, counted: object[] }>}
 */
export async function train({ device, config: settings, weights: file, lora, rows, steps, learningRate }, counts = null) {
  const there = await init(device)
  if (!there.includes(device)) throw new Error(`jax-js has no ${device} here`)
  defaultDevice(device)
  const get = async (address) => {
    const response = await fetch(address)
    if (!response.ok) throw new Error(`${address}: ${response.status}`)
    return response
  }
  const config = await (await get(settings)).json()
  const bytes = await (await get(file)).arrayBuffer()
  const adapter = lora && (await (await get(lora.weights)).arrayBuffer())

  const begun = performance.now()
  const { num_hidden_layers: layers, vocab_size: vocab, hidden_size: width, num_attention_heads: heads, rope_theta: theta } = config
  const [batch, seq] = [rows.length, rows[0].length]
  const base = weights(read(bytes), layers)
  const ids = rows.flat()
  const targets = oneHot(rows.flatMap((row) => [...row.slice(1), -1]), vocab)
  const counted = batch * (seq - 1)
  const fixed = tables(seq, width / heads / 2, theta)
  const loss = network(config, batch, seq, lora?.scale)
  let step
  let values
  let given
  if (lora) {
    values = adapters(read(adapter), layers)
    given = [base, np.array(Int32Array.from(ids)), targets, fixed]
    const gradient = valueAndGrad((lows, base, h, targets, fixed) => loss(h, base, lows, targets, counted, fixed))
    step = jit((values, m, v, base, ids, targets, fixed, rate, second) => {
      const h = base.embedding.ref.slice(ids)
      const [l, gradients] = gradient(tree.ref(values), base, h, targets, fixed)
      return [l, ...adamw(values, m, v, gradients, rate, second)]
    })
  } else {
    values = base
    given = [oneHot(ids, vocab), targets, fixed]
    const gradient = valueAndGrad((base, chosen, targets, fixed) => loss(np.dot(chosen, base.embedding.ref), base, null, targets, counted, fixed))
    step = jit((values, m, v, chosen, targets, fixed, rate, second) => {
      const [l, gradients] = gradient(tree.ref(values), chosen, targets, fixed)
      return [l, ...adamw(values, m, v, gradients, rate, second)]
    })
  }
  const zeros = () => tree.map((value) => np.zeros(value.shape), values)
  let [m, v] = [zeros(), zeros()]
  const result = { losses: [], step_seconds: [], first_step_seconds: 0, counted: [] }
  let last = performance.now()
  for (let t = 1; t <= steps; t += 1) {
    const number = (value) => np.array(new Float32Array([value]))
    const scalars = [number(learningRate / (1 - BETA1 ** t)), number(1 / Math.sqrt(1 - BETA2 ** t))]
    let l
    ;[l, values, m, v] = step(values, m, v, ...tree.ref(given), ...scalars)
    // The loss comes after all that was launched before it, the change of the weights with it.
    result.losses.push((await l.data())[0])
    if (counts) result.counted.push(counts())
    const now = performance.now()
    result.step_seconds.push((now - last) / 1000)
    if (t === 1) result.first_step_seconds = (now - begun) / 1000
    last = now
  }
  return result
}
