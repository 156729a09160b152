//! The stages in which a run measures its model.

use super::{Session, Stage};
use crate::{
    error::Result,
    event::{Ended, Event, Metrics, Phase, State, When},
    platform,
    train::{
        Evaluator,
        diagnosis::{self, Seen},
    },
};

impl Session {
    pub(super) fn evaluator(&self, when: When) -> Result<Evaluator> {
        let (folder, held_out) = (self.folder.clone(), self.held_out.clone());
        Evaluator::new(when, self.progress.step, &self.config, self.labels.clone(), folder, held_out)
    }

    pub(super) async fn evaluate(&mut self) -> Result<Vec<Event>> {
        let (Stage::Before(evaluator) | Stage::During(evaluator) | Stage::After(evaluator), Some(trainer)) =
            (&mut self.stage, &self.trainer)
        else {
            return Ok(Vec::new());
        };
        let more = evaluator.advance(&trainer.model, &self.opened.device).await?;
        let (done, total) = evaluator.progress();
        let mut events = vec![Event::Progress { phase: Phase::Evaluating, done, total }];
        if more {
            return Ok(events);
        }
        // Left as it is by an error, so that recovery knows where it was.
        match &mut self.stage {
            Stage::Before(evaluator) => {
                let (evaluation, outcomes) = evaluator.finish(None)?;
                self.progress.before = Some(evaluation.clone());
                self.progress.outcomes = Some(outcomes);
                events.push(Event::Evaluation(Box::new(evaluation)));
                events.extend(self.go_on());
            }
            Stage::During(evaluator) => {
                let (evaluation, _) = evaluator.finish(None)?;
                self.measured = self.progress.step;
                self.judge(&evaluation.metrics);
                events.push(Event::Evaluation(Box::new(evaluation)));
                self.since.time = platform::now();
                self.stage = match self.progress.best.step == self.progress.step {
                    true => self.saving(true).unwrap_or(Stage::Train),
                    false => Stage::Train,
                };
                events.push(self.enter(State::Training));
            }
            Stage::After(evaluator) => {
                let (evaluation, _) = evaluator.finish(self.progress.outcomes.as_ref())?;
                let seen = Seen {
                    config: &self.config,
                    facts: &self.train_facts,
                    watch: &self.progress.watch,
                    recoveries: &self.progress.recoveries,
                    best_step: self.progress.best.value.map(|_| self.progress.best.step),
                    steps: self.progress.step,
                    total_steps: self.total_steps,
                    after: &evaluation,
                };
                self.verdict = diagnosis::verdict(&seen);
                self.hints = diagnosis::hints(&seen, self.verdict.as_ref());
                self.after = Some(evaluation.metrics.clone());
                events.push(Event::Evaluation(Box::new(evaluation)));
                self.stage = Stage::Done;
                events.push(self.enter(State::Succeeded));
                events.push(Event::Finished(Box::new(self.summary())));
            }
            _ => {}
        }
        Ok(events)
    }

    /// Is it better than the best one so far, and is it time to stop?
    fn judge(&mut self, metrics: &Metrics) {
        let training = &self.config.training;
        let metric = training.metric_for_best_model;
        let Some(value) = metric.of(metrics) else { return };
        let threshold = training.early_stopping_threshold;
        self.progress.best.add(value, self.progress.step, metric.greater_is_better(), threshold);
        if training.early_stopping_patience.is_some_and(|patience| self.progress.best.since >= patience) {
            self.ended = Ended::EarlyStopping;
        }
    }
}
