//! Text generation: several answers at once, a token of each a step, over a cache of keys and values.

mod answer;
mod row;
mod sampling;
mod text;

#[cfg(test)]
mod sampling_tests;
#[cfg(test)]
mod tests;

pub use answer::{Answering, prompt_ids};
pub use sampling::Sampling;
pub use text::TextStream;

use std::collections::VecDeque;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    error::Result,
    model::{KvCache, Llama},
    tokenizer::Tokenizer,
    weights::{folder::Folder, read_f32},
};
use row::Row;
use sampling::no_number;

/// Answers at once; further prompts wait.
const MOST_ROWS: usize = 16;
/// They wait too where keys and values would come to more bytes than this.
const MOST_BYTES: u64 = 512 << 20;
/// Prompts are padded to a multiple of so many tokens: each new shape costs a GPU a while.
const STEP: usize = 16;
/// Tokens that a piece of prompts has at most, and scores that a block's attention then has.
const PIECE_TOKENS: usize = 512;
const PIECE_SCORES: usize = 16 << 20;

/// What is to be answered, and how.
#[derive(Debug, Clone)]
pub struct Prompt {
    pub ids: Vec<u32>,
    pub sampling: Sampling,
}

/// Why an answer ended; OpenAI's `finish_reason`, but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended it, or a stop text came.
    Stop,
    /// It has `max_new_tokens`, or the model reads no more.
    Length,
    /// A person broke it off.
    Abort,
}

/// What a step adds to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The prompt's place.
    pub row: usize,
    /// Never half a character, nor the beginning of a stop text.
    pub text: String,
    /// Of the answer so far, without the one that ends it.
    pub tokens: usize,
    pub finished: Option<Finish>,
}

/// Prompts that are being read, a piece at a time.
struct Entering {
    rows: Vec<usize>,
    cache: KvCache,
    /// `[rows, slots]`, each prompt at its row's end.
    ids: Vec<i32>,
    slots: usize,
}

/// Answers that grow.
struct Running {
    rows: Vec<usize>,
    cache: KvCache,
    /// The last token of each, which is not in the cache yet.
    last: Vec<i32>,
}

/// Answers in progress. An answer depends on its prompt, its sampling and its place alone, not on what is answered beside
/// it: rows that are finished leave the batch, and waiting ones take their places.
#[derive(Default)]
pub struct Generation {
    rows: Vec<Row>,
    waiting: VecDeque<usize>,
    entering: Option<Entering>,
    running: Option<Running>,
}

impl Generation {
    /// # Errors
    /// A prompt that is too long for the model, or sampling that means nothing.
    pub fn new(folder: &Folder, prompts: Vec<Prompt>) -> Result<Self> {
        let mut all = Self::default();
        all.extend(folder, prompts)?;
        // Prompts of one length have no padding between them.
        all.waiting.make_contiguous().sort_by_key(|row| all.rows[*row].prompt.len());
        Ok(all)
    }

    /// Further prompts, which wait for their turn; their places go on from those before. What is drawn for them is what
    /// would be drawn if they came alone.
    ///
    /// # Errors
    /// As [`Self::new`]; none of them is taken then.
    pub fn extend(&mut self, folder: &Folder, prompts: Vec<Prompt>) -> Result<()> {
        let rows = prompts.into_iter().enumerate().map(|(index, prompt)| Row::new(index, prompt, folder));
        let mut rows = rows.collect::<Result<Vec<Row>>>()?;
        self.waiting.extend(self.rows.len()..self.rows.len() + rows.len());
        self.rows.append(&mut rows);
        Ok(())
    }

    /// A piece of some prompts, or a token of each answer: what there is to show of it.
    pub async fn advance(&mut self, model: &Llama, folder: &Folder, device: &Device) -> Result<Vec<Delta>> {
        self.admit(model, folder.tokenizer.pad_id());
        if let Some(mut entering) = self.entering.take() {
            let hidden = entering.read(model, device);
            if entering.cache.filled() < entering.slots {
                self.entering = Some(entering);
                return Ok(Vec::new());
            }
            return self.step(model, folder, entering.rows, entering.cache, hidden).await;
        }
        let Some(mut running) = self.running.take() else { return Ok(Vec::new()) };
        let ids = TensorData::new(running.last, [running.rows.len(), 1]);
        let hidden = model.extend(Tensor::from_data(ids, device), &mut running.cache);
        self.step(model, folder, running.rows, running.cache, hidden).await
    }

    /// Whether all answers are finished.
    pub fn done(&self) -> bool {
        self.waiting.is_empty() && self.entering.is_none() && self.running.is_none()
    }

    /// Breaks one answer off: nobody waits for it any more.
    pub fn cancel(&mut self, row: usize) {
        self.waiting.retain(|waiting| *waiting != row);
        if let Some(row) = self.rows.get_mut(row) {
            row.finished.get_or_insert(Finish::Abort);
        }
    }

    /// Breaks off what is not finished; gives back the rest of what was begun.
    pub fn stop(&mut self, tokenizer: &Tokenizer) -> Result<Vec<Delta>> {
        let begun = self.running.take().map(|running| running.rows).unwrap_or_default();
        (self.entering, self.waiting) = (None, VecDeque::new());
        let mut deltas = Vec::new();
        for index in begun {
            let row = &mut self.rows[index];
            if row.finished.is_some() {
                continue;
            }
            let text = row.finish(Finish::Abort, tokenizer)?;
            deltas.push(Delta { row: index, text, tokens: row.tokens, finished: row.finished });
        }
        Ok(deltas)
    }

    /// Tokens made and tokens at most, of all answers.
    pub fn progress(&self) -> (u64, u64) {
        let done = |row: &Row| if row.finished.is_some() { row.most } else { row.tokens };
        let (done, total) = self.rows.iter().fold((0, 0), |(d, t), row| (d + done(row), t + row.most));
        (done as u64, total as u64)
    }

    /// An answer's text so far: all that was handed out.
    pub fn text(&self, row: usize) -> &str {
        self.rows.get(row).map_or("", |row| row.stream.text())
    }

    /// Tokens of a prompt.
    pub fn prompt_tokens(&self, row: usize) -> usize {
        self.rows.get(row).map_or(0, |row| row.prompt.len())
    }

    /// Lets waiting prompts in, where there is room for a few of them.
    fn admit(&mut self, model: &Llama, pad: u32) {
        let running = self.running.as_ref().map_or(&[][..], |running| &running.rows);
        let few = if running.is_empty() { 1 } else { MOST_ROWS / 4 };
        if self.entering.is_some() || running.len() + few > MOST_ROWS {
            return;
        }
        let end = |row: usize| self.rows[row].prompt.len() + self.rows[row].most;
        let mut longest = running.iter().map(|row| end(*row)).max().unwrap_or(0);
        let mut rows = Vec::new();
        while let Some(row) = self.waiting.front() {
            let count = running.len() + rows.len();
            longest = longest.max(end(*row));
            let bytes = KvCache::bytes(&model.config, model.half, (count + 1) * longest);
            if count == MOST_ROWS || count > 0 && bytes > MOST_BYTES {
                break;
            }
            rows.extend(self.waiting.pop_front());
        }
        let lengths: Vec<usize> = rows.iter().map(|row| self.rows[*row].prompt.len()).collect();
        let Some(slots) = lengths.iter().max().map(|most| most.next_multiple_of(STEP)) else { return };
        let mut ids = Vec::with_capacity(rows.len() * slots);
        for row in &rows {
            let prompt = &self.rows[*row].prompt;
            ids.resize(ids.len() + slots - prompt.len(), pad as i32);
            ids.extend(prompt.iter().map(|id| *id as i32));
        }
        let cache = KvCache::new(&model.config, lengths, slots);
        self.entering = Some(Entering { rows, cache, ids, slots });
    }

    /// The next token of each of `rows`, which stand in `cache`; `hidden` is what comes of their last ones.
    async fn step(
        &mut self,
        model: &Llama,
        folder: &Folder,
        rows: Vec<usize>,
        cache: KvCache,
        hidden: Tensor<2>,
    ) -> Result<Vec<Delta>> {
        let tokens = self.choose(&rows, model.project(hidden, false)).await?;
        let (mut deltas, mut on, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (index, token)) in rows.iter().zip(tokens).enumerate() {
            let row = &mut self.rows[*index];
            if row.finished.is_some() {
                continue;
            }
            let text = row.push(token, &folder.tokenizer)?;
            if row.finished.is_none() {
                on.push((*index, token as i32));
                places.push(place);
            }
            if !text.is_empty() || row.finished.is_some() {
                deltas.push(Delta { row: *index, text, tokens: row.tokens, finished: row.finished });
            }
        }
        let (rows, last): (Vec<usize>, Vec<i32>) = on.into_iter().unzip();
        self.running = match self.running.take() {
            beside if rows.is_empty() => beside,
            None if places.len() == cache.rows() => Some(Running { rows, cache, last }),
            None => Some(Running { rows, cache: KvCache::join(vec![(cache, places)]), last }),
            Some(beside) => {
                let all = (0..beside.rows.len()).collect();
                Some(Running {
                    cache: KvCache::join(vec![(beside.cache, all), (cache, places)]),
                    rows: [beside.rows, rows].concat(),
                    last: [beside.last, last].concat(),
                })
            }
        };
        Ok(deltas)
    }

    /// The likeliest tokens are found on the device; else all logits are read.
    async fn choose(&mut self, rows: &[usize], logits: Tensor<2>) -> Result<Vec<u32>> {
        let vocab = logits.dims()[1];
        if rows.iter().all(|row| self.rows[*row].sampling.plain()) {
            // No vocabulary is so large that a float could not hold a token's number.
            let tokens: Tensor<2> = logits.argmax(1).float();
            let tokens = read_f32(tokens).await?.into_iter().map(|token| token as u32);
            return tokens.map(|token| if (token as usize) < vocab { Ok(token) } else { Err(no_number()) }).collect();
        }
        let mut logits = read_f32(logits).await?;
        let each = rows.iter().zip(logits.chunks_mut(vocab)).map(|(row, logits)| {
            let row = &mut self.rows[*row];
            row.sampling.choose(logits, &row.seen, &mut row.rng)
        });
        each.collect()
    }
}

impl Entering {
    /// Reads the next piece; the hidden states of its last token in each row.
    fn read(&mut self, model: &Llama, device: &Device) -> Tensor<2> {
        let (rows, from) = (self.rows.len(), self.cache.filled());
        let scores = model.config.num_attention_heads * rows * self.slots;
        let most = (PIECE_TOKENS / rows).min(PIECE_SCORES / scores) / STEP * STEP;
        let new = most.max(STEP).min(self.slots - from);
        let ids: Vec<i32> = self.ids.chunks(self.slots).flat_map(|row| &row[from..from + new]).copied().collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, new]), device);
        let hidden = model.extend(ids, &mut self.cache);
        let width = hidden.dims()[1];
        hidden.reshape([rows, new, width]).narrow(1, new - 1, 1).reshape([rows, width])
    }
}
