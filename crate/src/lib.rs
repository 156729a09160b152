//! Paddock's engine: fine-tunes LLaMA models, pumped by a command line or a browser tab.
//!
//! A shell sends [`event::Command`]s to an [`engine::Engine`] and maps the [`event::Event`]s that come back; it never
//! reaches further inside.

#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)
)]

pub mod adapter;
pub mod apply;
pub mod batch;
pub mod config;
pub mod data;
pub mod device;
pub mod engine;
pub mod error;
pub mod eval;
pub mod event;
pub mod export;
pub mod generate;
pub mod kernels;
pub mod model;
pub mod packing;
pub mod plan;
pub mod platform;
pub mod plugin;
pub mod prepare;
pub mod prompt;
#[cfg(test)]
mod prompt_golden_tests;
pub mod record;
pub mod rng;
pub mod scenario;
pub mod state;
pub mod storage;
pub mod sweep;
pub mod tokenizer;
pub mod train;
pub mod weights;
