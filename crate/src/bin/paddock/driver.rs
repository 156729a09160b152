//! Pumps the engine: sends commands, shows events, passes a Ctrl-C on as `Stop`.

use std::sync::atomic::{AtomicBool, Ordering};

use paddock::{
    engine::Engine,
    event::{Command, Event},
    platform::NamedFile,
};
use pollster::block_on;
use signal_hook::{
    consts::SIGINT,
    flag::{register, register_conditional_shutdown},
};

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

static STOP: AtomicBool = AtomicBool::new(false);

/// What a shell reports for a command that Ctrl-C ended.
pub const INTERRUPTED: i32 = 130;

pub fn interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// From now on the first Ctrl-C is passed on as `Stop`, the second ends the process.
pub fn stop_on_interrupt() -> Result<()> {
    // In this order: the flag that the first one sets is what the second one finds.
    register_conditional_shutdown(SIGINT, INTERRUPTED, &STOP)
        .and_then(|_| register(SIGINT, &STOP))
        .map(drop)
        .map_err(|error| failure(format!("cannot listen for Ctrl-C: {error}"), "Start it from an ordinary terminal."))
}
