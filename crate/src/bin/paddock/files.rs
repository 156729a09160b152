//! Files in and out: blobs over open files, model folders, an output folder that is never left half written.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use paddock::{
    event::Failure,
    platform::{Blob, LocalFuture, NamedFile},
};

pub type Result<T> = std::result::Result<T, Failure>;

pub fn failure(message: impl Into<String>, advice: impl Into<String>) -> Failure {
    Failure { message: message.into(), advice: advice.into(), kind: None }
}

/// An open file, read a range at a time.
pub struct FileBlob {
    file: File,
    size: u64,
}

impl FileBlob {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    fn read_range(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        // Before anything is allocated: `len` may come from a header that lies.
        if offset.checked_add(len as u64).is_none_or(|end| end > self.size) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{len} bytes wanted at byte {offset}, the file has {} bytes", self.size),
            ));
        }
        let mut bytes = vec![0; len];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Blob for FileBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(std::future::ready(self.read_range(offset, len)))
    }
}

/// Opens one regular file under the name `name`.
pub fn open_file(path: &Path, name: String) -> Result<NamedFile> {
    let metadata = fs::metadata(path).map_err(|error| cannot("read", path, &error))?;
    if metadata.is_dir() {
        return Err(failure(format!("{} is a folder, not a file", path.display()), "Name the file in it."));
    }
    if !metadata.is_file() {
        return Err(failure(
            format!("{} is not a regular file", path.display()),
            "Save its content to a file first and name that.",
        ));
    }
    let file = File::open(path).map_err(|error| cannot("read", path, &error))?;
    let blob = Box::new(FileBlob { file, size: metadata.len() });
    Ok(NamedFile { name, blob })
}

/// A small text file, whole.
pub fn read_text(path: &Path) -> Result<String> {
    const LIMIT: u64 = 1 << 20;
    let file = open_file(path, String::new())?;
    if file.blob.size() > LIMIT {
        return Err(failure(
            format!("{} has {} bytes, more than a settings file can have", path.display(), file.blob.size()),
            "Check that it is the right file.",
        ));
    }
    let bytes = fs::read(path).map_err(|error| cannot("read", path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        failure(format!("{} is not UTF-8 text: byte {at} does not fit", path.display()), "Save it as UTF-8.")
    })
}

/// The files of a model or adapter folder that the engine may want, by name.
pub fn open_folder(path: &Path) -> Result<Vec<NamedFile>> {
    let entries = fs::read_dir(path).map_err(|error| cannot("read", path, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| cannot("read", path, &error))?.path();
        // The pickled ones are not read, but the engine says so and what to do.
        let wanted = matches!(
            entry.extension().and_then(|extension| extension.to_str()),
            Some("json" | "safetensors" | "model" | "jinja" | "gguf" | "bin" | "pt" | "pth" | "ckpt")
        );
        if let Some(name) = entry.file_name().and_then(|name| name.to_str()).filter(|_| wanted && entry.is_file()) {
            files.push(open_file(&entry, name.to_owned())?);
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The path as text, for a configuration (YAML has no other).
pub fn utf8(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        failure(
            format!("the path {} is not valid UTF-8", path.display()),
            "Rename the file or folder, or reach it through a link with a plain name.",
        )
    })
}

pub fn cannot(verb: &str, path: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "Check the spelling, or give the path from the root.",
        io::ErrorKind::PermissionDenied => "Check who may read or write it (ls -l).",
        io::ErrorKind::StorageFull => "Free some space, or choose a folder on another disk.",
        _ => "Check the path and the disk.",
    };
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        _ => error.to_string(),
    };
    failure(format!("cannot {verb} {}: {reason}", path.display()), advice)
}

/// Names of this program's own files on the way, each with its process.
const PROBE: &str = ".paddock-";
const PART: &str = ".part";

/// A folder for results, checked before the work starts.
pub struct OutputDir {
    path: PathBuf,
}

/// What a folder's `metrics.json` says an earlier run wrote: only these may be removed.
pub const RECORD: &str = "metrics.json";

impl OutputDir {
    /// Makes the folder and proves that it can be written to. Refuses one that holds something unless `overwrite`, and
    /// always one of the `inputs` (the base model, an adapter).
    pub fn prepare(path: &Path, overwrite: bool, inputs: &[&Path]) -> Result<Self> {
        let cannot_write = |error: io::Error| cannot("write to", path, &error);
        if path.exists() && !path.is_dir() {
            return Err(failure(format!("--output_dir {} is a file", path.display()), "Name a folder."));
        }
        fs::create_dir_all(path).map_err(cannot_write)?;
        let own = path.canonicalize().map_err(cannot_write)?;
        if inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == own)) {
            return Err(failure(
                format!("--output_dir {} is the folder of the base model or adapter", path.display()),
                "Name another folder, so that it stays as it is.",
            ));
        }
        let names = fs::read_dir(path).map_err(cannot_write)?.flatten().map(|entry| entry.file_name());
        let (left, names): (Vec<_>, Vec<_>) = names.partition(|name| name.to_str().is_some_and(is_leftover));
        if !names.is_empty() && !overwrite {
            let resume = match holds_checkpoint(path) {
                true => ", --resume_from_checkpoint to go on with the run there",
                false => "",
            };
            return Err(failure(
                format!("--output_dir {} is not empty", path.display()),
                format!(
                    "Name another folder{resume}, or add --overwrite_output_dir to replace what an earlier run left there."
                ),
            ));
        }
        left.iter().for_each(|name| drop(fs::remove_file(path.join(name))));
        let probe = path.join(format!("{PROBE}{}", std::process::id()));
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(cannot_write)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Writes these files and nothing else.
    pub fn write_all(&self, files: &[(String, Vec<u8>)]) -> Result<()> {
        let mut writing = self.writing();
        for (name, bytes) in files {
            writing.put(name, bytes)?;
        }
        writing.finish()
    }

    pub fn writing(&self) -> Writing<'_> {
        Writing { folder: self, names: Vec::new(), parts: Parts(Vec::new()), open: None }
    }

    /// The plain file names under `files` in an earlier run's record.
    fn recorded(&self) -> Vec<String> {
        let record = fs::read(self.path.join(RECORD)).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
        let names = record["files"].as_array().into_iter().flatten();
        names
            .filter_map(|name| name.as_str())
            .filter(|name| Path::new(name).file_name().is_some_and(|file| file == *name))
            .map(str::to_owned)
            .collect()
    }
}

/// What a command that was killed leaves of files on their way: nothing that anybody wants.
fn is_leftover(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let probe = name.strip_prefix(PROBE).is_some_and(digits);
    let part = name.strip_prefix('.').and_then(|name| name.strip_suffix(PART));
    probe || part.and_then(|name| name.rsplit_once('.')).is_some_and(|(_, id)| digits(id))
}

/// Whether a run that was cut off can go on there.
fn holds_checkpoint(path: &Path) -> bool {
    let names = fs::read_dir(path).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|name| name.starts_with("checkpoint-") && name.ends_with(".safetensors"))
}

/// Files on their way into a folder: written beside their places, and moved there when all of them are whole.
pub struct Writing<'a> {
    folder: &'a OutputDir,
    names: Vec<String>,
    parts: Parts,
    /// The last one, while it grows.
    open: Option<File>,
}

impl Writing<'_> {
    /// Adds bytes to the file `name`, which begins where `offset` is 0.
    pub fn append(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let target = self.folder.path.join(name);
        if offset == 0 && self.names.last().is_none_or(|last| last != name) {
            self.close()?;
            let part = part_of(&target);
            let file = File::create(&part).map_err(|error| cannot("write", &target, &error))?;
            self.parts.0.push(part);
            self.names.push(name.to_owned());
            self.open = Some(file);
        }
        let Some(file) = self.open.as_mut().filter(|_| self.names.last().is_some_and(|last| last == name)) else {
            return Err(failure(
                format!("{name} is not the file that is being written"),
                "This is a fault in paddock: please report it.",
            ));
        };
        file.write_all(bytes).map_err(|error| cannot("write", &target, &error))
    }

    /// Writes one file whole, in place of an earlier one of this name.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.close()?;
        if let Some(at) = self.names.iter().position(|other| other == name) {
            self.names.remove(at);
            let _ = fs::remove_file(self.parts.0.remove(at));
        }
        self.append(name, 0, bytes)
    }

    /// What was written under this name.
    pub fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(at) = self.names.iter().position(|other| other == name) else { return Ok(None) };
        fs::read(&self.parts.0[at]).map(Some).map_err(|error| cannot("read", &self.parts.0[at], &error))
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn close(&mut self) -> Result<()> {
        let Some(file) = self.open.take() else { return Ok(()) };
        file.sync_all().map_err(|error| cannot("write", &self.folder.path, &error))
    }

    /// Moves all files to their places, then removes what only the earlier run had. The record comes last, so that a
    /// folder with one is whole.
    pub fn finish(mut self) -> Result<()> {
        self.close()?;
        let stale = self.folder.recorded();
        let mut files: Vec<_> = self.names.iter().zip(&self.parts.0).collect();
        files.sort_by_key(|(name, _)| *name == RECORD);
        for (name, part) in &files {
            let target = self.folder.path.join(name);
            fs::rename(part, &target).map_err(|error| cannot("write", &target, &error))?;
        }
        for name in stale.iter().filter(|name| files.iter().all(|(new, _)| new != name)) {
            let target = self.folder.path.join(name);
            match fs::remove_file(&target) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot("remove", &target, &error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Half-written files: what has not been moved to its place is removed.
struct Parts(Vec<PathBuf>);

impl Drop for Parts {
    fn drop(&mut self) {
        for part in &self.0 {
            // Fails for what was moved, which is as it should be.
            let _ = fs::remove_file(part);
        }
    }
}

/// Writes one file whole or not at all.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = Parts(vec![write_part(path, bytes)?]);
    fs::rename(&part.0[0], path).map_err(|error| cannot("write", path, &error))
}

fn write_part(target: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let part = part_of(target);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&part);
        cannot("write", target, &error)
    })?;
    Ok(part)
}

/// Where a file stands until it is whole.
fn part_of(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}{PART}", std::process::id()));
    target.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_command_leaves_is_no_content() {
        let part = part_of(Path::new("out/sweep.jsonl"));
        for name in [".paddock-123", ".sweep.jsonl.77.part", part.file_name().and_then(|name| name.to_str()).unwrap()] {
            assert!(is_leftover(name), "{name}");
        }
        for name in
            [".paddock-", ".paddock-12x", "run.yaml", "run.yaml.7.part", ".7.part", ".notes", ".a.part", ".a.x.part"]
        {
            assert!(!is_leftover(name), "{name}");
        }
    }
}
