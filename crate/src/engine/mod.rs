//! The engine: commands in, events out, one unit of work a call. Both shells are built on it alone. `begin.rs` has what a
//! command starts, `work.rs` a unit of what was started, `kernels.rs` which kernels it takes.

mod begin;
mod kernels;
mod work;

use std::{collections::BTreeMap, rc::Rc};

use crate::{
    apply::{Applied, Asked, Opening, Using},
    config::{Config, RawConfig},
    data::Table,
    device,
    error::{Error, Result},
    event::{Command, Envelope, Event, Failure, State},
    export::{DataFile, Exporting},
    generate::Sampling,
    kernels::choice::Choices,
    platform::NamedFile,
    plugin::{self, Plugins, Shared},
    prepare::{self, Tokenizing},
    record::Record,
    storage::Storage,
    sweep::SweepStep,
    train::{Evaluator, Fault, RangeTest, Rates, Session},
    weights::folder::Folder,
};

/// What `advance` works on.
enum Job {
    None,
    Run(Box<Session>),
    LrFind(Box<RangeTest>),
    /// A model on its way, and the id and name of the plugin that it becomes.
    Open(Box<Opening>, Option<(String, String)>),
    /// Held-out rows on their way to an evaluation.
    Tokenize(Box<Tokenizing>),
    Evaluate(Box<Evaluator>),
    /// With the plugin that was asked.
    Predict(Using, Option<String>),
    Export(Box<Exporting>),
}

/// Everything that a person has opened, and the work under way.
pub struct Engine {
    folder: Option<Rc<Folder>>,
    /// Training rows and, where a second file was given, held-out ones.
    tables: Vec<Table>,
    /// What the tables were read from.
    data: Vec<DataFile>,
    job: Job,
    /// The model that prediction, evaluation and export take: trained or opened.
    applied: Option<Applied>,
    run: String,
    /// Where the next run keeps checkpoints and record.
    storage: Option<Rc<dyn Storage>>,
    record: Option<Record>,
    /// What outlasts runs, and of it what was found on each adapter.
    cache: Option<Rc<dyn Storage>>,
    calibrated: BTreeMap<String, Choices>,
    /// Models beside the current one, and the base's weights that they all hold.
    plugins: Plugins,
    shared: Shared,
    /// For the next run, in tests.
    faults: Vec<Fault>,
    /// Beside the last [`Event::ExportChunk`].
    chunk: Vec<u8>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    pub fn new() -> Self {
        Self {
            folder: None,
            tables: Vec::new(),
            data: Vec::new(),
            job: Job::None,
            applied: None,
            run: String::new(),
            storage: None,
            record: None,
            cache: None,
            calibrated: BTreeMap::new(),
            plugins: Plugins::default(),
            shared: Shared::default(),
            faults: Vec::new(),
            chunk: Vec::new(),
        }
    }

    /// Where runs that start from now on keep their checkpoints and record; without one they keep none.
    pub fn use_storage(&mut self, storage: Option<Rc<dyn Storage>>) {
        self.storage = storage;
    }

    /// Where what was measured on this machine is kept for later runs; without one it is measured again in the next process.
    pub fn use_cache(&mut self, cache: Option<Rc<dyn Storage>>) {
        self.cache = cache;
    }

    /// Makes trouble in the run, or the next one, for tests.
    pub fn fault(&mut self, fault: Fault) {
        match &mut self.job {
            Job::Run(session) => session.fault(fault),
            _ => match (fault, &self.applied) {
                (Fault::DeviceLost { .. }, Some(applied)) => applied.opened.lose(),
                _ => self.faults.push(fault),
            },
        }
    }

    /// Carries out a command; what takes long is left for [`Self::advance`]. A failure is an event, and the engine can
    /// be used after it.
    pub async fn handle(&mut self, command: Command, files: Vec<NamedFile>) -> Vec<Envelope> {
        let events = match self.command(command, files).await {
            Ok(events) => events,
            // A command that cannot be carried out leaves the work under way as it is.
            Err(error) => vec![Event::Failed(Failure::from(error))],
        };
        self.envelopes(events).await
    }

    /// One unit of work: a tensor loaded, a micro-batch, an evaluation batch.
    pub async fn advance(&mut self) -> Vec<Envelope> {
        let events = match self.work().await {
            Ok(events) => events,
            Err(error) => {
                self.job = Job::None;
                vec![Event::State { state: State::Failed }, Event::Failed(Failure::from(error))]
            }
        };
        self.envelopes(events).await
    }

    /// Whether [`Self::advance`] has something to do.
    pub fn busy(&self) -> bool {
        match &self.job {
            Job::None => false,
            Job::Run(session) => session.state() != State::Paused,
            Job::LrFind(_)
            | Job::Open(..)
            | Job::Tokenize(_)
            | Job::Evaluate(_)
            | Job::Predict(..)
            | Job::Export(_) => true,
        }
    }

    /// The bytes of the last [`Event::ExportChunk`]: to be taken before the next [`Self::advance`].
    pub fn take_chunk(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.chunk)
    }

    async fn envelopes(&mut self, events: Vec<Event>) -> Vec<Envelope> {
        let envelope = |event| Envelope { run: self.run.clone(), event };
        let mut envelopes: Vec<Envelope> = events.into_iter().map(envelope).collect();
        if let Some(record) = &self.record
            && let Err(error) = record.add(&envelopes).await
        {
            let message = format!("The run's record could not be written ({error}): it ends here.");
            envelopes.push(envelope(Event::Warning { message }));
            self.record = None;
        }
        envelopes
    }

    async fn command(&mut self, command: Command, files: Vec<NamedFile>) -> Result<Vec<Event>> {
        match command {
            Command::Inspect => Ok(vec![Event::Environment(device::environment().await)]),
            Command::OpenModel { name } => {
                self.idle("open a model")?;
                let folder = Folder::open(name, files).await?;
                let summary = folder.summary();
                self.folder = Some(Rc::new(folder));
                self.applied = None;
                self.plugins.clear();
                self.shared.clear();
                Ok(vec![Event::ModelOpened(summary)])
            }
            Command::OpenData => {
                self.idle("open data")?;
                self.open_data(files).await
            }
            Command::OpenConfig => {
                let config = Box::new(RawConfig::read(&files).await?);
                Ok(vec![Event::Config { config }])
            }
            Command::Check { config } => {
                let config = Config::resolve(&config)?;
                let rows = prepare::rows(&config, &self.tables, &[])?;
                self.plan(&config, &rows).await
            }
            Command::Start { config, resume, smaller } => self.start(*config, files, resume, smaller).await,
            Command::SweepNext { sweep, results } => Ok(vec![Event::SweepStep(SweepStep::new(&sweep, &results)?)]),
            Command::LrFind { config, min_lr, max_lr, num_training_steps } => {
                self.idle("find a learning rate")?;
                self.find_rate(&config, Rates::new(min_lr, max_lr, num_training_steps)?).await
            }
            Command::OpenAdapter { config } => {
                self.idle("open an adapter")?;
                let opening = Opening::new(self.folder()?, *config, files, &self.shared).await?;
                self.applied = None;
                self.job = Job::Open(Box::new(opening), None);
                Ok(vec![Event::State { state: State::Preparing }])
            }
            Command::AddPlugin { config, id, name } => {
                self.idle("add a plugin")?;
                self.add_plugin(*config, id, name, files).await
            }
            Command::KeepPlugin { name } => {
                self.idle("keep a plugin")?;
                let mut applied = self.applied.clone().ok_or_else(nothing_trained)?;
                applied.name = Some(name.clone());
                self.plugins.add(plugin::id_of(&name), name, applied)?;
                Ok(vec![self.plugins()])
            }
            Command::UsePlugin { id } => {
                self.idle("change to another plugin")?;
                let applied = self.plugins.get(&id)?.applied.clone();
                let opened = applied.describe();
                self.applied = Some(applied);
                Ok(vec![Event::AdapterOpened(opened)])
            }
            Command::RemovePlugin { id } => {
                self.plugins.remove(&id)?;
                Ok(vec![self.plugins()])
            }
            Command::ListPlugins => Ok(vec![self.plugins()]),
            Command::Evaluate { columns } => {
                self.idle("evaluate")?;
                self.evaluate(columns)
            }
            Command::Predict {
                texts,
                fields,
                messages,
                plugin,
                sampling,
                max_new_tokens,
                apply_chat_template,
                join,
            } => {
                let max_new_tokens = max_new_tokens.unwrap_or(sampling.max_new_tokens);
                let sampling = Sampling { max_new_tokens, ..sampling };
                let asked = Asked { texts, fields, messages, chat: apply_chat_template };
                self.predict(&asked, plugin, &sampling, join)
            }
            Command::Cancel { index } => {
                if let (Job::Predict(using, _), Ok(index)) = (&mut self.job, usize::try_from(index)) {
                    using.cancel(index);
                }
                Ok(Vec::new())
            }
            Command::Pause => self.session("pause")?.pause().map(|event| vec![event]),
            Command::Resume => self.session("resume")?.resume().map(|event| vec![event]),
            Command::Stop if matches!(self.job, Job::Export(_) | Job::Open(..)) => {
                self.job = Job::None;
                Ok(vec![Event::State { state: State::Idle }])
            }
            Command::Stop => match &mut self.job {
                Job::LrFind(test) => {
                    test.stop();
                    Ok(Vec::new())
                }
                Job::Predict(using, _) => {
                    let mut events = using.stop(self.applied.as_ref().ok_or_else(nothing_trained)?)?;
                    self.job = Job::None;
                    events.push(Event::State { state: State::Idle });
                    Ok(events)
                }
                _ => Ok(self.session("stop")?.stop().into_iter().collect()),
            },
            Command::Export { format, dtype, zip, name } => {
                self.idle("export")?;
                if let (Some(name), Some(applied)) = (name, &mut self.applied) {
                    applied.name = Some(name);
                }
                self.export(format, dtype, zip)
            }
        }
    }

    fn plugins(&self) -> Event {
        Event::Plugins { plugins: self.plugins.infos() }
    }
    fn folder(&self) -> Result<Rc<Folder>> {
        self.folder.clone().ok_or_else(|| {
            Error::session("No model is open.", "Open a model's folder, or the starter model, before the run.")
        })
    }

    fn session(&mut self, command: &str) -> Result<&mut Session> {
        match &mut self.job {
            Job::Run(session) => Ok(session),
            _ => Err(Error::session(format!("There is no run to {command}."), "Start a run.")),
        }
    }

    /// Commands that would change what work under way stands on have to wait.
    fn idle(&self, what: &str) -> Result<()> {
        match self.job {
            Job::None => Ok(()),
            _ => Err(Error::session(
                format!("Cannot {what} while other work is under way."),
                "Wait until it has ended, or stop the run.",
            )),
        }
    }
}

fn nothing_trained() -> Error {
    Error::session("There is no trained model yet.", "Finish a run, or open an adapter, first.")
}
