//! `paddock sweep`: trials of the planner, one run each, recorded as they finish.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use paddock::{
    config::{Config, RawConfig},
    event::{Command, Event, Failure, ModelSummary, Summary},
    export::DataFile,
    platform::NamedFile,
    sweep::{Base, Next, Planner, Report, Sweep, SweepFile, Trial, TrialResult},
};
use pollster::block_on;
use serde_json::{Value, json};

use crate::{
    args::SweepArgs,
    driver::{self, Driver},
    files::{self, OutputDir, Result, failure},
    model,
    output::{Output, metrics_text},
    settings, train,
};

/// One line that says what the trials are of, then a line a finished trial.
const RECORD: &str = "sweep.jsonl";
const BEST: &str = "run.yaml";

pub fn run(args: &SweepArgs, output: &mut Output) -> Result<()> {
    let sweep = read(args, output)?;
    let planner = Planner::new(&sweep)?;
    let base = &sweep.base;
    let model_path = Path::new(base.model.name_or_path.as_deref().unwrap_or(model::STARTER));
    let data = train::open_data(base)?;
    let fingerprints = data.iter().map(fingerprint).collect::<Result<Vec<_>>>()?;
    let (name, model) = model::open(model_path, output)?;

    let (settings, runs) = planner.counts();
    output.note(&format!("{settings} settings, the default among them; at most {runs} runs"));
    let mut driver = Driver::new(output);
    driver.use_cache();
    driver.send(Command::Inspect, Vec::new())?;
    let opened = driver.send(Command::OpenModel { name: name.clone() }, model)?;
    driver.send(Command::OpenData, data)?;
    let parameters = opened.iter().find_map(|event| match event {
        Event::ModelOpened(ModelSummary { parameters, .. }) => Some(*parameters),
        _ => None,
    });
    // Shows once what every trial begins with, its warnings included.
    driver.send(Command::Check { config: Box::new(base.clone()) }, Vec::new())?;
    let inputs: &[&Path] = if name == model::STARTER { &[] } else { &[model_path] };
    let head = json!({"sweep": sweep, "data": fingerprints, "model": {"name": name, "parameters": parameters}});
    let mut record = Record::open(args, &head, inputs)?;
    planner.check(&record.results).map_err(|error| {
        let message = format!("{}: {error}", record.path.display());
        failure(message, "Name another folder, or add --overwrite_output_dir to begin again.")
    })?;
    if !record.results.is_empty() {
        driver.output.note(&format!(
            "going on after {} finished runs of {}",
            record.results.len(),
            record.path.display()
        ));
    }

    driver::stop_on_interrupt()?;
    driver.output.brief(true);
    while let Next::Run(trial) = planner.next(&record.results) {
        let number = record.results.len() + 1;
        driver.output.note(&format!("run {number} of {runs}: {}", describe(&trial)));
        let config = planner.config(&trial)?;
        // Between two runs as well.
        let result = if driver::interrupted() { None } else { run_trial(&mut driver, trial, config)? };
        let Some(result) = result else {
            return Err(failure(
                format!("stopped after {} of at most {runs} runs", record.results.len()),
                "Give the same command again to go on where it stopped.",
            ));
        };
        let told = match (&result.metrics, &result.error) {
            (Some(metrics), _) => metrics_text(metrics),
            (None, error) => format!("failed: {}", error.as_deref().unwrap_or("for no known reason")),
        };
        driver.output.note(&format!("  {told}  ({:.1} s)", result.seconds));
        driver.output.trial(&serde_json::to_value(&result).unwrap_or_default())?;
        record.add(result)?;
    }
    driver.output.brief(false);
    finish(args, &planner, &record.results, output)
}

/// The file, over the base that it names or `--config`, with the flags over that.
fn read(args: &SweepArgs, output: &mut Output) -> Result<Sweep> {
    let name = args.file.display().to_string();
    let text = files::read_text(&args.file)?;
    let file = match SweepFile::from_yaml(&text, &name) {
        Ok(file) => file,
        Err(errors) => return Err(output.problems(&name, &errors)?),
    };
    let config = args.run.common.config.as_deref();
    let mut base = match (&file.base, config) {
        (Some(_), Some(_)) => {
            return Err(failure(format!("{name} has a base, and --config names another"), "Leave one of the two out."));
        }
        // As seen from the file that names it.
        (Some(Base::Path(path)), None) => settings::from_file(Some(&args.file.with_file_name(path)))?,
        (Some(Base::Inline(base)), None) => (**base).clone(),
        (None, config) => settings::from_file(config)?,
    };
    settings::apply(&args.run, &mut base)?;
    settings::check(&base)?;
    Ok(file.over(base))
}

fn fingerprint(file: &NamedFile) -> Result<Value> {
    let size = file.blob.size();
    let bytes = usize::try_from(size).ok().map(|size| block_on(file.blob.read(0, size)));
    match bytes {
        Some(Ok(bytes)) => {
            let DataFile { name, sha256, .. } = DataFile::new(&file.name, &bytes, 0);
            Ok(json!({"name": name, "sha256": sha256}))
        }
        Some(Err(error)) => Err(files::cannot("read", Path::new(&file.name), &error)),
        None => Err(failure(format!("{} is too large", file.name), "Split the file and use a part of it.")),
    }
}

fn describe(trial: &Trial) -> String {
    let settings: Vec<_> = trial.settings.iter().map(|(key, value)| format!("{key} {value}")).collect();
    let settings = if settings.is_empty() { "default".to_owned() } else { settings.join(", ") };
    match trial.max_steps {
        Some(steps) => format!("{settings}, {steps} steps"),
        None => settings,
    }
}

/// None where a person stopped it.
fn run_trial(driver: &mut Driver<'_>, trial: Trial, config: RawConfig) -> Result<Option<TrialResult>> {
    let answers = match driver.send(Command::Start { config: Box::new(config), resume: false, smaller: 0 }, Vec::new())
    {
        Ok(answers) => answers,
        // Nobody reads the output: that is no fault of the settings.
        Err(failure) if driver.output.is_closed() => return Err(failure),
        Err(Failure { message, .. }) if !driver::interrupted() => {
            let error = Some(message);
            return Ok(Some(TrialResult { trial, metrics: None, rows: 0, steps: 0, seconds: 0.0, error }));
        }
        Err(_) => return Ok(None),
    };
    let summary = answers.into_iter().find_map(|event| match event {
        Event::Finished(summary) => Some(summary),
        _ => None,
    });
    Ok(summary.filter(|summary| summary.completed).map(|summary| *summary).map(
        |Summary { steps, seconds, after, rows, .. }| TrialResult {
            trial,
            metrics: after,
            rows,
            steps,
            seconds,
            error: None,
        },
    ))
}

/// The finished trials, on the disk before the next one begins.
struct Record {
    path: PathBuf,
    file: File,
    results: Vec<TrialResult>,
}

impl Record {
    fn open(args: &SweepArgs, head: &Value, inputs: &[&Path]) -> Result<Self> {
        let path = args.output_dir.join(RECORD);
        let there = if args.overwrite_output_dir || !path.exists() { None } else { Some(Self::read(&path, head)?) };
        let (results, good) = match there {
            Some(there) => there,
            None => {
                OutputDir::prepare(&args.output_dir, args.overwrite_output_dir, inputs)?;
                files::write_file(&path, format!("{head}\n").as_bytes())?;
                (Vec::new(), None)
            }
        };
        let cannot = |error| files::cannot("write", &path, &error);
        let file = OpenOptions::new().append(true).open(&path).map_err(cannot)?;
        // Half a line that a killed sweep left.
        if let Some(good) = good {
            file.set_len(good).map_err(cannot)?;
        }
        Ok(Self { path, file, results })
    }

    /// The results, and where the last whole line ends.
    fn read(path: &Path, head: &Value) -> Result<(Vec<TrialResult>, Option<u64>)> {
        let text = fs::read(path).map_err(|error| files::cannot("read", path, &error))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let bad = |line: usize| {
            let message = format!("{} line {line} is not what a sweep wrote", path.display());
            failure(message, "Name another folder, or add --overwrite_output_dir to begin again.")
        };
        let mut lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let there: Value = lines.next().and_then(|line| serde_json::from_slice(line).ok()).ok_or_else(|| bad(1))?;
        // As it comes back from a file: numbers may be written in another way.
        let wanted: Value = serde_json::from_str(&head.to_string()).unwrap_or_default();
        if let Some(differs) = difference(&there, &wanted, "") {
            return Err(failure(
                format!("{} holds trials of another sweep: {differs} is not the same", path.display()),
                "Change it back to go on, name another folder, or add --overwrite_output_dir to begin again.",
            ));
        }
        let results = lines.zip(2..).map(|(line, number)| serde_json::from_slice(line).map_err(|_| bad(number)));
        Ok((results.collect::<Result<_>>()?, Some(whole as u64)))
    }

    fn add(&mut self, result: TrialResult) -> Result<()> {
        let line = serde_json::to_string(&result).unwrap_or_default() + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|error| files::cannot("write", &self.path, &error))?;
        self.results.push(result);
        Ok(())
    }
}

/// The first place where two documents differ, as `sweep.base.training.learning_rate`.
fn difference(a: &Value, b: &Value, place: &str) -> Option<String> {
    let (Value::Object(x), Value::Object(y)) = (a, b) else { return (a != b).then(|| place.to_owned()) };
    let keys = x.keys().chain(y.keys().filter(|key| !x.contains_key(*key)));
    keys.into_iter().find_map(|key| {
        let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        difference(x.get(key).unwrap_or(&Value::Null), y.get(key).unwrap_or(&Value::Null), &inner)
    })
}

fn finish(args: &SweepArgs, planner: &Planner, results: &[TrialResult], output: &mut Output) -> Result<()> {
    let report = planner.report(results);
    let Report { best, verdict, .. } = &report;
    let last = |trial: usize| results.iter().rev().find(|result| result.trial.trial == trial);
    let Some(result) = best.and_then(last) else {
        let first = results.iter().find_map(|result| result.error.clone()).unwrap_or_default();
        return Err(failure(format!("every trial failed; the first: {first}"), "Change the base or the space."));
    };
    let config = Config::resolve(&planner.config(&result.trial)?)?;
    let path = args.output_dir.join(BEST);
    files::write_file(&path, config.to_yaml().as_bytes())?;
    let text = format!("{}\n{verdict}\nThe best settings are in {}.", report.table(), path.display());
    let fields = json!({
        "metric": report.metric,
        "trials": report.rows,
        "best": best,
        "verdict": verdict,
        "output_dir": args.output_dir.to_string_lossy(),
    });
    output.result(fields, &text)
}
