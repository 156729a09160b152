//! Tuning: one base configuration, a space of settings over it, and a strategy that picks what to try.
//!
//! The planner knows nothing of models, files or time. A shell asks it for the next trial, given the results so far, and
//! runs that as an ordinary [`crate::event::Command::Start`]; so what was finished before an interruption is never run
//! again, and the page and the command line plan alike.

mod file;
mod metric;
mod planner;
mod report;
mod schema;
mod space;

pub use file::{Base, SearchSection, Sweep, SweepFile};
pub use metric::Direction;
pub use planner::{Next, Planner, SweepStep, Trial, TrialResult};
pub use report::{Report, Row};
pub use schema::json_schema;
pub use space::{Range, Scale, Values};
