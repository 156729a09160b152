//! Runs that are cut off, damaged and disturbed: what is left, what the policy does, and how they end.

mod resumed;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    io,
    rc::Rc,
};

use paddock::{
    config::RawConfig,
    engine::Engine,
    event::{Action, Cause, Command, Ended, Event, ExportFormat, Recovery, State, Summary},
    generate::Sampling,
    platform::{Blob, LocalFuture, Memory, NamedFile},
    storage::MemoryStorage,
    train::Fault,
};
use pollster::block_on;

use crate::cli::fixture::{Folder, bytes, reviews};

const SETTINGS: &str = "
device: cpu
model: {max_seq_length: 32}
data: {validation_split: 0.25}
training: {batch_size: 4, gradient_accumulation_steps: 2, max_steps: 12, learning_rate: 0.005, save_steps: 3}
lora: {r: 4}
";

/// A file that can go away.
struct Flaky(Memory, Rc<Cell<bool>>);

impl Blob for Flaky {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, io::Result<Vec<u8>>> {
        if self.1.get() { Box::pin(async { Err(io::Error::other("gone")) }) } else { self.0.read(offset, len) }
    }
}

/// An engine with the fixture's model and data, and what came of it.
pub struct Desk {
    engine: Engine,
    pub events: Vec<Event>,
    states: Vec<State>,
    /// The model's files cannot be read any more.
    gone: Rc<Cell<bool>>,
}

impl Desk {
    fn new(storage: &MemoryStorage) -> Self {
        Self::with(storage, "reviews.csv", reviews(120), |_, _| {})
    }

    pub fn with(storage: &MemoryStorage, data: &str, table: String, change: impl Fn(&str, &mut Vec<u8>)) -> Self {
        let folder = Folder::new();
        let gone = Rc::new(Cell::new(false));
        let model = ["config.json", "model.safetensors", "tokenizer.json"].map(|name| {
            let mut file = bytes(&folder.path("model").join(name));
            change(name, &mut file);
            NamedFile { name: name.into(), blob: Box::new(Flaky(Memory(file), gone.clone())) }
        });
        let table = NamedFile { name: data.into(), blob: Box::new(Memory(table.into_bytes())) };
        let mut desk = Self { engine: Engine::new(), events: Vec::new(), states: vec![State::Idle], gone };
        desk.engine.use_storage(Some(Rc::new(storage.clone())));
        desk.send(Command::OpenModel { name: "model".into() }, model.into());
        desk.send(Command::OpenData, vec![table]);
        desk
    }

    pub fn send(&mut self, command: Command, files: Vec<NamedFile>) {
        let envelopes = block_on(self.engine.handle(command, files));
        self.take(envelopes);
    }

    pub fn advance(&mut self) {
        let envelopes = block_on(self.engine.advance());
        self.take(envelopes);
    }

    fn take(&mut self, envelopes: Vec<paddock::event::Envelope>) {
        for envelope in envelopes {
            if let Event::State { state } = envelope.event {
                let before = *self.states.last().expect("a state");
                assert!(before.next().contains(&state), "{before:?} to {state:?}");
                self.states.push(state);
            }
            self.events.push(envelope.event);
        }
    }

    pub fn start(&mut self, settings: &str, resume: bool) {
        self.start_smaller(settings, resume, 0);
    }

    fn start_smaller(&mut self, settings: &str, resume: bool, smaller: u32) {
        let config = RawConfig::from_yaml(settings, "run.yaml").expect("settings");
        self.send(Command::Start { config: Box::new(config), resume, smaller }, Vec::new());
    }

    pub fn finish(&mut self) -> &mut Self {
        while self.engine.busy() {
            self.advance();
        }
        self
    }

    fn run(settings: &str, storage: &MemoryStorage, faults: &[Fault]) -> Self {
        let mut desk = Self::new(storage);
        faults.iter().for_each(|fault| desk.engine.fault(*fault));
        desk.start(settings, false);
        desk.finish();
        desk
    }

    pub fn failure(&self) -> Option<String> {
        self.events.iter().find_map(|event| match event {
            Event::Failed(failure) => Some(format!("{} / {}", failure.message, failure.advice)),
            _ => None,
        })
    }

    pub fn summary(&self) -> Summary {
        let summary = self.events.iter().find_map(|event| match event {
            Event::Finished(summary) => Some(summary.clone()),
            _ => None,
        });
        *summary.unwrap_or_else(|| panic!("no end: {:?}", self.failure()))
    }

    pub fn losses(&self) -> BTreeMap<u64, f64> {
        let steps = self.events.iter().filter_map(|event| match event {
            Event::Step(step) => Some((step.step, step.loss)),
            _ => None,
        });
        steps.collect()
    }

    pub fn warnings(&self) -> Vec<&str> {
        let warnings = self.events.iter().filter_map(|event| match event {
            Event::Warning { message } => Some(message.as_str()),
            _ => None,
        });
        warnings.collect()
    }

    fn adapter(&mut self) -> Vec<u8> {
        self.exported().remove("adapter_model.safetensors").expect("an adapter")
    }

    /// The adapter's files.
    fn exported(&mut self) -> BTreeMap<String, Vec<u8>> {
        let command = Command::Export { format: ExportFormat::Adapter, dtype: None, zip: false, name: None };
        self.send(command, Vec::new());
        let mut out: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        while self.engine.busy() {
            let before = self.events.len();
            self.advance();
            for event in &self.events[before..] {
                if let Event::ExportChunk { file, .. } = event {
                    out.entry(file.clone()).or_default().extend(self.engine.take_chunk());
                }
            }
        }
        out
    }
}

/// Cause and action of each.
fn told(recoveries: &[Recovery]) -> Vec<(Cause, Action)> {
    recoveries.iter().map(|recovery| (recovery.cause, recovery.action)).collect()
}

#[test]
fn a_run_cut_anywhere_goes_on_bit_for_bit() {
    let mut whole = Desk::run(SETTINGS, &MemoryStorage::default(), &[]);
    let (losses, summary, adapter) = (whole.losses(), whole.summary(), whole.adapter());
    assert_eq!((losses.len(), summary.steps, summary.ended), (12, 12, Ended::Finished));
    // Between and inside steps, checkpoints and measurements.
    let mut repeated = 0;
    for cut in (1..150).step_by(9) {
        let storage = MemoryStorage::default();
        let mut first = Desk::new(&storage);
        first.start(SETTINGS, false);
        (0..cut).for_each(|_| first.advance());
        let before = first.losses();
        drop(first);
        let mut second = Desk::new(&storage);
        second.start(SETTINGS, true);
        second.finish();
        let after = second.losses();
        for (step, loss) in before.iter().chain(&after) {
            assert_eq!(losses[step].to_bits(), loss.to_bits(), "step {step} of a run cut after {cut}");
        }
        let again = before.keys().filter(|step| after.contains_key(step)).count();
        assert!(again <= 3, "{again} steps again, more than since the last checkpoint");
        repeated += again;
        assert_eq!(second.summary().after, summary.after);
        assert_eq!(second.summary().before, summary.before);
        assert!(second.adapter() == adapter, "other weights after {cut}");
    }
    assert!(repeated > 0, "no cut fell between two checkpoints");
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let storage = MemoryStorage::default();
    let mut whole = Desk::run(SETTINGS, &storage, &[]);
    let adapter = whole.adapter();
    let names: Vec<String> = storage.files.borrow().keys().cloned().collect();
    let all = [
        "checkpoint-12.safetensors",
        "checkpoint-12.sha256",
        "checkpoint-9.safetensors",
        "checkpoint-9.sha256",
        "environment.json",
        "events.jsonl",
        "result.json",
        "run.yaml",
    ];
    assert_eq!(names, all, "two checkpoints are kept");
    let whole_files = storage.files.borrow().clone();
    type Damage = fn(&mut BTreeMap<String, Vec<u8>>);
    const LAST: &str = "checkpoint-12.safetensors";
    let damages: [(&str, Damage, bool); 7] = [
        ("truncated", |files| files.get_mut(LAST).unwrap().truncate(1000), true),
        ("empty", |files| files.get_mut(LAST).unwrap().clear(), true),
        ("a bit flipped in the numbers", |files| *files.get_mut(LAST).unwrap().last_mut().unwrap() ^= 4, true),
        ("a bit flipped in the header", |files| files.get_mut(LAST).unwrap()[40] ^= 1, true),
        ("longer", |files| files.get_mut(LAST).unwrap().push(0), true),
        ("another sum", |files| files.get_mut("checkpoint-12.sha256").unwrap()[0] ^= 1, true),
        ("no sum: not whole", |files| drop(files.remove("checkpoint-12.sha256")), false),
    ];
    for (what, damage, named) in damages {
        *storage.files.borrow_mut() = whole_files.clone();
        damage(&mut storage.files.borrow_mut());
        let mut desk = Desk::new(&storage);
        desk.start(SETTINGS, true);
        desk.finish();
        let resumed = desk.events.iter().find_map(|event| match event {
            Event::Resumed(resumed) => Some(resumed.clone()),
            _ => None,
        });
        let resumed = resumed.expect("resumed");
        assert_eq!((resumed.step, resumed.damaged.len()), (9, usize::from(named)), "{what}");
        assert!(!named || resumed.damaged[0].contains(LAST), "{what}: {resumed:?}");
        assert!(desk.adapter() == adapter, "{what}");
    }
    // Nothing whole is left: from the beginning, and it says so.
    for (name, file) in storage.files.borrow_mut().iter_mut().filter(|(name, _)| name.ends_with(".safetensors")) {
        assert!(name.starts_with("checkpoint-"));
        file.truncate(10);
    }
    let mut desk = Desk::new(&storage);
    desk.start(SETTINGS, true);
    desk.finish();
    assert!(desk.warnings().iter().any(|warning| warning.contains("starts at its beginning")), "{:?}", desk.warnings());
    assert!(desk.adapter() == adapter);
}

#[test]
fn a_run_goes_on_with_its_own_model_data_and_settings_only() {
    let storage = MemoryStorage::default();
    Desk::run(SETTINGS, &storage, &[]).summary();
    let refused = |mut desk: Desk, settings: &str| {
        desk.start(settings, true);
        desk.failure().expect("refused")
    };
    let other = Desk::with(&storage, "reviews.csv", reviews(119), |_, _| {});
    let message = refused(other, SETTINGS);
    assert!(message.contains("checkpoint-12") && message.contains("data in reviews.csv"), "{message}");
    let other = Desk::with(&storage, "reviews.csv", reviews(120), |name, file| {
        if name == "model.safetensors" {
            let at = file.len() / 2;
            file[at] ^= 1;
        }
    });
    let message = refused(other, SETTINGS);
    assert!(message.contains("model.safetensors"), "{message}");
    let message = refused(Desk::new(&storage), &SETTINGS.replace("0.005", "0.006"));
    assert!(message.contains("training.learning_rate is 0.006, this run began with 0.005"), "{message}");
    let message = refused(Desk::new(&storage), &SETTINGS.replace("r: 4", "r: 2"));
    assert!(message.contains("lora."), "{message}");
    // A renamed file and other habits of logging are no other run.
    let mut desk = Desk::with(&storage, "renamed.csv", reviews(120), |_, _| {});
    desk.start(&SETTINGS.replace("save_steps: 3", "save_steps: 5, logging_steps: 4"), true);
    desk.finish().summary();
}

#[test]
fn a_batch_that_is_no_number_is_left_out() {
    let desk = Desk::run(SETTINGS, &MemoryStorage::default(), &[Fault::NotFinite { step: 4 }]);
    let summary = desk.summary();
    assert_eq!(told(&summary.recoveries), [(Cause::NotFinite, Action::SkipBatch)]);
    assert_eq!((summary.recoveries[0].step, summary.recoveries[0].back_to), (5, None));
    assert!(!desk.losses().contains_key(&5) && desk.losses().len() == 11);
    let alone = Desk::run(SETTINGS, &MemoryStorage::default(), &[]);
    assert_eq!(alone.losses()[&4], desk.losses()[&4]);
    assert_ne!(alone.losses()[&7], desk.losses()[&7], "the step was left out, not taken");
}

#[test]
fn too_many_of_them_lower_the_learning_rate_and_go_back() {
    let bad = [4, 5, 6].map(|step| Fault::NotFinite { step });
    let desk = Desk::run(SETTINGS, &MemoryStorage::default(), &bad);
    let summary = desk.summary();
    let skip = (Cause::NotFinite, Action::SkipBatch);
    assert_eq!(told(&summary.recoveries), [skip, skip, (Cause::NotFinite, Action::LowerLearningRate)]);
    let back = &summary.recoveries[2];
    assert_eq!((back.step, back.back_to, back.attempt), (7, Some(6), 1), "steps 5 and 6 were left out, then saved");
    let rates: BTreeMap<u64, f64> = desk
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Step(step) => Some((step.step, step.learning_rate)),
            _ => None,
        })
        .collect();
    let linear = |step: u64| 0.005 * (13 - step) as f64 / 12.0;
    assert!((rates[&4] - linear(4)).abs() < 1e-12 && (rates[&8] - 0.3 * linear(8)).abs() < 1e-12, "{rates:?}");
    assert!(desk.states.windows(2).any(|pair| pair == [State::Training, State::Recovering]));
}

#[test]
fn a_run_that_cannot_be_saved_says_what_was_tried() {
    // From step 7 on there is no number, however often it is tried.
    let bad: Vec<Fault> = (0..40).flat_map(|_| (7..12).map(|step| Fault::NotFinite { step })).collect();
    let desk = Desk::run(SETTINGS, &MemoryStorage::default(), &bad);
    let message = desk.failure().expect("failed");
    for part in ["tried before", "a learning rate of 1.50e-3", "a learning rate of 1.35e-4", "training.learning_rate"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(desk.states.last(), Some(&State::Failed));
    // No recovery at all, where that is asked for.
    let off = format!("{SETTINGS}recovery: {{max_retries: 0}}\n");
    let desk = Desk::run(&off, &MemoryStorage::default(), &[Fault::NotFinite { step: 4 }]);
    assert!(desk.failure().expect("failed").contains("at step 5") && !desk.states.contains(&State::Recovering));
}

#[test]
fn a_learning_rate_that_is_far_too_high_is_lowered_until_it_works() {
    let wild = SETTINGS
        .replace("learning_rate: 0.005", "learning_rate: 10, max_grad_norm: 0, warmup_steps: 4")
        .replace("max_steps: 12", "max_steps: 120")
        + "recovery: {learning_rate_factor: 0.02, divergence_patience: 4}\n";
    let desk = Desk::run(&wild, &MemoryStorage::default(), &[]);
    let summary = desk.summary();
    assert!(!summary.recoveries.is_empty());
    let went_back = summary.recoveries.iter().filter(|recovery| recovery.back_to.is_some());
    assert!(went_back.clone().count() > 0 && went_back.clone().count() <= 3, "{:?}", summary.recoveries);
    let loss = |metrics: Option<paddock::event::Metrics>| metrics.expect("metrics").loss;
    let recovered = loss(summary.after);
    assert!(recovered < loss(summary.before), "{recovered}");
}

#[test]
fn without_memory_micro_batches_get_smaller_and_the_step_stays_the_same() {
    let alone = Desk::run(SETTINGS, &MemoryStorage::default(), &[]);
    let desk = Desk::run(SETTINGS, &MemoryStorage::default(), &[Fault::OutOfMemory { step: 4, parts: 4 }]);
    let summary = desk.summary();
    let smaller = (Cause::OutOfMemory, Action::SmallerMicroBatch);
    assert_eq!(told(&summary.recoveries), [smaller, smaller]);
    assert_eq!(summary.recoveries[1].split, 4);
    for (step, loss) in alone.losses() {
        let other = desk.losses()[&step];
        assert!((other - loss).abs() < 1e-4 * loss, "step {step}: {other} {loss}");
    }
    // Rows cannot be cut.
    let desk = Desk::run(SETTINGS, &MemoryStorage::default(), &[Fault::OutOfMemory { step: 4, parts: 100 }]);
    let message = desk.failure().expect("failed");
    assert!(message.contains("micro-batches of 1 rows") && message.contains("training.batch_size"), "{message}");
}

#[test]
fn a_lost_device_is_opened_anew() {
    let mut alone = Desk::run(SETTINGS, &MemoryStorage::default(), &[]);
    for step in [0, 5] {
        let mut desk = Desk::run(SETTINGS, &MemoryStorage::default(), &[Fault::DeviceLost { step }]);
        let summary = desk.summary();
        assert_eq!(told(&summary.recoveries), [(Cause::DeviceLost, Action::NewDevice)]);
        assert_eq!(summary.recoveries[0].back_to, Some(step / 3 * 3));
        assert!(desk.adapter() == alone.adapter(), "lost at step {step}");
    }
}

#[test]
fn a_full_storage_loses_old_checkpoints_and_never_the_run() {
    let one: usize = {
        let storage = MemoryStorage::default();
        Desk::run(SETTINGS, &storage, &[]).summary();
        storage.files.borrow()["checkpoint-12.safetensors"].len()
    };
    let mut alone = Desk::run(SETTINGS, &MemoryStorage::default(), &[]);
    let keep_all = SETTINGS.replace("save_steps: 3", "save_steps: 3, save_total_limit: 9");
    let storage = MemoryStorage { room: one * 5 / 2 + 50_000, ..Default::default() };
    let mut desk = Desk::run(&keep_all, &storage, &[]);
    let summary = desk.summary();
    let freed = (Cause::StorageFull, Action::FreeStorage);
    assert!(!summary.recoveries.is_empty() && told(&summary.recoveries).iter().all(|told| *told == freed));
    assert!(storage.files.borrow().contains_key("checkpoint-12.sha256"), "the last one found room");
    assert!(desk.adapter() == alone.adapter());
    // Not even one fits.
    let storage = MemoryStorage { room: one / 2, ..Default::default() };
    let mut desk = Desk::run(SETTINGS, &storage, &[]);
    desk.summary();
    assert!(desk.warnings().iter().any(|warning| warning.contains("could not be written")), "{:?}", desk.warnings());
    assert!(!storage.files.borrow().keys().any(|name| name.ends_with(".part")), "nothing half written stays");
    assert!(desk.adapter() == alone.adapter());
}

#[test]
fn the_best_checkpoint_comes_back_and_training_stops_early() {
    // Labels without a reason can be learnt by heart, and then the held-out ones get worse.
    let noise = |rows: usize| {
        let rows = (0..rows).map(|i| format!("item {i},{}\n", if (i * 7919 + i / 3) % 5 < 2 { "yes" } else { "no" }));
        format!("text,label\n{}", rows.collect::<String>())
    };
    let settings = SETTINGS.replace("max_steps: 12", "max_steps: 200, eval_steps: 5, early_stopping_patience: 3")
        + "recovery: {divergence_threshold: 0}\n";
    let storage = MemoryStorage::default();
    let mut desk = Desk::with(&storage, "noise.csv", noise(60), |_, _| {});
    desk.start(&settings, false);
    desk.finish();
    let summary = desk.summary();
    let measured: Vec<(u64, f64)> = desk
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Evaluation(evaluation) => Some((evaluation.step, evaluation.metrics.loss)),
            _ => None,
        })
        .collect();
    let during = &measured[1..measured.len() - 1];
    let best = during.iter().fold(during[0], |best, next| if next.1 < best.1 { *next } else { best });
    assert_eq!(summary.ended, Ended::EarlyStopping, "{measured:?}");
    assert!(!summary.completed && summary.steps == best.0 + 15, "{summary:?}");
    assert_eq!((summary.best_step, measured[measured.len() - 1].1), (Some(best.0), best.1));
    assert!(storage.files.borrow().contains_key(&format!("checkpoint-{}.safetensors", best.0)), "it is kept");
    let desk = Desk::run(&SETTINGS.replace("max_steps: 12", "max_steps: 100000, max_minutes: 0.01"), &storage, &[]);
    assert_eq!((desk.summary().ended, desk.summary().completed), (Ended::TimeBudget, false));
}

#[test]
fn the_record_holds_the_run() {
    let storage = MemoryStorage::default();
    let desk = Desk::run(SETTINGS, &storage, &[Fault::NotFinite { step: 4 }]);
    let files = storage.files.borrow();
    let lines = String::from_utf8(files["events.jsonl"].clone()).expect("text");
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((count("step"), count("recovery"), count("evaluation"), count("finished")), (11, 1, 2, 1));
    let board = files.keys().find(|name| name.starts_with("events.out.tfevents."));
    assert!(board.is_none(), "only on request");
    let result: Summary = serde_json::from_slice(&files["result.json"]).expect("a summary");
    assert_eq!(result.steps, desk.summary().steps);
    let settings = String::from_utf8(files["run.yaml"].clone()).expect("text");
    assert_eq!(RawConfig::from_yaml(&settings, "run.yaml").expect("settings").training.max_steps, Some(12));

    let storage = MemoryStorage::default();
    let reported = SETTINGS.replace("max_steps: 12", "max_steps: 12, report_to: tensorboard");
    Desk::run(&reported, &storage, &[]).summary();
    let files = storage.files.borrow();
    let board = files.iter().find(|(name, _)| name.starts_with("events.out.tfevents.")).expect("a board");
    let text = String::from_utf8_lossy(board.1);
    assert_eq!((text.matches("train/loss").count(), text.matches("eval/loss").count()), (12, 2));
}

#[test]
fn every_transition_happens_and_no_other() {
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut note = |desk: &Desk| {
        seen.extend(desk.states.windows(2).map(|pair| (pair[0].name(), pair[1].name())));
    };
    let storage = MemoryStorage::default();
    let with_eval = SETTINGS.replace("max_steps: 12", "max_steps: 12, eval_steps: 4");
    let predict = || Command::Predict {
        fields: Vec::new(),
        messages: Vec::new(),
        plugin: None,
        texts: vec!["x".into()],
        sampling: Sampling::default(),
        max_new_tokens: None,
        apply_chat_template: None,
        join: false,
    };

    // A run with a pause, used; measured; another one; an adapter opened.
    let mut desk = Desk::new(&storage);
    desk.start(&with_eval, false);
    while *desk.states.last().expect("state") != State::Training {
        desk.advance();
    }
    desk.send(Command::Pause, Vec::new());
    desk.send(Command::Resume, Vec::new());
    desk.finish();
    desk.send(predict(), Vec::new());
    desk.finish();
    desk.send(predict(), Vec::new());
    desk.finish();
    desk.send(Command::Evaluate { columns: BTreeMap::new() }, Vec::new());
    desk.finish();
    desk.start(SETTINGS, false);
    desk.finish();
    desk.send(Command::Evaluate { columns: BTreeMap::new() }, Vec::new());
    desk.finish();
    desk.start(SETTINGS, false);
    desk.finish();
    desk.start(SETTINGS, true);
    desk.finish();
    note(&desk);
    assert_eq!(desk.failure(), None);

    let config = Box::new(RawConfig::from_yaml(SETTINGS, "run.yaml").expect("settings"));
    desk.send(Command::LrFind { config, min_lr: 1e-6, max_lr: 0.1, num_training_steps: 13 }, Vec::new());
    desk.finish();
    assert_eq!(desk.states.last(), Some(&State::Idle));
    desk.start(SETTINGS, true);
    desk.finish();
    // What was trained, opened again.
    let files = desk.exported().into_iter();
    let files = files.map(|(name, bytes)| NamedFile { name, blob: Box::new(Memory(bytes)) }).collect();
    desk.send(Command::OpenAdapter { config: Box::default() }, files);
    desk.finish();
    note(&desk);
    assert_eq!(desk.failure(), None);

    // Without its device a model can neither be used nor measured.
    desk.engine.fault(Fault::DeviceLost { step: 0 });
    for _ in 0..2 {
        desk.send(predict(), Vec::new());
        desk.finish();
        desk.send(Command::Evaluate { columns: BTreeMap::new() }, Vec::new());
        desk.finish();
    }
    desk.start(SETTINGS, false);
    desk.finish();
    note(&desk);

    // A device lost while it loads, measures and trains; and a base that is not there when it has to be read again.
    for state in [State::Preparing, State::Evaluating, State::Training] {
        for gone in [false, true] {
            let mut desk = Desk::new(&storage);
            desk.start(SETTINGS, false);
            while *desk.states.last().expect("state") != state {
                desk.advance();
            }
            desk.engine.fault(Fault::DeviceLost { step: 0 });
            desk.gone.set(gone);
            desk.finish();
            assert_eq!(desk.failure().is_some(), gone);
            note(&desk);
        }
    }
    // A base that goes away while it is read, and trouble that nothing is to be done about.
    let mut desk = Desk::new(&storage);
    desk.start(SETTINGS, false);
    desk.gone.set(true);
    note(desk.finish());
    let off = format!("{SETTINGS}recovery: {{max_retries: 0}}\n");
    note(&Desk::run(&off, &storage, &[Fault::NotFinite { step: 4 }]));

    let all = State::ALL.iter().flat_map(|from| from.next().iter().map(|to| (from.name(), to.name())));
    let missing: Vec<_> = all.filter(|pair| !seen.contains(pair)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}
