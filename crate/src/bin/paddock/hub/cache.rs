//! The hub's cache on disk, as huggingface_hub lays it out: `models--org--name/{blobs,refs,snapshots}`.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::files::{self, Result, failure, write_file};

pub struct Cache {
    /// Of this repository.
    folder: PathBuf,
    locks: PathBuf,
}

/// A variable's value where it is set to something.
pub fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `HF_HOME`
pub fn home() -> Result<PathBuf> {
    if let Some(home) = variable("HF_HOME") {
        return Ok(home);
    }
    let cache = variable("XDG_CACHE_HOME").or_else(|| env::home_dir().map(|home| home.join(".cache")));
    cache
        .map(|cache| cache.join("huggingface"))
        .ok_or_else(|| failure("there is no home folder for what is fetched from the hub", "Set HF_HOME to a folder."))
}

impl Cache {
    pub fn new(repo: &str) -> Result<Self> {
        let hub = match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
            Some(hub) => hub,
            None => home()?.join("hub"),
        };
        let name = format!("models--{}", repo.replace('/', "--"));
        Ok(Self { locks: hub.join(".locks").join(&name), folder: hub.join(name) })
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// A file's content by the hub's tag of it.
    pub fn blob(&self, tag: &str) -> PathBuf {
        self.folder.join("blobs").join(tag)
    }

    /// The commit that a revision was at when it was last fetched.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.reference(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let place = self.reference(revision);
        make_parent(&place)?;
        write_file(&place, commit.as_bytes())
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    /// Puts a blob into a snapshot under its name.
    pub fn link(&self, tag: &str, commit: &str, name: &str) -> Result<PathBuf> {
        let place = self.snapshot(commit).join(name);
        make_parent(&place)?;
        // A link that leads nowhere is in the way, too.
        match fs::remove_file(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(files::cannot("write", &place, &error));
            }
            _ => {}
        }
        let blob = self.blob(tag);
        #[cfg(unix)]
        if std::os::unix::fs::symlink(Path::new("../../blobs").join(tag), &place).is_ok() {
            return Ok(place);
        }
        fs::hard_link(&blob, &place)
            .or_else(|_| fs::copy(&blob, &place).map(drop))
            .map_err(|error| files::cannot("write", &place, &error))?;
        Ok(place)
    }

    /// Waits until no other program fetches this blob; the lock ends with what is given back.
    pub fn lock(&self, tag: &str) -> Result<File> {
        let place = self.locks.join(format!("{tag}.lock"));
        make_parent(&place)?;
        let cannot = |error| files::cannot("write", &place, &error);
        let file = File::options().create(true).truncate(false).write(true).open(&place).map_err(cannot)?;
        file.lock().map_err(cannot)?;
        Ok(file)
    }
}

/// The hub names commits by 40 hexadecimal digits; nothing else becomes a folder.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(|error| files::cannot("write to", parent, &error))
}
