//! From batches to better weights.

mod evaluator;
mod loss;
mod optimizer;
mod range_test;
mod schedule;
mod session;
mod trainer;
mod vocabulary;

pub use evaluator::{Evaluator, argmax, softmax};
pub use loss::Loss;
pub use optimizer::{AdamW, AdamWConfig, clip_factor, global_norm};
pub use range_test::{RangeTest, Rates};
pub use schedule::factor;
pub use session::Session;
pub use trainer::{Outcome, Pending, Trainer, forward, measure};
pub use vocabulary::MOST_LOGITS;
