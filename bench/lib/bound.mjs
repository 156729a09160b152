// What a training step cannot do without, by arithmetic: no store of scores, no whole logits.

const FLOAT = 4
/** Logits that are there at once: a part of the vocabulary for all tokens (`MOST_LOGITS` in crate/src/train). */
const MOST_LOGITS = 4 << 20

/**
 * Bytes a token of one block: what its backward pass reads, each tensor once. The state before each of its norms, what the two norms give,
 * rotated queries and keys, values, one number a head instead of its scores, attention's result, gate, up and their product, and of an adapter
 * on all linears the seven thin products.
 */
export function ofBlock({ hidden_size: d, intermediate_size: f, num_attention_heads: heads, num_key_value_heads: kvHeads }, r = 0) {
  const kv = (d / heads) * kvHeads
  return FLOAT * (2 * d + 2 * d + (d + 2 * kv) + heads + d + 3 * f + 7 * r)
}

/** Bytes a token of the state between two blocks: all that recomputation keeps of a block. */
export const ofState = ({ hidden_size: d }) => FLOAT * d

/**
 * Bytes of activations at a step's fullest moment: what all blocks keep, or with recomputation their first states, what one keeps beside its
 * own and the gradient to its result; or at the head one part of the logits with states and their gradient. Every other gradient can be written
 * over what has been read for the last time.
 *
 * @param {object} sizes as in config.json @param {{ tokens: number, r?: number, recompute: boolean }} run
 */
export function activations(sizes, { tokens, r = 0, recompute }) {
  const { num_hidden_layers: layers, vocab_size: vocab } = sizes
  const state = tokens * ofState(sizes)
  const block = tokens * ofBlock(sizes, r)
  const head = FLOAT * Math.min(tokens * vocab, MOST_LOGITS) + 2 * state
  return recompute ? layers * state + Math.max(block, state + head) : layers * block + Math.max(2 * state, head)
}

/**
 * Of a whole run. The bytes of weights, gradients and moments are the plan's, which are exact. Gradients come as activations go: the fullest
 * moment has none yet.
 */
export function bound(sizes, run, { weights, training }) {
  // Gradients are a third of what training adds: two moments beside.
  return weights + training + Math.max(activations(sizes, run) - training / 3, 0)
}
