//! Integration tests, one binary: linking Burn takes longer than running most of them.

mod bench;
mod cli;
mod examples;
mod export;
mod formats;
mod generate;
mod golden;
mod half;
mod hostile;
mod hub;
mod memory;
mod packing;
mod parquet;
mod parts;
mod plan;
mod plugins;
mod protocol;
mod qlora;
mod runs;
mod scenarios;
mod schema;
mod serve;
