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
        (
            "clippy",
            &["clippy", "--release", "--workspace", "--all-targets"],
        ),
        (
            "clippy for wasm",
            &[
                "clippy",
                "--release",
                "-p",
                "paddock-web",
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
