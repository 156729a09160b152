//! A run's record in its storage: settings, machine, events as they came, and the result. Plain files, for people and
//! programs.

mod tensorboard;

use std::{io, rc::Rc};

use crate::{
    config::{Config, ReportTo},
    error::{Error, Result},
    event::{Envelope, Environment, Event},
    platform,
    storage::{Storage, put},
    weights::folder::json_bytes,
};

/// Every event but progress and pieces, one JSON object a line, as the page gets them.
pub const EVENTS: &str = "events.jsonl";
/// The resolved configuration.
pub const SETTINGS: &str = "run.yaml";
pub const MACHINE: &str = "environment.json";
/// What the run came to: its summary. Only a run that succeeded has one.
pub const RESULT: &str = "result.json";

/// Takes down what a run does.
pub struct Record {
    storage: Rc<dyn Storage>,
    run: String,
    /// TensorBoard's file of this sitting.
    scalars: Option<String>,
}

impl Record {
    /// Begins a run's record; `fresh` removes what an earlier run left.
    pub async fn begin(
        storage: Rc<dyn Storage>,
        run: &str,
        config: &Config,
        machine: &Environment,
        fresh: bool,
    ) -> Result<Self> {
        let written = async {
            if fresh {
                storage.remove(EVENTS).await?;
            }
            storage.remove(RESULT).await?;
            put(storage.as_ref(), SETTINGS, config.to_yaml().as_bytes()).await?;
            put(storage.as_ref(), MACHINE, &json_bytes(machine)).await?;
            if config.training.report_to == ReportTo::None {
                return Ok(None);
            }
            let time = platform::unix_time();
            let name = format!("events.out.tfevents.{time}.paddock");
            storage.append(&name, &tensorboard::begin(time as f64)).await?;
            Ok(Some(name))
        };
        let scalars = written.await.map_err(|error: io::Error| Error::io("the run's folder", error))?;
        Ok(Self { storage, run: run.to_owned(), scalars })
    }

    /// Adds these events; the result where the run has ended well.
    pub async fn add(&self, envelopes: &[Envelope]) -> io::Result<()> {
        let time = platform::unix_time() as f64;
        let (mut lines, mut scalars) = (Vec::new(), Vec::new());
        for envelope in envelopes.iter().filter(|envelope| envelope.run == self.run) {
            match &envelope.event {
                Event::Progress { .. } | Event::Prediction(_) | Event::TextDelta(_) | Event::ExportChunk { .. } => {
                    continue;
                }
                Event::Finished(summary) => put(self.storage.as_ref(), RESULT, &json_bytes(summary)).await?,
                _ => {}
            }
            serde_json::to_writer(&mut lines, envelope)?;
            lines.push(b'\n');
            scalars.extend(tensorboard::scalars(&envelope.event, time));
        }
        if let (Some(name), false) = (&self.scalars, scalars.is_empty()) {
            self.storage.append(name, &scalars).await?;
        }
        if lines.is_empty() { Ok(()) } else { self.storage.append(EVENTS, &lines).await }
    }
}
