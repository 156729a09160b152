//! Pumps the engine: sends commands, shows events, passes a Ctrl-C on as `Stop`.

use std::{
    path::Path,
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};

use paddock::{
    engine::Engine,
    event::{Command, Event, FileInfo},
    platform::NamedFile,
    storage::Storage,
};
use pollster::block_on;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::{register, register_conditional_shutdown},
};

use crate::{
    files::{Result, Writing, failure},
    machine,
    output::Output,
    storage::Folder,
};

pub struct Driver<'a> {
    engine: Engine,
    pub output: &'a mut Output,
}

impl<'a> Driver<'a> {
    pub fn new(output: &'a mut Output) -> Self {
        machine::work_along();
        Self { engine: Engine::new(), output }
    }

    /// Where what runs measure on this machine is kept.
    pub fn use_cache(&mut self) {
        self.engine.use_cache(Folder::cache().map(|folder| Rc::new(folder) as Rc<dyn Storage>));
    }

    /// Where runs keep their checkpoints and record.
    pub fn use_storage(&mut self, path: &Path) {
        self.engine.use_storage(Some(Rc::new(Folder::new(path))));
    }

    /// Sends `command` and pumps until its work is done. Gives back what was answered, without progress and steps.
    pub fn send(&mut self, command: Command, files: Vec<NamedFile>) -> Result<Vec<Event>> {
        self.pump(command, files, |_, _, _| Ok(()))
    }

    /// Exports into a folder; what stands there in the end is up to the caller.
    pub fn export(&mut self, command: Command, writing: &mut Writing<'_>) -> Result<Vec<FileInfo>> {
        let answers = self.pump(command, Vec::new(), |name, offset, bytes| writing.append(name, offset, bytes))?;
        let exported = answers.into_iter().find_map(|event| match event {
            Event::Exported { files, .. } => Some(files),
            _ => None,
        });
        exported.ok_or_else(|| failure("the export was stopped", "Start it again."))
    }

    fn pump(
        &mut self,
        command: Command,
        files: Vec<NamedFile>,
        mut chunk: impl FnMut(&str, u64, &[u8]) -> Result<()>,
    ) -> Result<Vec<Event>> {
        let mut answers = Vec::new();
        // What was interrupted before concerns this command no more.
        let mut stopping = interrupted();
        let mut envelopes = block_on(self.engine.handle(command, files));
        loop {
            for envelope in envelopes {
                if let Event::ExportChunk { file, offset, .. } = &envelope.event {
                    chunk(file, *offset, &self.engine.take_chunk())?;
                    continue;
                }
                self.output.event(&envelope)?;
                match envelope.event {
                    Event::Failed(failure) => return Err(failure),
                    Event::Progress { .. } | Event::Step(_) => {}
                    event => answers.push(event),
                }
            }
            if !self.engine.busy() {
                return Ok(answers);
            }
            envelopes = if !stopping && interrupted() {
                stopping = true;
                self.output.note("stopping; press Ctrl-C again to quit at once");
                block_on(self.engine.handle(Command::Stop, Vec::new()))
            } else {
                block_on(self.engine.advance())
            };
        }
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// What a shell reports for a command that Ctrl-C ended.
pub const INTERRUPTED: i32 = 130;

pub fn interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// From now on the first Ctrl-C is passed on as `Stop`, the second ends the process.
pub fn stop_on_interrupt() -> Result<()> {
    stop_on(SIGINT)
}

/// The same of Ctrl-C and of the signal by which systems end their services.
pub fn stop_on_interrupt_or_end() -> Result<()> {
    stop_on(SIGINT).and_then(|()| stop_on(SIGTERM))
}

fn stop_on(signal: i32) -> Result<()> {
    // In this order: the flag that the first one sets is what the second one finds.
    register_conditional_shutdown(signal, INTERRUPTED, &STOP)
        .and_then(|_| register(signal, &STOP))
        .map(drop)
        .map_err(|error| failure(format!("cannot listen for Ctrl-C: {error}"), "Start it from an ordinary terminal."))
}
