//! Learning rates by step, as transformers' `get_scheduler` gives them.

use crate::config::Schedule;

/// Factor on the learning rate for the optimizer step `step` (from 0) of `total`, the first `warmup` rising from zero.
pub fn factor(schedule: Schedule, step: u64, warmup: u64, total: u64) -> f64 {
    if step < warmup {
        return step as f64 / warmup.max(1) as f64;
    }
    let left = total.saturating_sub(warmup).max(1) as f64;
    let done = (step - warmup) as f64;
    match schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => (total.saturating_sub(step) as f64 / left).max(0.0),
        Schedule::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * done / left).cos())).max(0.0),
    }
}
