//! Runs that another engine takes up: after the one before died for want of memory, and on a GPU.

use super::*;
use crate::golden::gpu_alone;

/// By how much of itself a loss of a run that was cut and resumed on a GPU may differ, as README.md and ARCHITECTURE.md say.
const ON_A_GPU: f64 = 1e-3;

/// A run that is cut off after so many steps.
fn cut(settings: &str, storage: &MemoryStorage, steps: usize) -> Desk {
    let mut desk = Desk::new(storage);
    desk.start(settings, false);
    while desk.losses().len() < steps {
        desk.advance();
    }
    desk
}

#[test]
fn an_engine_that_died_for_want_of_memory_is_followed_by_one_with_smaller_micro_batches() {
    let alone = Desk::run(SETTINGS, &MemoryStorage::default(), &[]);
    // With a checkpoint and without one; once, twice, and oftener than rows can be cut.
    for (steps, times, split) in [(5, 1, 2), (5, 2, 4), (0, 1, 2), (5, 40, 4)] {
        let storage = MemoryStorage::default();
        drop(cut(SETTINGS, &storage, steps));
        let mut second = Desk::new(&storage);
        second.start_smaller(SETTINGS, true, times);
        second.finish();
        let summary = second.summary();
        assert_eq!(told(&summary.recoveries), [(Cause::OutOfMemory, Action::SmallerMicroBatch)]);
        let recovery = &summary.recoveries[0];
        let from = if steps == 0 { 0 } else { 3 };
        assert_eq!((recovery.split, recovery.back_to), (split, Some(from)), "{times} times at step {steps}");
        assert_eq!(second.events.iter().filter(|event| matches!(event, Event::Recovery(_))).count(), 1);
        for (step, loss) in second.losses() {
            let other = alone.losses()[&step];
            assert!((other - loss).abs() < 1e-4 * loss, "step {step}: {other} {loss}");
        }
        assert_eq!(summary.steps, 12);
        // The checkpoints after it have the parts: the next engine begins with them.
        let mut third = Desk::new(&storage);
        third.start_smaller(SETTINGS, true, 1);
        third.finish();
        assert_eq!(third.summary().recoveries.last().map(|recovery| recovery.split), Some(4));
    }
}

#[test]
#[ignore = "needs a GPU: a test machine has none; VK_ICD_FILENAMES names a driver that imitates one"]
fn a_run_cut_on_a_gpu_goes_on_within_the_stated_tolerance() {
    let _alone = gpu_alone();
    let settings = SETTINGS.replace("device: cpu", "device: gpu");
    let whole = Desk::run(&settings, &MemoryStorage::default(), &[]);
    let (losses, end) = (whole.losses(), whole.summary().after.expect("metrics").loss);
    let mut most = 0.0f64;
    let mut hold = |place: &str, loss: f64, expected: f64| {
        let off = (loss - expected).abs() / expected;
        most = most.max(off);
        assert!(off <= ON_A_GPU, "{place}: {loss}, without a cut {expected}");
    };
    // Before the first checkpoint, between two, and where one is due.
    for steps in [2, 5, 9] {
        let storage = MemoryStorage::default();
        let first = cut(&settings, &storage, steps);
        first.losses().into_iter().for_each(|(step, loss)| hold(&format!("step {step} again"), loss, losses[&step]));
        drop(first);
        let mut second = Desk::new(&storage);
        second.start(&settings, true);
        second.finish();
        for (step, loss) in second.losses() {
            hold(&format!("step {step} of a run cut after {steps}"), loss, losses[&step]);
        }
        assert_eq!(second.losses().last_key_value().map(|(step, _)| *step), Some(12));
        hold("the held-out rows", second.summary().after.expect("metrics").loss, end);
    }
    println!("at most {most:.1e} off");
}
