//! Sentiment analysis and every other classification; with `num_labels: 1` regression.

use super::{Learns, Scenario};
use crate::{config::Config, data::Shape, eval::Metric};

pub struct TextClassification;

impl Scenario for TextClassification {
    fn name(&self) -> &'static str {
        "Sentiment analysis and other classification"
    }

    fn about(&self) -> &'static str {
        "Tells which of a few classes a text belongs to, or which number it deserves."
    }

    fn shapes(&self) -> &'static [Shape] {
        &[Shape::TextLabel]
    }

    fn learns(&self, _: Shape) -> Learns {
        Learns::Label
    }

    fn metrics(&self, config: &Config) -> &'static [Metric] {
        if config.model.num_labels == Some(1) {
            return &[Metric::Mse, Metric::Mae, Metric::R2, Metric::Pearson];
        }
        &[Metric::MacroF1, Metric::Accuracy, Metric::BalancedAccuracy, Metric::MicroF1, Metric::CalibrationError]
    }
}
