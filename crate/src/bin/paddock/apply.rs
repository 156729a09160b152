//! `paddock eval` and `paddock predict`

use std::{collections::BTreeMap, path::Path};

use paddock::event::{Command, Event};
use serde_json::json;

use crate::{
    args::{EvalArgs, PredictArgs},
    driver::{self, Driver},
    files::{self, Result, failure},
    output::{Output, metrics_text, prediction_line},
    rows::{self, Row},
    trained::Trained,
};

/// Texts sent with one command: enough to fill batches, few enough to show results as they come.
const CHUNK: usize = 64;

pub fn eval(args: &EvalArgs, output: &mut Output) -> Result<()> {
    let trained = Trained::find(&args.trained, &args.common)?;
    let data = files::open_file(&args.test_file, files::utf8(&args.test_file)?)?;
    let mut driver = Driver::new(output);
    trained.open(&mut driver, Some(data))?;
    let answers = driver.send(Command::Evaluate { columns: BTreeMap::new() }, Vec::new())?;
    let evaluation = answers.into_iter().find_map(|event| match event {
        Event::Evaluation(evaluation) => Some(evaluation),
        _ => None,
    });
    let Some(evaluation) = evaluation else {
        return Err(failure("the evaluation gave no result", "This is a fault in paddock: please report it."));
    };
    let fields = json!({
        "metrics": evaluation.metrics,
        "intervals": evaluation.intervals,
        "answered": evaluation.answered,
        "rows": evaluation.rows,
        "labels": evaluation.labels,
        "confusion": evaluation.confusion,
    });
    let text = format!("{}  rows {}", metrics_text(&evaluation.metrics), evaluation.rows);
    output.result(fields, &text)
}

/// `ROLE=TEXT` of the flags.
fn fields(given: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |given: &String| given.split_once('=').map(|(role, text)| (role.trim().to_owned(), text.to_owned()));
    let wrong = |given: &String| failure(format!("--field {given} has no `=`"), "Write --field context=\"…\".");
    given.iter().map(|given| pair(given).ok_or_else(|| wrong(given))).collect()
}

pub fn predict(args: &PredictArgs, output: &mut Output) -> Result<()> {
    let sampling = args.sampling.sampling();
    sampling.check()?;
    let trained = Trained::find(&args.trained, &args.common)?;
    let rows = match &args.test_file {
        Some(file) => {
            let read = rows::read(file, &trained.config)?;
            for message in read.warnings {
                output.warning(message)?;
            }
            read.rows
        }
        None => {
            let fields = fields(&args.field)?;
            let row = |(number, text): (u64, &String)| Row { number, text: text.clone(), fields: fields.clone() };
            (1..).zip(&args.text).map(row).collect()
        }
    };
    output.follow_answers(rows.len() == 1 && args.output_file.is_none());
    let mut driver = Driver::new(output);
    trained.open(&mut driver, None)?;
    driver::stop_on_interrupt()?;
    let (mut lines, mut answered) = (String::new(), 0);
    for chunk in rows.chunks(CHUNK) {
        let texts = chunk.iter().map(|row| row.text.clone()).collect();
        let fields = chunk.iter().map(|row| row.fields.clone()).collect();
        let apply_chat_template = args.apply_chat_template;
        let sampling = sampling.clone();
        let ask = Command::Predict {
            texts,
            fields,
            messages: Vec::new(),
            plugin: None,
            sampling,
            max_new_tokens: None,
            apply_chat_template,
            join: false,
        };
        let mut predictions = Vec::new();
        for event in driver.send(ask, Vec::new())? {
            let Event::Prediction(prediction) = event else { continue };
            let row = usize::try_from(prediction.index).ok().and_then(|index| chunk.get(index));
            predictions.push((row.map_or(prediction.index, |row| row.number), prediction));
        }
        // Answers are finished in any order.
        predictions.sort_by_key(|(row, _)| *row);
        answered += predictions.len();
        for (row, prediction) in &predictions {
            if args.output_file.is_some() {
                lines += &format!("{}\n", prediction_line(*row, prediction));
            } else {
                driver.output.prediction(*row, prediction)?;
            }
        }
        if driver.output.is_closed() {
            return Ok(());
        }
        if driver::interrupted() {
            driver.output.note("stopped: what was not begun has no prediction");
            break;
        }
    }
    if let Err(failure) = trained.count(answered as u64) {
        driver.output.warning(format!("the use is not counted: {}", failure.message))?;
    }
    let mut text = String::new();
    if let Some(path) = &args.output_file {
        files::write_file(path, lines.as_bytes())?;
        text = format!("{answered} predictions written to {}", path.display());
    }
    let output_file = args.output_file.as_deref().map(Path::to_string_lossy);
    output.result(json!({"rows": answered, "output_file": output_file}), &text)
}
