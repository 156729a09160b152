//! The base and its plugins on their way into the engine.

use paddock::{
    event::{Command, Event, Failure},
    platform::NamedFile,
    plugin::PluginInfo,
};
use pollster::block_on;

use super::Worker;
use crate::{
    driver,
    files::{Result, failure},
    serve::{
        Line,
        handle::{Model, State},
        models::BASE,
    },
    trained,
};

impl Worker {
    /// Loads the base and its plugins.
    pub(super) fn open(&mut self) -> Result<()> {
        let files = self.served.base.open()?;
        self.send(Command::Inspect, Vec::new())?;
        self.send(Command::OpenModel { name: self.served.base.name.clone() }, files)?;
        let open = Command::OpenAdapter { config: Box::new(self.served.config.clone()) };
        let kept = self.send(open, Vec::new());
        let kept = kept.and_then(|_| self.send(Command::KeepPlugin { name: BASE.to_owned() }, Vec::new()));
        match kept {
            Ok(_) => {}
            // A base that can do nothing by itself is a base all the same.
            Err(failure) if !self.served.plugins.is_empty() && !driver::interrupted() => {
                self.warn(format!("{} answers through its plugins alone: {}", self.served.base.name, failure.message));
            }
            Err(failure) => return Err(failure),
        }
        for plugin in self.served.plugins.clone() {
            let (id, name) = (Some(plugin.id.clone()), plugin.name.clone());
            let add = Command::AddPlugin { config: Box::new(plugin.config), id, name };
            let added = trained::open_adapter(&plugin.path).and_then(|files| self.send(add, files));
            match added {
                Ok(_) => {}
                Err(failure) if !plugin.asked && !driver::interrupted() => {
                    self.warn(format!("`{}` is not served: {}", plugin.id, failure.message));
                }
                Err(Failure { message, advice, .. }) => {
                    return Err(failure(format!("`{}`: {message}", plugin.id), advice));
                }
            }
        }
        let models = self.models()?;
        let ids = models.iter().map(|model| model.id.clone()).collect();
        self.shared.serve(models);
        self.shared.set(State::Ready);
        let _ = self.lines.send(Line::Ready(ids));
        Ok(())
    }

    fn models(&mut self) -> Result<Vec<Model>> {
        let events = self.send(Command::ListPlugins, Vec::new())?;
        let infos = events.into_iter().find_map(|event| match event {
            Event::Plugins { plugins } => Some(plugins),
            _ => None,
        });
        let model = |info: PluginInfo| {
            let base = info.id == BASE;
            let id = if base { self.served.base.name.clone() } else { info.id.clone() };
            Model { id, key: info.id.clone(), base, info }
        };
        let models: Vec<Model> = infos.unwrap_or_default().into_iter().map(model).collect();
        if models.is_empty() {
            return Err(failure(
                format!(
                    "nothing can be served: {} answers nothing by itself, and no plugin fits it",
                    self.served.base.name
                ),
                "Name an adapter that was trained on it: --adapter DIR.",
            ));
        }
        Ok(models)
    }

    /// Sends a command and pumps until its work is done.
    fn send(&mut self, command: Command, files: Vec<NamedFile>) -> Result<Vec<Event>> {
        let mut envelopes = block_on(self.engine.handle(command, files));
        let mut events = Vec::new();
        loop {
            for envelope in envelopes {
                if let Event::Failed(failure) = envelope.event {
                    return Err(failure);
                }
                events.push(envelope.event.clone());
                let _ = self.lines.send(Line::Event(Box::new(envelope)));
            }
            if !self.engine.busy() {
                return Ok(events);
            }
            if driver::interrupted() {
                return Err(failure("stopped while the models were being loaded", "Start it again."));
            }
            envelopes = block_on(self.engine.advance());
        }
    }

    pub(super) fn warn(&self, message: String) {
        let _ = self.lines.send(Line::Warning(message));
    }
}
