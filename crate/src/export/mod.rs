//! What a trained model leaves as: files that the rest of the field opens, handed out a piece at a time, so that a
//! second copy of the weights never stands in memory.

mod archive;
mod card;
mod files;
mod gguf;
mod piece;
mod vocabulary;

pub use archive::unzip;
pub use card::DataFile;

use std::collections::VecDeque;

use crate::{
    apply::Applied,
    error::Result,
    event::{Event, ExportDType, ExportFormat, FileInfo, Phase},
};
use archive::Zip;
use piece::Planned;

/// The next bytes of a file.
pub struct Chunk {
    pub file: String,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// An export under way.
pub struct Exporting {
    format: ExportFormat,
    /// What is announced; a zip's size is known at its end.
    files: Vec<FileInfo>,
    todo: VecDeque<Planned>,
    /// Bytes of the current file, and of all files, that were handed out.
    offset: u64,
    done: u64,
    total: u64,
    /// The current file's first piece was handed out.
    begun: bool,
    zip: Option<Zip>,
}

impl Exporting {
    /// # Errors
    /// A format that this model or these numbers cannot be written in.
    pub fn new(applied: &mut Applied, format: ExportFormat, dtype: Option<ExportDType>, zip: bool) -> Result<Self> {
        let todo = files::plan(applied, format, dtype)?;
        let total = todo.iter().map(Planned::bytes).sum();
        let zip = zip.then(|| Zip::new(files::archive_name(format)));
        let files = match &zip {
            Some(zip) => vec![FileInfo { name: zip.name.clone(), bytes: total }],
            None => todo.iter().map(|file| FileInfo { name: file.name.clone(), bytes: file.bytes() }).collect(),
        };
        Ok(Self { format, files, todo: todo.into(), offset: 0, done: 0, total, begun: false, zip })
    }

    pub fn started(&self) -> Event {
        Event::ExportStarted { format: self.format, files: self.files.clone() }
    }

    pub fn progress(&self) -> Event {
        Event::Progress { phase: Phase::Exporting, done: self.done, total: self.total }
    }

    pub fn finished(&self) -> Event {
        Event::Exported { format: self.format, files: self.files.clone() }
    }

    /// The next piece; none when the export is whole.
    pub async fn advance(&mut self, applied: &mut Applied) -> Result<Option<Chunk>> {
        let Some(file) = self.todo.front_mut() else {
            return match self.zip.as_mut().filter(|zip| !zip.finished()) {
                None => Ok(None),
                Some(zip) => {
                    let chunk = zip.finish()?;
                    self.files = vec![FileInfo { name: zip.name.clone(), bytes: zip.written() }];
                    Ok(Some(chunk))
                }
            };
        };
        let at = self.offset;
        let size = file.bytes();
        let bytes = match file.pieces.pop_front() {
            Some(piece) => piece.bytes(&mut applied.model).await?,
            None => Vec::new(),
        };
        self.offset += bytes.len() as u64;
        self.done += bytes.len() as u64;
        let chunk = match &mut self.zip {
            None => Chunk { file: file.name.clone(), offset: at, bytes },
            Some(zip) => {
                if !self.begun {
                    zip.start(&file.name, size)?;
                }
                zip.write(&bytes)?
            }
        };
        self.begun = !file.pieces.is_empty();
        if !self.begun {
            self.todo.pop_front();
            self.offset = 0;
        }
        Ok(Some(chunk))
    }
}
