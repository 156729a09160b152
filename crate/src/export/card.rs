//! The model card: a README.md that says what the files beside it are and how they came to be.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    apply::Applied,
    config::{Config, Method},
    event::{ExportFormat, Metrics},
};

/// A data file as it was read: enough to tell later whether another one is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Without folders.
    pub name: String,
    pub bytes: u64,
    pub rows: u64,
    /// In hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
}

impl DataFile {
    pub fn new(name: &str, bytes: &[u8], rows: u64) -> Self {
        let sha256 = Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
            // Writing to a String does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self { name: file_name(name).to_owned(), bytes: bytes.len() as u64, rows, sha256 }
    }
}

/// The last part of a path: folders are nobody's business.
pub(super) fn file_name(path: &str) -> &str {
    path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default()
}

/// Labels listed one by one; more than that are counted.
const MOST_LABELS: usize = 100;

pub(super) fn write(applied: &Applied, format: ExportFormat) -> String {
    let (config, base) = (&applied.config, &applied.folder.name);
    let task = config.task.as_str();
    let lora = config.training.method == Method::Lora;
    let (library, mut tags) = match format {
        ExportFormat::Adapter => (Some("peft"), vec!["paddock", "llama"]),
        ExportFormat::Merged => (Some("transformers"), vec!["paddock", "llama"]),
        ExportFormat::Gguf | ExportFormat::GgufLora => (None, vec!["paddock", "llama", "gguf"]),
    };
    if lora {
        tags.push("lora");
    }
    // A model that was only opened may be any: nothing is claimed of it.
    let trained = lora || applied.summary.is_some();
    let what = match (format, lora, trained) {
        (ExportFormat::Adapter | ExportFormat::GgufLora, ..) => "A LoRA adapter for",
        (_, true, _) => "With a LoRA adapter folded in:",
        (_, false, true) => "With every weight fine-tuned:",
        (_, false, false) => "The weights of",
    };
    let version = env!("CARGO_PKG_VERSION");
    let mut out = format!("---\nbase_model: {}\n", quoted(base));
    if let Some(library) = library {
        out += &format!("library_name: {library}\n");
    }
    out += &format!("pipeline_tag: {task}\ntags:\n");
    tags.iter().for_each(|tag| out += &format!("- {tag}\n"));
    let title = if trained { format!(", fine-tuned for {}", task.replace('-', " ")) } else { String::new() };
    out += &format!("---\n\n# {}{title}\n\n", inline(base));
    out += &format!("{what} {}, written by Paddock {version}.\n\n", inline(base));
    data(&mut out, &applied.data);
    labels(&mut out, &applied.labels);
    if let Some(summary) = &applied.summary {
        let ended = if summary.completed { "" } else { " (stopped early)" };
        out += &format!("## Results\n\nAfter {} steps{ended}, on {} held-out rows:\n\n", summary.steps, summary.rows);
        results(&mut out, summary.before.as_ref(), summary.after.as_ref());
    }
    if trained {
        settings(&mut out, config);
    }
    out
}

fn data(out: &mut String, files: &[DataFile]) {
    if files.is_empty() {
        return;
    }
    *out += "## Data\n\n| file | rows | bytes | SHA-256 |\n|---|---:|---:|---|\n";
    for file in files {
        *out += &format!("| {} | {} | {} | {} |\n", inline(&file.name), file.rows, file.bytes, inline(&file.sha256));
    }
    out.push('\n');
}

fn labels(out: &mut String, labels: &[String]) {
    if labels.is_empty() {
        return;
    }
    *out += "## Labels\n\n| id | label |\n|---:|---|\n";
    for (id, label) in labels.iter().enumerate().take(MOST_LABELS) {
        *out += &format!("| {id} | {} |\n", inline(label));
    }
    if labels.len() > MOST_LABELS {
        *out += &format!("\n{} labels in all; config.json has them.\n", labels.len());
    }
    out.push('\n');
}

fn results(out: &mut String, before: Option<&Metrics>, after: Option<&Metrics>) {
    let fields = |metrics: Option<&Metrics>| match serde_json::to_value(metrics) {
        Ok(Value::Object(fields)) => fields,
        _ => Default::default(),
    };
    let (before, after) = (fields(before), fields(after));
    let number = |value: Option<&Value>| value.and_then(Value::as_f64).map_or("–".into(), |v| format!("{v:.4}"));
    *out += "| metric | before | after |\n|---|---:|---:|\n";
    let mut names: Vec<&String> = after.keys().chain(before.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        *out += &format!("| {name} | {} | {} |\n", number(before.get(name)), number(after.get(name)));
    }
    out.push('\n');
}

/// Files and folders go by their last names.
fn settings(out: &mut String, config: &Config) {
    let mut config = config.clone();
    for file in [&mut config.data.train_file, &mut config.data.validation_file].into_iter().flatten() {
        *file = file_name(file).to_owned();
    }
    if config.model.name_or_path.starts_with(['/', '.', '~', '\\']) {
        config.model.name_or_path = file_name(&config.model.name_or_path).to_owned();
    }
    let yaml = config.to_yaml();
    // A fence longer than any inside, so that nothing written there ends it.
    let longest = yaml.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    *out += &format!("## Settings\n\n{fence}yaml\n{}\n{fence}\n", yaml.trim_end());
}

/// A person's text inside a line of Markdown: no mark-up of its own, and one line.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '#' | '~' | '!' | '$' | '@' => {
                out.extend(['\\', c])
            }
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A YAML string, whatever is in it: JSON's, with all that YAML does not count as printable escaped.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    json.chars().fold(String::new(), |mut out, c| {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;

    #[test]
    fn a_fingerprint_is_what_sha256sum_prints() {
        let file = DataFile::new("/home/a/mail.csv", b"abc", 3);
        assert_eq!(file.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((file.name.as_str(), file.bytes), ("mail.csv", 3));
    }

    #[test]
    fn text_of_a_person_stays_text() {
        let nasty = "a|b\n# c `d` <script>\u{2028}---";
        assert_eq!(inline(nasty), "a\\|b \\# c \\`d\\` \\<script\\> ---");
        let yaml = format!("base_model: {}", quoted("x\": [1]\n---\u{85}\u{7f}é"));
        assert!(yaml.lines().count() == 1 && yaml.chars().all(|c| !c.is_control()));
        let read: std::collections::BTreeMap<String, String> = serde_saphyr::from_str(&yaml).expect("YAML");
        assert_eq!(read["base_model"], "x\": [1]\n---\u{85}\u{7f}é");
    }

    #[test]
    fn settings_are_fenced_and_name_no_folders() {
        let mut raw = RawConfig::default();
        raw.data.train_file = Some("/home/someone/```.csv".into());
        raw.model.name_or_path = Some("/models/tiny".into());
        let mut out = String::new();
        settings(&mut out, &Config::resolve(&raw).expect("config"));
        assert!(!out.contains("/home") && !out.contains("/models"), "{out}");
        assert_eq!(out.lines().filter(|line| line.starts_with("````")).count(), 2, "{out}");
    }
}
