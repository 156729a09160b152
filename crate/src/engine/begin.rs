//! What a command starts: checks, and the job that [`Engine::advance`] then works on.

use std::collections::{BTreeMap, HashMap};

use super::{Engine, Job, nothing_trained};
use crate::{
    adapter::AdapterFiles,
    apply::{Asked, Opening, Using},
    config::{Config, Method, RawConfig},
    data::{MOST_BYTES, Role, Table},
    device,
    error::{Error, Result},
    event::{DataSummary, Event, ExportDType, ExportFormat, State},
    export::{DataFile, Exporting},
    generate::Sampling,
    plan::plan,
    platform::{self, NamedFile, encodings},
    plugin::{self},
    prepare::{self, Rows, Tokenizing},
    record::Record,
    scenario,
    train::{
        Parts, RangeTest, Rates, Session,
        checkpoint::{self, Fingerprints},
    },
};

impl Engine {
    pub(super) async fn add_plugin(
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

    pub(super) fn predict(
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

    pub(super) async fn open_data(&mut self, files: Vec<NamedFile>) -> Result<Vec<Event>> {
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
            encodings::prepare(&bytes).await;
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

    pub(super) async fn plan(&self, config: &Config, rows: &Rows) -> Result<Vec<Event>> {
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
    pub(super) async fn start(
        &mut self,
        mut raw: RawConfig,
        files: Vec<NamedFile>,
        resume: bool,
        smaller: u32,
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
        let found = match &self.storage {
            Some(storage) if resume => checkpoint::latest(storage.as_ref(), None).await?,
            _ => None,
        };
        if let Some(found) = &found {
            found.saved.check(&found.resumed.file, &config, &fingerprints)?;
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
        let calibrate = self.choose_kernels(&config, &opened).await?;
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
        let parts =
            Parts { run, config, opened, folder, rows, adapter, fingerprints, storage, found, shared, calibrate };
        let mut session = Session::new(parts)?;
        self.faults.drain(..).for_each(|fault| session.fault(fault));
        events.extend(session.smaller(smaller));
        self.job = Job::Run(Box::new(session));
        Ok(events)
    }

    pub(super) async fn find_rate(&mut self, raw: &RawConfig, rates: Rates) -> Result<Vec<Event>> {
        let config = Config::resolve(raw)?;
        let folder = self.folder()?;
        let rows = prepare::rows(&config, &self.tables, &[])?;
        let (opened, _) = device::open(config.device).await?;
        self.choose_kernels(&config, &opened).await?;
        self.run = platform::run_id();
        self.applied = None;
        self.job = Job::LrFind(Box::new(RangeTest::new(config, opened, folder, rows, rates)?));
        Ok(vec![Event::State { state: State::Preparing }])
    }

    pub(super) fn evaluate(&mut self, columns: BTreeMap<String, String>) -> Result<Vec<Event>> {
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

    pub(super) fn export(&mut self, format: ExportFormat, dtype: Option<ExportDType>, zip: bool) -> Result<Vec<Event>> {
        let applied = self.applied.as_mut().ok_or_else(nothing_trained)?;
        let exporting = Exporting::new(applied, format, dtype, zip)?;
        let started = exporting.started();
        self.job = Job::Export(Box::new(exporting));
        Ok(vec![Event::State { state: State::Applying }, started])
    }
}
