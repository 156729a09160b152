//! Pumps the engine: sends commands, shows events, passes a Ctrl-C on as `Stop`.

use std::sync::atomic::{AtomicU32, Ordering};

use paddock::{
    engine::Engine,
    event::{Command, Event},
    platform::NamedFile,
};
use pollster::block_on;

use crate::{
    files::{Result, failure},
    output::Output,
};

pub struct Driver<'a> {
    engine: Engine,
    pub output: &'a mut Output,
}

impl<'a> Driver<'a> {
    pub fn new(output: &'a mut Output) -> Self {
        Self { engine: Engine::new(), output }
    }

    /// Sends `command` and pumps until its work is done. Gives back what was answered, without progress and steps.
    pub fn send(&mut self, command: Command, files: Vec<NamedFile>) -> Result<Vec<Event>> {
        let mut answers = Vec::new();
        let mut stopping = false;
        let mut envelopes = block_on(self.engine.handle(command, files));
        loop {
            for envelope in envelopes {
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
                self.output.note("stopping after this step; press Ctrl-C again to quit at once");
                block_on(self.engine.handle(Command::Stop, Vec::new()))
            } else {
                block_on(self.engine.advance())
            };
        }
    }

    /// The bytes of the last export.
    pub fn take_exports(&mut self) -> Vec<(String, Vec<u8>)> {
        self.engine.take_exports()
    }
}

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// What a shell reports for a command that Ctrl-C ended.
pub const INTERRUPTED: i32 = 130;

pub fn interrupted() -> bool {
    INTERRUPTS.load(Ordering::Relaxed) > 0
}

/// From now on the first Ctrl-C is passed on as `Stop`, the second ends the process.
pub fn stop_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTS.fetch_add(1, Ordering::Relaxed) > 0 {
            std::process::exit(INTERRUPTED);
        }
    })
    .map_err(|error| failure(format!("cannot listen for Ctrl-C: {error}"), "Start it from an ordinary terminal."))
}
