// The shapes whose kernels are measured, and what a measured time means.

import { BATCH, MODELS, SEQ } from './model.mjs'

/** As the engine's `kernels::measure::Shapes` wants them. */
const of = ({ sizes, r }) => {
  const { num_hidden_layers: _, ...rest } = sizes
  return { batch_size: BATCH, seq: SEQ, ...rest, ...(r && { r }) }
}

export const SHAPES = {
  'full-2': of(MODELS['full-2']),
  'lora-30m': of(MODELS['lora-30m']),
  smollm2: { batch_size: BATCH, seq: SEQ, hidden_size: 576, intermediate_size: 1536, num_attention_heads: 9, num_key_value_heads: 3, vocab_size: 49152, r: 8 },
}

/**
 * Adds to each rate how fast it could be: the longer of what its operations and its bytes take at the ceilings; `share` of that was
 * reached. Where a large product was measured beside it, its rate is one of the ceilings, and says at what pace the machine was. `bound` says
 * which of the two it is, or `launch` where a launch costs more than both.
 */
export function shares(rates, ceilings) {
  const fastest = Math.max(0, ...rates.map((rate) => rate.beside ?? 0))
  const flops = Math.max(ceilings.flops, fastest)
  return rates.map((rate) => {
    const [compute, memory] = [rate.flops / flops, rate.bytes / ceilings.bytes]
    const best = Math.max(compute, memory)
    const share = best / rate.seconds / (rate.beside ? rate.beside / fastest : 1)
    const bound = best < ceilings.launch ? 'launch' : compute > memory ? 'compute' : 'memory'
    return { ...rate, best_seconds: best, share, bound }
  })
}
