//! The cheapest check first; all of them run, then the tests.

use crate::lint;
use crate::setup::{self, Need};
use crate::shop::{self, Result, Shop};
use crate::test::{self, Halves};

pub fn run(shop: &mut Shop) -> Result<bool> {
    setup::get(shop, &Need::NATIVE)?;
    let mut failed = Vec::new();

    println!("== source rules");
    let breaches = lint::run(&shop.root)?;
    for breach in &breaches {
        println!("{breach}");
    }
    if !breaches.is_empty() {
        failed.push("source rules");
    }
    let deny = ["--", "-D", "warnings"];
    let cargo: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--all", "--check"]),
        ("clippy", &["clippy", "--release", "--workspace", "--all-targets"]),
        (
            "clippy for wasm",
            &[
                "clippy",
                "--release",
                "-p",
                "paddock-web",
                "-p",
                "paddock-encodings",
                "--target",
                "wasm32-unknown-unknown",
            ],
        ),
    ];
    for (name, arguments) in cargo {
        let mut command = shop.command("cargo");
        command.args(arguments);
        if name.starts_with("clippy") {
            command.args(deny);
        }
        println!("\n== {name}: {}", shop::line(&command));
        if !shop::passes(&mut command)? {
            failed.push(name);
        }
    }
    let tests = test::run(shop, Halves::BOTH)?;
    if !failed.is_empty() {
        println!("failed checks: {}", failed.join(", "));
    }
    Ok(tests && failed.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Each dependency of `paddock` with its features, as cargo would build it along these edges.
    fn features(edges: &str) -> BTreeSet<String> {
        let mut cargo = Shop::open().command("cargo");
        cargo.args(["tree", "--offline", "-p", "paddock", "--prefix", "none"]);
        cargo.args(["--format", "{p} {f}", "--edges", edges]);
        let tree = shop::output(&mut cargo).expect("cargo tree");
        tree.lines().map(|line| line.trim_end_matches(" (*)").trim_end().to_string()).collect()
    }

    /// One feature more on a crate at the root (libc, bitflags) and the tests compile wgpu and Burn once again.
    #[test]
    fn dev_dependencies_change_no_feature_of_the_build() {
        let build = features("normal,build");
        let test = features("normal,build,dev");
        assert!(build.len() > 100, "{build:?}");
        let changed: Vec<_> = build.difference(&test).collect();
        assert!(changed.is_empty(), "built again for the tests with other features: {changed:?}");
    }

    /// What turns fusion on for one crate of the page turns it on for all: a tenth of what a visitor loads.
    #[test]
    fn the_page_is_built_without_fusion() {
        let mut cargo = Shop::open().command("cargo");
        cargo.args(["tree", "--offline", "-p", "paddock-web", "--target", "wasm32-unknown-unknown"]);
        cargo.args(["--prefix", "none", "--edges", "normal"]);
        let tree = shop::output(&mut cargo).expect("cargo tree");
        assert!(tree.lines().any(|line| line.starts_with("burn-cubecl v")), "{tree}");
        let fusion: Vec<_> = tree.lines().filter(|line| line.contains("fusion")).collect();
        assert!(fusion.is_empty(), "in the page's tree: {fusion:?}");
    }
}
