//! An adapter out of a folder or a zip: only files that belong to one are copied, each up to its bound, and nothing in them
//! is taken for a path.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use paddock::{adapter::AdapterFiles, plugin::MANIFEST, weights::safetensors::Header};
use pollster::block_on;

use crate::files::{self, Result, failure};

const TEXT: u64 = 1 << 20;
/// What is kept, and the bytes that it may have.
static KEPT: [(&str, u64); 7] = [
    ("adapter_config.json", TEXT),
    ("adapter_model.safetensors", 2 << 30),
    ("config.json", TEXT),
    (MANIFEST, TEXT),
    ("run.yaml", TEXT),
    ("metrics.json", 16 << 20),
    ("README.md", TEXT),
];
const MOST_ENTRIES: usize = 1000;

/// Copies into the folder `to`.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let metadata = fs::metadata(from).map_err(|error| files::cannot("read", from, &error))?;
    if metadata.is_dir() {
        return copy_folder(from, to);
    }
    // Says of what is no regular file that it is none.
    files::open_file(from, String::new())?;
    unzip(from, to)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for (name, most) in KEPT {
        let path = from.join(name);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(files::cannot("read", &path, &error)),
            Ok(_) => {}
        }
        files::open_file(&path, String::new())?;
        let file = File::open(&path).map_err(|error| files::cannot("read", &path, &error))?;
        save(file, name, most, from, to)?;
    }
    Ok(())
}

fn unzip(from: &Path, to: &Path) -> Result<()> {
    let bad = |what: String| {
        failure(
            format!("{} {what}", from.display()),
            "Name the folder or zip that `paddock train` or PEFT wrote; get it anew where it was downloaded.",
        )
    };
    let file = File::open(from).map_err(|error| files::cannot("read", from, &error))?;
    let unreadable = |error: zip::result::ZipError| bad(format!("cannot be read as a zip: {error}"));
    let mut archive = zip::ZipArchive::new(file).map_err(unreadable)?;
    if archive.len() > MOST_ENTRIES {
        return Err(bad(format!("has {} entries, more than an adapter has", archive.len())));
    }
    let mut seen = BTreeSet::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(unreadable)?;
        let inside = entry.name().to_owned();
        if !stays_inside(&inside) {
            let shown: String = inside.chars().filter(|c| !c.is_control()).take(100).collect();
            return Err(bad(format!("holds `{shown}`, a path that leads out of it")));
        }
        let name = inside.rsplit('/').next().unwrap_or_default();
        let Some((name, most)) = KEPT.iter().find(|(kept, _)| *kept == name && entry.is_file()) else { continue };
        if !seen.insert(*name) {
            return Err(bad(format!("holds two files named {name}")));
        }
        save(entry, name, *most, from, to)?;
    }
    Ok(())
}

/// Whether a zip's name for a file is a plain one, or one in folders below.
fn stays_inside(name: &str) -> bool {
    !name.starts_with('/') && !name.contains(['\\', ':', '\0']) && name.split('/').all(|part| part != "..")
}

/// What is read counts, not what a folder or an archive claims.
fn save(from: impl Read, name: &str, most: u64, source: &Path, to: &Path) -> Result<()> {
    let target = to.join(name);
    let copied = File::create(&target).and_then(|mut file| {
        let copied = io::copy(&mut from.take(most + 1), &mut file)?;
        file.sync_all().map(|()| copied)
    });
    let copied = copied
        .map_err(|error| failure(format!("{}: {name}: {error}", source.display()), "Check the file and the disk."))?;
    if copied > most {
        return Err(failure(
            format!("{}: {name} has more than {most} bytes", source.display()),
            "That is no adapter's file: name the folder or zip that `paddock train` or PEFT wrote.",
        ));
    }
    Ok(())
}

/// Whether what was copied is an adapter that can be opened; `source` is what a person knows it by.
pub fn check(folder: &Path, source: &Path) -> Result<AdapterFiles> {
    let there = KEPT.iter().map(|(name, _)| (folder.join(name), (*name).to_owned()));
    let there = there.filter(|(path, _)| path.exists()).map(|(path, name)| files::open_file(&path, name));
    let there = there.collect::<Result<Vec<_>>>()?;
    let of = |error: paddock::error::Error| failure(format!("{}: {error}", source.display()), error.advice());
    let adapter = block_on(AdapterFiles::read(there)).map_err(of)?.ok_or_else(|| {
        failure(
            format!("{} holds no adapter (adapter_config.json, adapter_model.safetensors)", source.display()),
            "Name the folder or zip that `paddock train` or PEFT wrote.",
        )
    })?;
    block_on(Header::read(&adapter.weights.name, adapter.weights.blob.as_ref())).map_err(of)?;
    Ok(adapter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_zip_that_lead_elsewhere_are_told() {
        for name in ["a.json", "out/a.json", "a..b", "./a", "..."] {
            assert!(stays_inside(name), "{name}");
        }
        for name in ["../a.json", "/a.json", "a/../../b", "..\\a", "C:a", "a\0b", "a/.."] {
            assert!(!stays_inside(name), "{name:?}");
        }
    }

    #[test]
    fn no_file_is_larger_than_its_bound() {
        let folder = temp_dir::TempDir::new().expect("a folder");
        let save = |bytes: &[u8]| save(bytes, "config.json", 10, Path::new("source"), folder.path());
        save(&[b' '; 10]).expect("it fits");
        assert!(save(&[b' '; 11]).expect_err("it does not").message.contains("source: config.json has more than 10"));
    }
}
