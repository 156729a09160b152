//! A run's checkpoints and record in its output folder, and what was measured on this machine in the user's cache folder.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use paddock::{
    platform::{Blob, LocalFuture},
    storage::Storage,
};

use crate::{files::FileBlob, hub::variable};

pub struct Folder {
    path: PathBuf,
    /// When something is put there it is made, if it is not there.
    made: bool,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), made: false }
    }

    /// `paddock` in the user's cache folder (`XDG_CACHE_HOME`); none where there is no home folder.
    pub fn cache() -> Option<Self> {
        // One that is not absolute is to be ignored, says the XDG specification.
        let cache = variable("XDG_CACHE_HOME").filter(|cache| cache.is_absolute());
        let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")))?;
        Some(Self { path: cache.join("paddock"), made: true })
    }
}

/// The disk answers at once, or blocks: nothing else runs meanwhile.
fn now<'a, T: 'a>(result: io::Result<T>) -> LocalFuture<'a, io::Result<T>> {
    Box::pin(std::future::ready(result))
}

impl Storage for Folder {
    fn list(&self) -> LocalFuture<'_, io::Result<Vec<String>>> {
        let names = fs::read_dir(&self.path).and_then(|entries| {
            let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name().into_string())).collect();
            Ok(names?.into_iter().filter_map(Result::ok).collect())
        });
        now(names)
    }

    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<Box<dyn Blob>>> {
        now(FileBlob::open(&self.path.join(name)).map(|blob| Box::new(blob) as Box<dyn Blob>))
    }

    fn append<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> LocalFuture<'a, io::Result<()>> {
        let folder = if self.made { fs::create_dir_all(&self.path) } else { Ok(()) };
        let file = folder.and_then(|()| OpenOptions::new().append(true).create(true).open(self.path.join(name)));
        now(file.and_then(|mut file| file.write_all(bytes)))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> LocalFuture<'a, io::Result<()>> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        let renamed = File::open(&from).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&from, &to));
        // The name is safe when the folder is; not every system lets a folder be synced.
        now(renamed.map(|()| drop(File::open(&self.path).and_then(|folder| folder.sync_all()))))
    }

    fn remove<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<()>> {
        now(fs::remove_file(self.path.join(name)).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }))
    }
}
