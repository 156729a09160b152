//! An answer's text as its tokens come, for somebody who reads along: no piece of it is ever taken back.

use crate::{error::Result, tokenizer::Tokenizer};

/// What a decoder puts for bytes that are no character, or not yet one.
const BROKEN: char = '\u{FFFD}';

/// Tokens so far, and how much of their text was handed out.
#[derive(Debug)]
pub struct TextStream {
    ids: Vec<u32>,
    /// Tokens before `read` are in `text`. Those from `from` on are decoded again with each new one, as what a token says
    /// depends on its neighbours: half a character, a space that only stands between words.
    from: usize,
    read: usize,
    text: String,
    /// Bytes of `text` that were handed out.
    sent: usize,
    stop: Vec<String>,
    stopped: bool,
}

impl TextStream {
    pub fn new(stop: Vec<String>) -> Self {
        Self { ids: Vec::new(), from: 0, read: 0, text: String::new(), sent: 0, stop, stopped: false }
    }

    /// What can be said for sure after this token.
    pub fn push(&mut self, id: u32, tokenizer: &Tokenizer) -> Result<String> {
        self.ids.push(id);
        let piece = self.pending(tokenizer)?;
        if !piece.is_empty() && !piece.ends_with(BROKEN) {
            self.text += &piece;
            self.from = self.read;
            self.read = self.ids.len();
        }
        Ok(self.settle(false))
    }

    /// What was held back, now that nothing comes any more. The beginning of a character is left out.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        if !self.stopped {
            self.text += self.pending(tokenizer)?.trim_end_matches(BROKEN);
            self.read = self.ids.len();
        }
        Ok(self.settle(true))
    }

    /// What the tokens after `read` add.
    fn pending(&self, tokenizer: &Tokenizer) -> Result<String> {
        let before = tokenizer.decode(&self.ids[self.from..self.read], true)?;
        let now = tokenizer.decode(&self.ids[self.from..], true)?;
        match now.strip_prefix(&before) {
            Some(piece) => Ok(piece.to_owned()),
            // A byte that is no character spoils those before it, where a decoder takes bytes together.
            None => tokenizer.decode(&self.ids[self.read..], true),
        }
    }

    /// Whether a stop text came.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// All of it, up to a stop text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The part that is settled: not what may be the beginning of a stop text, unless the answer is `over`.
    fn settle(&mut self, over: bool) -> String {
        let new = &self.text[self.sent..];
        let mut end = self.text.len();
        if let Some(at) = self.stop.iter().filter_map(|stop| new.find(stop.as_str())).min() {
            end = self.sent + at;
            self.text.truncate(end);
            self.stopped = true;
        } else if !over {
            end -= self.stop.iter().map(|stop| overlap(new, stop)).max().unwrap_or(0);
        }
        let piece = self.text[self.sent..end].to_owned();
        self.sent = end;
        piece
    }
}

/// Bytes at the end of `text` by which `stop` may have begun.
fn overlap(text: &str, stop: &str) -> usize {
    let parts = stop.char_indices().map(|(at, _)| at).skip(1);
    parts.filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}
