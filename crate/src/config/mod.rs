//! One configuration, two views: [`RawConfig`] is what a person wrote (YAML or form), [`Config`] has every default
//! filled in and every value checked. Both, the ranges and the JSON Schema come from the one table in `keys.rs`.

pub(crate) mod keys;
pub(crate) mod nearest;
mod resolved;
pub(crate) mod rule;
pub(crate) mod schema;
pub(crate) mod tree;
pub(crate) mod yaml;

pub use crate::scenario::Task;
pub use keys::{
    Config, DataConfig, DataSection, EvaluationConfig, EvaluationSection, LoraConfig, LoraSection, ModelConfig,
    ModelSection, RawConfig, RecoveryConfig, RecoverySection, TARGET_MODULES, TrainingConfig, TrainingSection,
};
pub use resolved::{DeviceChoice, Kernels, Method, MixedPrecision, ModelType, Quantization, ReportTo, Schedule};
pub use schema::json_schema;
