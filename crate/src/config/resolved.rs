//! The words of a configuration, and what holds between its keys.

use serde::Serialize;

use super::{
    keys::{Config, RawConfig, TrainingConfig},
    rule::words,
};
use crate::{
    error::{Error, Result},
    weights::{Packing, ggml::GgmlType},
};

words! {
    DeviceChoice {
        /// A hardware GPU where there is one, else the CPU.
        Auto = "auto",
        Cpu = "cpu",
        Gpu = "gpu",
    }
}

words! {
    /// Which kernels a GPU runs.
    Kernels {
        /// A software adapter's or a card's, by what there is; on a card by a short measurement.
        Auto = "auto",
        /// Each thread by itself.
        Registers = "registers",
        /// Workgroups out of shared memory, by a fixed rule.
        Shared = "shared",
        /// Burn's own.
        Stock = "stock",
    }
}

words! {
    ModelType { Llama = "llama" }
}

words! {
    /// How a frozen base is held on the device.
    Quantization {
        /// A GGUF file's blocks as they are, other files in 32 bits.
        Auto = "auto",
        /// 32 bits.
        None = "none",
        Q4_0 = "q4_0",
        Q4_1 = "q4_1",
        Q8_0 = "q8_0",
    }
}

words! {
    Method {
        Lora = "lora",
        /// Every parameter is trained.
        Full = "full",
    }
}

words! {
    /// How the learning rate moves after warm-up (Hugging Face's `lr_scheduler_type`).
    Schedule {
        /// Down to 0 at the last step.
        Linear = "linear",
        /// Half a cosine, down to 0 at the last step.
        Cosine = "cosine",
        Constant = "constant",
    }
}

words! {
    /// What the blocks compute in (accelerate's `mixed_precision`).
    MixedPrecision {
        /// 16 bits on a hardware GPU that has them.
        Auto = "auto",
        /// 32 bits.
        No = "no",
        Fp16 = "fp16",
    }
}

words! {
    /// Who else is told how a run goes (Hugging Face's `report_to`).
    ReportTo {
        None = "none",
        TensorBoard = "tensorboard",
    }
}

impl TrainingConfig {
    /// Without measurements on the way, or checkpoints, there is no best one.
    fn saving(&mut self, errors: &mut Vec<Error>) {
        self.eval_steps = self.eval_steps.filter(|steps| *steps > 0);
        for (key, given) in [
            ("training.early_stopping_patience", self.early_stopping_patience.is_some()),
            ("training.load_best_model_at_end", self.load_best_model_at_end),
        ] {
            if given && self.eval_steps.is_none() {
                errors.push(Error::config(key, "training.eval_steps beside it", "none"));
            }
        }
        if self.load_best_model_at_end && self.save_steps == Some(0) {
            let key = "training.load_best_model_at_end";
            errors.push(Error::config(key, "checkpoints (training.save_steps)", "none"));
        }
    }

    /// Warm-up steps of a run of `total_steps`, as Hugging Face's `get_warmup_steps` counts them.
    pub fn warmup(&self, total_steps: u64) -> u64 {
        match (self.warmup_steps, self.warmup_ratio) {
            (Some(steps), _) => steps,
            (None, Some(ratio)) => (total_steps as f64 * ratio).ceil() as u64,
            (None, None) => 0,
        }
    }
}

impl Config {
    /// Fills in the defaults and checks every value; the error names the key.
    ///
    /// # Errors
    /// The first of [`Self::check`]'s.
    pub fn resolve(raw: &RawConfig) -> Result<Self> {
        Self::check(raw).map_err(|errors| {
            let nothing = || Error::session("This configuration cannot be used.", "Start from an empty one.");
            errors.into_iter().next().unwrap_or_else(nothing)
        })
    }

    /// The same; all that is wrong.
    ///
    /// # Errors
    /// One a key, in the order of the file, then those of keys that do not go together.
    pub fn check(raw: &RawConfig) -> std::result::Result<Self, Vec<Error>> {
        let mut raw = raw.clone();
        let full = raw.training.method.as_deref() == Some(Method::Full.as_str());
        raw.training.learning_rate.get_or_insert(if full { 1e-4 } else { 5e-4 });
        let training = &mut raw.training;
        training.load_best_model_at_end.get_or_insert(training.early_stopping_patience.is_some());
        let mut errors = Vec::new();
        let config = Self::each(&raw, &mut errors);
        if let Some(mut config) = config {
            config.together(&mut errors);
            if errors.is_empty() {
                return Ok(config);
            }
        }
        Err(errors)
    }

    /// Options that exclude each other.
    fn together(&mut self, errors: &mut Vec<Error>) {
        let quantized = ![Quantization::Auto, Quantization::None].contains(&self.model.quantization);
        if quantized && self.training.method == Method::Full {
            let got = format!("`{}` with training.method full", self.model.quantization.as_str());
            errors.push(Error::config("model.quantization", "auto or none, or training.method lora", got));
        }
        if self.training.packing && self.task.classifies() {
            let got = format!("true with task {}", self.task.as_str());
            errors.push(Error::config("training.packing", "false, or a task whose answers are written", got));
        }
        let data = &self.data;
        if let (Some(text), true) = (&data.text_column, data.text_column == data.label_column) {
            let got = format!("`{text}` for both");
            errors.push(Error::config("data.label_column", "another column than data.text_column", got));
        }
        let checked = [
            ("training.metric_for_best_model", Some(self.training.metric_for_best_model)),
            ("evaluation.success_metric", self.evaluation.success_metric),
        ];
        for (key, metric) in checked {
            errors.extend(metric.and_then(|metric| self.task.check_metric(key, metric, self).err()));
        }
        let threshold = self.recovery.divergence_threshold;
        if threshold != 0.0 && threshold <= 1.0 {
            errors.push(Error::config("recovery.divergence_threshold", "a number above 1, or 0 for none", threshold));
        }
        self.training.saving(errors);
        // A zero beside the other's value says nothing: only one of the two is kept.
        let training = &mut self.training;
        match (training.warmup_ratio, training.warmup_steps) {
            (Some(ratio), Some(1..)) if ratio != 0.0 => {
                errors.push(Error::config("training.warmup_ratio", "0 beside training.warmup_steps", ratio));
            }
            (Some(_), Some(1..)) => training.warmup_ratio = None,
            (Some(_), Some(0)) => training.warmup_steps = None,
            _ => {}
        }
    }

    /// How training holds the base: what is trained in full is in 32 bits.
    pub fn packing(&self) -> Packing {
        match self.training.method {
            Method::Full => Packing::Dense,
            Method::Lora => self.frozen(),
        }
    }

    /// How a model that is not trained is held.
    pub fn frozen(&self) -> Packing {
        match self.model.quantization {
            Quantization::None => Packing::Dense,
            Quantization::Auto => Packing::Stored,
            Quantization::Q4_0 => Packing::Quantized(GgmlType::Q4_0),
            Quantization::Q4_1 => Packing::Quantized(GgmlType::Q4_1),
            Quantization::Q8_0 => Packing::Quantized(GgmlType::Q8_0),
        }
    }
}
