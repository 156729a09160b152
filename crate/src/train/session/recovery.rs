//! What a run does about trouble: which causes it knows, what it changes, and when it gives up.

use super::*;
use crate::{device, train::checkpoint};

/// Trouble made on purpose, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Once, the loss and all gradients of this step (from 0) are NaN.
    NotFinite { step: u64 },
    /// From this step on, while micro-batches are in fewer parts than this.
    OutOfMemory { step: u64, parts: usize },
    /// Once, at this step.
    DeviceLost { step: u64 },
}

/// Tries since the run last got further than where it failed.
#[derive(Default)]
pub struct Tries {
    pub skipped: u64,
    attempts: u64,
    failed_at: u64,
    /// Where the last try began.
    back_to: Option<u64>,
    /// In words, for the message when all of them are used up.
    tried: Vec<String>,
}

impl Tries {
    /// A checkpoint beyond the failure: what comes now is trouble of its own.
    pub fn saved(&mut self, step: u64) {
        if step > self.failed_at {
            (self.attempts, self.tried, self.back_to) = (0, Vec::new(), None);
        }
    }
}

impl Session {
    /// For tests.
    pub fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// What the loss is multiplied by.
    pub(super) fn poison(&mut self) -> f64 {
        let here = Fault::NotFinite { step: self.progress.step };
        match self.faults.iter().position(|fault| *fault == here) {
            Some(at) => {
                self.faults.remove(at);
                f64::NAN
            }
            None => 1.0,
        }
    }

    pub(super) fn inject(&mut self) -> Result<()> {
        if matches!(self.stage, Stage::Tokenize(_) | Stage::Recover(_)) {
            return Ok(());
        }
        let now = self.progress.step;
        if let Some(at) = self.faults.iter().position(|fault| *fault == Fault::DeviceLost { step: now }) {
            self.faults.remove(at);
            self.opened.lose();
        }
        let training = matches!(self.stage, Stage::Train);
        let full = |fault: &Fault| match fault {
            Fault::OutOfMemory { step, parts } => training && now >= *step && self.progress.split < *parts,
            _ => false,
        };
        if self.faults.iter().any(full) {
            return Err(Error::OutOfMemory { message: "made for a test".into() });
        }
        Ok(())
    }

    /// A batch is left out; an error once there were too many in a row.
    pub(super) fn skip(&mut self, error: Error) -> Result<Recovery> {
        self.tries.skipped += 1;
        let policy = &self.config.recovery;
        if policy.max_retries == 0 || self.tries.skipped > policy.max_skipped_batches {
            return Err(error);
        }
        let recovery = self.describe(Cause::NotFinite, Action::SkipBatch, error.to_string());
        self.progress.recoveries.push(recovery.clone());
        Ok(recovery)
    }

    fn describe(&self, cause: Cause, action: Action, message: String) -> Recovery {
        let counts = action != Action::SkipBatch;
        Recovery {
            step: self.progress.step,
            cause,
            message,
            action,
            back_to: None,
            attempt: if counts { self.tries.attempts } else { 0 },
            max_attempts: if counts { self.config.recovery.max_retries } else { 0 },
            learning_rate_factor: self.progress.learning_rate_factor,
            split: self.progress.split,
        }
    }

    /// An engine before this one died for want of memory, `times` times since the checkpoint: what it could not say itself.
    /// Micro-batches are in twice as many parts for each time, as far as they have rows.
    pub fn smaller(&mut self, times: u32) -> Option<Event> {
        let before = self.progress.split;
        for _ in 0..times {
            if self.progress.split >= self.config.training.batch_size {
                break;
            }
            self.progress.split *= 2;
        }
        if self.progress.split == before {
            return None;
        }
        let message = "The engine before this one ran out of memory.".to_owned();
        let told = self.describe(Cause::OutOfMemory, Action::SmallerMicroBatch, message);
        let recovery = Recovery { back_to: Some(self.progress.step), max_attempts: 0, ..told };
        self.progress.recoveries.push(recovery.clone());
        Some(Event::Recovery(recovery))
    }

    /// Decides what to do about an error; gives it back where there is nothing.
    pub(super) fn recover(&mut self, error: Error) -> Result<Vec<Event>> {
        let (cause, action) = match &error {
            Error::NotFinite { .. } => (Cause::NotFinite, Action::LowerLearningRate),
            Error::Diverging { .. } => (Cause::Diverging, Action::LowerLearningRate),
            Error::OutOfMemory { .. } => (Cause::OutOfMemory, Action::SmallerMicroBatch),
            Error::DeviceLost => (Cause::DeviceLost, Action::NewDevice),
            // A read that fails is often the first that is heard of a lost one.
            Error::Device { .. } if self.opened.is_gpu() => (Cause::DeviceLost, Action::NewDevice),
            _ => return Err(error),
        };
        // Before the first step there is nothing that a lower rate or a smaller batch would change.
        let begun = matches!(
            self.stage,
            Stage::Train | Stage::Save(_) | Stage::During(_) | Stage::Best | Stage::After(_) | Stage::Recover(_)
        );
        let recovering = self.state == State::Recovering;
        if !begun && !recovering && cause != Cause::DeviceLost {
            return Err(error);
        }
        let policy = &self.config.recovery;
        let give_up =
            |error: Error, tried: &[String]| Error::Unrecovered { cause: Box::new(error), tried: tried.to_vec() };
        if policy.max_retries == 0 {
            return Err(error);
        }
        if self.tries.attempts >= policy.max_retries {
            return Err(give_up(error, &self.tries.tried));
        }
        let progress = &mut self.progress;
        let tried = match action {
            Action::LowerLearningRate => {
                progress.learning_rate_factor *= policy.learning_rate_factor;
                let rate = self.config.training.learning_rate * progress.learning_rate_factor;
                format!("a learning rate of {rate:.2e}")
            }
            Action::SmallerMicroBatch => {
                if progress.split >= self.config.training.batch_size {
                    return Err(give_up(error, &self.tries.tried));
                }
                progress.split *= 2;
                let rows = self.config.training.batch_size.div_ceil(progress.split);
                format!("micro-batches of {rows} rows")
            }
            _ => "the device opened anew".to_owned(),
        };
        self.tries.attempts += 1;
        self.tries.skipped = 0;
        self.tries.failed_at = self.tries.failed_at.max(progress.step);
        self.tries.tried.push(tried);
        let mut events = Vec::new();
        if self.state != State::Recovering {
            events.push(self.enter(State::Recovering));
        }
        self.stage = Stage::Recover(self.describe(cause, action, error.to_string()));
        Ok(events)
    }

    /// To the last good checkpoint, or the beginning where there is none.
    pub(super) async fn go_back(&mut self) -> Result<Vec<Event>> {
        let Stage::Recover(recovery) = &self.stage else { return Ok(Vec::new()) };
        let mut recovery = recovery.clone();
        if recovery.cause == Cause::DeviceLost {
            self.trainer = None;
            self.opened.lose();
            self.opened = device::open(self.config.device).await?.0;
            self.warmed = false;
        }
        // A checkpoint from which it failed again was not good: the trouble had begun before it.
        let bad = match recovery.action {
            Action::LowerLearningRate => self.tries.back_to,
            _ => None,
        };
        let found = match &self.storage {
            Some(storage) => {
                if let Some(bad) = bad {
                    checkpoint::discard(storage.as_ref(), bad).await?;
                }
                checkpoint::latest(storage.as_ref(), None).await?
            }
            None => None,
        };
        self.tries.back_to = found.as_ref().map(|found| found.resumed.step);
        let back = found.as_ref().map(|found| found.saved.progress.clone()).unwrap_or_default();
        recovery.back_to = Some(back.step);
        self.progress.recoveries.push(recovery.clone());
        // What was learnt about the run stays.
        let was = std::mem::take(&mut self.progress);
        self.progress = Progress {
            before: was.before,
            outcomes: was.outcomes,
            recoveries: was.recoveries,
            learning_rate_factor: was.learning_rate_factor,
            split: was.split,
            seconds: was.seconds,
            ..back
        };
        (self.ended, self.best_step) = (Ended::Finished, None);
        let mut events = vec![Event::Recovery(recovery)];
        match (found, &mut self.trainer) {
            (Some(found), Some(trainer)) => {
                found.restore(trainer).await?;
                events.extend(self.go_on());
            }
            (found, _) => {
                self.trainer = None;
                self.found = found;
                self.rng = rng::stream(self.config.training.seed, rng::INIT);
                self.stage = Stage::Load(self.loader()?);
            }
        }
        Ok(events)
    }
}
