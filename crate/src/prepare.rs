//! From opened tables to what the model eats: rows chosen and split, texts tokenized, batches padded.

use std::{collections::BTreeMap, rc::Rc};

use crate::{
    batch::{Batch, Batcher, Sequences, evaluation_order},
    config::Config,
    data::{self, Example, Examples, LabelSource, Mapping, Shape, Table, Target},
    error::{Error, Result},
    event::Preview,
    packing::{Packer, best_fit},
    plan,
    prompt::Prompter,
    scenario::Learns,
    weights::folder::Folder,
};

/// Training and held-out rows.
pub struct Rows {
    pub shape: Shape,
    /// Column by role.
    pub columns: BTreeMap<String, String>,
    pub train: Vec<Example>,
    pub validation: Vec<Example>,
    pub labels: Vec<String>,
    pub skipped: u64,
    pub warnings: Vec<String>,
}

/// Maps, checks, samples and splits the opened tables (training, and held-out rows where a second one is open). `labels`
/// are those of an adapter that training goes on from; none otherwise.
pub fn rows(config: &Config, tables: &[Table], labels: &[String]) -> Result<Rows> {
    let Some(table) = tables.first() else { return Err(no_data()) };
    let (task, data, seed) = (config.task, &config.data, config.training.seed);
    let num_labels = config.model.num_labels;
    let mapping = task.mapping(table, data)?;
    let mut found = usable(config, table, &mapping, LabelSource::for_training(num_labels))?;
    if labels.len() > 1 && task.classifies() {
        reorder(&table.name, &mut found, labels)?;
    }
    let mut skipped = table.skipped.count + found.skipped.count;
    let mut warnings = table.summary().warnings;
    warnings.extend(found.warnings);
    let (train, validation, source) = match tables.get(1) {
        None => {
            let (train, validation) = data::split(&table.name, found.rows, data.validation_split, seed)?;
            (train, validation, (table, mapping.clone()))
        }
        Some(held_out) => {
            // In the shape of the training file, whatever else it could be.
            let mapping = Mapping::resolve(held_out, data, &[mapping.shape])?;
            let source = LabelSource::for_validation(num_labels, &found.labels);
            let other = usable(config, held_out, &mapping, source)?;
            skipped += held_out.skipped.count + other.skipped.count;
            warnings.extend(held_out.summary().warnings);
            warnings.extend(other.warnings);
            (found.rows, other.rows, (held_out, mapping))
        }
    };
    Ok(Rows {
        shape: mapping.shape,
        columns: mapping.by_role(),
        train: data::sample(train, data.max_train_samples, seed),
        validation: with_fields(data::sample(validation, data.max_eval_samples, seed), source),
        labels: found.labels,
        skipped,
        warnings,
    })
}

/// A table's rows as its task learns them.
fn usable(config: &Config, table: &Table, mapping: &Mapping, labels: LabelSource<'_>) -> Result<Examples> {
    let shape = mapping.shape;
    match config.task.scenario().learns(shape) {
        Learns::Label => data::examples(table, mapping, labels),
        Learns::Text => data::examples(table, mapping, LabelSource::None),
        Learns::Answers => data::exchanges(table, mapping, |row| config.task.exchange(shape, row)),
    }
}

fn no_data() -> Error {
    Error::session("No data is open.", "Choose a file of examples first.")
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

/// Rows to measure a model with whose labels are known. The held-out file is taken where there is one: the model may have
/// been trained on the other.
pub fn known_rows(config: &Config, tables: &[Table], labels: &[String]) -> Result<Rows> {
    let table = tables.last().ok_or_else(no_data)?;
    let mapping = config.task.mapping(table, &config.data)?;
    let source = LabelSource::for_validation(config.model.num_labels, labels);
    let found = usable(config, table, &mapping, source)?;
    let mut warnings = table.summary().warnings;
    warnings.extend(found.warnings);
    Ok(Rows {
        shape: mapping.shape,
        columns: mapping.by_role(),
        train: Vec::new(),
        validation: with_fields(
            data::sample(found.rows, config.data.max_eval_samples, config.training.seed),
            (table, mapping),
        ),
        labels: labels.to_vec(),
        skipped: found.skipped.count,
        warnings,
    })
}

/// Rows that may be shown with their fields: more than are, as some of the first may turn out to be too long. And characters
/// of a field.
const MOST_WITH_FIELDS: usize = 32;
const FIELD_CHARS: usize = 10_000;

/// Gives the first rows what the table says of them by role.
fn with_fields(mut rows: Vec<Example>, (table, mapping): (&Table, Mapping)) -> Vec<Example> {
    for example in rows.iter_mut().take(MOST_WITH_FIELDS) {
        if let Some(row) = table.find(example.row) {
            example.fields = mapping.given(table, row, FIELD_CHARS);
        }
    }
    rows
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
    /// Whole rows are packed side by side.
    packs: bool,
    done: Tokenized,
    cut: usize,
    unusable: data::Skipped,
}

/// Rows as tokens.
#[derive(Debug, Default)]
pub struct Tokenized {
    pub sequences: Sequences,
    /// What a sequence's row says and what counts as right, for rows that are answered; in the sequences' order. Empty where
    /// rows are packed.
    pub asked: Vec<Asked>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub text: String,
    pub answers: Vec<String>,
    /// By role, of the first rows.
    pub fields: BTreeMap<String, String>,
}

enum Into {
    Rows,
    Blocks(Packer),
    Answers(Box<Prompter>),
}

impl Tokenizing {
    /// # Errors
    /// A chat template that cannot be used.
    pub fn new(config: &Config, shape: Shape, folder: Rc<Folder>, rows: Vec<Example>) -> Result<Self> {
        let max_length = plan::max_length(config, folder.config());
        let into = match config.task.scenario().learns(shape) {
            Learns::Label => Into::Rows,
            Learns::Text => Into::Blocks(Packer::new(max_length, folder.tokenizer.eos_id())),
            Learns::Answers => Into::Answers(Box::new(Prompter::new(config, folder.clone())?)),
        };
        let (done, unusable) = (Tokenized::default(), data::Skipped::default());
        let (total, todo) = (rows.len(), rows.into_iter());
        Ok(Self { folder, max_length, total, todo, into, packs: false, done, cut: 0, unusable })
    }

    /// Of training rows, which are packed where the configuration says so. Held-out ones never are: each is measured.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_training(config: &Config, shape: Shape, folder: Rc<Folder>, rows: Vec<Example>) -> Result<Self> {
        Ok(Self { packs: packs(config, shape), ..Self::new(config, shape, folder, rows)? })
    }

    /// Rows done and rows in all.
    pub fn progress(&self) -> (u64, u64) {
        ((self.total - self.todo.len()) as u64, self.total as u64)
    }

    /// The next rows; true while there are more.
    pub fn advance(&mut self) -> Result<bool> {
        let (tokenizer, Tokenized { sequences, asked, .. }) = (&self.folder.tokenizer, &mut self.done);
        for Example { row, text, target, exchange, fields } in self.todo.by_ref().take(ROWS_A_CALL) {
            match (&mut self.into, exchange) {
                (Into::Blocks(packer), _) => packer.push(row, &tokenizer.encode(&text, None)?.ids),
                (Into::Answers(prompter), Some(exchange)) => match prompter.exchange(&exchange)? {
                    Ok(tokens) => {
                        self.cut += usize::from(tokens.cut);
                        sequences.push_masked(row, &tokens.ids, &tokens.learnt);
                        asked.push(Asked { text, answers: exchange.answers, fields });
                    }
                    Err(reason) => self.unusable.push(row, reason),
                },
                _ => {
                    let encoded = tokenizer.encode(&text, Some(self.max_length))?;
                    if sequences.push(row, &encoded.ids, target) {
                        asked.push(Asked { text, answers: Vec::new(), fields });
                    }
                }
            }
        }
        Ok(self.todo.len() > 0)
    }

    pub fn finish(self) -> Tokenized {
        let mut done = self.done;
        if let Into::Blocks(packer) = self.into {
            done.sequences = packer.finish();
        }
        done.warnings.extend(self.unusable.sentence("the data"));
        if self.cut > 0 {
            let (cut, total, max) = (self.cut, self.total, self.max_length);
            done.warnings.push(format!(
                "{cut} of {total} rows are longer than {max} tokens and were shortened: raise model.max_seq_length where \
                 answers may stand in what is cut off."
            ));
        }
        if self.packs {
            let rows = done.sequences.len();
            done.sequences = done.sequences.packed(self.max_length);
            // A sequence is no single row any more.
            done.asked.clear();
            done.warnings.push(packed(rows, done.sequences.len(), self.max_length));
        }
        done
    }
}

/// Whether training rows are packed side by side (`training.packing`).
pub fn packs(config: &Config, shape: Shape) -> bool {
    config.training.packing && config.task.scenario().learns(shape) == Learns::Answers
}

fn packed(rows: usize, sequences: usize, max: usize) -> String {
    format!("{rows} rows are packed into {sequences} sequences of at most {max} tokens (training.packing).")
}

/// Rows that a plan shows, and characters of each.
const SHOWN: usize = 3;
const SHOWN_CHARS: usize = 2000;

/// The first training rows as the model reads them.
///
/// # Errors
/// A chat template or a tokenizer that cannot be used.
pub fn preview(config: &Config, rows: &Rows, folder: &Rc<Folder>) -> Result<Vec<Preview>> {
    let first: Vec<Example> = rows.train.iter().take(SHOWN).cloned().collect();
    let learns = config.task.scenario().learns(rows.shape);
    let shown = |text: &str| text.chars().take(SHOWN_CHARS).collect::<String>();
    let mut previews: Vec<Preview> = Vec::new();
    if learns == Learns::Answers {
        let mut tokenizing = Tokenizing::new(config, rows.shape, folder.clone(), first)?;
        tokenizing.advance()?;
        let sequences = tokenizing.finish().sequences;
        for row in 0..sequences.len() {
            let prompt = sequences.prompt(row).len();
            let ids: Vec<u32> = sequences.ids(row).iter().map(|id| id.cast_unsigned()).collect();
            let text = |ids: &[u32]| folder.tokenizer.decode(ids, false).map(|text| shown(&text));
            let (given, learnt) = (text(&ids[..prompt])?, text(&ids[prompt..])?);
            previews.push(Preview { row: sequences.row(row), given, learnt });
        }
        return Ok(previews);
    }
    for Example { row, text, target, .. } in first {
        let learnt = match target {
            Target::Class(class) => rows.labels.get(class).cloned().unwrap_or_default(),
            Target::Value(value) => value.to_string(),
            Target::None => shown(&text),
        };
        let given = if learns == Learns::Text { String::new() } else { shown(&text) };
        previews.push(Preview { row, given, learnt });
    }
    Ok(previews)
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

/// Plain text is estimated from this many rows; exchanges, which take longer, from fewer.
const SAMPLED: usize = 200;
const SAMPLED_EXCHANGES: usize = 64;

/// Optimizer steps of a run, and what there is to say about their number: of what is packed not all is tokenized yet.
pub fn estimate_steps(config: &Config, rows: &Rows, folder: &Rc<Folder>) -> Result<(u64, Option<String>)> {
    let max = plan::max_length(config, folder.config());
    let sampled = |most: usize| -> Result<Sequences> {
        let sample: Vec<Example> = rows.train.iter().take(most).cloned().collect();
        let mut tokenizing = Tokenizing::new(config, rows.shape, folder.clone(), sample)?;
        while tokenizing.advance()? {}
        Ok(tokenizing.finish().sequences)
    };
    let all = rows.train.len();
    let (sequences, note) = if config.task.scenario().learns(rows.shape) == Learns::Text {
        let bytes = |most: usize| rows.train.iter().take(most).map(|e| e.text.len()).sum::<usize>();
        let (part, whole) = (bytes(SAMPLED), bytes(all));
        let tokens = sampled(SAMPLED)?.tokens() as f64 * whole as f64 / part.max(1) as f64;
        let note = "The number of steps is estimated from a part of the text.";
        ((tokens / max as f64).ceil() as usize, (all > SAMPLED).then(|| note.to_owned()))
    } else if packs(config, rows.shape) {
        let sample = sampled(SAMPLED_EXCHANGES)?;
        let lengths: Vec<usize> = (0..sample.len()).map(|row| sample.ids(row).len()).collect();
        // As many rows as there are, in the sample's proportions.
        let usable = lengths.len() as f64 / all.clamp(1, SAMPLED_EXCHANGES) as f64;
        let lengths: Vec<usize> = lengths.iter().copied().cycle().take((all as f64 * usable) as usize).collect();
        let sequences = best_fit(&lengths, max).len();
        let note = packed(lengths.len(), sequences, max);
        let estimated = " Both are estimated from a part of the rows, and the number of steps as well.";
        (sequences, Some(if all > SAMPLED_EXCHANGES { note + estimated } else { note }))
    } else {
        (all, None)
    };
    let batcher = Batcher::new(sequences, &config.training, max, folder.tokenizer.pad_id());
    Ok((batcher.total_steps(&config.training), note))
}
