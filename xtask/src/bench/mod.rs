//! `cargo xtask bench NAME`: speed, memory and size, measured beside their peers; never part of the tests. Each suite is a
//! script in bench/; here is what it needs before it runs.

mod pieces;

use crate::setup::{self, Need};
use crate::shop::{self, Result, Shop};

/// Variables by which a script finds what it needs.
type Told = Vec<(&'static str, String)>;

struct Suite {
    name: &'static str,
    about: &'static str,
    /// Gets what the script needs, and tells it where that is.
    prepare: fn(&mut Shop, &[String]) -> Result<Told>,
}

static SUITES: [Suite; 8] = [
    Suite { name: "browser", about: "training in Chromium, ours and jax-js alternating", prepare: browser },
    Suite { name: "native", about: "training with the command, ours and PyTorch + PEFT alternating", prepare: native },
    Suite { name: "kernels", about: "each kernel's share of what the adapter gives", prepare: kernels },
    Suite { name: "profile", about: "where a step's time goes on the tab's GPU, by kernel", prepare: profile },
    Suite { name: "memory", about: "bytes that runs hold, against their plans", prepare: kernels },
    Suite { name: "growth", about: "speed and memory over accumulation and over 2,000 steps", prepare: growth },
    Suite { name: "page", about: "bytes over the wire, seconds to ready and to the first step", prepare: page },
    Suite { name: "report", about: "bench/report.html of all figures in bench/results", prepare: report },
];

/// What runs where no suite is named.
const USUAL: [&str; 2] = ["browser", "page"];

/// A suite's name and its flags, or nothing for the usual ones; `false` where a suite ran and something was not as it
/// should be.
pub fn run(shop: &mut Shop, rest: &[String]) -> Result<bool> {
    let Some((name, flags)) = rest.split_first() else {
        println!("{}\n", list());
        let mut fine = true;
        for name in USUAL {
            fine &= suite(shop, find(name)?, &[])?;
        }
        return Ok(fine);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        println!("{}", list());
        return Ok(true);
    }
    suite(shop, find(name)?, flags)
}

fn suite(shop: &mut Shop, suite: &Suite, flags: &[String]) -> Result<bool> {
    let told = (suite.prepare)(shop, flags)?;
    println!("\n== bench {}", suite.name);
    let mut node = shop.command("node");
    node.arg(format!("bench/{}.mjs", suite.name)).args(flags).envs(told);
    shop::passes(&mut node)
}

fn find(name: &str) -> Result<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name).ok_or_else(|| format!("there is no suite \"{name}\"\n\n{}", list()))
}

fn list() -> String {
    let lines: Vec<String> = SUITES.iter().map(|Suite { name, about, .. }| format!("    {name:<9} {about}")).collect();
    format!(
        "cargo xtask bench NAME [flags]; bench/NAME.mjs has its flags at the top. Without a name: {}.\n{}",
        USUAL.join(" and "),
        lines.join("\n")
    )
}

fn browser(shop: &mut Shop, flags: &[String]) -> Result<Told> {
    pieces::page(shop, false)?;
    if wants(flags, "--sides", "jax-js") {
        pieces::jax_js(shop)?;
    }
    Ok(Vec::new())
}

fn page(shop: &mut Shop, _: &[String]) -> Result<Told> {
    pieces::page(shop, true)?;
    Ok(Vec::new())
}

fn profile(shop: &mut Shop, _: &[String]) -> Result<Told> {
    pieces::page(shop, false)?;
    Ok(Vec::new())
}

/// Kernels and memory: a native half by the tests' binary, and one in the page.
fn kernels(shop: &mut Shop, flags: &[String]) -> Result<Told> {
    if wants(flags, "--where", "browser") {
        pieces::page(shop, false)?;
    } else {
        setup::get(shop, &Need::NATIVE)?;
    }
    Ok(Vec::new())
}

/// In the page, and with the command.
fn growth(shop: &mut Shop, flags: &[String]) -> Result<Told> {
    match wants(flags, "--where", "browser") {
        true => pieces::page(shop, false)?,
        false => setup::get(shop, &Need::NATIVE)?,
    }
    match wants(flags, "--where", "native") {
        true => Ok(vec![("PADDOCK_BIN", pieces::paddock(shop)?)]),
        false => Ok(Vec::new()),
    }
}

fn native(shop: &mut Shop, flags: &[String]) -> Result<Told> {
    setup::get(shop, &Need::NATIVE)?;
    let program = pieces::paddock(shop)?;
    let mut told = vec![("PADDOCK_BIN", program)];
    // A person's own Python and model need no setting up.
    if value(flags, "--python").is_none() {
        let python = pieces::python(shop)?;
        if value(flags, "--model").is_none() {
            pieces::smollm2(shop, &python)?;
        }
        told.push(("PADDOCK_PYTHON", python.display().to_string()));
    }
    Ok(told)
}

fn report(shop: &mut Shop, _: &[String]) -> Result<Told> {
    setup::get(shop, &[Need::Npm])?;
    Ok(Vec::new())
}

/// The value of a flag, as `--flag value` or `--flag=value`; the last one counts.
fn value<'a>(flags: &'a [String], name: &str) -> Option<&'a str> {
    let mut found = None;
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match flag.split_once('=') {
            Some((key, value)) if key == name => found = Some(value),
            None if flag == name => found = flags.next().map(String::as_str),
            _ => {}
        }
    }
    found
}

/// Whether a list among the flags has `word`; it has where it is not given.
fn wants(flags: &[String], name: &str, word: &str) -> bool {
    value(flags, name).is_none_or(|list| list.split(',').any(|one| one == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_string()).collect()
    }

    #[test]
    fn every_suite_has_its_script() {
        let root = Shop::open().root;
        for Suite { name, .. } in &SUITES {
            assert!(root.join("bench").join(format!("{name}.mjs")).is_file(), "{name}");
        }
        assert!(USUAL.iter().all(|name| find(name).is_ok()));
    }

    #[test]
    fn an_unknown_suite_is_answered_with_the_list() {
        let error = find("speed").err().unwrap_or_default();
        assert!(
            error.contains("\"speed\"") && error.contains("memory") && error.contains("browser and page"),
            "{error}"
        );
    }

    #[test]
    fn flags_say_what_is_needed() {
        let both = flags(&["--steps", "3", "--sides", "ours,registers", "--where=native"]);
        assert_eq!(value(&both, "--sides"), Some("ours,registers"));
        assert_eq!(value(&both, "--where"), Some("native"));
        assert_eq!(value(&both, "--python"), None);
        assert_eq!(value(&flags(&["--python"]), "--python"), None);
        assert!(!wants(&both, "--sides", "jax-js") && wants(&both, "--sides", "registers"));
        assert!(wants(&[], "--where", "browser") && !wants(&both, "--where", "browser"));
    }
}
