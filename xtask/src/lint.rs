//! Rules of the engine that clippy cannot hold: where it may print, ask for the target, or read a tensor synchronously.
//!
//! clippy.toml names the tensor reads as well, by path; this also catches them where clippy cannot see the type.

use std::path::{Path, PathBuf};

use crate::shop::Result;

struct Rule {
    /// Found in code outside tests, comments and strings, not as the end of a longer name.
    words: &'static [&'static str],
    /// Path endings where it is allowed.
    except: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 3] = [
    Rule {
        words: &["println!", "eprintln!", "print!", "eprint!", "dbg!"],
        except: &["crate/src/bin/"],
        why: "the engine never prints: return an event",
    },
    Rule {
        words: &[
            ".into_data()",
            ".to_data()",
            ".into_scalar()",
            ".try_into_data()",
            ".try_to_data()",
            ".try_into_scalar()",
            ".into_data_as::<",
            ".to_data_as::<",
            ".into_scalar::<",
        ],
        except: &[],
        why: "a synchronous tensor read panics in a browser: use the _async form",
    },
    Rule {
        words: &["target_family", "target_arch"],
        except: &[
            "crate/src/platform.rs",
            "crate/src/device.rs",
            "crate/src/platform/",
            "crate/src/device/",
            // The tab's shell exists for wasm alone and says so once, at its top; so does the module for other encodings.
            "web/src/lib.rs",
            "crate/encodings/src/lib.rs",
        ],
        why: "only platform and device ask for the target",
    },
];

/// Each breach as `file:line: what (why)`.
pub fn run(root: &Path) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for folder in ["crate/src", "crate/encodings/src", "web/src"] {
        let mut files = Vec::new();
        rust_files(&root.join(folder), &mut files)?;
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            breaches.extend(breaches_in(&name, &text));
        }
    }
    Ok(breaches)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Modules of tests alone, by the convention of their name.
        if name == "tests" || name == "tests.rs" || name.ends_with("_tests.rs") {
            continue;
        }
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn breaches_in(name: &str, text: &str) -> Vec<String> {
    let code = without_tests(&without_words(text));
    let mut breaches = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for rule in &RULES {
            if rule.except.iter().any(|place| name == *place || (place.ends_with('/') && name.starts_with(place))) {
                continue;
            }
            if let Some(word) = rule.words.iter().find(|word| has_word(line, word)) {
                breaches.push(format!("{name}:{}: {word} ({})", number + 1, rule.why));
            }
        }
    }
    breaches
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') || word.starts_with('.')
    })
}

/// The code with comments, strings and character literals blanked, line breaks kept.
fn without_words(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = match source[at] {
            '/' if source.get(at + 1) == Some(&'/') => line_end(&source, at),
            '/' if source.get(at + 1) == Some(&'*') => comment_end(&source, at),
            '"' => string_end(&source, at),
            'r' if !after_name(&source, at) => raw_string_end(&source, at).unwrap_or(at),
            '\'' => character_end(&source, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(source[at]);
            at += 1;
        } else {
            code.extend(source[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn after_name(source: &[char], at: usize) -> bool {
    // A `b` or `c` before an `r` is part of the literal's own prefix.
    let Some(before) = at.checked_sub(1).map(|before| source[before]) else {
        return false;
    };
    (before.is_alphanumeric() || before == '_') && !matches!(before, 'b' | 'c')
}

fn line_end(source: &[char], at: usize) -> usize {
    source[at..].iter().position(|&c| c == '\n').map_or(source.len(), |length| at + length)
}

fn comment_end(source: &[char], at: usize) -> usize {
    let (mut depth, mut next) = (0, at);
    while next < source.len() {
        match (source[next], source.get(next + 1)) {
            ('/', Some('*')) => (depth, next) = (depth + 1, next + 2),
            ('*', Some('/')) => (depth, next) = (depth - 1, next + 2),
            _ => next += 1,
        }
        if depth == 0 {
            return next;
        }
    }
    source.len()
}

fn string_end(source: &[char], at: usize) -> usize {
    let mut next = at + 1;
    while next < source.len() {
        match source[next] {
            '\\' => next += 2,
            '"' => return next + 1,
            _ => next += 1,
        }
    }
    source.len()
}

/// `r"…"` or `r#"…"#`, from the r.
fn raw_string_end(source: &[char], at: usize) -> Option<usize> {
    let hashes = source[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + hashes;
    if source.get(open) != Some(&'"') {
        return None;
    }
    let mut next = open + 1;
    while next < source.len() {
        if source[next] == '"' && source[next + 1..].iter().take_while(|&&c| c == '#').count() >= hashes {
            return Some(next + 1 + hashes);
        }
        next += 1;
    }
    Some(source.len())
}

/// `'x'` or `'\n'`; a lifetime is none.
fn character_end(source: &[char], at: usize) -> Option<usize> {
    match source.get(at + 1)? {
        '\\' => source[at + 3..].iter().position(|&c| c == '\'').map(|length| at + 3 + length + 1),
        _ => (source.get(at + 2) == Some(&'\'')).then_some(at + 3),
    }
}

/// The code with every item under `#[cfg(test)]` blanked.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::with_capacity(code.len());
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = item_end(item);
        kept.extend(item[..end].chars().filter(|&c| c == '\n'));
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}

/// An item ends with its block, or with a semicolon before any block.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth <= 0 {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::Shop;

    #[test]
    fn this_checkout_keeps_the_rules() {
        assert_eq!(run(&Shop::open().root), Ok(Vec::new()));
    }

    #[test]
    fn a_breach_is_named_with_its_line() {
        let found = breaches_in("crate/src/a.rs", "fn a() {\n    println!(\"x\");\n    let y = t.into_data();\n}\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("crate/src/a.rs:2: println!"), "{found:?}");
        assert!(found[1].starts_with("crate/src/a.rs:3: .into_data()"), "{found:?}");
        assert_eq!(breaches_in("web/src/other.rs", "#[cfg(target_family = \"wasm\")]\nfn a() {}\n").len(), 1);
    }

    #[test]
    fn places_have_their_exceptions() {
        let gate = "#![cfg(target_family = \"wasm\")]\n";
        assert!(breaches_in("web/src/lib.rs", gate).is_empty());
        assert!(breaches_in("crate/src/bin/paddock/main.rs", "fn a() { eprintln!(); }").is_empty());
        assert!(breaches_in("crate/src/platform.rs", "#[cfg(not(target_family = \"wasm\"))]\nfn a() {}").is_empty());
        assert_eq!(breaches_in("crate/src/platform_more.rs", "#[cfg(target_arch = \"wasm32\")]\nfn a() {}").len(), 1);
    }

    #[test]
    fn tests_comments_and_strings_are_free() {
        let text = r####"
            // println!()
            /* dbg! /* nested println!() */ .to_data() */
            const A: &str = "println!() \" .to_data()";
            const B: &str = r#"dbg!(" .into_scalar() ")"#;
            const C: char = '"';
            const D: &[u8] = br"println!";
            fn a<'a>(x: &'a str) -> &'a str { write_println!(x) }
            #[cfg(test)]
            mod tests { fn b() { if true { println!("{}", '}'); } t.into_data(); } }
            #[cfg(test)]
            use x::{y};
            fn after() { my.into_data_async(); }
        "####;
        assert_eq!(breaches_in("crate/src/a.rs", text), Vec::<String>::new());
        let after = text.replace("my.into_data_async()", "my.into_data()");
        let found = breaches_in("crate/src/a.rs", &after);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crate/src/a.rs:13:"), "{found:?}");
    }
}
