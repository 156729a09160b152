//! A language model's answers: the likeliest next token, one after the other.

use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    apply::Applied,
    config::{Method, Task},
    error::{Error, Result},
    event::{Event, Phase, Prediction},
    platform,
    tokenizer::{ChatTemplate, Message},
    train::argmax,
    weights::read_f32,
};

/// Tokens of an answer where none are asked for.
pub const NEW_TOKENS: usize = 64;

/// Lengths that the device sees are multiples of this: each new one costs a GPU a while.
const STEP: usize = 16;

/// Answers to some prompts, a token a call.
pub struct Generating {
    /// The prompts' tokens, with what was answered so far; the first ones are done.
    rows: Vec<Vec<i32>>,
    /// Tokens that belong to the prompt.
    given: Vec<usize>,
    ends: Vec<i32>,
    at: usize,
    most: usize,
    longest: usize,
}

impl Generating {
    /// `chat` puts each prompt into the model's chat template. By default that is done where there is one, unless the
    /// model was trained here on plain text.
    pub fn new(applied: &Applied, prompts: &[String], most: usize, chat: Option<bool>) -> Result<Self> {
        let (folder, tokenizer) = (&applied.folder, &applied.folder.tokenizer);
        let trained = applied.summary.is_some() || applied.config.training.method == Method::Lora;
        let template = match chat {
            Some(false) => None,
            None if trained => None,
            _ => folder.chat_template(platform::unix_time())?,
        };
        if chat == Some(true) && template.is_none() {
            let advice = "Give the prompt as it is, or put the model's chat_template.jinja into its folder.";
            return Err(Error::session(format!("{} has no chat template.", folder.name), advice));
        }
        let longest = folder.config().longest();
        let mut rows = Vec::with_capacity(prompts.len());
        for (i, prompt) in prompts.iter().enumerate() {
            let ids = match &template {
                Some(template) => tokenizer.encode_chat(&rendered(template, prompt)?)?,
                None => without_end(tokenizer.encode(prompt, None)?.ids, tokenizer.around().1),
            };
            let ids = if ids.is_empty() { vec![tokenizer.bos_id().unwrap_or(tokenizer.pad_id())] } else { ids };
            if ids.len() >= longest {
                let message = format!("Prompt {} has {} tokens; the model reads {longest}.", i + 1, ids.len());
                return Err(Error::session(message, "Shorten it."));
            }
            rows.push(ids.into_iter().map(|id| id as i32).collect::<Vec<_>>());
        }
        let given = rows.iter().map(Vec::len).collect();
        let ends = folder.ends().into_iter().map(|id| id as i32).collect();
        Ok(Self { rows, given, ends, at: 0, most: most.max(1), longest })
    }

    /// The next token, and the answer where it is the last one; whether there are more.
    pub async fn advance(&mut self, applied: &Applied) -> Result<(Vec<Event>, bool)> {
        let total = (self.rows.len() * self.most) as u64;
        let Some(row) = self.rows.get_mut(self.at) else { return Ok((Vec::new(), false)) };
        let given = self.given[self.at];
        let last = row.len() - 1;
        let length = row.len().next_multiple_of(STEP);
        // What stands after a token does not reach it.
        let mut padded = row.clone();
        padded.resize(length, applied.folder.tokenizer.pad_id() as i32);
        let device = &applied.opened.device;
        let ids = Tensor::<2, Int>::from_data(TensorData::new(padded, [1, length]), device);
        let hidden = applied.model.hidden(ids, false).narrow(0, last, 1);
        let next = argmax(&read_f32(applied.model.project(hidden, false)).await?) as i32;
        let ended = self.ends.contains(&next);
        if !ended {
            row.push(next);
        }
        let made = row.len() - given;
        let done = (self.at * self.most + made) as u64;
        let mut events = vec![Event::Progress { phase: Phase::Generating, done, total }];
        if ended || made >= self.most || row.len() >= self.longest {
            let answer: Vec<u32> = row[given..].iter().map(|id| *id as u32).collect();
            let label = applied.folder.tokenizer.decode(&answer, true)?;
            events.push(Event::Prediction(Prediction { index: self.at as u64, label, scores: Vec::new() }));
            self.at += 1;
        }
        Ok((events, self.at < self.rows.len()))
    }
}

fn rendered(template: &ChatTemplate, prompt: &str) -> Result<String> {
    template.render(&[Message::new("user", prompt)], true)
}

/// A prompt that goes on does not end with the end token that a tokenizer may put there.
fn without_end(mut ids: Vec<u32>, suffix: &[u32]) -> Vec<u32> {
    ids.truncate(ids.len() - if ids.ends_with(suffix) { suffix.len() } else { 0 });
    ids
}

/// Whether a model answers by generating.
pub fn generates(applied: &Applied) -> bool {
    applied.config.task == Task::TextGeneration
}
