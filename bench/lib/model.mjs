// The models that both sides train: a Hugging Face folder of random weights whose tokens are the bytes of a text, an adapter in PEFT's
// layout, and a text of exactly one batch. Every step is an epoch of the same rows, so that no order of rows needs to be agreed on.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const BATCH = 4
export const SEQ = 128
const [BOS, EOS] = [256, 257]
const LINEARS = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj']

const sizes = (layers, hidden, ffn, heads, vocab) => ({
  num_hidden_layers: layers,
  hidden_size: hidden,
  intermediate_size: ffn,
  num_attention_heads: heads,
  num_key_value_heads: heads,
  vocab_size: vocab,
})

/** By name; `r` where an adapter is trained instead of all weights. */
export const MODELS = {
  'full-2': { about: '2 layers, dim 288, all weights', sizes: sizes(2, 288, 768, 6, 512) },
  'full-6': { about: '6 layers, dim 288, all weights', sizes: sizes(6, 288, 768, 6, 512) },
  'lora-30m': { about: '30 M, LoRA rank 8 on all linears', sizes: sizes(8, 512, 1376, 8, 8192), r: 8, alpha: 16 },
}

export function config(sizes) {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    ...sizes,
    max_position_embeddings: 2048,
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: BOS,
    eos_token_id: EOS,
    torch_dtype: 'float32',
  }
}

/** Name and shape of every weight, as Hugging Face's files have them. */
export function shapes({ num_hidden_layers: layers, hidden_size: d, intermediate_size: f, num_attention_heads: heads, num_key_value_heads: kvHeads, vocab_size: vocab }) {
  const kv = (d / heads) * kvHeads
  const linears = [[d, d], [kv, d], [kv, d], [d, d], [f, d], [f, d], [d, f]]
  const all = [['model.embed_tokens.weight', [vocab, d]]]
  for (let layer = 0; layer < layers; layer += 1) {
    const at = `model.layers.${layer}`
    LINEARS.forEach((name, i) => all.push([`${at}.${name}.weight`, linears[i]]))
    all.push([`${at}.input_layernorm.weight`, [d]], [`${at}.post_attention_layernorm.weight`, [d]])
  }
  all.push(['model.norm.weight', [d]])
  return all
}

export const parameters = (sizes) => shapes(sizes).reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b), 0)

/** Byte-level byte pairs without merges: every byte is a token, by its own number. */
export function tokenizer() {
  const vocab = {}
  let next = 0x100
  for (let byte = 0; byte < 256; byte += 1) {
    // GPT-2's table: printable bytes stand for themselves, the others for the letters from U+0100.
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
    vocab[String.fromCodePoint(printable ? byte : next++)] = byte
  }
  vocab['<s>'] = BOS
  vocab['</s>'] = EOS
  const special = (id, content) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true })
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    normalizer: null,
    post_processor: null,
    added_tokens: [special(BOS, '<s>'), special(EOS, '</s>')],
    pre_tokenizer: level,
    decoder: level,
    model: { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges: [] },
  }
}

/** mulberry32: numbers in [0, 1), the same everywhere. */
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Normal numbers (Box–Muller). */
function normal(count, deviation, draw) {
  const values = new Float32Array(count)
  for (let i = 0; i < count; i += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(1 - draw()))
    const angle = 2 * Math.PI * draw()
    values[i] = radius * Math.cos(angle)
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle)
  }
  return values
}

/** @param {Array<[string, number[], Float32Array]>} tensors */
export function safetensors(tensors) {
  const header = {}
  let offset = 0
  for (const [name, shape, values] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, (offset += values.byteLength)] }
  }
  let text = JSON.stringify(header)
  text += ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)))
  return Buffer.concat([length, Buffer.from(text), ...tensors.map(([, , values]) => Buffer.from(values.buffer, values.byteOffset, values.byteLength))])
}

function weights(sizes, draw) {
  return safetensors(
    shapes(sizes).map(([name, shape]) => {
      const count = shape.reduce((a, b) => a * b)
      return [name, shape, shape.length === 1 ? new Float32Array(count).fill(1) : normal(count, 0.02, draw)]
    }),
  )
}

/** A in ±1/√in as PEFT draws it; B is not zero, so that every gradient counts from the first step. */
function adapter(sizes, r, draw) {
  const tensors = []
  for (const [name, shape] of shapes(sizes)) {
    if (!LINEARS.some((linear) => name.endsWith(`${linear}.weight`))) continue
    const [out, inputs] = shape
    const at = `base_model.model.${name.replace(/\.weight$/, '')}`
    const a = Float32Array.from({ length: r * inputs }, () => (2 * draw() - 1) / Math.sqrt(inputs))
    tensors.push([`${at}.lora_A.weight`, [r, inputs], a], [`${at}.lora_B.weight`, [out, r], normal(out * r, 0.02, draw)])
  }
  return safetensors(tensors)
}

/** A text of so many letters and spaces, of which none stand at the ends or together. */
export function text(length, seed) {
  const draw = random(seed)
  const letter = () => 'etaoinshrdlucmfwygpbvk'[Math.floor(draw() ** 2 * 22)]
  let words = ''
  while (words.length < length) words += words === '' || words.endsWith(' ') || words.length > length - 3 || draw() > 0.2 ? letter() : ' '
  return words
}

/** The tokens of {@link text} in rows of `SEQ`, as the engine packs them: one text, ended by the end token. */
export function rows() {
  const ids = [...Buffer.from(text(BATCH * SEQ - 1, 1)), EOS]
  return Array.from({ length: BATCH }, (_, row) => ids.slice(row * SEQ, (row + 1) * SEQ))
}

export const TRAIN = () => `${text(BATCH * SEQ - 1, 1)}\n`
/** What the engine measures with before and after; the peers have no such thing. */
export const HELD_OUT = () => `${text(60, 2)}\n`

/** The folder of a model, made where it is not there as it should be. @param {string} folder */
export function make(folder, { sizes, r, alpha }) {
  const stamp = JSON.stringify({ sizes, r, alpha, version: 2 })
  const mark = join(folder, 'made')
  if (existsSync(mark) && readFileSync(mark, 'utf8') === stamp) return folder
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(join(folder, 'adapter'), { recursive: true })
  const draw = random(7)
  const put = (name, content) => writeFileSync(join(folder, name), content)
  put('config.json', JSON.stringify(config(sizes)))
  put('tokenizer.json', JSON.stringify(tokenizer()))
  put('model.safetensors', weights(sizes, draw))
  if (r) {
    const peft = { peft_type: 'LORA', task_type: 'CAUSAL_LM', base_model_name_or_path: '', r, lora_alpha: alpha, lora_dropout: 0, target_modules: LINEARS.map((name) => name.split('.')[1]), bias: 'none' }
    put('adapter/adapter_config.json', JSON.stringify(peft))
    put('adapter/adapter_model.safetensors', adapter(sizes, r, draw))
  }
  put('train.txt', TRAIN())
  put('held-out.txt', HELD_OUT())
  // Last: what was broken off is made anew.
  put('made', stamp)
  return folder
}
