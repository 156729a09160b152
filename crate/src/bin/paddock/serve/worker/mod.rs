//! The engine's thread: jobs in, pieces out. The engine is made here and stays here, as it is for one thread.

mod loading;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, TryRecvError, channel},
    },
    thread,
};

use paddock::{
    engine::Engine,
    event::{Command, Envelope, Event, Failure, FailureKind},
    generate::Finish,
};
use pollster::block_on;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Line,
    handle::{Answer, Ask, Handle, Job, Piece, Shared, State, Task},
    models::Served,
    refusal::Refusal,
};
use crate::files::{Result, failure};

/// Texts that are answered at once: the engine puts no more into a batch, and others need not wait inside it.
const MOST_ROWS: usize = 16;
/// Texts that are classified by one command.
const MOST_TEXTS: usize = 64;
/// Texts that join each other before the engine comes to rest and forgets the earlier ones.
const MOST_JOINED: u64 = 1024;
/// Loading takes more than the two megabytes that threads have by themselves.
const STACK: usize = 16 << 20;

/// Starts the thread; it says over `lines` how it gets on.
pub fn start(served: Served, max_queue: usize, lines: SyncSender<Line>) -> Result<Handle> {
    let by_default = served.by_default.clone();
    start_with(max_queue, by_default, lines.clone(), move |inbox, shared| {
        Worker::new(served, inbox, lines, shared).work()
    })
}

fn start_with(
    max_queue: usize,
    by_default: Option<String>,
    lines: SyncSender<Line>,
    work: impl FnOnce(Receiver<Task>, Arc<Shared>) -> Result<()> + Send + 'static,
) -> Result<Handle> {
    let (tasks, inbox) = channel();
    let shared = Arc::new(Shared::new(by_default));
    let handle = Handle::new(tasks, max_queue, shared.clone());
    let thread = move || {
        let of_thread = shared.clone();
        let ended = catch_unwind(AssertUnwindSafe(move || work(inbox, of_thread)));
        let ended = ended.unwrap_or_else(|_| {
            Err(failure("internal error", "This is a fault in paddock: please report it with what stands above."))
        });
        if let Err(failure) = ended {
            shared.set(State::Broken);
            shared.running.store(0, Ordering::Relaxed);
            let _ = lines.send(Line::Failed(failure));
        }
    };
    let started = thread::Builder::new().name("engine".into()).stack_size(STACK).spawn(thread);
    started.map_err(|error| failure(format!("cannot start a thread: {error}"), "Close other programs."))?;
    Ok(handle)
}

struct Worker {
    engine: Engine,
    served: Served,
    inbox: Receiver<Task>,
    lines: SyncSender<Line>,
    shared: Arc<Shared>,
    /// Those that the engine has not begun with.
    waiting: VecDeque<Job>,
    running: Vec<Running>,
    /// Whose answers are being made, where others may join them.
    answers: Option<String>,
    /// The place of the next text in the engine's list.
    next: u64,
    stopping: bool,
}

/// A job that the engine has begun with.
struct Running {
    reply: UnboundedSender<Piece>,
    /// Places of its texts in the engine's list.
    first: u64,
    count: u64,
    /// Texts without their answers yet.
    left: u64,
    stream: bool,
}

impl Worker {
    fn new(served: Served, inbox: Receiver<Task>, lines: SyncSender<Line>, shared: Arc<Shared>) -> Self {
        Self {
            engine: Engine::new(),
            served,
            inbox,
            lines,
            shared,
            waiting: VecDeque::new(),
            running: Vec::new(),
            answers: None,
            next: 0,
            stopping: false,
        }
    }

    fn work(&mut self) -> Result<()> {
        self.open()?;
        while self.turn()? {}
        Ok(())
    }

    /// What has come, and one unit of the engine's work; false once it is to end and has.
    fn turn(&mut self) -> Result<bool> {
        self.take_in();
        self.let_go();
        if self.stopping && !self.engine.busy() {
            return Ok(false);
        }
        self.begin();
        if self.engine.busy() {
            let envelopes = block_on(self.engine.advance());
            if let Some(failure) = self.tell(envelopes) {
                self.fail(&failure)?;
            }
        }
        self.shared.running.store(self.rows(), Ordering::Relaxed);
        Ok(true)
    }

    /// Takes what has come; waits for something where there is nothing else to do.
    fn take_in(&mut self) {
        loop {
            let idle = !self.engine.busy() && self.waiting.is_empty() && !self.stopping;
            let task = match idle {
                true => self.inbox.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.inbox.try_recv(),
            };
            match task {
                Ok(Task::Job(job)) if self.stopping => refuse(*job, Refusal::stopping()),
                Ok(Task::Job(job)) => self.waiting.push_back(*job),
                Ok(Task::Finish) => self.stop(),
                Ok(Task::Abort) => {
                    self.stop();
                    if self.engine.busy() {
                        self.break_off();
                    }
                }
                Err(TryRecvError::Empty) => return,
                // Nobody is left who could ask.
                Err(TryRecvError::Disconnected) => {
                    self.stop();
                    return;
                }
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.waiting.drain(..).for_each(|job| refuse(job, Refusal::stopping()));
    }

    /// Ends what the engine does; what is left of it is told.
    fn break_off(&mut self) {
        let envelopes = block_on(self.engine.handle(Command::Stop, Vec::new()));
        self.tell(envelopes);
        self.running.drain(..).for_each(|running| drop(running.reply.send(Piece::Failed(Refusal::stopping()))));
    }

    /// Breaks off what nobody waits for any more.
    fn let_go(&mut self) {
        let before = self.waiting.len();
        self.waiting.retain(|job| !job.reply.is_closed());
        let mut gone = (before - self.waiting.len()) as u64;
        let mut places = Vec::new();
        self.running.retain(|running| {
            let closed = running.reply.is_closed();
            if closed {
                gone += running.left;
                places.extend(running.first..running.first + running.count);
            }
            !closed
        });
        self.shared.cancelled.fetch_add(gone, Ordering::Relaxed);
        if self.running.is_empty() && !places.is_empty() && self.engine.busy() {
            let envelopes = block_on(self.engine.handle(Command::Stop, Vec::new()));
            self.tell(envelopes);
            return;
        }
        for index in places {
            block_on(self.engine.handle(Command::Cancel { index }, Vec::new()));
        }
    }

    /// Texts that the engine is at.
    fn rows(&self) -> usize {
        self.running.iter().map(|running| running.left as usize).sum()
    }

    /// Begins with the job that has waited longest, and with others that can be done together with it.
    fn begin(&mut self) {
        let mut fresh = false;
        while !self.engine.busy() {
            (self.answers, self.next) = (None, 0);
            let Some(job) = self.waiting.pop_front() else { return };
            fresh = true;
            match job.ask {
                Ask::Answer(_) => self.answer(job),
                Ask::Classify(_) => self.classify(job),
            }
        }
        let Some(key) = self.answers.clone() else { return };
        let fits = |job: &Job| job.key == key && matches!(job.ask, Ask::Answer(_));
        // At the beginning those that ask the same join in, whoever stands between them. Later they do only while nobody
        // else waits: otherwise one plugin's requests would keep another's out.
        if !fresh && !self.waiting.iter().all(fits) {
            return;
        }
        let mut others = VecDeque::new();
        while let Some(job) = self.waiting.pop_front() {
            if fits(&job) && self.rows() < MOST_ROWS && self.next < MOST_JOINED {
                self.answer(job);
            } else {
                others.push_back(job);
            }
        }
        self.waiting = others;
    }

    /// Lets the engine answer a job, beside those that it is at.
    fn answer(&mut self, job: Job) {
        let Job { key, ask: Ask::Answer(answer), reply, .. } = job else { return };
        let Answer { texts, messages, fields, sampling, apply_chat_template, stream } = *answer;
        let count = texts.len() as u64;
        let command = Command::Predict {
            texts,
            fields,
            messages,
            plugin: Some(key.clone()),
            sampling,
            max_new_tokens: None,
            apply_chat_template,
            join: self.engine.busy(),
        };
        match refused(block_on(self.engine.handle(command, Vec::new()))) {
            // It is the request's fault, and the others go on.
            Some(failure) => drop(reply.send(Piece::Failed(Refusal::of_request(&failure)))),
            None => {
                self.answers = Some(key);
                self.run(reply, count, stream);
            }
        }
    }

    /// Classifies a job's texts, with those of others that wait for the same.
    fn classify(&mut self, job: Job) {
        let (key, alone) = (job.key.clone(), job.alone);
        let mut texts = texts(&job).len();
        let mut jobs = vec![job];
        let mut others = VecDeque::new();
        while let Some(job) = self.waiting.pop_front() {
            let more = self::texts(&job).len();
            let fits = !alone && !job.alone && job.key == key && more > 0 && texts + more <= MOST_TEXTS;
            if fits {
                texts += more;
                jobs.push(job);
            } else {
                others.push_back(job);
            }
        }
        self.waiting = others;
        let command = Command::Predict {
            texts: jobs.iter().flat_map(|job| self::texts(job).iter().cloned()).collect(),
            fields: Vec::new(),
            messages: Vec::new(),
            plugin: Some(key),
            sampling: Default::default(),
            max_new_tokens: None,
            apply_chat_template: None,
            join: false,
        };
        let failed = refused(block_on(self.engine.handle(command, Vec::new())));
        match failed {
            None => {
                for job in jobs {
                    let count = self::texts(&job).len() as u64;
                    self.run(job.reply, count, false);
                }
            }
            Some(failure) if jobs.len() == 1 => {
                jobs.drain(..).for_each(|job| refuse(job, Refusal::of_request(&failure)));
            }
            // One of them is at fault: each by itself then.
            Some(_) => jobs.into_iter().rev().for_each(|job| self.waiting.push_front(Job { alone: true, ..job })),
        }
    }

    fn run(&mut self, reply: UnboundedSender<Piece>, count: u64, stream: bool) {
        // Who has gone meanwhile is found out before the next step.
        let _ = reply.send(Piece::Begun);
        self.running.push(Running { reply, first: self.next, count, left: count, stream });
        self.next += count;
    }

    /// Hands on what the engine says; gives back why it cannot go on.
    fn tell(&mut self, envelopes: Vec<Envelope>) -> Option<Failure> {
        let mut failed = None;
        for envelope in envelopes {
            match envelope.event {
                Event::TextDelta(delta) => {
                    if let Some((running, index)) = find(&mut self.running, delta.index)
                        && running.stream
                    {
                        let _ = running.reply.send(Piece::Text { index, text: delta.text });
                    }
                }
                Event::Prediction(prediction) => {
                    let Some((running, index)) = find(&mut self.running, prediction.index) else { continue };
                    running.left = running.left.saturating_sub(1);
                    let piece = match prediction.finish_reason {
                        Some(Finish::Abort) => Piece::Failed(Refusal::stopping()),
                        _ => Piece::Done { index, prediction },
                    };
                    let _ = running.reply.send(piece);
                }
                Event::Failed(failure) => failed = Some(failure),
                _ => {}
            }
        }
        self.running.retain(|running| running.left > 0);
        failed
    }

    /// The work under way has failed.
    fn fail(&mut self, failure: &Failure) -> Result<()> {
        let refusal = Refusal::of_work(failure);
        self.running.drain(..).for_each(|running| drop(running.reply.send(Piece::Failed(refusal.clone()))));
        if failure.kind == Some(FailureKind::DeviceLost) {
            self.warn(format!("{} The models are loaded again.", failure.message));
            self.shared.set(State::Loading);
            self.open()?;
        }
        Ok(())
    }
}

/// The job and its text at a place of the engine's list.
fn find(running: &mut [Running], place: u64) -> Option<(&mut Running, usize)> {
    let running = running.iter_mut().find(|one| (one.first..one.first + one.count).contains(&place))?;
    let index = usize::try_from(place - running.first).ok()?;
    Some((running, index))
}

/// Of a job that classifies.
fn texts(job: &Job) -> &[String] {
    match &job.ask {
        Ask::Classify(texts) => texts,
        Ask::Answer(_) => &[],
    }
}

/// Why the engine has not taken a command.
fn refused(envelopes: Vec<Envelope>) -> Option<Failure> {
    envelopes.into_iter().find_map(|envelope| match envelope.event {
        Event::Failed(failure) => Some(failure),
        _ => None,
    })
}

fn refuse(job: Job, refusal: Refusal) {
    // Who has gone need not be told.
    let _ = job.reply.send(Piece::Failed(refusal));
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc::sync_channel};

    use paddock::{config::RawConfig, generate::Sampling, plugin::PluginInfo, train::Fault};

    use super::*;
    use crate::{
        args::LogFormat,
        model::{Located, STARTER},
        output::Output,
        serve::handle::Model,
    };

    #[test]
    fn where_the_device_is_lost_the_models_are_loaded_again() {
        let thread = thread::Builder::new().stack_size(STACK).spawn(lose_the_device);
        thread.expect("a thread").join().expect("loaded again");
    }

    fn lose_the_device() {
        let (lines, shown) = sync_channel(10_000);
        let (tasks, inbox) = channel();
        let shared = Arc::new(Shared::new(None));
        let handle = Handle::new(tasks, 4, shared.clone());
        let base = Located::find(Path::new(STARTER), &mut Output::new(LogFormat::Json)).expect("the starter model");
        let config = RawConfig { device: Some("cpu".into()), ..RawConfig::default() };
        let served = Served { base, config, plugins: Vec::new(), by_default: None };
        let mut worker = Worker::new(served, inbox, lines, shared);
        worker.open().expect("loaded");
        let model = handle.model(None).expect("the base");
        let answer = |worker: &mut Worker| {
            let answer = Answer {
                texts: vec!["The terms of the offer".into()],
                messages: Vec::new(),
                fields: Vec::new(),
                sampling: Sampling { max_new_tokens: 6, ..Sampling::default() },
                apply_chat_template: Some(false),
                stream: false,
            };
            let mut pieces = handle.submit(&model, Ask::Answer(Box::new(answer))).expect("a place");
            loop {
                assert!(worker.turn().expect("it goes on"));
                while let Ok(piece) = pieces.try_recv() {
                    match piece {
                        Piece::Done { prediction, .. } => return Ok(prediction.label),
                        Piece::Failed(refusal) => return Err(refusal),
                        Piece::Begun | Piece::Text { .. } => {}
                    }
                }
            }
        };
        let alone = answer(&mut worker).expect("an answer");
        assert!(!alone.is_empty());
        // Between two answers; in the middle of one it is found out by the same look.
        worker.engine.fault(Fault::DeviceLost { step: 0 });
        let refusal = answer(&mut worker).expect_err("nothing answers");
        assert!(refusal.message.contains("device lost") && refusal.status.is_server_error(), "{refusal:?}");
        let warned = |line: Line| matches!(line, Line::Warning(text) if text.contains("The models are loaded again."));
        assert!(shown.try_iter().any(warned), "nobody was told");
        assert_eq!(handle.shared.state(), State::Ready);
        assert_eq!(answer(&mut worker), Ok(alone));
    }

    #[test]
    fn a_panic_ends_the_thread_and_says_so_to_all() {
        let (lines, shown) = sync_channel(10);
        let handle = start_with(4, None, lines, |inbox, shared| {
            shared.set(State::Ready);
            let job = inbox.recv();
            assert!(job.is_err(), "as a fault of ours would");
            Ok(())
        })
        .expect("a thread");
        while handle.shared.state() == State::Loading {
            thread::yield_now();
        }
        let info = PluginInfo {
            id: "m".into(),
            name: "m".into(),
            task: "text-generation".into(),
            labels: Vec::new(),
            generates: true,
            before: None,
            after: None,
            uses: 0,
        };
        let model = Model { id: "m".into(), key: "m".into(), base: true, info };
        let mut pieces = handle.submit(&model, Ask::Classify(vec!["x".into()])).expect("a place");
        assert!(matches!(shown.recv(), Ok(Line::Failed(failure)) if failure.message == "internal error"));
        assert!(pieces.blocking_recv().is_none(), "its job is let go");
        assert_eq!(handle.submit(&model, Ask::Classify(Vec::new())).err(), Some(Refusal::broken()));
        assert_eq!(handle.queue().0, 0);
    }

    #[test]
    fn places_are_found_by_the_engines_numbers() {
        let running = |first, count| {
            let (reply, _) = tokio::sync::mpsc::unbounded_channel();
            Running { reply, first, count, left: count, stream: false }
        };
        let mut all = [running(0, 2), running(2, 1), running(5, 3)];
        let mut of = |place| find(&mut all, place).map(|(running, index)| (running.first, index));
        assert_eq!([of(0), of(1), of(2)], [Some((0, 0)), Some((0, 1)), Some((2, 0))]);
        assert_eq!([of(3), of(7), of(8)], [None, Some((5, 2)), None]);
    }
}
