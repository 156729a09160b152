//! `paddock eval` and `paddock predict`

use std::path::Path;

use paddock::event::{Command, Event};
use serde_json::json;

use crate::{
    args::{EvalArgs, PredictArgs},
    driver::Driver,
    files::{self, Result, failure},
    output::{Output, metrics_text, prediction_line},
    rows,
    trained::Trained,
};

/// Texts sent with one command: enough to fill batches, few enough to show results as they come.
const CHUNK: usize = 64;

pub fn eval(args: &EvalArgs, output: &mut Output) -> Result<()> {
    let trained = Trained::find(&args.trained, &args.common)?;
    let data = files::open_file(&args.test_file, files::utf8(&args.test_file)?)?;
    let mut driver = Driver::new(output);
    trained.open(&mut driver, Some(data))?;
    let answers = driver.send(Command::Evaluate { text_column: None, label_column: None }, Vec::new())?;
    let evaluation = answers.into_iter().find_map(|event| match event {
        Event::Evaluation(evaluation) => Some(evaluation),
        _ => None,
    });
    let Some(evaluation) = evaluation else {
        return Err(failure("the evaluation gave no result", "This is a fault in paddock: please report it."));
    };
    let fields = json!({
        "metrics": evaluation.metrics,
        "rows": evaluation.rows,
        "labels": evaluation.labels,
        "confusion": evaluation.confusion,
    });
    let text = format!("{}  rows {}", metrics_text(&evaluation.metrics), evaluation.rows);
    output.result(fields, &text)
}

pub fn predict(args: &PredictArgs, output: &mut Output) -> Result<()> {
    let trained = Trained::find(&args.trained, &args.common)?;
    let rows = match &args.test_file {
        Some(file) => {
            let read = rows::read(file, &trained.config)?;
            for message in read.warnings {
                output.warning(message)?;
            }
            read.rows
        }
        None => (1..).zip(args.text.iter().cloned()).collect(),
    };
    let mut driver = Driver::new(output);
    trained.open(&mut driver, None)?;
    let mut lines = String::new();
    let ask = |texts| Command::Predict {
        texts,
        max_new_tokens: args.max_new_tokens,
        apply_chat_template: args.apply_chat_template,
    };
    for chunk in rows.chunks(CHUNK) {
        let texts = chunk.iter().map(|(_, text)| text.clone()).collect();
        for event in driver.send(ask(texts), Vec::new())? {
            let Event::Prediction(prediction) = event else { continue };
            let row = usize::try_from(prediction.index).ok().and_then(|index| chunk.get(index));
            let row = row.map_or(prediction.index, |(row, _)| *row);
            if args.output_file.is_some() {
                lines += &format!("{}\n", prediction_line(row, &prediction));
            } else {
                driver.output.prediction(row, &prediction)?;
            }
        }
        if driver.output.is_closed() {
            return Ok(());
        }
    }
    let mut text = String::new();
    if let Some(path) = &args.output_file {
        files::write_file(path, lines.as_bytes())?;
        text = format!("{} predictions written to {}", rows.len(), path.display());
    }
    let output_file = args.output_file.as_deref().map(Path::to_string_lossy);
    output.result(json!({"rows": rows.len(), "output_file": output_file}), &text)
}
