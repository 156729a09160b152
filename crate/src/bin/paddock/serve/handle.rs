//! The engine as requests see it: a queue with an end, and what is served.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::Sender,
    },
};

use paddock::{event::Prediction, generate::Sampling, plugin::PluginInfo, tokenizer::Message};
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::refusal::Refusal;

type Result<T> = std::result::Result<T, Refusal>;

/// A base or plugin that answers.
#[derive(Debug, Clone)]
pub struct Model {
    /// What requests call it.
    pub id: String,
    /// What the engine calls it.
    pub key: String,
    /// It is the base by itself.
    pub base: bool,
    pub info: PluginInfo,
}

/// What is wanted of the engine.
pub enum Ask {
    Answer(Box<Answer>),
    Classify(Vec<String>),
}

pub struct Answer {
    pub texts: Vec<String>,
    pub messages: Vec<Vec<Message>>,
    pub fields: Vec<BTreeMap<String, String>>,
    pub sampling: Sampling,
    pub apply_chat_template: Option<bool>,
    /// Whether pieces are wanted, not the whole alone.
    pub stream: bool,
}

pub struct Job {
    pub key: String,
    pub ask: Ask,
    pub reply: UnboundedSender<Piece>,
    /// In the queue; given back when the engine begins with it.
    pub _place: Option<OwnedSemaphorePermit>,
    /// Not to be put together with others: one of those that it was with cannot be done.
    pub alone: bool,
}

/// What comes of a job.
#[derive(Debug)]
pub enum Piece {
    /// The engine has taken it.
    Begun,
    /// A text's answer goes on.
    Text { index: usize, text: String },
    /// A text's answer is whole.
    Done { index: usize, prediction: Prediction },
    /// Nothing more comes.
    Failed(Refusal),
}

/// To the engine's thread.
pub enum Task {
    Job(Box<Job>),
    /// Finish what is under way; nothing new.
    Finish,
    /// Break off what is under way.
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Loading,
    Ready,
    Stopping,
    /// The engine's thread is no more.
    Broken,
}

/// What both sides know.
pub struct Shared {
    state: Mutex<State>,
    models: RwLock<Vec<Model>>,
    /// The one that answers where a request names none.
    by_default: Option<String>,
    pub running: AtomicUsize,
    pub cancelled: AtomicU64,
}

impl Shared {
    pub fn new(by_default: Option<String>) -> Self {
        Self {
            state: Mutex::new(State::Loading),
            models: RwLock::default(),
            by_default,
            running: AtomicUsize::new(0),
            cancelled: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> State {
        *self.lock()
    }

    /// What is stopping or broken stays so.
    pub fn set(&self, state: State) {
        let mut now = self.lock();
        if !matches!((*now, state), (State::Stopping, State::Ready | State::Loading) | (State::Broken, _)) {
            *now = state;
        }
    }

    pub fn serve(&self, models: Vec<Model>) {
        *self.models.write().unwrap_or_else(PoisonError::into_inner) = models;
    }

    pub fn models(&self) -> Vec<Model> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
pub struct Handle {
    tasks: Sender<Task>,
    places: Arc<Semaphore>,
    most: usize,
    pub shared: Arc<Shared>,
}

impl Handle {
    pub fn new(tasks: Sender<Task>, max_queue: usize, shared: Arc<Shared>) -> Self {
        Self { tasks, places: Arc::new(Semaphore::new(max_queue)), most: max_queue, shared }
    }

    fn ready(&self) -> Result<()> {
        match self.shared.state() {
            State::Ready => Ok(()),
            State::Loading => Err(Refusal::loading()),
            State::Stopping => Err(Refusal::stopping()),
            State::Broken => Err(Refusal::broken()),
        }
    }

    /// The model that a request names, or the one that answers where none is named.
    pub fn model(&self, id: Option<&str>) -> Result<Model> {
        self.ready()?;
        let models = self.shared.models();
        let wanted = id.or(self.shared.by_default.as_deref());
        let found = match wanted {
            Some(id) => models.iter().find(|model| model.id == id),
            None => models.iter().find(|model| model.base).or(models.first()),
        };
        let there = || models.iter().map(|model| format!("`{}`", model.id)).collect::<Vec<_>>();
        found.cloned().ok_or_else(|| Refusal::no_model(wanted.unwrap_or_default(), &there()))
    }

    /// Puts a job into the queue. Who drops what is given back breaks it off.
    pub fn submit(&self, model: &Model, ask: Ask) -> Result<UnboundedReceiver<Piece>> {
        self.ready()?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| Refusal::queue_full())?;
        let (reply, pieces) = unbounded_channel();
        let job = Job { key: model.key.clone(), ask, reply, _place: Some(place), alone: false };
        self.tasks.send(Task::Job(Box::new(job))).map_err(|_| Refusal::broken())?;
        Ok(pieces)
    }

    /// Nothing new is taken from now on.
    pub fn finish(&self) {
        self.shared.set(State::Stopping);
        // A thread that has ended has finished.
        let _ = self.tasks.send(Task::Finish);
    }

    /// What is still under way is broken off.
    pub fn abort(&self) {
        let _ = self.tasks.send(Task::Abort);
    }

    /// Requests that wait, and that may.
    pub fn queue(&self) -> (usize, usize) {
        (self.most.saturating_sub(self.places.available_permits()), self.most)
    }

    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed)
    }

    pub fn cancelled(&self) -> u64 {
        self.shared.cancelled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn model(id: &str, base: bool) -> Model {
        let info = PluginInfo {
            id: id.into(),
            name: id.into(),
            task: "text-generation".into(),
            labels: Vec::new(),
            generates: true,
            before: None,
            after: None,
            uses: 0,
        };
        Model { id: id.into(), key: id.into(), base, info }
    }

    fn handle(by_default: Option<&str>, max_queue: usize) -> (Handle, Receiver<Task>) {
        let (tasks, inbox) = channel();
        let shared = Arc::new(Shared::new(by_default.map(str::to_owned)));
        shared.serve(vec![model("base", true), model("spam", false)]);
        (Handle::new(tasks, max_queue, shared), inbox)
    }

    fn ask() -> Ask {
        Ask::Classify(vec!["x".into()])
    }

    #[test]
    fn a_request_names_its_model_or_takes_the_first() {
        let (handle, _inbox) = handle(None, 1);
        assert_eq!(handle.model(None).expect_err("not yet"), Refusal::loading());
        handle.shared.set(State::Ready);
        assert_eq!(handle.model(None).expect("the base").id, "base");
        assert_eq!(handle.model(Some("spam")).expect("a plugin").id, "spam");
        assert_eq!(handle.model(Some("gpt")).expect_err("unknown").code, Some("model_not_found"));
        let (handle, _inbox) = self::handle(Some("spam"), 1);
        handle.shared.set(State::Ready);
        assert_eq!(handle.model(None).expect("the plugin").id, "spam");
    }

    #[test]
    fn the_queue_has_an_end_and_gives_places_back() {
        let (handle, inbox) = handle(None, 2);
        handle.shared.set(State::Ready);
        let spam = handle.model(Some("spam")).expect("a plugin");
        let first = handle.submit(&spam, ask()).expect("a place");
        let _second = handle.submit(&spam, ask()).expect("a place");
        assert_eq!((handle.queue(), handle.submit(&spam, ask()).err()), ((2, 2), Some(Refusal::queue_full())));
        let Ok(Task::Job(mut job)) = inbox.recv() else { panic!("a job") };
        // The engine begins with it.
        drop(job._place.take());
        assert_eq!(handle.queue(), (1, 2));
        assert!(!job.reply.is_closed());
        drop(first);
        assert!(job.reply.is_closed(), "nobody waits any more");
        handle.submit(&spam, ask()).expect("a place");
    }

    #[test]
    fn what_has_ended_stays_so() {
        let (handle, inbox) = handle(None, 1);
        handle.shared.set(State::Ready);
        let spam = handle.model(Some("spam")).expect("a plugin");
        handle.finish();
        handle.shared.set(State::Ready);
        assert_eq!(handle.submit(&spam, ask()).err(), Some(Refusal::stopping()));
        handle.shared.set(State::Broken);
        handle.shared.set(State::Stopping);
        assert_eq!(handle.model(None).expect_err("broken"), Refusal::broken());
        drop(inbox);
        handle.abort();
    }
}
