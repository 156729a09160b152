//! One prompt and its answer.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;

use super::{Finish, Prompt, Sampling, TextStream};
use crate::{
    error::{Error, Result},
    rng,
    tokenizer::Tokenizer,
    weights::folder::Folder,
};

pub(super) struct Row {
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    pub rng: ChaCha8Rng,
    /// Tokens of both, for the repetition penalty.
    pub seen: BTreeSet<u32>,
    /// Tokens that end the answer.
    ends: Vec<u32>,
    pub stream: TextStream,
    /// Of the answer, without the one that ends it.
    pub tokens: usize,
    /// Tokens that the answer may have.
    pub most: usize,
    pub finished: Option<Finish>,
}

impl Row {
    /// `index` is the prompt's place; errors count from 1.
    pub fn new(index: usize, mut prompt: Prompt, folder: &Folder) -> Result<Self> {
        prompt.sampling.check()?;
        let (config, tokenizer) = (folder.config(), &folder.tokenizer);
        if prompt.ids.is_empty() {
            prompt.ids.push(tokenizer.bos_id().unwrap_or(tokenizer.pad_id()));
        }
        let Prompt { ids, sampling } = prompt;
        let longest = config.longest();
        if ids.len() >= longest {
            let message = format!(
                "Prompt {} has {} tokens; the model reads {longest}, those of the answer among them.",
                index + 1,
                ids.len()
            );
            return Err(Error::too_long(message));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= config.vocab_size) {
            let message = format!("Prompt {} has token {id}; the model's go to {}.", index + 1, config.vocab_size - 1);
            return Err(Error::session(message, "Make the tokens with the model's own tokenizer."));
        }
        // A special token has no text in which it could be found.
        let special = |stop: &String| {
            let id = tokenizer.token_to_id(stop)?;
            tokenizer.decode(&[id], true).is_ok_and(|text| text.is_empty()).then_some(id)
        };
        let ends = folder.ends().into_iter().chain(sampling.stop.iter().filter_map(special)).collect();
        let seen = if sampling.repetition_penalty == 1.0 { BTreeSet::new() } else { ids.iter().copied().collect() };
        Ok(Self {
            most: sampling.max_new_tokens.min(longest - ids.len()),
            rng: rng::stream(sampling.seed, rng::GENERATE + index as u64),
            stream: TextStream::new(sampling.stop.clone()),
            prompt: ids,
            sampling,
            seen,
            ends,
            tokens: 0,
            finished: None,
        })
    }

    /// Takes the next token; gives back what it adds to the text.
    pub fn push(&mut self, token: u32, tokenizer: &Tokenizer) -> Result<String> {
        if self.ends.contains(&token) {
            return self.finish(Finish::Stop, tokenizer);
        }
        self.tokens += 1;
        if self.sampling.repetition_penalty != 1.0 {
            self.seen.insert(token);
        }
        // Some models have more tokens than their tokenizer.
        let known = (token as usize) < tokenizer.vocab_size();
        let mut text = if known { self.stream.push(token, tokenizer)? } else { String::new() };
        if self.stream.stopped() {
            self.finished = Some(Finish::Stop);
        } else if self.tokens >= self.most {
            text += &self.finish(Finish::Length, tokenizer)?;
        }
        Ok(text)
    }

    /// Ends the answer; gives back what was held of its text.
    pub fn finish(&mut self, why: Finish, tokenizer: &Tokenizer) -> Result<String> {
        let text = self.stream.finish(tokenizer)?;
        self.finished = Some(if self.stream.stopped() { Finish::Stop } else { why });
        Ok(text)
    }
}
