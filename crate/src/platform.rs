//! What differs between a tab and a command: reading files, the clock, giving way. The only place that asks for the target.

use std::{future::Future, pin::Pin};

/// A future that stays on its thread: the engine is single-threaded by design, as a worker is.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Bytes somewhere else (a file on disk, a `File` in the tab), read a range at a time.
pub trait Blob {
    /// Size in bytes.
    fn size(&self) -> u64;
    /// Exactly `len` bytes from `offset`, or an error that says why not.
    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, std::io::Result<Vec<u8>>>;
}

/// A blob with the name its person knows it by.
pub struct NamedFile {
    /// File name without folders.
    pub name: String,
    pub blob: Box<dyn Blob>,
}
