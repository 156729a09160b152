//! From opened tables to what the model eats: rows chosen and split, texts tokenized, batches padded.

use std::rc::Rc;

use crate::{
    batch::{Batch, Batcher, Packer, Sequences, evaluation_order},
    config::{Config, Task},
    data::{self, Example, Examples, LabelSource, Mapping, Table, Target},
    error::{Error, Result},
    plan,
    weights::folder::Folder,
};

/// Training and held-out rows.
pub struct Rows {
    pub train: Vec<Example>,
    pub validation: Vec<Example>,
    pub labels: Vec<String>,
    pub skipped: u64,
    pub warnings: Vec<String>,
}

/// Maps, checks, samples and splits the opened tables (training, and held-out rows where a second one is open). `labels`
/// are those of an adapter that training goes on from; none otherwise.
pub fn rows(config: &Config, tables: &[Table], labels: &[String]) -> Result<Rows> {
    let Some(table) = tables.first() else {
        return Err(Error::session("No data is open.", "Choose a file of examples first."));
    };
    let (task, data, seed) = (config.task, &config.data, config.training.seed);
    let num_labels = config.model.num_labels;
    let mapping = Mapping::resolve(table, data, task)?;
    let mut found = data::examples(table, &mapping, LabelSource::for_training(task, num_labels))?;
    if labels.len() > 1 && task == Task::TextClassification {
        reorder(&table.name, &mut found, labels)?;
    }
    let mut skipped = table.skipped.count + found.skipped.count;
    let mut warnings = table.summary().warnings;
    warnings.extend(found.warnings);
    let (train, validation) = match tables.get(1) {
        None => data::split(&table.name, found.rows, data.validation_split, seed)?,
        Some(held_out) => {
            let mapping = Mapping::resolve(held_out, data, task)?;
            let source = LabelSource::for_validation(task, num_labels, &found.labels);
            let other = data::examples(held_out, &mapping, source)?;
            skipped += held_out.skipped.count + other.skipped.count;
            warnings.extend(held_out.summary().warnings);
            warnings.extend(other.warnings);
            (found.rows, other.rows)
        }
    };
    Ok(Rows {
        train: data::sample(train, data.max_train_samples, seed),
        validation: data::sample(validation, data.max_eval_samples, seed),
        labels: found.labels,
        skipped,
        warnings,
    })
}

/// Gives the classes the numbers that an adapter's head has for them.
fn reorder(file: &str, found: &mut Examples, labels: &[String]) -> Result<()> {
    let place = |label: &String| {
        labels.iter().position(|known| known == label).ok_or_else(|| {
            let known =
                labels.iter().take(MOST_LISTED).map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let message = format!("the adapter has no label `{label}`; it was trained for {known}");
            Error::data(file, message, "Leave such rows out, or train a new adapter.")
        })
    };
    let places: Vec<usize> = found.labels.iter().map(place).collect::<Result<_>>()?;
    for row in &mut found.rows {
        if let Target::Class(class) = &mut row.target {
            *class = places.get(*class).copied().unwrap_or_default();
        }
    }
    found.labels = labels.to_vec();
    Ok(())
}

/// Labels in an error.
const MOST_LISTED: usize = 8;

/// Rows to measure a model with whose labels are known, and what is to be said of the rows left out. The held-out file is
/// taken where there is one: the model may have been trained on the other.
pub fn known_rows(config: &Config, tables: &[Table], labels: &[String]) -> Result<(Vec<Example>, Vec<String>)> {
    let Some(table) = tables.last() else {
        return Err(Error::session("No data is open.", "Choose a file of examples first."));
    };
    let mapping = Mapping::resolve(table, &config.data, config.task)?;
    let source = LabelSource::for_validation(config.task, config.model.num_labels, labels);
    let found = data::examples(table, &mapping, source)?;
    let mut warnings = table.summary().warnings;
    warnings.extend(found.warnings);
    Ok((data::sample(found.rows, config.data.max_eval_samples, config.training.seed), warnings))
}

/// Rows tokenized a call: a fraction of a second in a tab.
const ROWS_A_CALL: usize = 256;

/// Texts on their way to tokens.
pub struct Tokenizing {
    folder: Rc<Folder>,
    max_length: usize,
    todo: std::vec::IntoIter<Example>,
    total: usize,
    into: Into,
}

enum Into {
    Rows(Sequences),
    Blocks(Packer),
}

impl Tokenizing {
    pub fn new(config: &Config, folder: Rc<Folder>, rows: Vec<Example>) -> Self {
        let max_length = plan::max_length(config, folder.config());
        let into = match config.task {
            Task::TextClassification => Into::Rows(Sequences::default()),
            Task::TextGeneration => Into::Blocks(Packer::new(max_length, folder.tokenizer.eos_id())),
        };
        Self { folder, max_length, total: rows.len(), todo: rows.into_iter(), into }
    }

    /// Rows done and rows in all.
    pub fn progress(&self) -> (u64, u64) {
        ((self.total - self.todo.len()) as u64, self.total as u64)
    }

    /// The next rows; true while there are more.
    pub fn advance(&mut self) -> Result<bool> {
        for example in self.todo.by_ref().take(ROWS_A_CALL) {
            let tokenizer = &self.folder.tokenizer;
            match &mut self.into {
                Into::Rows(sequences) => {
                    let encoded = tokenizer.encode(&example.text, Some(self.max_length))?;
                    sequences.push(example.row, &encoded.ids, example.target);
                }
                Into::Blocks(packer) => packer.push(example.row, &tokenizer.encode(&example.text, None)?.ids),
            }
        }
        Ok(self.todo.len() > 0)
    }

    pub fn finish(self) -> Sequences {
        match self.into {
            Into::Rows(sequences) => sequences,
            Into::Blocks(packer) => packer.finish(),
        }
    }
}

/// Batches of held-out rows, the longest first.
pub fn evaluation(config: &Config, folder: &Folder, rows: &Sequences) -> Vec<Batch> {
    let max = plan::max_length(config, folder.config());
    let pad = folder.tokenizer.pad_id();
    evaluation_order(rows, config.training.batch_size)
        .into_iter()
        .map(|indices| Batch::new(rows, &indices, max, pad))
        .collect()
}

/// Text generation is estimated from this many rows.
const SAMPLED: usize = 200;

/// Optimizer steps of a run, and whether they are only estimated (text generation, before all of it is tokenized).
pub fn estimate_steps(config: &Config, rows: &Rows, folder: &Rc<Folder>) -> Result<(u64, bool)> {
    let max = plan::max_length(config, folder.config());
    let sequences = match config.task {
        Task::TextClassification => rows.train.len(),
        Task::TextGeneration => {
            let sample: Vec<Example> = rows.train.iter().take(SAMPLED).cloned().collect();
            let part: usize = sample.iter().map(|e| e.text.len()).sum();
            let whole: usize = rows.train.iter().map(|e| e.text.len()).sum();
            let mut tokenizing = Tokenizing::new(config, folder.clone(), sample);
            while tokenizing.advance()? {}
            let tokens = tokenizing.finish().tokens() as f64 * whole as f64 / part.max(1) as f64;
            (tokens / max as f64).ceil() as usize
        }
    };
    let batcher = Batcher::new(sequences, &config.training, max, folder.tokenizer.pad_id());
    let estimated = config.task == Task::TextGeneration && rows.train.len() > SAMPLED;
    Ok((batcher.total_steps(&config.training), estimated))
}
