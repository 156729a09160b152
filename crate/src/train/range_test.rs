//! The learning-rate range test (Smith, arXiv:1506.01186): the rate rises from step to step, and where the loss falls
//! most steeply is a good rate to train with. Smoothing, divergence and suggestion are those of PyTorch Lightning's finder.

use std::rc::Rc;

use super::{Trainer, setup};
use crate::{
    adapter,
    batch::{Batcher, Sequences},
    config::{Config, Method},
    device::Opened,
    error::{Error, Result},
    event::{Event, LrCurve, LrPoint, Phase, State, Step},
    plan, platform,
    prepare::{Rows, Tokenizing},
    rng,
    weights::folder::{Folder, Loader},
};

/// Weight of the past in the smoothed loss.
const BETA: f64 = 0.98;
/// The test ends where the smoothed loss is so many times the best.
const DIVERGED: f64 = 4.0;
/// Points at either end that no suggestion is made from: the average is young, or the end is near.
const SKIP_BEGIN: usize = 10;
const SKIP_END: usize = 1;

const MOST_STEPS: u64 = 100_000;

/// Which rates, in how many steps.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    min: f64,
    max: f64,
    steps: u64,
}

impl Rates {
    /// # Errors
    /// Names what does not fit.
    pub fn new(min: f64, max: f64, steps: u64) -> Result<Self> {
        if !(min > 0.0 && min < max && max <= 10.0) {
            return Err(Error::config(
                "max_lr",
                "a rate above min_lr, both above 0 and at most 10",
                format!("{min} to {max}"),
            ));
        }
        // Fewer leave nothing between the ends that are skipped.
        let least = (SKIP_BEGIN + SKIP_END + 2) as u64;
        if steps < least || steps > MOST_STEPS {
            return Err(Error::config(
                "num_training_steps",
                format!("a whole number from {least} to {MOST_STEPS}"),
                steps,
            ));
        }
        Ok(Self { min, max, steps })
    }

    /// Of the step `step`, from 0: the same factor from each to the next.
    fn at(self, step: u64) -> f64 {
        self.min * (self.max / self.min).powf(step as f64 / (self.steps - 1) as f64)
    }
}

/// The losses so far.
#[derive(Debug, Default)]
struct Curve {
    points: Vec<LrPoint>,
    average: f64,
    best: f64,
}

impl Curve {
    /// True where the loss has run away, and the test ends.
    fn push(&mut self, learning_rate: f64, loss: f64) -> bool {
        if !loss.is_finite() {
            return true;
        }
        self.average = BETA * self.average + (1.0 - BETA) * loss;
        let count = self.points.len() as i32 + 1;
        let smoothed = self.average / (1.0 - BETA.powi(count));
        let diverged = count > 1 && smoothed > DIVERGED * self.best;
        if count == 1 || smoothed < self.best {
            self.best = smoothed;
        }
        self.points.push(LrPoint { learning_rate, loss, smoothed });
        diverged
    }

    /// The rate of the steepest descent by the rate's logarithm, in which all steps are as wide; none where it never falls.
    fn suggestion(&self) -> Option<f64> {
        let end = self.points.len().checked_sub(SKIP_END)?;
        let points = self.points.get(SKIP_BEGIN..end)?;
        let slope = |at: usize| {
            let (low, high) = (at.saturating_sub(1), (at + 1).min(points.len() - 1));
            (points[high].smoothed - points[low].smoothed) / (high - low).max(1) as f64
        };
        let steepest = (0..points.len()).min_by(|a, b| slope(*a).total_cmp(&slope(*b)))?;
        (points.len() > 1 && slope(steepest) < 0.0).then(|| points[steepest].learning_rate)
    }
}

enum Stage {
    Tokenize(Box<Tokenizing>),
    Load(Loader),
    Train,
    Done,
}

/// A test under way; the model it trains is thrown away.
pub struct RangeTest {
    config: Config,
    opened: Opened,
    folder: Rc<Folder>,
    outputs: usize,
    rates: Rates,
    stage: Stage,
    rng: rand_chacha::ChaCha8Rng,
    rows: Sequences,
    trainer: Option<Trainer>,
    batcher: Option<Batcher>,
    step: u64,
    tokens: usize,
    counted: usize,
    curve: Curve,
    diverged: bool,
    stopping: bool,
    started: f64,
}

impl RangeTest {
    /// # Errors
    /// A chat template that cannot be used.
    pub fn new(config: Config, opened: Opened, folder: Rc<Folder>, rows: Rows, rates: Rates) -> Result<Self> {
        Ok(Self {
            rng: rng::stream(config.training.seed, rng::INIT),
            outputs: plan::outputs(&config, &rows.labels),
            stage: Stage::Tokenize(Box::new(Tokenizing::for_training(
                &config,
                rows.shape,
                folder.clone(),
                rows.train,
            )?)),
            rates,
            rows: Sequences::default(),
            trainer: None,
            batcher: None,
            step: 0,
            tokens: 0,
            counted: 0,
            curve: Curve::default(),
            diverged: false,
            stopping: false,
            started: platform::now(),
            config,
            opened,
            folder,
        })
    }

    /// Ends the test with the points there are.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    pub fn done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// One unit of work.
    pub async fn advance(&mut self) -> Result<Vec<Event>> {
        self.opened.check()?;
        match &mut self.stage {
            Stage::Tokenize(_) => self.tokenize(),
            Stage::Load(_) => self.load().await,
            Stage::Train => self.train().await,
            Stage::Done => Ok(Vec::new()),
        }
    }

    fn tokenize(&mut self) -> Result<Vec<Event>> {
        let Stage::Tokenize(tokenizing) = &mut self.stage else { return Ok(Vec::new()) };
        let more = tokenizing.advance()?;
        let (done, total) = tokenizing.progress();
        let events = vec![Event::Progress { phase: Phase::Tokenizing, done, total }];
        if more {
            return Ok(events);
        }
        let load = Stage::Load(setup::loader(&self.config, &self.opened, &self.folder, self.outputs)?);
        let Stage::Tokenize(done) = std::mem::replace(&mut self.stage, load) else { return Ok(events) };
        self.rows = done.finish().sequences;
        if self.rows.is_empty() {
            return Err(Error::session("No training row has a token.", "Choose the column that holds the text."));
        }
        let max = plan::max_length(&self.config, self.folder.config());
        let pad = self.folder.tokenizer.pad_id();
        self.batcher = Some(Batcher::new(self.rows.len(), &self.config.training, max, pad));
        Ok(events)
    }

    async fn load(&mut self) -> Result<Vec<Event>> {
        let Stage::Load(loader) = &mut self.stage else { return Ok(Vec::new()) };
        let loaded = loader.advance(&mut self.rng).await?;
        let (done, total) = loader.progress();
        let mut events = vec![Event::Progress { phase: Phase::LoadingWeights, done, total }];
        if let Some(mut model) = loaded {
            match self.config.training.method {
                Method::Lora => adapter::inject(&mut model, &self.config.lora, &mut self.rng, &self.opened.device),
                Method::Full => model.params_mut().into_iter().for_each(|p| p.trainable = true),
            }
            self.trainer = Some(setup::trainer(&self.config, &self.opened, model));
            self.stage = Stage::Train;
            events.push(Event::State { state: State::Training });
        }
        Ok(events)
    }

    /// One micro-batch; after the last of a step the weights move at the step's rate.
    async fn train(&mut self) -> Result<Vec<Event>> {
        if self.stopping || self.diverged || self.step >= self.rates.steps {
            self.stage = Stage::Done;
            let curve = LrCurve {
                suggestion: self.curve.suggestion(),
                points: std::mem::take(&mut self.curve.points),
                diverged: self.diverged,
            };
            return Ok(vec![Event::LrCurve(curve), Event::State { state: State::Idle }]);
        }
        let (Some(trainer), Some(batcher)) = (&mut self.trainer, &mut self.batcher) else { return Ok(Vec::new()) };
        let Some(batch) = batcher.next(&self.rows) else { return Ok(Vec::new()) };
        let place = self.step << 16 | batch.micro as u64;
        let seed = self.config.training.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place;
        trainer.accumulate(&batch, 1.0 / batch.micros as f64, seed);
        self.tokens += batch.tokens;
        self.counted += batch.targets.counted(batch.seq);
        if !batch.ends_step() {
            return Ok(Vec::new());
        }
        let rate = self.rates.at(self.step);
        let outcome = trainer.outcome().await?;
        // A gradient beyond 16 bits says nothing about the rate.
        if trainer.overflowed(outcome).is_none() {
            trainer.apply(rate, self.config.training.max_grad_norm);
        }
        self.step += 1;
        self.diverged = self.curve.push(rate, outcome.loss);
        let seconds = platform::now() - self.started;
        Ok(vec![Event::Step(Step {
            step: self.step,
            total_steps: self.rates.steps,
            epoch: batcher.epoch(),
            loss: outcome.loss,
            accuracy: outcome.correct / std::mem::take(&mut self.counted).max(1) as f64,
            grad_norm: outcome.grad_norm,
            learning_rate: rate,
            tokens_per_second: self.tokens as f64 / seconds.max(1e-9),
            seconds,
        })])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(losses: impl Iterator<Item = f64>) -> (Curve, bool) {
        let rates = Rates::new(1e-6, 1.0, 100).expect("valid");
        let mut curve = Curve::default();
        let diverged = losses.take(100).zip(0..).any(|(loss, step)| curve.push(rates.at(step), loss));
        (curve, diverged)
    }

    #[test]
    fn rates_rise_by_one_factor() {
        let rates = Rates::new(1e-6, 1.0, 61).expect("valid");
        assert!((rates.at(0) - 1e-6).abs() < 1e-18 && (rates.at(60) - 1.0).abs() < 1e-12);
        assert!((rates.at(11) / rates.at(10) - 10f64.powf(0.1)).abs() < 1e-12);
        for (min, max, steps) in
            [(0.0, 1.0, 50), (1.0, 0.1, 50), (1e-6, 11.0, 50), (1e-6, f64::NAN, 50), (1e-6, 1.0, 12)]
        {
            assert!(Rates::new(min, max, steps).is_err(), "{min} {max} {steps}");
        }
    }

    /// The numbers come from tests/reference/range_test.py, which has Lightning's arithmetic in NumPy.
    #[test]
    fn smoothing_and_suggestion_are_lightnings() {
        // A cliff in the middle, then a rise.
        let loss = |step: i32| {
            let x = f64::from(step);
            2.0 - 1.5 / (1.0 + (-(x - 45.0) / 4.0).exp()) + ((x - 80.0) / 4.0).exp() + 0.05 * (x * 1.7).sin()
        };
        let (curve, diverged) = curve((0..).map(loss));
        assert!(diverged);
        let last = curve.points.last().expect("points");
        assert_eq!(curve.points.len(), REFERENCE_POINTS);
        assert!((last.smoothed - REFERENCE_SMOOTHED).abs() < 1e-9, "{}", last.smoothed);
        let suggestion = curve.suggestion().expect("it falls");
        assert!((suggestion / REFERENCE_SUGGESTION - 1.0).abs() < 1e-9, "{suggestion}");
    }

    const REFERENCE_POINTS: usize = 96;
    const REFERENCE_SMOOTHED: f64 = 5.0810048148446985;
    const REFERENCE_SUGGESTION: f64 = 0.0018738174228603828;

    #[test]
    fn a_curve_that_never_falls_suggests_nothing() {
        assert_eq!(curve((0..).map(|step| 1.0 + f64::from(step) / 100.0)).0.suggestion(), None);
        let (short, diverged) = curve([1.0, 0.9, f64::NAN, 0.5].into_iter());
        assert!(diverged && short.points.len() == 2 && short.suggestion().is_none());
        assert_eq!(curve(std::iter::empty()).0.suggestion(), None);
    }
}
