//! Numbers that say how good a model is.

mod classification;
mod mean;

pub use classification::Classification;
pub use mean::{Mean, Regression};
