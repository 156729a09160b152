//! Every metric there is, by the field's names: a further one is a line in the table below.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::config::rule::words;

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $field:ident: $variant:ident = $word:literal, $better:ident, $unit:ident;)+) => {
        /// Numbers by the field's names; what does not apply to the task is absent.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
        pub struct Metrics {
            /// Mean over rows, or over the tokens that are learnt.
            pub loss: f64,
            $(
                $(#[doc = $doc])+
                #[serde(rename = $word, skip_serializing_if = "Option::is_none", default)]
                pub $field: Option<f64>,
            )+
        }

        words! {
            /// What a model is measured by.
            Metric { Loss = "loss", $($(#[doc = $doc])+ $variant = $word),+ }
        }

        impl Metric {
            pub fn greater_is_better(self) -> bool {
                match self {
                    Self::Loss => false,
                    $(Self::$variant => metrics!(@ $better)),+
                }
            }

            /// From 0 to 1, as a person reads a percentage.
            pub fn is_share(self) -> bool {
                match self {
                    Self::Loss => false,
                    $(Self::$variant => metrics!(@ $unit)),+
                }
            }

            /// None where the task has no such metric.
            pub fn of(self, metrics: &Metrics) -> Option<f64> {
                match self {
                    Self::Loss => Some(metrics.loss),
                    $(Self::$variant => metrics.$field),+
                }
            }
        }

        impl Metrics {
            /// Those that there are; the loss last, as it tells a person least.
            pub fn all(&self) -> impl Iterator<Item = (Metric, f64)> {
                let others = Metric::ALL.iter().copied().filter(|metric| *metric != Metric::Loss).chain([Metric::Loss]);
                others.filter_map(|metric| Some((metric, metric.of(self)?)))
            }

            pub fn set(&mut self, metric: Metric, value: f64) {
                match metric {
                    Metric::Loss => self.loss = value,
                    $(Metric::$variant => self.$field = Some(value)),+
                }
            }
        }
    };
    (@ higher) => { true };
    (@ lower) => { false };
    (@ share) => { true };
    (@ number) => { false };
}

metrics! {
    /// Share of right answers (of right next tokens in a language model).
    accuracy: Accuracy = "accuracy", higher, share;
    /// Mean of the classes' F1.
    macro_f1: MacroF1 = "macro_f1", higher, share;
    /// F1 over all classes together.
    micro_f1: MicroF1 = "micro_f1", higher, share;
    /// Mean of the classes' recall.
    balanced_accuracy: BalancedAccuracy = "balanced_accuracy", higher, share;
    /// Expected calibration error: how far confidence is from accuracy.
    calibration_error: CalibrationError = "calibration_error", lower, share;
    /// Share of the most frequent class: what always answering it would score.
    majority: Majority = "majority", higher, share;
    /// e to the mean loss a token.
    perplexity: Perplexity = "perplexity", lower, number;
    /// Loss in bits over the bytes of the text that it writes: comparable between tokenizers.
    bits_per_byte: BitsPerByte = "bits_per_byte", lower, number;
    /// Share of answers that are an accepted one, in SQuAD's normal form.
    exact_match: ExactMatch = "exact_match", higher, share;
    /// Overlap of an answer's words with an accepted one's, as SQuAD counts it.
    f1: F1 = "f1", higher, share;
    /// Overlap of single words with the reference (F-measure).
    rouge1: Rouge1 = "rouge1", higher, share;
    /// Overlap of pairs of words.
    rouge2: Rouge2 = "rouge2", higher, share;
    /// Longest common subsequence of words.
    rouge_l: RougeL = "rougeL", higher, share;
    /// Corpus BLEU, from 0 to 100.
    bleu: Bleu = "bleu", higher, number;
    /// F1 over entities, each with its type.
    entity_f1: EntityF1 = "entity_f1", higher, share;
    /// Share of answers that are the JSON that was asked for.
    parsed: Parsed = "parsed", higher, share;
    /// Mean squared error.
    mse: Mse = "mse", lower, number;
    /// Mean absolute error.
    mae: Mae = "mae", lower, number;
    /// Share of the variance that is explained.
    r2: R2 = "r2", higher, number;
    /// Pearson's correlation.
    pearson: Pearson = "pearson", higher, number;
}
