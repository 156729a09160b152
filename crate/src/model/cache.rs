//! Keys and values of the tokens that a model has seen: the next token then costs one token's work.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{LlamaConfig, rope::Rotation};

/// What a masked score is raised by: after the softmax nothing is left of it.
const MASKED: f32 = -1e30;

/// Keys and values of one layer, `[kv_heads, batch, capacity, head_dim]` each; none before the first token.
pub(super) type Held = Option<[Tensor<4>; 2]>;

/// What [`super::Llama::extend`] keeps between its calls.
///
/// All rows end at the same slot and begin where their length says (padding on the left). So a step writes one slice
/// whatever rows there are, rows come and go by [`Self::join`], and no row's numbers depend on its neighbours: positions
/// count from a row's own first token, and what stands before it is masked.
#[derive(Debug, Clone)]
pub struct KvCache {
    pub(super) layers: Vec<Held>,
    /// Slots before each row's first token.
    pads: Vec<usize>,
    /// Tokens of each row's prompt: a dynamic rotary embedding is one for all of them.
    prompts: Vec<usize>,
    filled: usize,
}

impl KvCache {
    /// For prompts of these lengths, of which the longest has at most `slots` tokens: the ids that come first are
    /// `[batch, slots]` in one piece or in several, each row's prompt at its end.
    pub fn new(config: &LlamaConfig, prompts: Vec<usize>, slots: usize) -> Self {
        let pads = prompts.iter().map(|length| slots.saturating_sub(*length)).collect();
        Self { layers: vec![None; config.num_hidden_layers], pads, prompts, filled: 0 }
    }

    pub fn rows(&self) -> usize {
        self.pads.len()
    }

    /// Slots that hold a token or padding.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes on the device for so many tokens.
    pub fn bytes(config: &LlamaConfig, half: bool, tokens: usize) -> u64 {
        let numbers = (2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim) as u64;
        let size = if half { 2 } else { 4 };
        numbers.saturating_mul(size).saturating_mul(tokens as u64)
    }

    /// The named rows of each cache, in this order, as one batch. Slots that none of them needs are given up.
    pub fn join(mut parts: Vec<(Self, Vec<usize>)>) -> Self {
        parts.retain(|(_, rows)| !rows.is_empty());
        let cut = |(cache, rows): &(Self, Vec<usize>)| rows.iter().map(|row| cache.pads[*row]).min().unwrap_or(0);
        let cuts: Vec<usize> = parts.iter().map(cut).collect();
        let filled = parts.iter().zip(&cuts).map(|((cache, _), cut)| cache.filled - cut).max().unwrap_or(0);
        let (mut pads, mut prompts) = (Vec::new(), Vec::new());
        for (cache, rows) in &parts {
            pads.extend(rows.iter().map(|row| cache.pads[*row] + filled - cache.filled));
            prompts.extend(rows.iter().map(|row| cache.prompts[*row]));
        }
        let layers = (0..parts.first().map_or(0, |(cache, _)| cache.layers.len())).map(|layer| {
            let mut halves = [Vec::new(), Vec::new()];
            for ((cache, rows), cut) in parts.iter_mut().zip(&cuts) {
                let ids: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
                for (half, held) in halves.iter_mut().zip(cache.layers[layer].take()?) {
                    let ids = TensorData::new(ids.clone(), [ids.len()]);
                    let ids = Tensor::<1, Int>::from_data(ids, &held.device());
                    half.push(held.narrow(2, *cut, cache.filled - cut).select(1, ids));
                }
            }
            let [keys, values] = halves;
            Some([side_by_side(keys, filled)?, side_by_side(values, filled)?])
        });
        Self { layers: layers.collect(), pads, prompts, filled }
    }

    /// What the next `new` tokens of each row need.
    pub(super) fn step(&self, config: &LlamaConfig, new: usize, device: &Device) -> Step {
        let device = device.clone().without_autodiff();
        let (at, to) = (self.filled, self.filled + new);
        let capacity = capacity(to);
        // A piece of a prompt leaves out the empty slots, so that it is causal as it is; single tokens have few shapes.
        let keys = if new == 1 { capacity } else { to };
        let mut angles = Vec::with_capacity(self.pads.len() * new * config.head_dim / 2);
        for (pad, prompt) in self.pads.iter().zip(&self.prompts) {
            let frequencies = config.frequencies(to.saturating_sub(*pad).max(*prompt));
            for slot in at..to {
                let position = slot.saturating_sub(*pad) as f32;
                angles.extend(frequencies.iter().map(|frequency| position * frequency));
            }
        }
        let batch = self.pads.len();
        let padded = self.pads.iter().any(|pad| *pad > 0);
        let hidden = if new == 1 && (padded || keys > to) {
            let hidden = |pad: &usize| {
                let seen = *pad..to;
                (0..keys).map(move |slot| if seen.contains(&slot) { 0.0 } else { MASKED })
            };
            let mask: Vec<f32> = self.pads.iter().flat_map(hidden).collect();
            Hidden::Slots(Tensor::from_data(TensorData::new(mask, [1, batch, 1, keys]), &device))
        } else if padded {
            // Padding itself sees its own slot, as each query must see a key.
            let first = |pad: &usize| {
                let pad = *pad;
                (at..to).map(move |own| pad.min(own) as i32)
            };
            let first: Vec<i32> = self.pads.iter().flat_map(first).collect();
            Hidden::Before(Tensor::from_data(TensorData::new(first, [batch, new]), (&device, DType::I32)))
        } else {
            Hidden::Nothing
        };
        Step { batch, new, rope: Rotation::of(angles, config.head_dim / 2, &device), hidden, at, capacity, keys }
    }

    /// That many tokens of each row were added to every layer.
    pub(super) fn advance(&mut self, new: usize) {
        self.filled += new;
    }
}

/// Slots for so many tokens: at most a quarter more (or up to the next 64), as each shape costs a GPU a while.
fn capacity(tokens: usize) -> usize {
    tokens.next_multiple_of((tokens.next_power_of_two() / 8).max(64))
}

/// Rows of several caches below each other, all up to the same slot.
fn side_by_side(parts: Vec<Tensor<4>>, filled: usize) -> Option<Tensor<4>> {
    let [heads, _, _, dim] = parts.first()?.dims();
    let batch = parts.iter().map(|part| part.dims()[1]).sum();
    let mut all = empty([heads, batch, capacity(filled), dim], parts.first()?);
    let mut row = 0;
    for part in parts {
        let [_, rows, slots, _] = part.dims();
        all = all.slice_assign([0..heads, row..row + rows, filled - slots..filled, 0..dim], part);
        row += rows;
    }
    Some(all)
}

/// Zeros rather than whatever is there: a masked value still takes part, with weight zero.
fn empty(shape: [usize; 4], like: &Tensor<4>) -> Tensor<4> {
    Tensor::zeros(shape, (&like.device(), like.dtype()))
}

/// What the tokens of a step do not see beside what comes after them.
pub(super) enum Hidden {
    Nothing,
    /// What stands before the first key of each token, `[batch, new]`: the padding of prompts.
    Before(Tensor<2, Int>),
    /// Padding, and the slots after a single token: a mask for [`hide`], `[1, batch, 1, keys]`.
    Slots(Tensor<4>),
}

/// Scores `[kv_heads · batch, ·, keys]` with those under a mask made so small that nothing is left of them.
pub(super) fn hide(scores: Tensor<3>, mask: &Tensor<4>) -> Tensor<3> {
    let ([all, rows, keys], batch) = (scores.dims(), mask.dims()[1]);
    let scores: Tensor<4> = scores.reshape([all / batch, batch, rows, keys]);
    (scores + mask.clone()).reshape([all, rows, keys])
}

/// One forward pass over a cache: where its tokens stand and what they see.
pub(super) struct Step {
    pub batch: usize,
    /// Tokens a row.
    pub new: usize,
    /// A line for each token of each row.
    pub rope: Rotation,
    pub hidden: Hidden,
    at: usize,
    capacity: usize,
    keys: usize,
}

impl Step {
    /// Puts the new tokens' keys and values, `[kv_heads, batch, new, head_dim]`, into `held`; gives back all that the
    /// tokens look at, `[kv_heads · batch, keys, head_dim]`.
    pub fn put(&self, held: &mut Held, new: [Tensor<4>; 2]) -> [Tensor<3>; 2] {
        let slots = self.at..self.at + self.new;
        let before = held.take();
        let all = match before {
            Some([keys, values]) => {
                let [k, v] = new;
                [self.write(Some(keys), k, &slots), self.write(Some(values), v, &slots)]
            }
            None => new.map(|new| self.write(None, new, &slots)),
        };
        *held = Some(all.clone());
        all.map(|all| {
            let [heads, batch, _, dim] = all.dims();
            let seen = if self.keys == self.capacity { all } else { all.narrow(2, 0, self.keys) };
            seen.reshape([heads * batch, self.keys, dim])
        })
    }

    /// In place, where there is room: nobody else holds the tensor.
    fn write(&self, held: Option<Tensor<4>>, new: Tensor<4>, slots: &Range<usize>) -> Tensor<4> {
        let [heads, batch, _, dim] = new.dims();
        let all = match held {
            Some(held) if held.dims()[2] == self.capacity => held,
            held => {
                let larger = empty([heads, batch, self.capacity, dim], &new);
                match held {
                    None => larger,
                    Some(held) => {
                        larger.slice_assign([0..heads, 0..batch, 0..self.at, 0..dim], held.narrow(2, 0, self.at))
                    }
                }
            }
        };
        all.slice_assign([0..heads, 0..batch, slots.clone(), 0..dim], new)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
