//! One unit of the job under way.

use std::rc::Rc;

use super::{Engine, Job, nothing_trained};
use crate::{
    apply::Applied,
    config::Method,
    error::Result,
    event::{Event, Phase, State, When},
    train::Evaluator,
};

impl Engine {
    pub(super) async fn work(&mut self) -> Result<Vec<Event>> {
        match &mut self.job {
            Job::None => Ok(Vec::new()),
            Job::Run(session) => {
                if session.state() == State::Paused {
                    return Ok(Vec::new());
                }
                let mut events = session.advance().await?;
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
                self.keep_kernels(&mut events).await;
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
}
