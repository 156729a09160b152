//! `cargo xtask bench`: speed, measured side by side in one run; never part of the tests.

use crate::setup::{self, Need};
use crate::shop::{self, Result, Shop};

/// Sizes of the model that Paddock's peers were measured with.
const SIZES: [&str; 12] = [
    "--vocab_size",
    "512",
    "--hidden_size",
    "288",
    "--intermediate_size",
    "768",
    "--num_hidden_layers",
    "2",
    "--num_attention_heads",
    "6",
    "--num_key_value_heads",
    "6",
];

/// `browser [steps]`: bench/browser.mjs on the built page.
pub fn run(shop: &mut Shop, rest: &[String]) -> Result<bool> {
    let steps = match rest.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["browser"] => "4".to_string(),
        ["browser", steps] if steps.parse::<u32>().is_ok_and(|n| n > 1) => (*steps).to_string(),
        _ => return Err("bench takes: browser [steps, at least 2]".into()),
    };
    setup::get(shop, &Need::ALL)?;
    setup::data(shop, &[])?;
    let model = ".paddock/bench-model";
    let mut init = shop.command("cargo");
    init.args(["run", "--release", "--quiet", "-p", "paddock", "--", "init", "--train_file", ".paddock/data/sotu.txt"])
        .args(SIZES)
        .args(["--output_dir", model, "--overwrite_output_dir"]);
    shop::must(&mut init)?;
    let mut trunk = shop.trunk("build");
    trunk.arg("--release");
    shop::must(&mut trunk)?;
    let mut node = shop.command("node");
    node.args(["bench/browser.mjs", model, &steps]);
    shop::passes(&mut node)
}
