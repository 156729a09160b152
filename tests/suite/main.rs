//! Integration tests, one binary: linking Burn takes longer than running most of them.

mod cli;
mod formats;
mod golden;
mod hostile;
mod memory;
mod protocol;
