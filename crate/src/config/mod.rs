//! One configuration, two views: [`RawConfig`] is what a person wrote (YAML or form), [`Config`] has every default
//! filled in and every value checked.

mod raw;
mod resolved;
mod yaml;

pub use raw::{DataSection, LoraSection, ModelSection, RawConfig, RecoverySection, TrainingSection};
pub use resolved::{
    BestMetric, Config, DataConfig, DeviceChoice, Kernels, LoraConfig, Method, MixedPrecision, ModelConfig, ModelType,
    Quantization, RecoveryConfig, ReportTo, Schedule, TARGET_MODULES, Task, TrainingConfig,
};
