//! A run's checkpoints and record in its output folder.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use paddock::{
    platform::{Blob, LocalFuture},
    storage::Storage,
};

use crate::files::FileBlob;

pub struct Folder(PathBuf);

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

/// The disk answers at once, or blocks: nothing else runs meanwhile.
fn now<'a, T: 'a>(result: io::Result<T>) -> LocalFuture<'a, io::Result<T>> {
    Box::pin(std::future::ready(result))
}

impl Storage for Folder {
    fn list(&self) -> LocalFuture<'_, io::Result<Vec<String>>> {
        let names = fs::read_dir(&self.0).and_then(|entries| {
            let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name().into_string())).collect();
            Ok(names?.into_iter().filter_map(Result::ok).collect())
        });
        now(names)
    }

    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<Box<dyn Blob>>> {
        now(FileBlob::open(&self.0.join(name)).map(|blob| Box::new(blob) as Box<dyn Blob>))
    }

    fn append<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> LocalFuture<'a, io::Result<()>> {
        let file = OpenOptions::new().append(true).create(true).open(self.0.join(name));
        now(file.and_then(|mut file| file.write_all(bytes)))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> LocalFuture<'a, io::Result<()>> {
        let (from, to) = (self.0.join(from), self.0.join(to));
        let renamed = File::open(&from).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&from, &to));
        // The name is safe when the folder is; not every system lets a folder be synced.
        now(renamed.map(|()| drop(File::open(&self.0).and_then(|folder| folder.sync_all()))))
    }

    fn remove<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<()>> {
        now(fs::remove_file(self.0.join(name)).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }))
    }
}
