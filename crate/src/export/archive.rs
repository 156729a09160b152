//! Zip archives, written as a stream and read whole.

use std::{
    cell::RefCell,
    io::{self, Cursor, Read, Write},
    rc::Rc,
};

use zip::{
    CompressionMethod, ZipArchive, ZipWriter,
    write::{SimpleFileOptions, StreamWriter},
};

use super::Chunk;
use crate::error::{Error, Result};

/// What the writer has produced and nobody has taken yet.
#[derive(Clone, Default)]
struct Pending(Rc<RefCell<Vec<u8>>>);

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A zip as a stream of chunks. Not compressed: weights hardly shrink.
pub(super) struct Zip {
    pub name: String,
    pending: Pending,
    /// None once the directory is written.
    writer: Option<ZipWriter<StreamWriter<Pending>>>,
    written: u64,
}

impl Zip {
    pub fn new(name: String) -> Self {
        let pending = Pending::default();
        Self { name, writer: Some(ZipWriter::new_stream(pending.clone())), pending, written: 0 }
    }

    /// Begins the file `name` of `size` bytes.
    pub fn start(&mut self, name: &str, size: u64) -> Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(size >= u64::from(u32::MAX));
        match &mut self.writer {
            Some(writer) => writer.start_file(name, options).map_err(|e| Error::io(&self.name, e.into())),
            None => Ok(()),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<Chunk> {
        if let Some(writer) = &mut self.writer {
            writer.write_all(bytes).map_err(|e| Error::io(&self.name, e))?;
        }
        Ok(self.chunk())
    }

    /// The directory at the archive's end.
    pub fn finish(&mut self) -> Result<Chunk> {
        if let Some(writer) = self.writer.take() {
            writer.finish().map_err(|e| Error::io(&self.name, e.into()))?;
        }
        Ok(self.chunk())
    }

    pub fn finished(&self) -> bool {
        self.writer.is_none()
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    fn chunk(&mut self) -> Chunk {
        let bytes = self.pending.0.take();
        let offset = self.written;
        self.written += bytes.len() as u64;
        Chunk { file: self.name.clone(), offset, bytes }
    }
}

/// The files in a zip by their names without folders, together at most `most` bytes. Nothing in it is compressed, so that they are no
/// longer than the archive, unless some share their bytes.
pub fn unzip(name: &str, bytes: Vec<u8>, most: u64) -> Result<Vec<(String, Vec<u8>)>> {
    let failed = |e: zip::result::ZipError| Error::io(name, e.into());
    let most = most.min(bytes.len() as u64);
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(failed)?;
    let mut files = Vec::new();
    let mut left = most;
    for i in 0..zip.len().min(100) {
        let file = zip.by_index(i).map_err(failed)?;
        if file.is_dir() {
            continue;
        }
        let inside = file.name().rsplit(['/', '\\']).next().unwrap_or_default().to_string();
        // What is read counts, not what the archive claims.
        let mut content = Vec::new();
        let read = file.take(left + 1).read_to_end(&mut content).map_err(|e| Error::io(name, e))? as u64;
        left = left.checked_sub(read).ok_or_else(|| {
            let got = "more: files that share their bytes, or none of an adapter";
            Error::model(name, "the archive", format!("at most {most} bytes in all"), got)
        })?;
        files.push((inside, content));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zip_gives_back_its_files() {
        let files = vec![
            ("a.json".to_string(), b"{}".to_vec()),
            ("b.bin".to_string(), vec![7; 1000]),
            ("none".to_string(), vec![]),
        ];
        let mut zip = Zip::new("x.zip".into());
        let mut bytes = Vec::new();
        for (name, content) in &files {
            zip.start(name, content.len() as u64).expect("start");
            for part in content.chunks(300).chain([&[][..]]) {
                let chunk = zip.write(part).expect("write");
                assert_eq!(chunk.offset, bytes.len() as u64, "no gaps");
                bytes.extend(chunk.bytes);
            }
        }
        bytes.extend(zip.finish().expect("finish").bytes);
        assert_eq!(zip.written(), bytes.len() as u64);
        assert_eq!(unzip("x.zip", bytes.clone(), 1 << 20).expect("unzip"), files);
        assert!(unzip("x.zip", bytes.clone(), 100).is_err(), "too large inside");
        assert!(unzip("x.zip", bytes[..bytes.len() / 2].to_vec(), 1 << 20).is_err(), "truncated");
    }

    /// A hundred names for the same bytes.
    #[test]
    fn no_more_comes_out_than_is_in_the_archive() {
        let mut zip = Zip::new("x.zip".into());
        zip.start("a", 5000).expect("start");
        let mut bytes = zip.write(&[7; 5000]).expect("write").bytes;
        bytes.extend(zip.finish().expect("finish").bytes);
        let at = |bytes: &[u8], mark: &[u8]| bytes.windows(4).position(|four| four == mark).expect("a mark");
        let (directory, end) = (at(&bytes, b"PK\x01\x02"), at(&bytes, b"PK\x05\x06"));
        let bomb = |count: u8| {
            let mut bomb = bytes[..directory].to_vec();
            for name in 0..count {
                let mut entry = bytes[directory..end].to_vec();
                entry[46] = b'A' + name;
                bomb.extend(entry);
            }
            let (length, mut tail) = ((bomb.len() - directory) as u32, bytes[end..].to_vec());
            tail[8..10].copy_from_slice(&u16::from(count).to_le_bytes());
            tail[10..12].copy_from_slice(&u16::from(count).to_le_bytes());
            tail[12..16].copy_from_slice(&length.to_le_bytes());
            bomb.extend(tail);
            bomb
        };
        let one = unzip("x.zip", bomb(1), 1 << 30).expect("one name");
        assert_eq!(one, [("A".to_owned(), vec![7; 5000])]);
        let error = unzip("x.zip", bomb(50), 1 << 30).expect_err("fifty names").to_string();
        assert!(error.contains("bytes in all"), "{error}");
    }
}
