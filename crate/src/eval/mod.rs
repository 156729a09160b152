//! Numbers that say how good a model is. All are counted on the host, row by row, and can be counted again in a
//! resample of the rows, which is where [`bootstrap`] gets a number's confidence interval from.

pub mod bleu;
pub mod bootstrap;
mod calibration;
mod classification;
pub mod entities;
#[cfg(test)]
mod golden_tests;
mod metrics;
mod outcomes;
mod regression;
pub mod rouge;
pub mod squad;
mod text;

pub use bootstrap::Interval;
pub use calibration::Calibration;
pub use classification::{ClassCount, ClassCounts, Classification};
pub use entities::EntityCounts;
pub use metrics::{Metric, Metrics};
pub use outcomes::{Change, Outcomes, TokenRow, changes, intervals};
pub use regression::{Regression, RegressionScores};
pub use rouge::Rouge;
