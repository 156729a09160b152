//! [`RawConfig`] from YAML, from `--set key=value` and over one another; [`Config`] back to YAML.

use serde_saphyr::{Error as YamlError, Options};

use super::raw::{DataSection, LoraSection, ModelSection, RawConfig, RecoverySection, TrainingSection};
use super::resolved::Config;
use crate::error::{Error, Result};
use crate::platform::NamedFile;

/// A configuration is a page of text; what is longer is another file, or hostile.
const MOST_BYTES: usize = 1 << 20;

/// What `--set` has to know of a key: how its value is written in YAML.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    /// `true` or `false`.
    Flag,
    List,
}

/// Every key there is, in the order of the file.
const KEYS: &[(&str, Kind)] = &[
    ("task", Kind::Text),
    ("device", Kind::Text),
    ("kernels", Kind::Text),
    ("model.type", Kind::Text),
    ("model.name_or_path", Kind::Text),
    ("model.num_labels", Kind::Number),
    ("model.max_seq_length", Kind::Number),
    ("model.quantization", Kind::Text),
    ("data.train_file", Kind::Text),
    ("data.validation_file", Kind::Text),
    ("data.validation_split", Kind::Number),
    ("data.text_column", Kind::Text),
    ("data.label_column", Kind::Text),
    ("data.max_train_samples", Kind::Number),
    ("data.max_eval_samples", Kind::Number),
    ("training.method", Kind::Text),
    ("training.batch_size", Kind::Number),
    ("training.gradient_accumulation_steps", Kind::Number),
    ("training.gradient_checkpointing", Kind::Flag),
    ("training.mixed_precision", Kind::Text),
    ("training.learning_rate", Kind::Number),
    ("training.num_epochs", Kind::Number),
    ("training.max_steps", Kind::Number),
    ("training.weight_decay", Kind::Number),
    ("training.adam_beta1", Kind::Number),
    ("training.adam_beta2", Kind::Number),
    ("training.adam_epsilon", Kind::Number),
    ("training.lr_scheduler_type", Kind::Text),
    ("training.warmup_ratio", Kind::Number),
    ("training.warmup_steps", Kind::Number),
    ("training.max_grad_norm", Kind::Number),
    ("training.logging_steps", Kind::Number),
    ("training.eval_steps", Kind::Number),
    ("training.save_steps", Kind::Number),
    ("training.save_total_limit", Kind::Number),
    ("training.metric_for_best_model", Kind::Text),
    ("training.load_best_model_at_end", Kind::Flag),
    ("training.early_stopping_patience", Kind::Number),
    ("training.early_stopping_threshold", Kind::Number),
    ("training.max_minutes", Kind::Number),
    ("training.report_to", Kind::Text),
    ("training.seed", Kind::Number),
    ("lora.r", Kind::Number),
    ("lora.lora_alpha", Kind::Number),
    ("lora.lora_dropout", Kind::Number),
    ("lora.target_modules", Kind::List),
    ("recovery.max_retries", Kind::Number),
    ("recovery.max_skipped_batches", Kind::Number),
    ("recovery.learning_rate_factor", Kind::Number),
    ("recovery.divergence_threshold", Kind::Number),
    ("recovery.divergence_patience", Kind::Number),
];

impl RawConfig {
    /// Reads the one file handed over.
    ///
    /// # Errors
    /// As [`Self::from_yaml`], and where there is another number of files or the file is no text.
    pub async fn read(files: &[NamedFile]) -> Result<Self> {
        let [NamedFile { name, blob }] = files else {
            let message = format!("{} files were handed over as a configuration", files.len());
            return Err(Error::session(message, "Choose one YAML file."));
        };
        let size = blob.size();
        if size > MOST_BYTES as u64 {
            return Err(no_config(name, format!("{size} bytes; a configuration has at most {MOST_BYTES}")));
        }
        let bytes = blob.read(0, size as usize).await.map_err(|error| Error::io(name, error))?;
        let text = String::from_utf8(bytes).map_err(|_| no_config(name, "not text in UTF-8".to_owned()))?;
        Self::from_yaml(text.trim_start_matches('\u{feff}'), name)
    }

    /// Reads YAML (of which JSON is a part). `file` is the name that errors give.
    ///
    /// # Errors
    /// Names the line, and for an unknown key the nearest key there is.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self> {
        if text.len() > MOST_BYTES {
            return Err(no_config(file, format!("{} bytes; a configuration has at most {MOST_BYTES}", text.len())));
        }
        // An empty file, or one of comments, is a configuration of defaults; to the parser it is `null`.
        serde_saphyr::from_str_with_options::<Option<Self>>(text, options())
            .map(Option::unwrap_or_default)
            .map_err(|error| explain(&error, text, file))
    }

    /// `over`'s values where it has them, else this one's: flags over a file.
    #[must_use]
    pub fn merge(self, over: Self) -> Self {
        macro_rules! merged {
            ($section:ident, $low:expr, $high:expr, $($field:ident),+) => {
                $section { $($field: $high.$field.or($low.$field)),+ }
            };
        }
        Self {
            task: over.task.or(self.task),
            device: over.device.or(self.device),
            kernels: over.kernels.or(self.kernels),
            model: merged!(
                ModelSection,
                self.model,
                over.model,
                kind,
                name_or_path,
                num_labels,
                max_seq_length,
                quantization
            ),
            data: merged!(
                DataSection,
                self.data,
                over.data,
                train_file,
                validation_file,
                validation_split,
                text_column,
                label_column,
                max_train_samples,
                max_eval_samples
            ),
            training: merged!(
                TrainingSection,
                self.training,
                over.training,
                method,
                batch_size,
                gradient_accumulation_steps,
                gradient_checkpointing,
                mixed_precision,
                learning_rate,
                num_epochs,
                max_steps,
                weight_decay,
                adam_beta1,
                adam_beta2,
                adam_epsilon,
                lr_scheduler_type,
                warmup_ratio,
                warmup_steps,
                max_grad_norm,
                logging_steps,
                eval_steps,
                save_steps,
                save_total_limit,
                metric_for_best_model,
                load_best_model_at_end,
                early_stopping_patience,
                early_stopping_threshold,
                max_minutes,
                report_to,
                seed
            ),
            lora: merged!(LoraSection, self.lora, over.lora, r, lora_alpha, lora_dropout, target_modules),
            recovery: merged!(
                RecoverySection,
                self.recovery,
                over.recovery,
                max_retries,
                max_skipped_batches,
                learning_rate_factor,
                divergence_threshold,
                divergence_patience
            ),
        }
    }

    /// `--set key=value`: `set("training.batch_size", "4")`. A list is written `[q_proj, v_proj]` or `q_proj,v_proj`.
    ///
    /// # Errors
    /// Names the nearest key where there is none of that name, or the value where it does not fit.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let value = value.trim();
        let Some((_, kind)) = KEYS.iter().find(|(name, _)| *name == key) else {
            return Err(Error::ConfigSyntax {
                place: "--set".to_owned(),
                message: format!("unknown key `{key}`"),
                advice: did_you_mean(key, None),
            });
        };
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let yaml = match kind {
            Kind::Text => quoted(value),
            // Only what a number is written with: nothing that YAML could take for structure.
            Kind::Number
                if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c)) =>
            {
                value.to_owned()
            }
            Kind::Flag if ["true", "false"].contains(&value) => value.to_owned(),
            Kind::Flag => return Err(Error::config(key, "true or false", format!("`{value}`"))),
            Kind::Number => return Err(Error::config(key, "a number", format!("`{value}`"))),
            Kind::List => {
                let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(value);
                let items = inner.split(',').map(str::trim).filter(|item| !item.is_empty()).map(quoted);
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            }
        };
        let document = match key.split_once('.') {
            Some((section, name)) => format!("{section}:\n  {name}: {yaml}\n"),
            None => format!("{key}: {yaml}\n"),
        };
        let one = serde_saphyr::from_str_with_options::<Self>(&document, options()).map_err(|_| {
            Error::config(key, if *kind == Kind::Number { "a number" } else { "text" }, format!("`{value}`"))
        })?;
        *self = std::mem::take(self).merge(one);
        Ok(())
    }
}

impl Config {
    /// The whole configuration, every default filled in, in a stable order; [`RawConfig::from_yaml`] reads it back.
    pub fn to_yaml(&self) -> String {
        // Plain structs of numbers and strings: there is nothing in them that YAML cannot hold.
        serde_saphyr::to_string(self).unwrap_or_default()
    }
}

fn no_config(file: &str, message: String) -> Error {
    Error::ConfigSyntax { place: file.to_owned(), message, advice: "Choose the YAML file of a run.".to_owned() }
}

/// Small limits: no configuration needs anchors in number, deep nesting or many nodes.
fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_aliases: 64,
            max_anchors: 64,
            max_depth: 16,
            max_documents: 1,
            max_nodes: 10_000,
            max_events: 50_000,
            max_merge_keys: 64,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
    }
}

fn explain(error: &YamlError, text: &str, file: &str) -> Error {
    let error = error.without_snippet();
    let line = error.location().map(|at| at.line()).filter(|line| *line > 0);
    let place = line.map_or_else(|| file.to_owned(), |line| format!("{file} line {line}"));
    let written = line
        .and_then(|line| text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?))
        .map(|line| line.trim().chars().take(120).collect::<String>())
        .unwrap_or_default();
    let (message, advice) = match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key `{field}`"), did_you_mean(field, Some(expected)))
        }
        YamlError::Unexpected { expected, .. } => {
            let expected = match *expected {
                "mapping start" => "keys with values",
                "sequence start" => "a list, such as `[q_proj, v_proj]`",
                other => other,
            };
            (format!("`{written}`: expected {expected} here"), "Correct the YAML at this place.".to_owned())
        }
        YamlError::DuplicateMappingKey { key, .. } => {
            (format!("key `{}` stands twice", key.as_deref().unwrap_or("?")), "Keep one of the two.".to_owned())
        }
        YamlError::InvalidScalar { .. } | YamlError::SerdeInvalidType { .. } | YamlError::SerdeInvalidValue { .. } => {
            let reason = match error {
                YamlError::InvalidScalar { ty, .. } => format!("this is no {}", kind_in_words(ty)),
                _ => plain(error, file),
            };
            (format!("`{written}`: {reason}"), "Write a value of the kind that this key takes.".to_owned())
        }
        _ => (plain(error, file), "Correct the YAML at this place.".to_owned()),
    };
    Error::ConfigSyntax { place, message, advice }
}

/// Rust's names of types are not for people who write YAML.
fn kind_in_words(ty: &str) -> &'static str {
    match ty {
        "bool" | "boolean" => "true or false",
        ty if ty.contains('f') || ty.contains("float") => "number",
        ty if ty.starts_with('u') || ty.contains("unsigned") => "whole number of at least 0",
        ty if ty.starts_with('i') => "whole number",
        _ => "value of the kind expected here",
    }
}

/// The parser's message on one line, without its own position.
fn plain(error: &YamlError, file: &str) -> String {
    let text = error.render_with_options(serde_saphyr::render_options! { source_name: Some(file) });
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("not YAML").to_owned();
    match line.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => line,
    }
}

/// The nearest key to `key`; `here` are the names that the section takes.
fn did_you_mean(key: &str, here: Option<&[&str]>) -> String {
    let last = |name: &'static str| name.rsplit_once('.').map_or(name, |(_, last)| last);
    let distance = |name: &str| edit_distance(key, name);
    let length = key.chars().count();
    let close = |distance: usize| distance <= length / 3 + 1 && distance < length;

    let mut best: Option<(usize, String)> = None;
    let mut offer = |distance: usize, name: &str| {
        if close(distance) && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, name.to_owned()));
        }
    };
    for name in here.unwrap_or_default() {
        offer(distance(name), name);
    }
    for (name, _) in KEYS {
        offer(distance(name), name);
        offer(distance(last(name)), name);
        // `alpha` for `lora_alpha`, `epochs` for `num_epochs`.
        if last(name).split('_').any(|word| word == key) {
            offer(1, name);
        }
    }
    match (best, here) {
        (Some((_, name)), _) => format!("Did you mean `{name}`?"),
        (None, Some(here)) => format!("The keys here are {}.", here.join(", ")),
        (None, None) => format!("The keys are {}.", KEYS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")),
    }
}

/// Levenshtein distance in characters, of at most the first 64 of each.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
