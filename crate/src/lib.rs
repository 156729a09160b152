//! Paddock's engine: fine-tunes LLaMA models, pumped by a command line or a browser tab.

pub mod config;
pub mod event;
pub mod platform;
