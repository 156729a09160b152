//! `cargo xtask <command>`: everything around the crates, from the first tool to the last test.

mod bench;
mod check;
mod fuzz;
mod lint;
mod setup;
mod shop;
mod test;
mod toolchain;

use std::process::ExitCode;

use setup::Need;
use shop::{Result, Shop};

const HELP: &str = "\
cargo xtask setup              find what is missing, get it, say so; silent when all is there
cargo xtask serve [options]    build the page and serve it on localhost
    --port N                   default 8080
    --no-open                  open no browser
cargo xtask page               build the page to be published into dist: smaller, with packed files (.br, .gz) beside its own
cargo xtask test [half]        all tests; the last line counts them
    --native                   only the crates and scripts
    --browser                  only the page, in Chromium
cargo xtask check              formatting, clippy, source rules, then all tests
cargo xtask fuzz [N] [reader…]  damaged files, N (a million) for each reader: safetensors gguf configurations
                               adapters run_files tokenizer_models tokenizer_files
cargo xtask bench [name [flags]]  measurements into bench/results: browser, native, kernels, profile, memory, growth,
                               page, and their report (default: browser and page; cargo xtask bench help lists them)
cargo xtask data [name…]       sample data into .paddock/data: spam, sotu, snippets, aclsum (default: spam sotu)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out one command; `false` where it ran and found failures.
fn run(arguments: &[String]) -> Result<bool> {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", arguments),
    };
    let mut shop = Shop::open();
    match command {
        "setup" => {
            no_more(rest)?;
            setup::get(&mut shop, &Need::ALL)?;
            Ok(true)
        }
        "serve" => serve(&mut shop, rest),
        "page" => {
            no_more(rest)?;
            setup::get(&mut shop, &Need::PAGE)?;
            setup::data(&shop, &[])?;
            shop::passes(&mut shop.page(true))
        }
        "test" => {
            let halves = test::Halves::from_flags(rest)?;
            test::run(&mut shop, halves)
        }
        "check" => {
            no_more(rest)?;
            check::run(&mut shop)
        }
        "fuzz" => fuzz::run(&mut shop, rest),
        "bench" => bench::run(&mut shop, rest),
        "data" => {
            setup::get(&mut shop, &[Need::Npm])?;
            setup::data(&shop, rest)?;
            Ok(true)
        }
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(true)
        }
        other => Err(format!("there is no command \"{other}\"\n\n{HELP}")),
    }
}

fn no_more(rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => Err(format!("\"{extra}\" is not understood here\n\n{HELP}")),
    }
}

fn serve(shop: &mut Shop, rest: &[String]) -> Result<bool> {
    let mut open = true;
    let mut port = None;
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--no-open" => open = false,
            "--port" => {
                let value = rest.next().ok_or("--port wants a number")?;
                port = Some(
                    value.parse::<u16>().map_err(|_| format!("--port {value}: a port is a number from 1 to 65535"))?,
                );
            }
            other => return Err(format!("serve does not know \"{other}\"\n\n{HELP}")),
        }
    }
    setup::get(shop, &Need::PAGE)?;
    setup::data(shop, &[])?;

    let mut trunk = shop.trunk("serve");
    if open {
        trunk.arg("--open");
    }
    if let Some(port) = port {
        trunk.args(["--port", &port.to_string()]);
    }
    println!("building the page (the first time takes a quarter of an hour), then serving it; Ctrl+C ends");
    shop::passes(&mut trunk)
}
