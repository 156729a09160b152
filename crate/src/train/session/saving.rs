//! When a run saves, and what it does where it cannot.

use super::*;
use crate::train::checkpoint::{self, Saved};

/// Checkpoints that a run of unknown length makes at least, and seconds after which one is due in any case.
const PARTS: u64 = 10;
const EVERY: f64 = 60.0;
/// Saving may take this part of the time at most.
const SHARE: f64 = 0.1;

/// The last step that was saved, when that was and how long it took.
pub struct Last {
    pub step: u64,
    pub time: f64,
    pub took: f64,
}

impl Session {
    /// Whether a checkpoint is due after this step.
    pub(super) fn due(&self) -> bool {
        let since = self.progress.step.saturating_sub(self.saved.step);
        if since == 0 {
            return false;
        }
        match self.config.training.save_steps {
            Some(0) => false,
            Some(every) => self.progress.step.is_multiple_of(every),
            None => {
                let seconds = platform::now() - self.saved.time;
                let due = since >= self.total_steps.div_ceil(PARTS) || seconds >= EVERY;
                due && seconds >= self.saved.took / SHARE
            }
        }
    }

    /// The last step is saved too: what comes after it may fail as well.
    pub(super) fn last_saving(&mut self) -> Option<Stage> {
        let new = self.progress.step > self.saved.step;
        if new && self.config.training.save_steps != Some(0) { self.saving(false) } else { None }
    }

    /// None without a storage, and while the loss is suspicious: what recovery comes back to must be good.
    pub(super) fn saving(&mut self, best: bool) -> Option<Stage> {
        self.storage.as_ref()?;
        if self.progress.watch.suspicious() {
            return None;
        }
        let trainer = self.trainer.as_mut()?;
        if best {
            self.progress.best_file = Some(checkpoint::file_name(self.progress.step));
        }
        self.saved.time = platform::now();
        let saved = Saved::new(&self.run, &self.config, &self.fingerprints, &self.progress);
        Some(Stage::Save(Box::new(Saving::new(trainer, &saved, best))))
    }

    pub(super) async fn save(&mut self) -> Result<Vec<Event>> {
        let (Stage::Save(saving), Some(storage)) = (&mut self.stage, self.storage.clone()) else {
            return Ok(Vec::new());
        };
        let storage = storage.as_ref();
        let failed = match saving.advance(storage).await {
            Ok(None) => {
                let (done, total) = saving.progress();
                return Ok(vec![Event::Progress { phase: Phase::Saving, done, total }]);
            }
            Ok(Some(info)) => {
                self.stage = Stage::Train;
                self.saved_now();
                self.tries.saved(self.progress.step);
                let best = self.progress.best_file.clone();
                let spare: Vec<&str> = best.as_deref().into_iter().collect();
                let mut events = vec![Event::Checkpoint(info)];
                if let Err(error) = checkpoint::prune(storage, self.config.training.save_total_limit, &spare).await {
                    events.push(Event::Warning { message: format!("An old checkpoint could not be removed: {error}") });
                }
                return Ok(events);
            }
            // Only the storage's own errors can be got over here.
            Err(error @ Error::Io { .. }) => error,
            Err(error) => return Err(error),
        };
        saving.abandon(storage).await;
        if checkpoint::is_full(&failed) && checkpoint::free(storage, self.progress.best_file.as_deref()).await {
            saving.restart();
            let recovery = Recovery {
                step: self.progress.step,
                cause: Cause::StorageFull,
                message: failed.to_string(),
                action: Action::FreeStorage,
                back_to: None,
                attempt: 0,
                max_attempts: 0,
                learning_rate_factor: self.progress.learning_rate_factor,
                split: self.progress.split,
            };
            self.progress.recoveries.push(recovery.clone());
            return Ok(vec![Event::Recovery(recovery)]);
        }
        if saving.best {
            self.progress.best_file = None;
        }
        self.stage = Stage::Train;
        self.saved_now();
        let message =
            format!("The checkpoint of step {} could not be written: {failed}. Training goes on.", self.progress.step);
        Ok(vec![Event::Warning { message }])
    }

    fn saved_now(&mut self) {
        let now = platform::now();
        self.saved = Last { step: self.progress.step, time: now, took: now - self.saved.time };
        self.since.time = now;
    }

    /// Weights of the best checkpoint, in the last ones' place.
    pub(super) async fn load_best(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let (file, storage) = (self.progress.best_file.clone(), self.storage.clone());
        let found = match (&file, storage) {
            (Some(file), Some(storage)) => checkpoint::latest(storage.as_ref(), Some(file)).await?,
            _ => None,
        };
        match (found, &mut self.trainer) {
            (Some(found), Some(trainer)) => {
                found.restore(trainer).await?;
                self.best_step = Some(found.resumed.step);
            }
            _ => {
                let message = format!(
                    "The best measurement was after step {}, but its checkpoint is not there: the last step's weights stay.",
                    self.progress.best.step
                );
                events.push(Event::Warning { message });
            }
        }
        self.stage = Stage::After(self.evaluator(When::After)?);
        events.push(self.enter(State::Evaluating));
        Ok(events)
    }
}
