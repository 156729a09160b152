//! Damaged files by the million: tests/suite/hostile.rs with more inputs than a test run has.

use crate::setup::{self, Need};
use crate::shop::{self, Result, Shop};

const INPUTS: &str = "1000000";

/// `rest` is how many inputs each reader gets, and which of the readers' tests; `false` where one of them failed.
pub fn run(shop: &mut Shop, rest: &[String]) -> Result<bool> {
    let (inputs, readers) = match rest.split_first() {
        Some((first, rest)) if first.parse::<u64>().is_ok() => (first.as_str(), rest),
        _ => (INPUTS, rest),
    };
    setup::get(shop, &Need::NATIVE)?;
    let mut cargo = shop.command("cargo");
    cargo.args(["test", "--release", "-p", "paddock", "--test", "suite", "--", "--nocapture"]);
    if readers.is_empty() {
        cargo.arg("hostile::");
    }
    cargo.args(readers.iter().map(|reader| format!("hostile::{reader}")));
    cargo.env("PADDOCK_HOSTILE_INPUTS", inputs);
    println!("{inputs} inputs a reader: {}", shop::line(&cargo));
    shop::passes(&mut cargo)
}
