//! `usage.json` of the plugin folder: how many texts each plugin has answered, by its id, and nothing else.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::Path,
};

use paddock::plugin::check_id;

use crate::files::{self, Result, failure};

pub const FILE: &str = "usage.json";
const LOCK: &str = ".usage.lock";
/// More plugins than that are not counted.
const MOST: usize = 10_000;

pub type Uses = BTreeMap<String, u64>;

/// None at all where the file is not there yet.
pub fn read(folder: &Path) -> Result<Uses> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(Uses::new());
    }
    let text = files::read_text(&path)?;
    let uses: Uses = serde_json::from_str(&text).map_err(|error| {
        failure(format!("{} holds no counts: {error}", path.display()), "Remove it: counting then begins anew.")
    })?;
    Ok(uses.into_iter().filter(|(id, _)| check_id(id).is_ok()).take(MOST).collect())
}

/// Changes the counts while no other command does.
pub fn change(folder: &Path, change: impl FnOnce(&mut Uses)) -> Result<()> {
    let lock = folder.join(LOCK);
    let cannot = |error: io::Error| files::cannot("write", &lock, &error);
    let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(cannot)?;
    file.lock().map_err(cannot)?;
    let mut uses = read(folder)?;
    change(&mut uses);
    let path = folder.join(FILE);
    if uses.is_empty() {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files::cannot("remove", &path, &error)),
            _ => Ok(()),
        };
    }
    let mut text = serde_json::to_string_pretty(&uses).unwrap_or_default();
    text.push('\n');
    files::write_file(&path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_a_damaged_file_is_named() {
        let folder = temp_dir::TempDir::new().expect("a folder");
        let add = |id: &str, uses: u64| {
            change(folder.path(), |all| {
                let count = all.entry(id.to_owned()).or_default();
                *count = count.saturating_add(uses);
            })
        };
        assert!(read(folder.path()).expect("no counts").is_empty());
        add("spam", 2).expect("counts");
        add("qa", u64::MAX).expect("counts");
        add("qa", 5).expect("counts");
        add("spam", 3).expect("counts");
        assert_eq!(read(folder.path()).expect("counts"), [("qa".to_owned(), u64::MAX), ("spam".to_owned(), 5)].into());
        for damaged in ["[1]", "{\"spam\": -1}", "{\"spam\": \"many\"}", ""] {
            fs::write(folder.path().join(FILE), damaged).expect("a file");
            assert!(read(folder.path()).expect_err(damaged).message.contains(FILE));
        }
        fs::write(folder.path().join(FILE), "{\"../x\": 1, \"spam\": 1}").expect("a file");
        assert_eq!(read(folder.path()).expect("counts"), [("spam".to_owned(), 1)].into());
        change(folder.path(), |all| all.clear()).expect("no counts");
        assert!(!folder.path().join(FILE).exists());
    }
}
