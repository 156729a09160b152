// A small LLaMA as a GGUF file whose matrices are blocks of random numbers, always the same.

import { parameters, random, shapes } from '../../bench/lib/model.mjs'

/** By name: GGML's number of the type, bytes a block of 32 numbers, and the exponent of a block's scale that gives numbers of about ±0.03. */
export const BLOCKS = { Q4_0: { id: 2, bytes: 18, exponent: 7 }, Q8_0: { id: 8, bytes: 34, exponent: 3 } }

const BLOCK = 32
const ALIGNMENT = 32
const [U32, F32, TEXT] = [4, 6, 8]
/** Hugging Face's names of a block's layers, and GGUF's. */
const LAYERS = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  input_layernorm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
}

function nameOf(name) {
  if (name === 'model.embed_tokens.weight') return 'token_embd.weight'
  if (name === 'model.norm.weight') return 'output_norm.weight'
  const [, layer, module] = /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(name)
  return `blk.${layer}.${LAYERS[module]}.weight`
}

const number = (write, bytes) => (value) => {
  const buffer = Buffer.alloc(bytes)
  buffer[write](value)
  return buffer
}
const u32 = number('writeUInt32LE', 4)
const f32 = number('writeFloatLE', 4)
const u64 = (value) => number('writeBigUInt64LE', 8)(BigInt(value))
const string = (text) => Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)])
const padding = (length) => Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT)

/** Every scale is a 16-bit float of one exponent, and every number in the blocks any. */
function blocks(count, { bytes, exponent }, draw) {
  const out = Buffer.alloc((count / BLOCK) * bytes)
  for (let at = 0; at < out.length; at += 1) out[at] = draw() * 256
  for (let at = 0; at < out.length; at += bytes) out.writeUInt16LE((exponent << 10) | (draw() * 1024), at)
  return out
}

/** Numbers in the matrices, which are in blocks. */
export const inBlocks = (sizes) => shapes(sizes).filter(([, shape]) => shape.length === 2).reduce((sum, [, [rows, columns]]) => sum + rows * columns, 0)
export const inVectors = (sizes) => parameters(sizes) - inBlocks(sizes)

/** @param {Parameters<typeof shapes>[0]} sizes @param {keyof typeof BLOCKS} kind */
export function gguf(sizes, kind, { bos = 256, eos = 257, seed = 11 } = {}) {
  const draw = random(seed)
  const metadata = [
    ['general.architecture', TEXT, string('llama')],
    ['llama.block_count', U32, u32(sizes.num_hidden_layers)],
    ['llama.context_length', U32, u32(512)],
    ['llama.embedding_length', U32, u32(sizes.hidden_size)],
    ['llama.feed_forward_length', U32, u32(sizes.intermediate_size)],
    ['llama.attention.head_count', U32, u32(sizes.num_attention_heads)],
    ['llama.attention.head_count_kv', U32, u32(sizes.num_key_value_heads)],
    ['llama.attention.layer_norm_rms_epsilon', F32, f32(1e-5)],
    ['llama.rope.freq_base', F32, f32(10_000)],
    ['tokenizer.ggml.bos_token_id', U32, u32(bos)],
    ['tokenizer.ggml.eos_token_id', U32, u32(eos)],
  ]
  const infos = []
  const data = []
  let offset = 0
  for (const [name, shape] of shapes(sizes)) {
    const count = shape.reduce((a, b) => a * b)
    const vector = shape.length === 1
    const bytes = vector ? Buffer.from(new Float32Array(count).fill(1).buffer) : blocks(count, BLOCKS[kind], draw)
    // Columns come first.
    infos.push(string(nameOf(name)), u32(shape.length), ...[...shape].reverse().map(u64), u32(vector ? 0 : BLOCKS[kind].id), u64(offset))
    const whole = [bytes, padding(bytes.length)]
    data.push(...whole)
    offset += whole[0].length + whole[1].length
  }
  const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(data.length / 2), u64(metadata.length), ...metadata.flatMap(([key, type, value]) => [string(key), u32(type), value]), ...infos])
  return Buffer.concat([head, padding(head.length), ...data])
}
