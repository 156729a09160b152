//! Where a run keeps its files: a folder natively, the browser's private file system in the tab.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use crate::platform::{Blob, LocalFuture, Memory};

/// A flat folder of files. Names are plain: letters, digits, `.`, `-` and `_`.
pub trait Storage {
    fn list(&self) -> LocalFuture<'_, io::Result<Vec<String>>>;

    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<Box<dyn Blob>>>;

    /// Adds to the end of a file, which is made where there is none. No space left is
    /// [`io::ErrorKind::StorageFull`].
    fn append<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> LocalFuture<'a, io::Result<()>>;

    /// Gives a file its final name, in place of one that has it. When this returns, the bytes are safe.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> LocalFuture<'a, io::Result<()>>;

    /// Removes a file; one that is not there is no error.
    fn remove<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<()>>;
}

/// Writes a small file whole or not at all.
pub async fn put(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    let part = format!("{name}.part");
    storage.remove(&part).await?;
    storage.append(&part, bytes).await?;
    storage.rename(&part, name).await
}

/// Reads a small file whole; what is larger than `most` is no file of ours.
pub async fn get(storage: &dyn Storage, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let blob = storage.open(name).await?;
    if blob.size() > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} bytes", blob.size())));
    }
    blob.read(0, blob.size() as usize).await
}

/// Files in memory, for tests; `room` bytes at most.
#[derive(Clone)]
pub struct MemoryStorage {
    pub files: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    pub room: usize,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self { files: Rc::default(), room: usize::MAX }
    }
}

impl Storage for MemoryStorage {
    fn list(&self) -> LocalFuture<'_, io::Result<Vec<String>>> {
        Box::pin(async { Ok(self.files.borrow().keys().cloned().collect()) })
    }

    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<Box<dyn Blob>>> {
        Box::pin(async move {
            let bytes = self.files.borrow().get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(Memory(bytes)) as Box<dyn Blob>)
        })
    }

    fn append<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> LocalFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let mut files = self.files.borrow_mut();
            let used: usize = files.values().map(Vec::len).sum();
            if used + bytes.len() > self.room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            files.entry(name.to_owned()).or_default().extend_from_slice(bytes);
            Ok(())
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> LocalFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let mut files = self.files.borrow_mut();
            let bytes = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            files.insert(to.to_owned(), bytes);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.files.borrow_mut().remove(name);
            Ok(())
        })
    }
}
