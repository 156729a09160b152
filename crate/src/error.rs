//! [`Error`]: every way in which something handed over by a person, or a device, can fail the engine.
//!
//! The message names the file, row, key or tensor; [`Error::advice`] says what the person can change.

use crate::event::{Failure, FailureKind};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- configuration
    /// A key whose value cannot be used; `place` is `run.yaml line 3: ` where it was read from a file, `nearest` the word
    /// that was probably meant.
    #[error("{place}{key}: expected {expected}, got {got}")]
    Config { place: String, key: String, expected: String, got: String, nearest: Option<String> },
    /// A configuration file that cannot be read; `place` is `run.yaml line 3`.
    #[error("{place}: {message}")]
    ConfigSyntax { place: String, message: String, advice: String },

    // ---- data
    /// `row` is the line where the row begins (the item's number in a JSON array), counted from 1.
    #[error("{file}{}: {message}", at_row(.row))]
    Data { file: String, row: Option<u64>, message: String, advice: String },

    // ---- model
    /// A `config.json` that does not describe a model this program can train.
    #[error("{file}: {key}: expected {expected}, got {got}")]
    Model { file: String, key: String, expected: String, got: String },
    /// A weight file that is not what its header or the model says.
    #[error("{file}{}: expected {expected}, got {got}", at_tensor(.tensor))]
    Weights { file: String, tensor: Option<String>, expected: String, got: String },

    /// A model in a format, or of a kind, that is not read.
    #[error("{file}: {message}")]
    Format { file: String, message: String, advice: String },

    // ---- tokenizer
    #[error("{file}: {message}")]
    Tokenizer { file: String, message: String, advice: String },

    // ---- device
    #[error("{message}")]
    Device { message: String, advice: String },
    #[error("The GPU stopped answering (device lost): another program, the driver or the system took it.")]
    DeviceLost,
    #[error("The device has no memory left: {message}")]
    OutOfMemory { message: String },

    // ---- training
    /// The loss or a gradient is no longer a finite number.
    #[error("{what} is {value} at step {step}")]
    NotFinite { what: &'static str, value: f64, step: u64 },
    /// The watchdog's word.
    #[error("the loss diverges: {smoothed:.4} at step {step}, after {best:.4} at its best")]
    Diverging { smoothed: f64, best: f64, step: u64 },
    /// The recovery policy's last try did not help either.
    #[error("{cause}{}", tries(.tried))]
    Unrecovered { cause: Box<Error>, tried: Vec<String> },
    /// A checkpoint that cannot be gone on from.
    #[error("{file}: {message}")]
    Checkpoint { file: String, message: String, advice: String },
    /// A command that does not fit the session's state (`start` while training, `export` before it).
    #[error("{message}")]
    Session { message: String, advice: String },
    /// A prompt with more tokens than the model reads.
    #[error("{message}")]
    TooLong { message: String },

    // ---- files
    #[error("{name}: {source}")]
    Io {
        name: String,
        #[source]
        source: std::io::Error,
    },
}

fn at_row(row: &Option<u64>) -> String {
    row.map(|row| format!(", row {row}")).unwrap_or_default()
}

fn tries(tried: &[String]) -> String {
    if tried.is_empty() { String::new() } else { format!("; tried before: {}", tried.join("; ")) }
}

fn at_tensor(tensor: &Option<String>) -> String {
    tensor.as_ref().map(|name| format!(", tensor {name}")).unwrap_or_default()
}

impl Error {
    pub fn config(key: impl Into<String>, expected: impl Into<String>, got: impl std::fmt::Display) -> Self {
        let (key, expected, got) = (key.into(), expected.into(), got.to_string());
        Self::Config { place: String::new(), key, expected, got, nearest: None }
    }

    /// About a configuration file, or one of its lines.
    pub fn syntax(place: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::ConfigSyntax { place: place.to_owned(), message: message.into(), advice: advice.into() }
    }

    /// Where the key was written.
    #[must_use]
    pub fn at(mut self, written: String) -> Self {
        if let Self::Config { place, .. } = &mut self {
            *place = format!("{written}: ");
        }
        self
    }

    /// What the unknown word was probably meant to be.
    #[must_use]
    pub fn nearest(mut self, word: Option<&str>) -> Self {
        if let Self::Config { nearest, .. } = &mut self {
            *nearest = word.map(str::to_owned);
        }
        self
    }

    /// About a data file as a whole.
    pub fn data(file: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Data { file: file.to_owned(), row: None, message: message.into(), advice: advice.into() }
    }

    /// About one row of a data file.
    pub fn row(file: &str, row: u64, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Data { file: file.to_owned(), row: Some(row), message: message.into(), advice: advice.into() }
    }

    pub fn model(file: &str, key: impl Into<String>, expected: impl Into<String>, got: impl std::fmt::Display) -> Self {
        Self::Model { file: file.to_owned(), key: key.into(), expected: expected.into(), got: got.to_string() }
    }

    /// About a weight file's header (`tensor: None`) or one of its tensors.
    pub fn weights(file: &str, tensor: Option<&str>, expected: impl Into<String>, got: impl std::fmt::Display) -> Self {
        Self::Weights {
            file: file.to_owned(),
            tensor: tensor.map(str::to_owned),
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    /// About a model that is sound but cannot be used as it is.
    pub fn format(file: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Format { file: file.to_owned(), message: message.into(), advice: advice.into() }
    }

    pub fn tokenizer(file: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Tokenizer { file: file.to_owned(), message: message.into(), advice: advice.into() }
    }

    pub fn device(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Device { message: message.into(), advice: advice.into() }
    }

    pub fn session(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Session { message: message.into(), advice: advice.into() }
    }

    pub fn too_long(message: impl Into<String>) -> Self {
        Self::TooLong { message: message.into() }
    }

    pub fn checkpoint(file: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Checkpoint { file: file.to_owned(), message: message.into(), advice: advice.into() }
    }

    pub fn io(name: &str, source: std::io::Error) -> Self {
        Self::Io { name: name.to_owned(), source }
    }

    /// What the person can change.
    pub fn advice(&self) -> String {
        match self {
            Self::Config { nearest: Some(word), .. } => format!("Did you mean `{word}`?"),
            Self::Config { key, expected, .. } => format!("Set {key} to {expected}, or leave it out for its default."),
            Self::ConfigSyntax { advice, .. }
            | Self::Data { advice, .. }
            | Self::Format { advice, .. }
            | Self::Tokenizer { advice, .. }
            | Self::Device { advice, .. }
            | Self::Checkpoint { advice, .. }
            | Self::Session { advice, .. } => advice.clone(),
            Self::Model { .. } => {
                "Choose a folder with a LLaMA model in Hugging Face's layout, or the starter model.".to_owned()
            }
            Self::Weights { .. } => {
                "Download or copy the weight file again; it must belong to the config.json beside it.".to_owned()
            }
            Self::TooLong { .. } => "Shorten it.".to_owned(),
            Self::NotFinite { .. } => {
                "Lower training.learning_rate, or set training.max_grad_norm to 1.0 and add warm-up steps. If it computes \
                 in 16 bits, set training.mixed_precision to no."
                    .to_owned()
            }
            Self::DeviceLost => "Start again; if it happens again, choose the CPU device or a smaller batch.".to_owned(),
            Self::OutOfMemory { .. } => {
                "Lower training.batch_size (and raise training.gradient_accumulation_steps), lower model.max_seq_length, or \
                 set training.gradient_checkpointing."
                    .to_owned()
            }
            Self::Diverging { .. } => "Lower training.learning_rate, or add warm-up steps.".to_owned(),
            Self::Unrecovered { cause, .. } => cause.advice(),
            Self::Io { .. } => "Check that the file is there and can be read, then choose it again.".to_owned(),
        }
    }

    /// What a program does something about.
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            Self::TooLong { .. } => Some(FailureKind::TooLong),
            Self::DeviceLost => Some(FailureKind::DeviceLost),
            Self::OutOfMemory { .. } => Some(FailureKind::OutOfMemory),
            Self::Unrecovered { cause, .. } => cause.kind(),
            _ => None,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { message: error.to_string(), advice: error.advice(), kind: error.kind() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_place_and_advice_the_change() {
        let failure = Failure::from(Error::row("a.csv", 7, "3 fields, the header has 2", "Fix the row."));
        assert_eq!(failure.message, "a.csv, row 7: 3 fields, the header has 2");
        assert_eq!(failure.advice, "Fix the row.");

        let error = Error::config("training.batch_size", "a whole number of at least 1", 0);
        assert_eq!(error.to_string(), "training.batch_size: expected a whole number of at least 1, got 0");
        assert!(error.advice().contains("training.batch_size"));

        let error = Error::weights("model.safetensors", Some("lm_head.weight"), "[2, 3]", "[3, 2]");
        assert_eq!(error.to_string(), "model.safetensors, tensor lm_head.weight: expected [2, 3], got [3, 2]");
    }
}
