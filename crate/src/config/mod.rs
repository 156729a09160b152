//! One configuration, two views: [`RawConfig`] is what a person wrote (YAML or form), [`Config`] has every default
//! filled in and every value checked.

mod raw;
mod resolved;

pub use raw::{DataSection, LoraSection, ModelSection, RawConfig, TrainingSection};
