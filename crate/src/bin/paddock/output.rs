//! What a person or a program sees: results on stdout, progress on stderr; or JSON lines on stdout alone.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use paddock::{
    error::Error,
    event::{
        Action, Calibration, Envelope, Evaluation, Event, Failure, Metrics, Phase, Plan, Precision, Prediction,
        Recovery, Sample, Step, Summary, When,
    },
};
use serde_json::{Map, Value, json};

use crate::{
    args::LogFormat,
    files::{Result, failure},
};

pub struct Output {
    json: bool,
    /// Hidden where stderr is no terminal; plain lines take its place.
    bar: ProgressBar,
    phase: Option<Phase>,
    brief: bool,
    /// Answers are printed as they come; whether one is under way.
    follow: bool,
    answering: bool,
    /// The reader of stdout has gone (`paddock … | head`): nothing more is printed, work that is under way goes on.
    closed: bool,
}

impl Output {
    pub fn new(format: LogFormat) -> Self {
        let json = format == LogFormat::Json;
        let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self {
            json,
            bar: ProgressBar::with_draw_target(None, target),
            phase: None,
            brief: false,
            follow: false,
            answering: false,
            closed: false,
        }
    }

    /// Whether anybody still reads stdout.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a person sees an answer as it comes: on a terminal.
    pub fn follow_answers(&mut self, follow: bool) {
        self.follow = follow && !self.json && io::stdout().is_terminal();
    }

    /// One line on stdout.
    pub fn line(&mut self, line: &str) -> Result<()> {
        self.print(&format!("{line}\n"))
    }

    fn print(&mut self, text: &str) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let written = self.bar.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            // It arrives when it happens, not when the buffer is full.
            stdout.flush()
        });
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            Err(error) => {
                self.closed = true;
                return Err(failure(
                    format!("cannot write to standard output: {error}"),
                    "Check where it goes and whether that disk is full.",
                ));
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// One line for a person on stderr; nothing in JSON mode.
    pub fn note(&self, line: &str) {
        if !self.json {
            // A closed stderr is no reason to stop.
            let _ = self.bar.suspend(|| writeln!(io::stderr(), "{line}"));
        }
    }

    /// Shows one event. A [`Failure`] is left to [`Self::error`], so that it shows once and last.
    pub fn event(&mut self, envelope: &Envelope) -> Result<()> {
        match &envelope.event {
            Event::TextDelta(delta) if self.follow => {
                if !std::mem::replace(&mut self.answering, true) {
                    self.bar.finish_and_clear();
                }
                return self.print(&delta.text);
            }
            Event::Failed(_) | Event::Prediction(_) | Event::TextDelta(_) => return Ok(()),
            Event::Progress { .. } if self.answering => return Ok(()),
            _ if self.json => return self.line(&to_line(envelope)),
            Event::Plan(_) | Event::Evaluation(_) if self.brief => return Ok(()),
            Event::Progress { .. } | Event::Step(_) if self.brief && !io::stderr().is_terminal() => return Ok(()),
            _ => {}
        }
        match &envelope.event {
            Event::ModelOpened(model) => self.note(&format!(
                "model {}: {}, {} parameters, {} layers, vocabulary {}, {}",
                model.name,
                model.architecture,
                count(model.parameters),
                model.layers,
                model.vocab_size,
                model.dtype
            )),
            Event::DataOpened(data) => {
                let columns: Vec<_> = data.columns.iter().map(|column| column.name.as_str()).collect();
                self.note(&format!(
                    "data {}: {} rows of {} ({}), columns {}",
                    data.name,
                    data.rows,
                    data.format,
                    data.encoding,
                    columns.join(", ")
                ));
                self.warnings(&data.warnings);
            }
            Event::Plan(plan) => self.plan(plan),
            Event::Progress { phase, done, total } => self.progress(*phase, *done, *total),
            Event::Calibrated(found) => self.note(&calibration_text(found)),
            Event::Step(step) => self.step(step),
            // Outside a run it is the result, which is printed by itself.
            Event::Evaluation(evaluation) if !envelope.run.is_empty() => self.evaluation(evaluation),
            Event::Resumed(resumed) => {
                self.note(&format!("going on from step {} ({})", resumed.step, resumed.file));
                self.warnings(&resumed.damaged);
            }
            Event::Finished(summary) => self.judged(summary),
            Event::Checkpoint(checkpoint) => self.note(&format!(
                "step {}: {}, {}{}",
                checkpoint.step,
                checkpoint.file,
                bytes(checkpoint.bytes),
                if checkpoint.best { ", the best so far" } else { "" }
            )),
            Event::Recovery(recovery) => self.note(&recovery_text(recovery)),
            Event::Warning { message } => self.note(&format!("warning: {message}")),
            _ => {}
        }
        Ok(())
    }

    /// Something that a person should know, from outside the engine.
    pub fn warning(&mut self, message: String) -> Result<()> {
        let event = Event::Warning { message };
        self.event(&Envelope { run: String::new(), event })
    }

    /// All that is wrong with a file of settings, where it is more than one thing; gives back what the command ends with.
    pub fn problems(&mut self, name: &str, errors: &[Error]) -> Result<Failure> {
        if let [error] = errors {
            return Ok(error.into());
        }
        for problem in errors.iter().map(Failure::from) {
            if self.json {
                self.line(&tagged("problem", &json!({"message": problem.message, "advice": problem.advice})))?;
            } else {
                self.note(&format!("{}\n    {}", problem.message, problem.advice));
            }
        }
        Ok(failure(format!("{name}: {} settings cannot be used", errors.len()), "Correct what is named above."))
    }

    /// Whether only warnings, progress and what the command itself says are shown: runs of a sweep. JSON has everything.
    pub fn brief(&mut self, brief: bool) {
        self.brief = brief;
    }

    /// A finished run of a sweep, for programs.
    pub fn trial(&mut self, fields: &Value) -> Result<()> {
        if self.json { self.line(&tagged("trial", fields)) } else { Ok(()) }
    }

    /// How far a file from the hub is.
    pub fn download(&mut self, file: &str, done: u64, total: Option<u64>) -> Result<()> {
        if self.json {
            return self.line(&tagged("download", &json!({"file": file, "done": done, "total": total})));
        }
        if self.bar.message() != file {
            self.phase = None;
            if !io::stderr().is_terminal() {
                self.note(&format!("fetching {file}"));
            }
            let known = "{msg} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
            self.start_bar(total.unwrap_or(0), known, "{msg} {spinner} {bytes}");
            self.bar.set_message(file.to_owned());
        }
        self.bar.set_position(done);
        Ok(())
    }

    /// What a server says of itself or of a request.
    pub fn served(&mut self, event: &str, fields: &Value, text: &str) -> Result<()> {
        self.bar.finish_and_clear();
        self.phase = None;
        if self.json {
            return self.line(&tagged(event, fields));
        }
        self.note(text);
        Ok(())
    }

    /// One classified row, `row` counted from 1.
    pub fn prediction(&mut self, row: u64, prediction: &Prediction) -> Result<()> {
        if self.json {
            return self.line(&prediction_line(row, prediction));
        }
        if std::mem::take(&mut self.answering) {
            return self.line("");
        }
        // Tabs and line breaks in a label would break the two columns.
        let label = prediction.label.replace(['\t', '\n', '\r'], " ");
        match prediction.scores.iter().find(|(name, _)| *name == prediction.label) {
            Some((_, confidence)) => self.line(&format!("{label}\t{confidence:.4}")),
            None => self.line(&label),
        }
    }

    /// The tokens of one row.
    pub fn tokens(&mut self, row: u64, ids: &[u32]) -> Result<()> {
        if self.json {
            return self.line(&tagged("tokens", &json!({"row": row, "input_ids": ids})));
        }
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        self.line(&ids.join(" "))
    }

    /// The last line of a command that went well: JSON, or text for a person.
    pub fn result(&mut self, fields: Value, text: &str) -> Result<()> {
        self.bar.finish_and_clear();
        if self.json {
            self.line(&tagged("result", &fields))
        } else if text.is_empty() {
            Ok(())
        } else {
            self.line(text)
        }
    }

    /// The last line of a command that went badly.
    pub fn error(&mut self, failure: &Failure) {
        self.bar.finish_and_clear();
        if self.json {
            // Nobody is left to tell when stdout is gone too.
            let _ = self.line(&error_line(failure));
        } else {
            let _ = writeln!(io::stderr(), "error: {}", failure.message);
            if !failure.advice.is_empty() {
                let _ = writeln!(io::stderr(), "{}", failure.advice);
            }
        }
    }

    fn warnings(&self, warnings: &[String]) {
        for warning in warnings {
            self.note(&format!("warning: {warning}"));
        }
    }

    fn plan(&self, plan: &Plan) {
        self.note(&format!(
            "plan: {} steps over {} rows on the {} in {} bits, {} held out, {} of {} parameters trained, about {} of memory",
            plan.total_steps,
            plan.train_rows,
            plan.device,
            match plan.precision {
                Precision::F32 => 32,
                Precision::F16 => 16,
            },
            plan.validation_rows,
            count(plan.trainable_parameters),
            count(plan.total_parameters),
            bytes(plan.weight_bytes + plan.training_bytes + plan.activation_bytes)
        ));
        if plan.skipped_rows > 0 {
            self.note(&format!("warning: {} rows cannot be used", plan.skipped_rows));
        }
        self.warnings(&plan.warnings);
    }

    fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        let name = match phase {
            Phase::LoadingWeights => "loading weights",
            Phase::Tokenizing => "tokenizing",
            Phase::WarmingUp => "warming up (compiling kernels)",
            Phase::Evaluating => "evaluating",
            Phase::Exporting => "writing",
            Phase::Generating => "generating",
            Phase::Saving => "saving a checkpoint",
        };
        if self.phase.replace(phase) != Some(phase) {
            if !io::stderr().is_terminal() {
                self.note(name);
            }
            self.start_bar(total, "{msg} {bar:30} {pos}/{len}", "{spinner} {msg}");
            self.bar.set_message(name);
        }
        self.bar.set_position(done);
    }

    fn step(&mut self, step: &Step) {
        if !io::stderr().is_terminal() {
            self.note(&format!(
                "step {}/{}  epoch {:.2}  loss {:.4}  accuracy {:.3}  grad_norm {:.3}  learning_rate {:.2e}  {:.0} tokens/s",
                step.step,
                step.total_steps,
                step.epoch,
                step.loss,
                step.accuracy,
                step.grad_norm,
                step.learning_rate,
                step.tokens_per_second
            ));
            return;
        }
        if self.phase.take().is_some() || self.bar.length() != Some(step.total_steps) {
            self.start_bar(step.total_steps, "training {bar:30} {pos}/{len}  {msg}  {eta} left", "{msg}");
        }
        self.bar.set_message(format!(
            "loss {:.4}  accuracy {:.3}  {:.0} tokens/s",
            step.loss, step.accuracy, step.tokens_per_second
        ));
        self.bar.set_position(step.step);
    }

    fn start_bar(&self, total: u64, known: &str, unknown: &str) {
        let template = if total > 0 { known } else { unknown };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        self.bar.set_length(total);
        self.bar.set_position(0);
        self.bar.reset_eta();
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn evaluation(&self, evaluation: &Evaluation) {
        let when = match evaluation.when {
            When::Before => "before training",
            When::During => "during training",
            When::After => "after training",
        };
        self.note(&format!("{when}: {} ({} rows)", metrics_text(&evaluation.metrics), evaluation.rows));
        let answered = if evaluation.answered > 0 { SHOWN } else { 0 };
        for Sample { text, expected, predicted, .. } in evaluation.samples.iter().take(answered) {
            let line = |text: &str| clipped(&text.split_whitespace().collect::<Vec<_>>().join(" "));
            self.note(&format!(
                "  {}\n    expected: {}\n    answered: {}",
                line(text),
                line(expected),
                line(predicted)
            ));
        }
        let mut moved: Vec<String> = Vec::new();
        for (metric, change) in &evaluation.changes {
            let interval = change.interval.map(|(low, high)| format!(" (95 %: {low:+.4} to {high:+.4})"));
            moved.push(format!("{metric} {:+.4}{}", change.value, interval.unwrap_or_default()));
        }
        if !moved.is_empty() {
            self.note(&format!("change: {}", moved.join("  ")));
        }
    }

    /// What came of it, and what could be tried next.
    pub fn judged(&self, summary: &Summary) {
        if let Some(verdict) = &summary.verdict {
            self.note(&format!("{}: {}", if verdict.met { "reached" } else { "not reached" }, verdict.message));
        }
        for hint in &summary.hints {
            let changes: Vec<String> = hint.changes.iter().map(|(key, value)| format!("--set {key}={value}")).collect();
            self.note(&format!("hint: {} {}", hint.message, changes.join(" ")));
        }
    }
}

/// Answers shown of an evaluation.
const SHOWN: usize = 3;

fn clipped(text: &str) -> String {
    const MOST: usize = 160;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

/// Which kernels a run takes on this GPU.
fn calibration_text(found: &Calibration) -> String {
    let tiles: Vec<String> = match serde_json::to_value(found.choices) {
        Ok(Value::Object(tiles)) => {
            tiles.iter().map(|(class, tile)| format!("{class} {}", tile.as_str().unwrap_or_default())).collect()
        }
        _ => Vec::new(),
    };
    format!("kernels for {}, measured in {:.1} s: {}", found.adapter, found.seconds, tiles.join(", "))
}

/// What went wrong, and what is done about it.
fn recovery_text(recovery: &Recovery) -> String {
    let done = match recovery.action {
        Action::SkipBatch => "the batch is left out".to_owned(),
        Action::LowerLearningRate => {
            format!("the learning rate is lowered to {:.3} of the configured one", recovery.learning_rate_factor)
        }
        Action::SmallerMicroBatch => format!("micro-batches are cut into {} parts", recovery.split),
        Action::NewDevice => "the device was opened anew".to_owned(),
        Action::FreeStorage => "older checkpoints were removed".to_owned(),
    };
    let back = match recovery.back_to {
        Some(0) => "; back to the beginning".to_owned(),
        Some(step) => format!("; back to step {step}"),
        None => String::new(),
    };
    let attempt = match recovery.attempt {
        0 => String::new(),
        attempt => format!(" (try {attempt} of {})", recovery.max_attempts),
    };
    format!("recovery: {}: {done}{back}{attempt}", recovery.message)
}

/// The metrics that apply, as one line.
pub fn metrics_text(metrics: &Metrics) -> String {
    metrics.all().map(|(metric, value)| format!("{} {value:.4}", metric.as_str())).collect::<Vec<_>>().join("  ")
}

/// An envelope with its type under `event`.
fn to_line(envelope: &Envelope) -> String {
    let mut value = serde_json::to_value(envelope).unwrap_or_default();
    let kind = value.as_object_mut().and_then(|fields| fields.remove("type")).unwrap_or_default();
    tagged(kind.as_str().unwrap_or_default(), &value)
}

/// `{"event":"prediction","label":…,"row":1,"scores":{…}}`
pub fn prediction_line(row: u64, prediction: &Prediction) -> String {
    let scores: Map<_, _> = prediction.scores.iter().map(|(label, score)| (label.clone(), json!(score))).collect();
    tagged("prediction", &json!({"row": row, "label": prediction.label, "scores": scores}))
}

fn error_line(failure: &Failure) -> String {
    tagged("error", &json!({"message": failure.message, "advice": failure.advice}))
}

/// One object on one line, `event` first, for those who read along.
fn tagged(event: &str, fields: &Value) -> String {
    let fields = fields.to_string();
    format!("{{\"event\":{},{}", json!(event), fields.strip_prefix('{').unwrap_or("}"))
}

fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", number as f64 / 1e6),
        _ => format!("{:.2} B", number as f64 / 1e9),
    }
}

pub fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}
