//! The flags that say how a language model answers, by the names of transformers' `generate`.

use clap::Args;
use paddock::generate::Sampling;

#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Tokens of an answer at most (64)
    #[arg(long = "max_new_tokens", value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// 0 (the default) takes the likeliest token each time; the higher, the more even is the draw
    #[arg(long = "temperature", value_name = "X")]
    pub temperature: Option<f64>,
    /// Draw among so many of the likeliest tokens
    #[arg(long = "top_k", value_name = "N")]
    pub top_k: Option<usize>,
    /// Draw among the likeliest tokens that together have this probability
    #[arg(long = "top_p", value_name = "P")]
    pub top_p: Option<f64>,
    /// Leave out tokens with less than this share of the likeliest one's probability
    #[arg(long = "min_p", value_name = "P")]
    pub min_p: Option<f64>,
    /// Above 1, tokens that were there before become less likely
    #[arg(long = "repetition_penalty", value_name = "X")]
    pub repetition_penalty: Option<f64>,
    /// A text that ends an answer; can be repeated
    #[arg(long = "stop", value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Of the draw (42)
    #[arg(long = "seed", value_name = "N")]
    pub seed: Option<u64>,
}

impl SamplingArgs {
    pub fn sampling(&self) -> Sampling {
        let by_default = Sampling::default();
        Sampling {
            max_new_tokens: self.max_new_tokens.unwrap_or(by_default.max_new_tokens),
            temperature: self.temperature.unwrap_or(by_default.temperature),
            top_k: self.top_k.unwrap_or(by_default.top_k),
            top_p: self.top_p.unwrap_or(by_default.top_p),
            min_p: self.min_p.unwrap_or(by_default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(by_default.repetition_penalty),
            seed: self.seed.unwrap_or(by_default.seed),
            stop: self.stop.clone(),
        }
    }
}
