//! A run as a state machine: load, evaluate, train, evaluate. One `advance` does one unit of work.

mod measuring;
mod recovery;
mod saving;

pub use recovery::Fault;

use std::{collections::HashMap, rc::Rc};

use super::{
    Evaluator, Outcome, Trainer,
    checkpoint::{Fingerprints, Found, Progress, Saving},
    diagnosis::Facts,
    factor, setup,
};
use crate::{
    adapter,
    apply::Applied,
    batch::{Batcher, Sequences},
    config::{Config, Method},
    data::{Example, Shape},
    device::Opened,
    error::{Error, Result},
    event::{Action, Cause, Ended, Event, Hint, Metrics, Phase, Recovery, State, Step, Summary, Verdict, When},
    kernels,
    model::Param,
    plan,
    platform::{self, NamedFile},
    prepare::{Rows, Tokenized, Tokenizing},
    rng,
    storage::Storage,
    weights::folder::{Folder, Loader},
};

/// What `advance` does next.
enum Stage {
    Tokenize(Tokenizing),
    /// Which kernels the adapter does best.
    Calibrate,
    Load(Loader),
    Before(Evaluator),
    Train,
    During(Evaluator),
    Save(Box<Saving>),
    Recover(Recovery),
    /// The best checkpoint's weights come back.
    Best,
    After(Evaluator),
    Done,
}

/// What a run is made of.
pub struct Parts {
    pub run: String,
    pub config: Config,
    pub opened: Opened,
    pub folder: Rc<Folder>,
    pub rows: Rows,
    /// Weights of an adapter that training begins with; a new one is made where there is none.
    pub adapter: Option<NamedFile>,
    pub fingerprints: Fingerprints,
    /// Where checkpoints go.
    pub storage: Option<Rc<dyn Storage>>,
    /// What to go on from.
    pub found: Option<Found>,
    /// Weights of the base that are on the device already.
    pub shared: HashMap<String, Param>,
    /// Whether the adapter is measured first.
    pub calibrate: bool,
}

/// One run.
pub struct Session {
    run: String,
    config: Config,
    opened: Opened,
    folder: Rc<Folder>,
    adapter: Option<NamedFile>,
    labels: Vec<String>,
    shape: Shape,
    train_rows: Sequences,
    train_facts: Facts,
    held_out: Rc<Tokenized>,
    held_out_texts: Option<Vec<Example>>,
    fingerprints: Fingerprints,
    storage: Option<Rc<dyn Storage>>,
    stage: Stage,
    state: State,
    rng: rand_chacha::ChaCha8Rng,
    /// From the end of loading.
    trainer: Option<Trainer>,
    batcher: Option<Batcher>,
    total_steps: u64,
    /// What a checkpoint holds beside the tensors.
    progress: Progress,
    /// Restored when the model is loaded.
    found: Option<Found>,
    /// Taken by the first load: another device has nothing of them.
    shared: HashMap<String, Param>,
    calibrate: bool,
    /// What the micro-batches since the last step held.
    between_steps: bool,
    counted: usize,
    tokens: usize,
    /// Since the last logged step.
    since: Since,
    started: f64,
    warmed: bool,
    stopping: bool,
    ended: Ended,
    /// The last step that was measured, and the last one that was saved (or could not be).
    measured: u64,
    saved: saving::Last,
    /// The step whose weights `Best` brought back.
    best_step: Option<u64>,
    tries: recovery::Tries,
    after: Option<Metrics>,
    verdict: Option<Verdict>,
    hints: Vec<Hint>,
    faults: Vec<Fault>,
}

/// Tokens and seconds since the last logged step.
struct Since {
    tokens: usize,
    time: f64,
}

impl Session {
    /// # Errors
    /// A chat template that cannot be used.
    pub fn new(parts: Parts) -> Result<Self> {
        let Parts { run, config, opened, folder, rows, adapter, fingerprints, storage, found, shared, calibrate } =
            parts;
        let (shape, train_facts) = (rows.shape, Facts::of(&rows));
        let progress = found.as_ref().map(|found| found.saved.progress.clone()).unwrap_or_default();
        let now = platform::now();
        Ok(Self {
            rng: rng::stream(config.training.seed, rng::INIT),
            stage: Stage::Tokenize(Tokenizing::for_training(&config, shape, folder.clone(), rows.train)?),
            held_out_texts: Some(rows.validation),
            labels: rows.labels,
            shape,
            train_facts,
            train_rows: Sequences::default(),
            held_out: Rc::default(),
            state: State::Preparing,
            trainer: None,
            batcher: None,
            total_steps: 0,
            between_steps: true,
            counted: 0,
            tokens: 0,
            since: Since { tokens: 0, time: 0.0 },
            started: now - progress.seconds,
            warmed: false,
            stopping: false,
            ended: Ended::Finished,
            measured: progress.step,
            saved: saving::Last { step: progress.step, time: now, took: 0.0 },
            best_step: None,
            tries: recovery::Tries::default(),
            after: None,
            verdict: None,
            hints: Vec::new(),
            faults: Vec::new(),
            progress,
            run,
            config,
            opened,
            folder,
            adapter,
            fingerprints,
            storage,
            found,
            shared,
            calibrate,
        })
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Between steps: `advance` is not to be called until [`Self::resume`].
    pub fn pause(&mut self) -> Result<Event> {
        match self.state {
            State::Training => Ok(self.enter(State::Paused)),
            state => Err(wrong_state("pause", state)),
        }
    }

    pub fn resume(&mut self) -> Result<Event> {
        match self.state {
            State::Paused => {
                self.since.time = platform::now();
                Ok(self.enter(State::Training))
            }
            state => Err(wrong_state("resume", state)),
        }
    }

    /// Ends training after the step that is under way; the result is still evaluated.
    pub fn stop(&mut self) -> Option<Event> {
        self.stopping = true;
        (self.state == State::Paused).then(|| self.enter(State::Training))
    }

    fn enter(&mut self, state: State) -> Event {
        self.state = state;
        Event::State { state }
    }

    /// One unit of work. Trouble that the policy knows a way out of is an event, not an error.
    pub async fn advance(&mut self) -> Result<Vec<Event>> {
        match self.work().await {
            Ok(events) => Ok(events),
            Err(error) => self.recover(error),
        }
    }

    async fn work(&mut self) -> Result<Vec<Event>> {
        self.inject()?;
        // Text becomes tokens without the device, and recovery opens another one.
        if !matches!(self.stage, Stage::Tokenize(_) | Stage::Recover(_)) {
            self.opened.check()?;
        }
        match &mut self.stage {
            Stage::Tokenize(_) => self.tokenize(),
            Stage::Calibrate => self.calibrate().await,
            Stage::Load(_) => self.load().await,
            Stage::Before(_) | Stage::During(_) | Stage::After(_) => self.evaluate().await,
            Stage::Train => self.train().await,
            Stage::Save(_) => self.save().await,
            Stage::Recover(_) => self.go_back().await,
            Stage::Best => self.load_best().await,
            Stage::Done => Ok(Vec::new()),
        }
    }

    fn tokenize(&mut self) -> Result<Vec<Event>> {
        let Stage::Tokenize(tokenizing) = &mut self.stage else { return Ok(Vec::new()) };
        let more = tokenizing.advance()?;
        let (done, total) = tokenizing.progress();
        let mut events = vec![Event::Progress { phase: Phase::Tokenizing, done, total }];
        if more {
            return Ok(events);
        }
        // First the training rows, then the held-out ones.
        let next = match self.held_out_texts.take() {
            Some(rows) => Stage::Tokenize(Tokenizing::new(&self.config, self.shape, self.folder.clone(), rows)?),
            None if self.calibrate => Stage::Calibrate,
            None => Stage::Load(self.loader()?),
        };
        let last = !matches!(next, Stage::Tokenize(_));
        let Stage::Tokenize(done) = std::mem::replace(&mut self.stage, next) else { return Ok(events) };
        let tokenized = done.finish();
        events.extend(tokenized.warnings.iter().map(|message| Event::Warning { message: message.clone() }));
        if tokenized.sequences.is_empty() {
            let what = if last { "held-out" } else { "training" };
            return Err(Error::session(
                format!("No {what} row has a token."),
                "Choose the column that holds the text.",
            ));
        }
        if last {
            self.held_out = Rc::new(tokenized);
            return Ok(events);
        }
        self.train_rows = tokenized.sequences;
        let max = plan::max_length(&self.config, self.folder.config());
        let training = &self.config.training;
        let batcher = Batcher::new(self.train_rows.len(), training, max, self.folder.tokenizer.pad_id());
        self.total_steps = batcher.total_steps(training);
        self.batcher = Some(batcher);
        Ok(events)
    }

    /// Before anything is trained with them: sums differ with the kernels, if only in their last digits.
    async fn calibrate(&mut self) -> Result<Vec<Event>> {
        let found = kernels::calibrate(&self.opened).await?;
        self.stage = Stage::Load(self.loader()?);
        Ok(vec![Event::Calibrated(found)])
    }

    fn loader(&mut self) -> Result<Loader> {
        let outputs = plan::outputs(&self.config, &self.labels);
        let loader = setup::loader(&self.config, &self.opened, &self.folder, outputs)?;
        Ok(loader.sharing(std::mem::take(&mut self.shared)))
    }

    async fn load(&mut self) -> Result<Vec<Event>> {
        let Stage::Load(loader) = &mut self.stage else { return Ok(Vec::new()) };
        let loaded = loader.advance(&mut self.rng).await?;
        let (done, total) = loader.progress();
        let mut events = vec![Event::Progress { phase: Phase::LoadingWeights, done, total }];
        let Some(mut model) = loaded else { return Ok(events) };
        let (lora, device) = (&self.config.lora, &self.opened.device);
        match (self.config.training.method, &self.adapter) {
            (Method::Lora, Some(file)) => {
                adapter::load(&mut model, lora, &file.name, file.blob.as_ref(), device).await?;
            }
            (Method::Lora, None) => adapter::inject(&mut model, lora, &mut self.rng, device),
            (Method::Full, _) => model.params_mut().into_iter().for_each(|p| p.trainable = true),
        }
        let mut trainer = setup::trainer(&self.config, &self.opened, model);
        let found = self.found.take();
        if let Some(found) = &found {
            found.restore(&mut trainer).await?;
        }
        self.trainer = Some(trainer);
        if self.state == State::Recovering && self.progress.before.is_some() {
            events.extend(self.go_on());
        } else if let Some(found) = found {
            // The page's measurement before training, which was in another sitting.
            events.extend(self.progress.before.clone().map(|before| Event::Evaluation(Box::new(before))));
            events.push(Event::Resumed(found.resumed));
            events.extend(self.go_on());
        } else {
            self.stage = Stage::Before(self.evaluator(When::Before)?);
            events.push(self.enter(State::Evaluating));
        }
        Ok(events)
    }

    /// Training begins, or goes on at the place in the data that `progress` has.
    fn go_on(&mut self) -> Vec<Event> {
        if let Some(batcher) = &mut self.batcher {
            batcher.resume(self.progress.cursor);
        }
        (self.between_steps, self.counted, self.tokens) = (true, 0, 0);
        self.since = Since { tokens: 0, time: platform::now() };
        self.saved = saving::Last { step: self.progress.step, time: platform::now(), took: 0.0 };
        self.measured = self.progress.step;
        self.stage = Stage::Train;
        let mut events = vec![self.enter(State::Training)];
        if self.opened.is_gpu() && !self.warmed {
            events.push(Event::Progress { phase: Phase::WarmingUp, done: 0, total: 1 });
        }
        events
    }

    /// What is due between two steps, before the next one.
    fn between(&mut self) -> Result<Option<Stage>> {
        let training = &self.config.training;
        let step = self.progress.step;
        let over = training.max_minutes.is_some_and(|minutes| self.progress.seconds >= minutes * 60.0);
        if self.stopping {
            self.ended = Ended::Stopped;
        } else if step < self.total_steps && over && self.ended == Ended::Finished {
            self.ended = Ended::TimeBudget;
        }
        if step >= self.total_steps || self.ended != Ended::Finished {
            if let Some(saving) = self.last_saving() {
                return Ok(Some(saving));
            }
            return self.ending().map(Some);
        }
        if step > self.measured && training.eval_steps.is_some_and(|every| step.is_multiple_of(every)) {
            return Ok(Some(Stage::During(self.evaluator(When::During)?)));
        }
        Ok(self.due().then(|| self.saving(false)).flatten())
    }

    fn ending(&self) -> Result<Stage> {
        let best = &self.progress.best;
        let load = self.config.training.load_best_model_at_end
            && self.best_step.is_none()
            && best.value.is_some()
            && best.step != self.progress.step;
        Ok(if load { Stage::Best } else { Stage::After(self.evaluator(When::After)?) })
    }

    /// One micro-batch, and the optimizer's step after the last one of a step.
    async fn train(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        if self.between_steps
            && let Some(next) = self.between()?
        {
            if matches!(next, Stage::After(_) | Stage::During(_)) {
                events.push(self.enter(State::Evaluating));
            }
            self.stage = next;
            return Ok(events);
        }
        let clock = platform::now();
        let poison = self.poison();
        let (Some(trainer), Some(batcher)) = (&mut self.trainer, &mut self.batcher) else { return Ok(events) };
        let Some(batch) = batcher.next(&self.train_rows) else { return Ok(events) };
        // From the place in the data alone.
        let place = self.progress.step << 16 | batch.micro as u64;
        let seed = self.config.training.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place;
        for (at, (part, share)) in batch.split(self.progress.split).iter().enumerate() {
            trainer.accumulate(part, poison * share / batch.micros as f64, seed.wrapping_add((at as u64) << 48));
        }
        self.tokens += batch.tokens;
        self.counted += batch.targets.counted(batch.seq);
        self.between_steps = batch.ends_step();
        if self.between_steps {
            self.step(&mut events).await?;
        }
        self.progress.seconds += (platform::now() - clock).max(0.0);
        Ok(events)
    }

    /// The optimizer's step; a batch whose loss or gradient is no number is left out.
    async fn step(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let (Some(trainer), Some(batcher)) = (&mut self.trainer, &self.batcher) else { return Ok(()) };
        let outcome = trainer.outcome().await?;
        let training = &self.config.training;
        let step = self.progress.step;
        let warmup = training.warmup(self.total_steps);
        let rate = training.learning_rate
            * factor(training.lr_scheduler_type, step, warmup, self.total_steps)
            * self.progress.learning_rate_factor;
        let overflow = trainer.overflowed(outcome);
        let finite = if overflow.is_some() { Ok(()) } else { finite(outcome, step + 1) };
        match (&finite, overflow) {
            (Ok(()), None) => trainer.apply(rate, training.max_grad_norm),
            _ => trainer.discard(),
        }
        self.progress.scaler = trainer.scaler;
        self.progress.step += 1;
        self.progress.cursor = batcher.cursor();
        self.progress.optimizer_steps = trainer.optimizer_steps();
        self.since.tokens += std::mem::take(&mut self.tokens);
        let counted = std::mem::take(&mut self.counted);
        if let Some(scale) = overflow {
            // Nothing is wrong: so the scale finds its place.
            let message =
                format!("Step {} was left out: its gradient went beyond 16 bits. Loss scale: {scale}.", step + 1);
            events.push(Event::Warning { message });
            return Ok(());
        }
        if let Err(error) = finite {
            events.push(Event::Recovery(self.skip(error)?));
            return Ok(());
        }
        self.tries.skipped = 0;
        if !std::mem::replace(&mut self.warmed, true) && self.opened.is_gpu() {
            events.push(Event::Progress { phase: Phase::WarmingUp, done: 1, total: 1 });
        }
        let step = self.progress.step;
        if step == 1 || step.is_multiple_of(self.config.training.logging_steps) || step == self.total_steps {
            events.push(Event::Step(self.report(outcome, counted, rate)));
        }
        if let Some((smoothed, best)) = self.progress.watch.add(outcome.loss, &self.config.recovery) {
            return Err(Error::Diverging { smoothed, best, step });
        }
        Ok(())
    }

    fn report(&mut self, outcome: Outcome, counted: usize, learning_rate: f64) -> Step {
        let now = platform::now();
        let seconds = (now - self.since.time).max(1e-9);
        let tokens = std::mem::take(&mut self.since.tokens);
        self.since.time = now;
        Step {
            step: self.progress.step,
            total_steps: self.total_steps,
            epoch: self.batcher.as_ref().map_or(0.0, Batcher::epoch),
            loss: outcome.loss,
            accuracy: outcome.correct / counted.max(1) as f64,
            grad_norm: outcome.grad_norm,
            learning_rate,
            tokens_per_second: tokens as f64 / seconds,
            seconds: now - self.started,
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            completed: self.progress.step >= self.total_steps,
            ended: self.ended,
            steps: self.progress.step,
            seconds: platform::now() - self.started,
            before: self.progress.before.as_ref().map(|before| before.metrics.clone()),
            after: self.after.clone(),
            rows: self.held_out.sequences.len() as u64,
            best_step: self.best_step,
            recoveries: self.progress.recoveries.clone(),
            verdict: self.verdict.clone(),
            hints: self.hints.clone(),
        }
    }

    /// What a finished or stopped run leaves, ready to be used.
    pub fn into_result(self) -> Option<Applied> {
        let summary = Some(self.summary());
        Some(Applied {
            model: self.trainer?.model,
            folder: self.folder,
            config: self.config,
            opened: self.opened,
            labels: self.labels,
            summary,
            data: self.fingerprints.data,
            fingerprint: self.fingerprints.model,
            name: None,
        })
    }
}

fn finite(outcome: Outcome, step: u64) -> Result<()> {
    for (what, value) in [("the loss", outcome.loss), ("the gradient's norm", outcome.grad_norm)] {
        if !value.is_finite() {
            return Err(Error::NotFinite { what, value, step });
        }
    }
    Ok(())
}

fn wrong_state(command: &str, state: State) -> Error {
    let message = format!("there is nothing to {command}: the run is {state:?}").to_lowercase();
    Error::session(message, "Pause works while a run trains, resume while it is paused.")
}
