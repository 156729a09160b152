//! LLaMA (arXiv:2302.13971) with a language-model or a classification head, weights by Hugging Face's names.

mod block;
mod cache;
mod config;
mod init;
mod linear;
mod llama;
mod param;
mod rope;
mod segments;

pub use block::{Attention, Block, Mlp, RmsNorm};
pub use cache::KvCache;
pub use config::LlamaConfig;
pub use init::{Sizes, init};
pub use linear::{Linear, Lora};
pub use llama::{Head, HeadKind, Llama, Part};
pub use param::Param;
pub use rope::{RopeScaling, frequencies};
pub use segments::{Places, Segments};
