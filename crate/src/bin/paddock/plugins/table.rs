//! What is known of plugins, for a person on a terminal.

use paddock::{
    config::{Config, RawConfig, Task},
    eval::Metric,
    event::Metrics,
    plugin::Manifest,
};

/// Cells of a line; the columns' names are the first one.
pub struct Row(Vec<String>);

const HEAD: [&str; 7] = ["id", "name", "task", "labels", "base", "measured", "uses"];
/// Characters that a column has at most.
const WIDEST: usize = 40;
/// Blocks of a whole bar.
const BAR: usize = 12;

impl Row {
    pub fn new(manifest: &Manifest, uses: u64, share: f64) -> Self {
        let used = match uses {
            0 => "0".to_owned(),
            uses => format!("{uses} ({:.0} %) {}", share * 100.0, bar(share)),
        };
        Self(vec![
            manifest.id.clone(),
            plain(&manifest.name, WIDEST),
            manifest.scenario.clone(),
            plain(&manifest.labels.join(", "), WIDEST),
            plain(&manifest.base.name, WIDEST),
            measured(manifest).unwrap_or_else(|| "-".to_owned()),
            used,
        ])
    }

    /// One that cannot be read.
    pub fn broken(id: &str, why: &str) -> Self {
        Self(vec![id.to_owned(), format!("cannot be used: {}", plain(why, 200))])
    }
}

/// `macro_f1 0.512 → 0.981`
fn measured(manifest: &Manifest) -> Option<String> {
    let after = manifest.after.as_ref()?;
    let metric = metric(manifest, after)?;
    let after = metric.of(after)?;
    Some(match manifest.before.as_ref().and_then(|before| metric.of(before)) {
        Some(before) => format!("{} {before:.3} → {after:.3}", metric.as_str()),
        None => format!("{} {after:.3}", metric.as_str()),
    })
}

/// The one of its task that tells most and was measured.
fn metric(manifest: &Manifest, measured: &Metrics) -> Option<Metric> {
    let task = Task::find(&manifest.scenario)?;
    let mut raw = RawConfig { task: Some(manifest.scenario.clone()), ..RawConfig::default() };
    // A classifier without names for its classes says a number.
    raw.model.num_labels = (task.classifies() && manifest.labels.is_empty()).then_some(1);
    let config = Config::resolve(&raw).ok()?;
    let mut metrics = task.scenario().metrics(&config).iter().copied().chain([Metric::Loss]);
    metrics.find(|metric| metric.of(measured).is_some())
}

fn bar(share: f64) -> String {
    // Something is seen of whatever was used at all.
    let blocks = ((share * BAR as f64).round() as usize).clamp(1, BAR);
    "█".repeat(blocks)
}

/// What somebody else wrote, in one line and without what would steer the terminal.
pub fn plain(text: &str, most: usize) -> String {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let text: String = text.chars().map(|c| if steers(c) { ' ' } else { c }).collect();
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Columns below each other.
pub fn table(rows: &[Row]) -> String {
    let head = Row(HEAD.map(str::to_owned).to_vec());
    let rows: Vec<&Row> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        // A row of two cells says what is wrong: it may run on.
        let cells = rows.iter().filter(|row| row.0.len() == HEAD.len() || column == 0);
        cells.filter_map(|row| row.0.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &&Row| {
        let cells = row.0.iter().zip(widths.iter().copied()).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(labels: &[&str], metrics: &str) -> Manifest {
        let labels = serde_json::to_string(labels).expect("JSON");
        let json = format!(
            "{{\"format\": 1, \"id\": \"spam\", \"name\": \"No\\u001b[2J \\u202espam\", \"scenario\": \"text-classification\", \
             \"labels\": {labels}, \"before\": {{\"loss\": 2.0, \"macro_f1\": 0.5}}, \"after\": {metrics}, \"base\": {{\"name\": \"b\"}}}}"
        );
        Manifest::read(json.as_bytes()).expect("a manifest")
    }

    #[test]
    fn a_table_has_its_columns_below_each_other() {
        let spam = manifest(&["ham", "spam"], "{\"loss\": 0.1, \"accuracy\": 0.9, \"macro_f1\": 0.875}");
        let text = table(&[Row::new(&spam, 3, 0.75), Row::broken("x", "damaged\n"), Row::new(&spam, 0, 0.0)]);
        let lines: Vec<&str> = text.lines().collect();
        let [head, first, broken, last] = lines[..] else { panic!("{text}") };
        let place = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
        assert_eq!(place(head, "task"), place(first, "text-classification"), "{text}");
        assert_eq!(place(head, "uses"), place(first, "3 (75 %) █████████"), "{text}");
        assert!(first.contains("No [2J  spam") && first.contains("ham, spam"), "{text}");
        assert!(first.contains("macro_f1 0.500 → 0.875") && last.ends_with("  0"), "{text}");
        assert!(broken.starts_with("x ") && broken.ends_with("cannot be used: damaged"), "{text}");
    }

    #[test]
    fn a_number_is_measured_by_its_error() {
        let number = manifest(&[], "{\"loss\": 0.1, \"mse\": 0.25, \"macro_f1\": 0.5}");
        assert_eq!(measured(&number).as_deref(), Some("mse 0.250"));
        let loss = manifest(&["a", "b"], "{\"loss\": 0.125}");
        assert_eq!(measured(&loss).as_deref(), Some("loss 2.000 → 0.125"));
        assert_eq!((bar(0.001).chars().count(), bar(1.0).chars().count()), (1, BAR));
        assert_eq!(plain("äbc", 2), "äb…");
    }
}
