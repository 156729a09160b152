//! `paddock lr_find`: the range test, with a plot for the terminal.

use std::path::Path;

use paddock::event::{Command, Event, LrCurve, LrPoint};
use serde_json::json;

use crate::{
    args::LrFindArgs,
    driver::{self, Driver},
    files::{Result, failure},
    model,
    output::Output,
    settings, train,
};

pub fn run(args: &LrFindArgs, output: &mut Output) -> Result<()> {
    let config = settings::configure(&args.run)?;
    let model_path = Path::new(config.model.name_or_path.as_deref().unwrap_or(model::STARTER));
    let data = train::open_data(&config)?;
    let (name, model) = model::open(model_path, output)?;
    let mut driver = Driver::new(output);
    driver.use_cache();
    driver.send(Command::Inspect, Vec::new())?;
    driver.send(Command::OpenModel { name }, model)?;
    driver.send(Command::OpenData, data)?;
    driver::stop_on_interrupt()?;
    let command = Command::LrFind {
        config: Box::new(config),
        min_lr: args.min_lr,
        max_lr: args.max_lr,
        num_training_steps: args.num_training_steps,
    };
    let curve = driver.send(command, Vec::new())?.into_iter().find_map(|event| match event {
        Event::LrCurve(curve) => Some(curve),
        _ => None,
    });
    let Some(curve) = curve.filter(|curve| !curve.points.is_empty()) else {
        return Err(failure(
            "the test ended before its first step, or its first loss was no number",
            "Give it more steps, or a lower --min_lr.",
        ));
    };
    let said = match curve.suggestion {
        Some(rate) if fall(&curve) < WEAK => format!(
            "The loss falls most steeply at {rate:.2e}, but by so little in all that this may be noise: more \
             --num_training_steps or larger batches say more."
        ),
        Some(rate) => format!(
            "The loss falls most steeply at {rate:.2e}: try training.learning_rate: {rate:.2e}, and a sweep around it."
        ),
        None => {
            "The loss does not fall at any of these rates: no suggestion. Try other rates or more steps.".to_owned()
        }
    };
    let fields = json!({"suggestion": curve.suggestion, "diverged": curve.diverged, "steps": curve.points.len()});
    output.result(fields, &format!("{}\n{said}", plot(&curve)))
}

/// A fall of the smoothed loss by a smaller share than this is no ground for advice.
const WEAK: f64 = 0.1;

/// How far the smoothed loss falls from its highest before its lowest, as a share.
fn fall(curve: &LrCurve) -> f64 {
    let (mut highest, mut fall) = (0.0_f64, 0.0_f64);
    for point in &curve.points {
        highest = highest.max(point.smoothed);
        fall = fall.max(1.0 - point.smoothed / highest.max(f64::MIN_POSITIVE));
    }
    fall
}

const WIDTH: usize = 72;
const HEIGHT: usize = 16;

/// The smoothed loss over the rate's logarithm; `^` marks the suggestion.
fn plot(curve: &LrCurve) -> String {
    let points = &curve.points;
    let range = |of: fn(&LrPoint) -> f64| {
        points.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (low, mut high) = range(|point| point.smoothed);
    // Where the loss runs away, its last points would flatten all the others.
    let lowest = points.iter().position(|point| point.smoothed <= low).unwrap_or(0);
    let before = points[..=lowest].iter().map(|point| point.smoothed).fold(low, f64::max);
    high = high.min(before.max(low * 1.1));
    let (left, right) = range(|point| point.learning_rate.log10());
    let cell = |value: f64, from: f64, to: f64, cells: usize| {
        let at = if to > from { (value - from) / (to - from) } else { 0.5 };
        (at.clamp(0.0, 1.0) * (cells - 1) as f64).round() as usize
    };
    let mut rows = vec![vec![' '; WIDTH]; HEIGHT];
    for point in points {
        let column = cell(point.learning_rate.log10(), left, right, WIDTH);
        rows[HEIGHT - 1 - cell(point.smoothed, low, high, HEIGHT)][column] = '*';
    }
    let mut text = String::from("smoothed loss by learning rate\n");
    for (at, row) in rows.iter().enumerate() {
        let label = match at {
            0 => format!("{high:>9.4}"),
            _ if at + 1 == HEIGHT => format!("{low:>9.4}"),
            _ => " ".repeat(9),
        };
        text += format!("{label} |{}", row.iter().collect::<String>()).trim_end();
        text.push('\n');
    }
    text += &format!("{} +{}\n", " ".repeat(9), "-".repeat(WIDTH));
    if let Some(rate) = curve.suggestion {
        text += &format!("{}^\n", " ".repeat(11 + cell(rate.log10(), left, right, WIDTH)));
    }
    let (first, last) = (format!("{:.0e}", 10f64.powf(left)), format!("{:.0e}", 10f64.powf(right)));
    text + &format!("{}{first}{last:>width$}\n", " ".repeat(11), width = WIDTH - first.len())
}
