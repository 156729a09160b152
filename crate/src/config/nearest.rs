//! What was probably meant.

use super::keys;

/// The nearest of `names` to `written`, where one is near enough to be meant.
pub fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    let length = lower.chars().count();
    names
        .map(|name| (edit_distance(&lower, name), name))
        .filter(|(distance, _)| *distance <= length / 3 + 1 && *distance < length)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Advice for an unknown key; `here` are the names that its section takes, empty for `--set`, which takes full names.
pub fn did_you_mean(written: &str, here: &[&str]) -> String {
    let all = || keys::all().map(|key| key.name);
    // `alpha` for `lora_alpha`, `epochs` for `num_epochs`.
    let part = || keys::all().find(|key| key.short().split('_').any(|word| word == written)).map(|key| key.name);
    let elsewhere = || {
        let short = nearest(written, keys::all().map(|key| key.short()))?;
        keys::all().find(|key| key.short() == short).map(|key| key.name)
    };
    let found =
        nearest(written, here.iter().copied()).or_else(part).or_else(|| nearest(written, all())).or_else(elsewhere);
    match found {
        Some(name) => format!("Did you mean `{name}`?"),
        None if here.is_empty() => format!("The keys are {}.", all().collect::<Vec<_>>().join(", ")),
        None => format!("The keys here are {}.", here.join(", ")),
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
