//! From batches to better weights.

pub mod checkpoint;
mod diagnosis;
mod evaluator;
mod loss;
mod optimizer;
mod range_test;
mod scaler;
mod schedule;
mod session;
mod setup;
mod trainer;
mod vocabulary;
mod watch;

pub use evaluator::{Evaluator, argmax, softmax};
pub use loss::Loss;
pub use optimizer::{AdamW, AdamWConfig, clip_factor, global_norm};
pub use range_test::{RangeTest, Rates};
pub use scaler::GradScaler;
pub use schedule::factor;
pub use session::{Fault, Parts, Session};
pub use trainer::{Outcome, Trainer, forward, token_sums};
pub use vocabulary::MOST_LOGITS;
pub use watch::{Best, LossWatch};
