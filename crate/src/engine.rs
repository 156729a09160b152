//! The engine: commands in, events out, one unit of work a call. Both shells are built on it alone.

use std::rc::Rc;

use crate::{
    adapter::AdapterFiles,
    apply::{Applied, Opening, Predicting},
    config::{Config, Kernels, RawConfig, Task},
    data::{MOST_BYTES, Table},
    device,
    error::{Error, Result},
    event::{Command, DataSummary, Envelope, Event, ExportDType, ExportFormat, Failure, Phase, State, When},
    export::{DataFile, Exporting},
    generate::{Generating, NEW_TOKENS, generates},
    kernels,
    plan::{Counts, plan},
    platform::{self, NamedFile},
    prepare::{self, Rows, Tokenizing},
    record::Record,
    storage::Storage,
    train::{
        Evaluator, Fault, Parts, Session,
        checkpoint::{self, Fingerprints},
    },
    weights::folder::Folder,
};

/// What `advance` works on.
enum Job {
    None,
    Run(Box<Session>),
    Open(Box<Opening>),
    /// Held-out rows on their way to an evaluation, with the texts to show.
    Tokenize(Box<Tokenizing>, Vec<String>),
    Evaluate(Box<Evaluator>, Vec<String>),
    Predict(Box<Predicting>),
    Generate(Box<Generating>),
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
            faults: Vec::new(),
            chunk: Vec::new(),
        }
    }

    /// Where runs that start from now on keep their checkpoints and record; without one they keep none.
    pub fn use_storage(&mut self, storage: Option<Rc<dyn Storage>>) {
        self.storage = storage;
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
            Job::Open(_)
            | Job::Tokenize(..)
            | Job::Evaluate(..)
            | Job::Predict(_)
            | Job::Generate(_)
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
            Command::OpenAdapter { config } => {
                self.idle("open an adapter")?;
                let opening = Opening::new(self.folder()?, *config, files).await?;
                self.applied = None;
                self.job = Job::Open(Box::new(opening));
                Ok(vec![Event::State { state: State::Preparing }])
            }
            Command::Evaluate { text_column, label_column } => {
                self.idle("evaluate")?;
                self.evaluate(text_column, label_column)
            }
            Command::Predict { texts, max_new_tokens, apply_chat_template } => {
                self.idle("predict")?;
                let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
                self.job = if generates(applied) {
                    let most = max_new_tokens.unwrap_or(NEW_TOKENS);
                    Job::Generate(Box::new(Generating::new(applied, &texts, most, apply_chat_template)?))
                } else {
                    Job::Predict(Box::new(Predicting::new(applied, &texts)?))
                };
                Ok(vec![Event::State { state: State::Applying }])
            }
            Command::Pause => self.session("pause")?.pause().map(|event| vec![event]),
            Command::Resume => self.session("resume")?.resume().map(|event| vec![event]),
            Command::Stop if matches!(self.job, Job::Export(_)) => {
                self.job = Job::None;
                Ok(vec![Event::State { state: State::Idle }])
            }
            Command::Stop => Ok(self.session("stop")?.stop().into_iter().collect()),
            Command::Export { format, dtype, zip } => {
                self.idle("export")?;
                self.export(format, dtype, zip)
            }
        }
    }

    async fn open_data(&mut self, files: Vec<NamedFile>) -> Result<Vec<Event>> {
        if files.is_empty() || files.len() > 2 {
            let message = format!("{} data files were handed over", files.len());
            return Err(Error::session(message, "Choose one file of examples, and at most one of held-out rows."));
        }
        let mut tables = Vec::new();
        let mut data = Vec::new();
        for file in files {
            let size = file.blob.size();
            if size > MOST_BYTES as u64 {
                let message = format!("{} MiB; at most {} MiB can be read", size >> 20, MOST_BYTES >> 20);
                return Err(Error::data(&file.name, message, "Split the file and use a part of it."));
            }
            let bytes = file.blob.read(0, size as usize).await.map_err(|e| Error::io(&file.name, e))?;
            let table = Table::read(&file.name, &bytes)?;
            data.push(DataFile::new(&file.name, &bytes, table.len() as u64));
            tables.push(table);
        }
        let summaries = tables.iter().enumerate();
        let events = summaries
            .map(|(i, table)| Event::DataOpened(DataSummary { held_out: i == 1, ..table.summary() }))
            .collect();
        self.tables = tables;
        self.data = data;
        Ok(events)
    }

    async fn plan(&self, config: &Config, rows: &Rows) -> Result<Vec<Event>> {
        let folder = self.folder()?;
        let (opened, reason) = device::open(config.device).await?;
        let (total_steps, estimated) = prepare::estimate_steps(config, rows, &folder)?;
        let counts = Counts {
            train_rows: rows.train.len() as u64,
            validation_rows: rows.validation.len() as u64,
            skipped_rows: rows.skipped,
            total_steps,
        };
        let mut plan = plan(config, &folder.weights, &opened, &rows.labels, counts)?;
        plan.warnings.splice(0..0, rows.warnings.iter().cloned());
        plan.warnings.extend(reason.filter(|_| !opened.is_gpu()));
        if estimated {
            plan.warnings.push("The number of steps is estimated from a part of the text.".into());
        }
        Ok(vec![Event::Plan(plan)])
    }

    /// `files` are those of an adapter that training goes on from; none for a new one.
    async fn start(
        &mut self,
        mut raw: RawConfig,
        files: Vec<NamedFile>,
        resume: bool,
        smaller: bool,
    ) -> Result<Vec<Event>> {
        self.idle("start a run")?;
        let folder = self.folder()?;
        let adapter = AdapterFiles::read(files).await?;
        let mut labels = Vec::new();
        if let Some(adapter) = &adapter {
            raw = adapter.settle(raw, folder.config())?;
            labels = adapter.labels(folder.config());
        }
        let config = Config::resolve(&raw)?;
        let rows = prepare::rows(&config, &self.tables, &labels)?;
        let mut events = self.plan(&config, &rows).await?;
        let classes = config.task == Task::TextClassification && config.model.num_labels != Some(1);
        if adapter.is_some() && labels.is_empty() && classes {
            let message = format!(
                "The adapter's files do not name its classes (no config.json): they are taken to be {}, in this order.",
                rows.labels.join(", ")
            );
            events.push(Event::Warning { message });
        }
        let (opened, _) = device::open(config.device).await?;
        let mut fingerprints = Fingerprints { model: folder.fingerprint().await?, data: self.data.clone() };
        if let Some(AdapterFiles { weights, .. }) = &adapter {
            let hash = checkpoint::sampled(&weights.name, weights.blob.as_ref()).await?;
            fingerprints.model.push((weights.name.clone(), hash));
        }
        let mut found = match &self.storage {
            Some(storage) if resume => checkpoint::latest(storage.as_ref(), None).await?,
            _ => None,
        };
        if let Some(found) = &mut found {
            found.saved.check(&found.resumed.file, &config, &fingerprints)?;
            if smaller && found.saved.progress.split < config.training.batch_size {
                found.saved.progress.split *= 2;
            }
        } else if resume {
            let message = "There is no whole checkpoint to go on from: the run starts at its beginning.".into();
            events.push(Event::Warning { message });
        }
        self.record = None;
        self.run = found.as_ref().map_or_else(platform::run_id, |found| found.saved.run.clone());
        if let Some(storage) = &self.storage {
            if found.is_none() {
                checkpoint::clear(storage.as_ref()).await?;
            }
            let machine = device::environment().await;
            let fresh = found.is_none();
            self.record = Some(Record::begin(storage.clone(), &self.run, &config, &machine, fresh).await?);
        }
        kernels::use_stock(config.kernels == Kernels::Stock);
        self.applied = None;
        events.push(Event::State { state: State::Preparing });
        let adapter = adapter.map(|adapter| adapter.weights);
        let (run, storage) = (self.run.clone(), self.storage.clone());
        let parts = Parts { run, config, opened, folder, rows, adapter, fingerprints, storage, found };
        let mut session = Session::new(parts);
        self.faults.drain(..).for_each(|fault| session.fault(fault));
        self.job = Job::Run(Box::new(session));
        Ok(events)
    }

    fn evaluate(&mut self, text: Option<String>, label: Option<String>) -> Result<Vec<Event>> {
        let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
        let mut config = applied.config.clone();
        config.data.text_column = text.or(config.data.text_column);
        config.data.label_column = label.or(config.data.label_column);
        let (rows, warnings) = prepare::known_rows(&config, &self.tables, &applied.labels)?;
        let texts = rows.iter().take(10).map(|e| e.text.clone()).collect();
        let tokenizing = Tokenizing::new(&applied.config, applied.folder.clone(), rows);
        self.job = Job::Tokenize(Box::new(tokenizing), texts);
        let mut events: Vec<Event> = warnings.into_iter().map(|message| Event::Warning { message }).collect();
        events.push(Event::State { state: State::Evaluating });
        Ok(events)
    }

    fn export(&mut self, format: ExportFormat, dtype: Option<ExportDType>, zip: bool) -> Result<Vec<Event>> {
        let applied = self.applied.as_mut().ok_or_else(nothing_trained)?;
        let exporting = Exporting::new(applied, format, dtype, zip)?;
        let started = exporting.started();
        self.job = Job::Export(Box::new(exporting));
        Ok(vec![Event::State { state: State::Applying }, started])
    }

    async fn work(&mut self) -> Result<Vec<Event>> {
        match &mut self.job {
            Job::None => Ok(Vec::new()),
            Job::Run(session) => {
                if session.state() == State::Paused {
                    return Ok(Vec::new());
                }
                let events = session.advance().await?;
                if session.done()
                    && let Job::Run(session) = std::mem::replace(&mut self.job, Job::None)
                {
                    self.applied = session.into_result();
                }
                Ok(events)
            }
            Job::Open(opening) => {
                let mut events = opening.advance().await?;
                if let Some(applied) = opening.take() {
                    events.push(Event::AdapterOpened(applied.describe()));
                    self.applied = Some(applied);
                    self.job = Job::None;
                    events.push(Event::State { state: State::Idle });
                }
                Ok(events)
            }
            Job::Tokenize(tokenizing, _) => {
                let more = tokenizing.advance()?;
                let (done, total) = tokenizing.progress();
                if !more && let Job::Tokenize(tokenizing, texts) = std::mem::replace(&mut self.job, Job::None) {
                    let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
                    let batches = prepare::evaluation(&applied.config, &applied.folder, &tokenizing.finish());
                    let evaluator = Evaluator::new(When::After, 0, applied.labels.clone(), batches);
                    self.job = Job::Evaluate(Box::new(evaluator), texts);
                }
                Ok(vec![Event::Progress { phase: Phase::Tokenizing, done, total }])
            }
            Job::Evaluate(evaluator, _) => {
                let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
                applied.opened.check()?;
                let more = evaluator.advance(&applied.model, &applied.opened.device).await?;
                let (done, total) = evaluator.progress();
                let mut events = vec![Event::Progress { phase: Phase::Evaluating, done, total }];
                if !more && let Job::Evaluate(evaluator, texts) = std::mem::replace(&mut self.job, Job::None) {
                    events.push(Event::Evaluation(evaluator.finish(&texts)?));
                    events.push(Event::State { state: State::Idle });
                }
                Ok(events)
            }
            Job::Generate(generating) => {
                let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
                applied.opened.check()?;
                let (mut events, more) = generating.advance(applied).await?;
                if !more {
                    self.job = Job::None;
                    events.push(Event::State { state: State::Idle });
                }
                Ok(events)
            }
            Job::Predict(predicting) => {
                let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
                applied.opened.check()?;
                let (mut events, more) = predicting.advance(applied).await?;
                if !more {
                    self.job = Job::None;
                    events.push(Event::State { state: State::Idle });
                }
                Ok(events)
            }
            Job::Export(exporting) => {
                let applied = self.applied.as_mut().ok_or_else(nothing_trained)?;
                applied.opened.check()?;
                let Some(chunk) = exporting.advance(applied).await? else {
                    let finished = exporting.finished();
                    self.job = Job::None;
                    return Ok(vec![finished, Event::State { state: State::Idle }]);
                };
                self.chunk = chunk.bytes;
                let bytes = self.chunk.len() as u64;
                Ok(vec![Event::ExportChunk { file: chunk.file, offset: chunk.offset, bytes }, exporting.progress()])
            }
        }
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
