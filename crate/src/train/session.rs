//! A run as a state machine: load, evaluate, train, evaluate. One `advance` does one unit of work.

use std::rc::Rc;

use super::{AdamWConfig, Evaluator, Outcome, Trainer, factor};
use crate::{
    adapter,
    apply::Applied,
    batch::{Batcher, Sequences},
    config::{Config, Method},
    data::Example,
    device::Opened,
    error::{Error, Result},
    event::{Event, Metrics, Phase, State, Step, Summary, When},
    plan,
    platform::{self, NamedFile},
    prepare::{self, Rows, Tokenizing},
    rng,
    weights::folder::{Folder, Loader},
};

/// On a GPU the host must not run ahead of the device for longer than this many steps.
const STEPS_AHEAD: u64 = 8;

/// Held-out texts kept for showing the model's answers.
const SHOWN: usize = 6;

/// What `advance` does next.
enum Stage {
    Tokenize(Tokenizing),
    Load(Loader),
    Before(Evaluator),
    Train,
    After(Evaluator),
    Done,
}

/// One run.
pub struct Session {
    config: Config,
    opened: Opened,
    folder: Rc<Folder>,
    adapter: Option<NamedFile>,
    labels: Vec<String>,
    /// Texts of the first held-out rows, for showing.
    texts: Vec<String>,
    train_rows: Sequences,
    held_out: Sequences,
    held_out_texts: Option<Vec<Example>>,
    stage: Stage,
    state: State,
    rng: rand_chacha::ChaCha8Rng,
    /// From the end of loading.
    trainer: Option<Trainer>,
    batcher: Option<Batcher>,
    total_steps: u64,
    step: u64,
    /// What the micro-batches since the last step held.
    between_steps: bool,
    counted: usize,
    tokens: usize,
    /// Since the last logged step.
    since: Since,
    started: f64,
    warmed: bool,
    stopping: bool,
    before: Option<Metrics>,
    after: Option<Metrics>,
}

/// Tokens and seconds since the last logged step.
struct Since {
    tokens: usize,
    time: f64,
}

impl Session {
    /// `adapter` holds the weights of the one that training goes on from; a new one is made where there is none.
    pub fn new(config: Config, opened: Opened, folder: Rc<Folder>, rows: Rows, adapter: Option<NamedFile>) -> Self {
        let texts = rows.validation.iter().take(SHOWN).map(|e| e.text.clone()).collect();
        Self {
            rng: rng::stream(config.training.seed, rng::INIT),
            stage: Stage::Tokenize(Tokenizing::new(&config, folder.clone(), rows.train)),
            held_out_texts: Some(rows.validation),
            labels: rows.labels,
            texts,
            train_rows: Sequences::default(),
            held_out: Sequences::default(),
            state: State::Preparing,
            trainer: None,
            batcher: None,
            total_steps: 0,
            step: 0,
            between_steps: true,
            counted: 0,
            tokens: 0,
            since: Since { tokens: 0, time: 0.0 },
            started: platform::now(),
            warmed: false,
            stopping: false,
            before: None,
            after: None,
            config,
            opened,
            folder,
            adapter,
        }
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

    /// One unit of work.
    pub async fn advance(&mut self) -> Result<Vec<Event>> {
        self.opened.check()?;
        match &mut self.stage {
            Stage::Tokenize(_) => self.tokenize(),
            Stage::Load(_) => self.load().await,
            Stage::Before(_) | Stage::After(_) => self.evaluate().await,
            Stage::Train => self.train().await,
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
            Some(rows) => Stage::Tokenize(Tokenizing::new(&self.config, self.folder.clone(), rows)),
            None => {
                let outputs = plan::outputs(&self.config, &self.labels);
                let head = plan::head(self.config.task);
                let weights = self.folder.weights.clone();
                let loader = Loader::new(weights, head, outputs, self.opened.device.clone(), self.config.packing());
                let full = self.config.training.method == Method::Full;
                Stage::Load(if full { loader } else { loader.within(self.opened.binding()) })
            }
        };
        let last = matches!(next, Stage::Load(_));
        let Stage::Tokenize(done) = std::mem::replace(&mut self.stage, next) else { return Ok(events) };
        let sequences = done.finish();
        if sequences.is_empty() {
            let what = if last { "held-out" } else { "training" };
            return Err(Error::session(
                format!("No {what} row has a token."),
                "Choose the column that holds the text.",
            ));
        }
        if last {
            self.held_out = sequences;
            return Ok(events);
        }
        self.train_rows = sequences;
        let max = plan::max_length(&self.config, self.folder.config());
        let training = &self.config.training;
        let batcher = Batcher::new(self.train_rows.len(), training, max, self.folder.tokenizer.pad_id());
        self.total_steps = batcher.total_steps(training);
        self.batcher = Some(batcher);
        events.push(Event::State { state: State::Preparing });
        Ok(events)
    }

    async fn load(&mut self) -> Result<Vec<Event>> {
        let Stage::Load(loader) = &mut self.stage else { return Ok(Vec::new()) };
        let loaded = loader.advance(&mut self.rng).await?;
        let (done, total) = loader.progress();
        let mut events = vec![Event::Progress { phase: Phase::LoadingWeights, done, total }];
        if let Some(mut model) = loaded {
            let (lora, device) = (&self.config.lora, &self.opened.device);
            match (self.config.training.method, self.adapter.take()) {
                (Method::Lora, Some(file)) => {
                    adapter::load(&mut model, lora, &file.name, file.blob.as_ref(), device).await?;
                }
                (Method::Lora, None) => adapter::inject(&mut model, lora, &mut self.rng, device),
                (Method::Full, _) => model.params_mut().into_iter().for_each(|p| p.trainable = true),
            }
            let training = &self.config.training;
            let optimizer = AdamWConfig {
                beta1: training.adam_beta1,
                beta2: training.adam_beta2,
                epsilon: training.adam_epsilon,
                weight_decay: training.weight_decay,
            };
            self.trainer =
                Some(Trainer::new(model, optimizer, self.opened.device.clone(), training.gradient_checkpointing));
            self.stage = Stage::Before(self.evaluator(When::Before));
            events.push(self.enter(State::Evaluating));
        }
        Ok(events)
    }

    fn evaluator(&self, when: When) -> Evaluator {
        let batches = prepare::evaluation(&self.config, &self.folder, &self.held_out);
        Evaluator::new(when, self.step, self.labels.clone(), batches)
    }

    async fn evaluate(&mut self) -> Result<Vec<Event>> {
        let (Stage::Before(evaluator) | Stage::After(evaluator), Some(trainer)) = (&mut self.stage, &self.trainer)
        else {
            return Ok(Vec::new());
        };
        let more = evaluator.advance(&trainer.model, &self.opened.device).await?;
        let (done, total) = evaluator.progress();
        let mut events = vec![Event::Progress { phase: Phase::Evaluating, done, total }];
        if more {
            return Ok(events);
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        if let Stage::Before(evaluator) = stage {
            let evaluation = evaluator.finish(&self.texts)?;
            self.before = Some(evaluation.metrics.clone());
            events.push(Event::Evaluation(evaluation));
            self.stage = Stage::Train;
            self.since = Since { tokens: 0, time: platform::now() };
            events.push(self.enter(State::Training));
            if self.opened.is_gpu() {
                events.push(Event::Progress { phase: Phase::WarmingUp, done: 0, total: 1 });
            }
        } else if let Stage::After(evaluator) = stage {
            let evaluation = evaluator.finish(&self.texts)?;
            self.after = Some(evaluation.metrics.clone());
            events.push(Event::Evaluation(evaluation));
            events.push(self.enter(State::Succeeded));
            events.push(Event::Finished(self.summary()));
        }
        Ok(events)
    }

    /// One micro-batch, and the optimizer's step after the last one of a step.
    async fn train(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        if self.between_steps && (self.stopping || self.step >= self.total_steps) {
            self.stage = Stage::After(self.evaluator(When::After));
            events.push(self.enter(State::Evaluating));
            return Ok(events);
        }
        let (Some(trainer), Some(batcher)) = (&mut self.trainer, &mut self.batcher) else { return Ok(events) };
        let Some(batch) = batcher.next(&self.train_rows) else { return Ok(events) };
        // From the place in the data alone.
        let place = self.step << 16 | batch.micro as u64;
        let seed = self.config.training.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place;
        trainer.accumulate(&batch, 1.0 / batch.micros as f64, seed);
        self.tokens += batch.tokens;
        self.counted += batch.targets.counted(batch.seq);
        self.between_steps = batch.ends_step();
        if !self.between_steps {
            return Ok(events);
        }
        let training = &self.config.training;
        let warmup = training.warmup(self.total_steps);
        let rate = training.learning_rate * factor(training.lr_scheduler_type, self.step, warmup, self.total_steps);
        let pending = trainer.step(rate, training.max_grad_norm);
        self.step += 1;
        self.since.tokens += std::mem::take(&mut self.tokens);
        let counted = std::mem::take(&mut self.counted);
        let logged =
            self.step == 1 || self.step.is_multiple_of(training.logging_steps) || self.step == self.total_steps;
        if logged || self.step.is_multiple_of(STEPS_AHEAD) {
            let outcome = pending.read().await?;
            self.check_finite(outcome)?;
            if logged {
                events.push(Event::Step(self.report(outcome, counted, rate)));
            }
        }
        if !std::mem::replace(&mut self.warmed, true) && self.opened.is_gpu() {
            events.push(Event::Progress { phase: Phase::WarmingUp, done: 1, total: 1 });
        }
        Ok(events)
    }

    fn check_finite(&self, outcome: Outcome) -> Result<()> {
        for (what, value) in [("the loss", outcome.loss), ("the gradient's norm", outcome.grad_norm)] {
            if !value.is_finite() {
                return Err(Error::NotFinite { what, value, step: self.step });
            }
        }
        Ok(())
    }

    fn report(&mut self, outcome: Outcome, counted: usize, learning_rate: f64) -> Step {
        let now = platform::now();
        let seconds = (now - self.since.time).max(1e-9);
        let tokens = std::mem::take(&mut self.since.tokens);
        self.since.time = now;
        Step {
            step: self.step,
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
            completed: self.step >= self.total_steps,
            steps: self.step,
            seconds: platform::now() - self.started,
            before: self.before.clone(),
            after: self.after.clone(),
            rows: self.held_out.len() as u64,
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
            data: Vec::new(),
        })
    }
}

fn wrong_state(command: &str, state: State) -> Error {
    let message = format!("there is nothing to {command}: the run is {state:?}").to_lowercase();
    Error::session(message, "Pause works while a run trains, resume while it is paused.")
}
