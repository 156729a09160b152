//! Integration tests, one binary: linking Burn takes longer than running most of them.

mod cli;
mod export;
mod golden;
mod hub;
mod protocol;
