//! Paddock's engine: fine-tunes LLaMA models, pumped by a command line or a browser tab.

pub mod batch;
pub mod config;
pub mod data;
pub mod error;
pub mod eval;
pub mod event;
pub mod platform;
pub mod tokenizer;
