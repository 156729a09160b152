//! Runs every part of the tests, whatever the parts before said, and adds up what their runners counted.

use std::io::{BufRead as _, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::setup::{self, Need};
use crate::shop::{self, Result, Shop};

#[derive(Clone, Copy)]
pub struct Halves {
    native: bool,
    browser: bool,
}

impl Halves {
    pub const BOTH: Halves = Halves { native: true, browser: true };

    pub fn from_flags(flags: &[String]) -> Result<Self> {
        match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(Halves::BOTH),
            ["--native"] => Ok(Halves { native: true, browser: false }),
            ["--browser"] => Ok(Halves { native: false, browser: true }),
            _ => Err("test takes --native or --browser, or neither".to_string()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// `true` where everything passed.
pub fn run(shop: &mut Shop, halves: Halves) -> Result<bool> {
    setup::get(shop, &Need::NATIVE)?;
    if halves.browser {
        setup::get(shop, &[Need::Chromium])?;
    }
    setup::data(shop, &[])?;

    let mut total = Counts::default();
    // On a new machine the page's tools take a quarter of an hour to build, much of it on one core.
    let tools = std::thread::scope(|scope| {
        let tools = halves.browser.then(|| scope.spawn(|| setup::page_tools(shop)));
        if halves.native {
            let mut cargo = shop.command("cargo");
            total.add(part("crates", cargo.args(["test", "--release", "--workspace", "--no-fail-fast"]))?);
            total.add(node_tests(shop, "scripts", "xtask")?);
        }
        tools.map_or(Ok(()), |tools| tools.join().unwrap_or_else(|_| Err("the setup of the page's tools broke".into())))
    });
    tools?;
    if halves.browser {
        let page = part("page", &mut shop.page(false))?;
        total.add(page);
        // A page of an earlier build would say nothing about this one.
        if page.failed == 0 {
            total.add(node_tests(shop, "browser", "tests/browser")?);
        }
    }
    println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(total.failed == 0 && total.passed > 0)
}

fn node_tests(shop: &Shop, name: &str, folder: &str) -> Result<Counts> {
    let mut files = Vec::new();
    let path = shop.root.join(folder);
    for entry in std::fs::read_dir(&path).map_err(|error| format!("{}: {error}", path.display()))? {
        let file = entry.map_err(|error| format!("{}: {error}", path.display()))?.file_name();
        if file.to_string_lossy().ends_with(".test.mjs") {
            files.push(Path::new(folder).join(file));
        }
    }
    if files.is_empty() {
        return Err(format!("{folder} has no *.test.mjs"));
    }
    files.sort();
    let mut node = shop.command("node");
    // One file at a time: each drives a browser that takes every core.
    node.args(["--test", "--test-reporter=spec", "--test-concurrency=1"]).args(&files);
    part(name, &mut node)
}

/// Runs one part with its output shown and returns its runner's counts; a part that dies counts as one failure.
fn part(name: &str, command: &mut Command) -> Result<Counts> {
    println!("\n== {name}: {}", shop::line(command));
    let start = Instant::now();
    let counts = counted(name, command, &mut std::io::stdout())?;
    println!("== {name}: {} s", start.elapsed().as_secs());
    Ok(counts)
}

fn counted(name: &str, command: &mut Command, shown: &mut dyn Write) -> Result<Counts> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| shop::cannot_start(command, &error))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while lines.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            // A closed terminal must not end the tests.
            let _ = shown.write_all(&bytes).and_then(|()| shown.flush());
            tally.read(&String::from_utf8_lossy(&bytes));
            bytes.clear();
        }
    }
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    let mut counts = tally.counts();
    if !status.success() && counts.failed == 0 {
        let _ = writeln!(shown, "{name} failed outside its tests: {status}");
        counts.failed = 1;
    }
    Ok(counts)
}

/// What the runners of one part said so far.
#[derive(Default)]
struct Tally {
    /// cargo test: one result line a binary, added up.
    cargo: Counts,
    /// node: totals at the end, so the last word counts.
    node: Counts,
    node_cancelled: u64,
    node_todo: u64,
}

impl Tally {
    fn read(&mut self, line: &str) {
        let line = line.trim();
        if let Some(counts) = cargo_result(line) {
            self.cargo.add(counts);
        } else if let Some((key, number)) = node_total(line) {
            match key {
                "pass" => self.node.passed = number,
                "fail" => self.node.failed = number,
                "skipped" => self.node.skipped = number,
                "cancelled" => self.node_cancelled = number,
                "todo" => self.node_todo = number,
                _ => {}
            }
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = self.cargo;
        counts.add(self.node);
        counts.failed += self.node_cancelled;
        counts.skipped += self.node_todo;
        counts
    }
}

/// "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s"
fn cargo_result(line: &str) -> Option<Counts> {
    let (_, totals) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for total in totals.split("; ") {
        match total.split_once(' ') {
            Some((number, "passed")) => counts.passed = number.parse().ok()?,
            Some((number, "failed")) => counts.failed = number.parse().ok()?,
            Some((number, "ignored")) => counts.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

/// "ℹ pass 3", or "# pass 3" from the TAP reporter.
fn node_total(line: &str) -> Option<(&str, u64)> {
    let (key, number) = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# "))?.split_once(' ')?;
    Some((key, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(output: &str) -> Counts {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally.counts()
    }

    #[test]
    fn adds_up_the_binaries_of_cargo_test() {
        let output = "test a ... ok\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s\n";
        assert_eq!(counts(output), Counts { passed: 15, failed: 2, skipped: 1 });
    }

    #[test]
    fn takes_the_last_totals_of_node() {
        let spec = "# pass 99\nℹ tests 6\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\nℹ duration_ms 12.5\n";
        assert_eq!(counts(spec), Counts { passed: 3, failed: 2, skipped: 1 });
        assert_eq!(counts(&spec.replace('ℹ', "#")), Counts { passed: 3, failed: 2, skipped: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(counts("test result: odd\n# passing by\nrunning 3 tests\n"), Counts::default());
    }

    #[cfg(unix)]
    #[test]
    fn a_part_that_dies_is_a_failure() {
        let mut dies = Command::new("sh");
        dies.args(["-c", "exit 3"]);
        assert_eq!(counted("dies", &mut dies, &mut Vec::new()), Ok(Counts { passed: 0, failed: 1, skipped: 0 }));
        let mut shown = Vec::new();
        let mut says = Command::new("sh");
        says.args(["-c", "echo 'test result: FAILED. 1 passed; 4 failed; 0 ignored'; exit 101"]);
        assert_eq!(counted("says", &mut says, &mut shown), Ok(Counts { passed: 1, failed: 4, skipped: 0 }));
        assert!(shown.starts_with(b"test result: FAILED"));
    }

    #[test]
    fn halves_are_named_by_flags() {
        let flags = |words: &[&str]| Halves::from_flags(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>());
        assert!(flags(&[]).is_ok_and(|halves| halves.native && halves.browser));
        assert!(flags(&["--native"]).is_ok_and(|halves| halves.native && !halves.browser));
        assert!(flags(&["--browser"]).is_ok_and(|halves| !halves.native && halves.browser));
        assert!(flags(&["--all"]).is_err());
    }
}
