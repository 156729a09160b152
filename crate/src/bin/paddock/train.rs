//! `paddock train`

use std::path::Path;

use clap::ValueEnum;
use paddock::{
    config::{Config, Method, RawConfig},
    event::{Command, Ended, Event, ExportFormat, Plan, Summary},
    platform::NamedFile,
};
use serde_json::{Value, json};

use crate::{
    args::TrainArgs,
    driver::{self, Driver},
    export,
    files::{self, OutputDir, Result, failure},
    model,
    output::{Output, metrics_text},
    settings, trained,
};

pub fn run(args: &TrainArgs, output: &mut Output) -> Result<()> {
    let mut config = settings::configure(&args.run)?;
    if let (None, Some(adapter)) = (&config.model.name_or_path, &args.adapter) {
        config.model.name_or_path = Some(files::utf8(&trained::base_of(adapter)?)?);
    }
    let model_path = Path::new(config.model.name_or_path.as_deref().unwrap_or(model::STARTER));
    let data = open_data(&config)?;
    let (name, model) = model::open(model_path, output)?;
    let adapter = args.adapter.as_deref().map(trained::open_adapter).transpose()?.unwrap_or_default();
    let base = (name != model::STARTER).then_some(model_path);
    let inputs: Vec<&Path> = base.into_iter().chain(args.adapter.as_deref()).collect();
    // What is there stays when the run there goes on.
    let overwrite = args.overwrite_output_dir || args.resume_from_checkpoint;
    let folder = OutputDir::prepare(&args.output_dir, overwrite, &inputs)?;
    // Before the run, so that a folder in the way does not cost its result.
    let further = args.export_format.iter().map(|format| {
        let name = format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        Ok((*format, OutputDir::prepare(&args.output_dir.join(name), overwrite, &inputs)?))
    });
    let further = further.collect::<Result<Vec<_>>>()?;

    let mut driver = Driver::new(output);
    driver.use_cache();
    driver.use_storage(&args.output_dir);
    driver.send(Command::Inspect, Vec::new())?;
    driver.send(Command::OpenModel { name }, model)?;
    driver.send(Command::OpenData, data)?;
    driver::stop_on_interrupt()?;
    let config = Box::new(config);
    let start = Command::Start { config: config.clone(), resume: args.resume_from_checkpoint, smaller: 0 };
    let answers = driver.send(start, adapter)?;
    let plan = answers.iter().find_map(|event| match event {
        Event::Plan(plan) => Some(plan),
        _ => None,
    });
    let summary = answers.iter().find_map(|event| match event {
        Event::Finished(summary) => Some(summary),
        _ => None,
    });
    let (Some(plan), Some(summary)) = (plan, summary) else {
        return Err(failure("the run ended without a result", "This is a fault in paddock: please report it."));
    };
    if summary.steps == 0 {
        return Err(failure(
            "stopped before the first step: there is nothing to write",
            "Start the run again and let it take a step.",
        ));
    }
    let method = Config::resolve(&config)?.training.method;
    let format = if method == Method::Lora { ExportFormat::Adapter } else { ExportFormat::Merged };
    let export = |format| Command::Export { format, dtype: None, zip: false, name: args.plugin_name.clone() };
    export::write(&mut driver, &folder, export(format), &record(&config, args.adapter.as_deref(), plan))?;
    for (format, folder) in &further {
        export::write(&mut driver, folder, export((*format).into()), &json!({}))?;
    }

    report(&args.output_dir, summary, output)
}

/// The files go by the names that the configuration has for them: that is how the engine tells them apart.
pub fn open_data(config: &RawConfig) -> Result<Vec<NamedFile>> {
    let train = config.data.train_file.as_ref().ok_or_else(|| {
        let advice = "Add --train_file FILE, or data.train_file to the file that --config names.";
        failure("--train_file is missing", advice)
    })?;
    let mut opened = vec![files::open_file(Path::new(train), train.clone())?];
    if let Some(validation) = &config.data.validation_file {
        if validation == train {
            return Err(failure(
                format!("{train} is the training file and the validation file"),
                "Leave --validation_file out (data.validation_split holds rows out), or name another file.",
            ));
        }
        opened.push(files::open_file(Path::new(validation), validation.clone())?);
    }
    Ok(opened)
}

/// What the command knows of a run beside its metrics: where the data came from.
fn record(config: &RawConfig, adapter: Option<&Path>, plan: &Plan) -> Value {
    json!({
        "model_name_or_path": config.model.name_or_path,
        "adapter": adapter.map(Path::to_string_lossy),
        "train_file": config.data.train_file,
        "device": plan.device,
        "labels": plan.labels,
        "train_rows": plan.train_rows,
    })
}

fn report(folder: &Path, summary: &Summary, output: &mut Output) -> Result<()> {
    let fields = json!({
        "metrics": summary.after,
        "before": summary.before,
        "rows": summary.rows,
        "completed": summary.completed,
        "ended": summary.ended,
        "best_step": summary.best_step,
        "recoveries": summary.recoveries,
        "steps": summary.steps,
        "seconds": summary.seconds,
        "output_dir": folder.to_string_lossy(),
    });
    let mut text = String::new();
    for (when, metrics) in [("before", &summary.before), ("after", &summary.after)] {
        if let Some(metrics) = metrics {
            text += &format!("{when:<7} {}\n", metrics_text(metrics));
        }
    }
    let ended = match summary.ended {
        Ended::Finished => "trained",
        Ended::Stopped => "stopped after",
        Ended::EarlyStopping => "stopped early, as the held-out rows got no better, after",
        Ended::TimeBudget => "stopped when the time was over, after",
    };
    text += &format!("{ended} {} steps in {:.1} s, written to {}", summary.steps, summary.seconds, folder.display());
    if let Some(step) = summary.best_step {
        text += &format!("\nthese are the weights of step {step}, the best of those that were measured");
    }
    output.result(fields, &text)
}
