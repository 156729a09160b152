//! The engine: commands in, events out, one unit of work a call. Both shells are built on it alone.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use crate::{
    adapter::AdapterFiles,
    apply::{Applied, Asked, Opening, Using},
    config::{Config, Kernels, Method, RawConfig},
    data::{MOST_BYTES, Role, Table},
    device,
    error::{Error, Result},
    event::{Command, DataSummary, Envelope, Event, ExportDType, ExportFormat, Failure, Phase, State, When},
    export::{DataFile, Exporting},
    generate::Sampling,
    kernels,
    plan::plan,
    platform::{self, NamedFile},
    plugin::{self, Plugins, Shared},
    prepare::{self, Rows, Tokenizing},
    record::Record,
    scenario,
    storage::Storage,
    sweep::SweepStep,
    train::{
        Evaluator, Fault, Parts, RangeTest, Rates, Session,
        checkpoint::{self, Fingerprints},
    },
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
            Command::Stop if matches!(self.job, Job::Export(_)) => {
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

    async fn add_plugin(
        &mut self,
        config: RawConfig,
        id: Option<String>,
        name: Option<String>,
        files: Vec<NamedFile>,
    ) -> Result<Vec<Event>> {
        if files.is_empty() {
            return Err(Error::session("A plugin without files.", "Choose an adapter's folder, or the zip of it."));
        }
        let opening = Opening::new(self.folder()?, config, files, &self.shared).await?;
        let brought = opening.named();
        let name = name.or(brought.as_ref().map(|(_, name)| name.clone())).unwrap_or_default();
        let id = id.or(brought.map(|(id, _)| id)).unwrap_or_else(|| plugin::id_of(&name));
        plugin::check_id(&id).map_err(|got| {
            Error::session(format!("{got} cannot name a plugin."), "Take letters, digits, `.`, `_` and `-`.")
        })?;
        self.job = Job::Open(Box::new(opening), Some((id, name)));
        Ok(vec![Event::State { state: State::Preparing }])
    }

    fn predict(
        &mut self,
        asked: &Asked,
        plugin: Option<String>,
        sampling: &Sampling,
        join: bool,
    ) -> Result<Vec<Event>> {
        let count = asked.texts.len() as u64;
        if join && let Job::Predict(using, answers) = &mut self.job {
            if *answers != plugin {
                return Err(Error::session("Another plugin is answering.", "Ask when it is done."));
            }
            let events = using.join(self.applied.as_ref().ok_or_else(nothing_trained)?, asked, sampling)?;
            if let Some(id) = &plugin {
                self.plugins.get(id)?.info.uses += count;
            }
            return Ok(events);
        }
        self.idle("predict")?;
        if let Some(id) = &plugin {
            let plugin = self.plugins.get(id)?;
            plugin.info.uses += count;
            self.applied = Some(plugin.applied.clone());
        }
        let (using, mut events) = Using::new(self.applied.as_ref().ok_or_else(nothing_trained)?, asked, sampling)?;
        self.job = Job::Predict(using, plugin);
        events.push(Event::State { state: State::Applying });
        Ok(events)
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
            .map(|(i, table)| {
                Event::DataOpened(DataSummary { held_out: i == 1, fits: scenario::fits(table), ..table.summary() })
            })
            .collect();
        self.tables = tables;
        self.data = data;
        Ok(events)
    }

    async fn plan(&self, config: &Config, rows: &Rows) -> Result<Vec<Event>> {
        let folder = self.folder()?;
        let (opened, reason) = device::open(config.device).await?;
        let (total_steps, note) = prepare::estimate_steps(config, rows, &folder)?;
        let mut plan = plan(config, &folder.weights, &opened, rows, total_steps)?;
        plan.examples = prepare::preview(config, rows, &folder)?;
        plan.warnings.splice(0..0, rows.warnings.iter().cloned());
        plan.warnings.extend(reason.filter(|_| !opened.is_gpu()));
        plan.warnings.extend(note);
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
        let mut config = Config::resolve(&raw)?;
        let rows = prepare::rows(&config, &self.tables, &labels)?;
        // What is trained remembers it.
        config.data.shape = Some(rows.shape);
        let mut events = self.plan(&config, &rows).await?;
        let classes = config.task.classifies() && config.model.num_labels != Some(1);
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
        let shared = match config.training.method {
            Method::Lora => self.shared.take(&opened, config.packing(), opened.half(&config)?),
            Method::Full => HashMap::new(),
        };
        if shared.is_empty() {
            // The base would stand on the device twice.
            self.shared.clear();
            if !self.plugins.is_empty() {
                self.plugins.clear();
                let message = "The plugins were let go: this run holds the base in another way than they do.".into();
                events.push(Event::Warning { message });
                events.push(self.plugins());
            }
        }
        events.push(Event::State { state: State::Preparing });
        let adapter = adapter.map(|adapter| adapter.weights);
        let (run, storage) = (self.run.clone(), self.storage.clone());
        let parts = Parts { run, config, opened, folder, rows, adapter, fingerprints, storage, found, shared };
        let mut session = Session::new(parts)?;
        self.faults.drain(..).for_each(|fault| session.fault(fault));
        self.job = Job::Run(Box::new(session));
        Ok(events)
    }

    async fn find_rate(&mut self, raw: &RawConfig, rates: Rates) -> Result<Vec<Event>> {
        let config = Config::resolve(raw)?;
        let folder = self.folder()?;
        let rows = prepare::rows(&config, &self.tables, &[])?;
        let (opened, _) = device::open(config.device).await?;
        kernels::use_stock(config.kernels == Kernels::Stock);
        self.run = platform::run_id();
        self.applied = None;
        self.job = Job::LrFind(Box::new(RangeTest::new(config, opened, folder, rows, rates)?));
        Ok(vec![Event::State { state: State::Preparing }])
    }

    fn evaluate(&mut self, columns: BTreeMap<String, String>) -> Result<Vec<Event>> {
        let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
        let mut config = applied.config.clone();
        for (word, column) in columns {
            let role = Role::find(&word).ok_or_else(|| {
                let words: Vec<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
                Error::session(format!("A column for `{word}`, which is no part of a row."), words.join(", "))
            })?;
            role.set_column(&mut config.data, column);
        }
        let rows = prepare::known_rows(&config, &self.tables, &applied.labels)?;
        let tokenizing = Tokenizing::new(&applied.config, rows.shape, applied.folder.clone(), rows.validation)?;
        self.job = Job::Tokenize(Box::new(tokenizing));
        let mut events: Vec<Event> = rows.warnings.into_iter().map(|message| Event::Warning { message }).collect();
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
                    if let Some(Applied { model, config, opened, .. }) = &self.applied
                        && config.training.method == Method::Lora
                    {
                        self.shared.keep(opened, config.packing(), model.half, model);
                    }
                }
                Ok(events)
            }
            Job::LrFind(test) => {
                let events = test.advance().await?;
                if test.done() {
                    self.job = Job::None;
                }
                Ok(events)
            }
            Job::Open(opening, plugin) => {
                let mut events = opening.advance().await?;
                if let Some(applied) = opening.take() {
                    let half = applied.model.half;
                    self.shared.keep(&applied.opened, applied.config.frozen(), half, &applied.model);
                    let plugin = plugin.take();
                    self.job = Job::None;
                    if let Some((id, name)) = plugin {
                        self.plugins.add(id, name, applied)?;
                        events.push(self.plugins());
                    } else {
                        events.push(Event::AdapterOpened(applied.describe()));
                        self.applied = Some(applied);
                    }
                    events.push(Event::State { state: State::Idle });
                }
                Ok(events)
            }
            Job::Tokenize(tokenizing) => {
                let more = tokenizing.advance()?;
                let (done, total) = tokenizing.progress();
                let mut events = vec![Event::Progress { phase: Phase::Tokenizing, done, total }];
                if !more && let Job::Tokenize(tokenizing) = std::mem::replace(&mut self.job, Job::None) {
                    let Applied { config, labels, folder, .. } = self.applied.as_ref().ok_or_else(nothing_trained)?;
                    let tokenized = tokenizing.finish();
                    events.extend(tokenized.warnings.iter().map(|message| Event::Warning { message: message.clone() }));
                    let (labels, folder, rows) = (labels.clone(), folder.clone(), Rc::new(tokenized));
                    let evaluator = Evaluator::new(When::After, 0, config, labels, folder, rows)?;
                    self.job = Job::Evaluate(Box::new(evaluator));
                }
                Ok(events)
            }
            Job::Evaluate(evaluator) => {
                let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
                applied.opened.check()?;
                let more = evaluator.advance(&applied.model, &applied.opened.device).await?;
                let (done, total) = evaluator.progress();
                let mut events = vec![Event::Progress { phase: Phase::Evaluating, done, total }];
                if !more && let Job::Evaluate(evaluator) = std::mem::replace(&mut self.job, Job::None) {
                    events.push(Event::Evaluation(Box::new(evaluator.finish(None)?.0)));
                    events.push(Event::State { state: State::Idle });
                }
                Ok(events)
            }
            Job::Predict(using, _) => {
                let applied = self.applied.as_ref().ok_or_else(nothing_trained)?;
                applied.opened.check()?;
                let (mut events, more) = using.advance(applied).await?;
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
