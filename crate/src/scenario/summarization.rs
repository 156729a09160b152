//! Summarisation: a document in a few sentences.

use super::{Learns, Scenario};
use crate::{
    config::Config,
    data::{Exchange, Fields, Role, Shape},
    eval::{Metric, rouge},
};

pub struct Summarization;

impl Scenario for Summarization {
    fn name(&self) -> &'static str {
        "Summarisation"
    }

    fn about(&self) -> &'static str {
        "Says in a few sentences what a document says."
    }

    fn shapes(&self) -> &'static [Shape] {
        &[Shape::DocumentSummary]
    }

    fn learns(&self, _: Shape) -> Learns {
        Learns::Answers
    }

    fn ask(&self, _: Shape, row: &Fields<'_>) -> Result<Exchange, String> {
        let document = row.need(Role::Text)?.trim();
        Ok(Exchange::ask(format!("Summarize this text.\n\n{document}")).long(document))
    }

    fn answers(&self, _: Shape, row: &Fields<'_>) -> Result<Vec<String>, String> {
        Ok(vec![row.need(Role::Summary)?.trim().to_owned()])
    }

    fn lead(&self) -> &'static str {
        "\n\nSummary:"
    }

    fn metrics(&self, _: &Config) -> &'static [Metric] {
        &[Metric::RougeL, Metric::Rouge1, Metric::Rouge2, Metric::Perplexity, Metric::Accuracy]
    }

    fn judge(&self, answer: &str, expected: &[String]) -> Vec<f64> {
        let scores = expected.iter().map(|text| rouge::score(text, answer));
        let best = scores.max_by(|a, b| a.rouge_l.total_cmp(&b.rouge_l));
        best.map_or_else(|| vec![0.0; 3], |best| vec![best.rouge1, best.rouge2, best.rouge_l])
    }

    fn judged(&self, sums: &[f64], rows: f64) -> Vec<(Metric, f64)> {
        let metrics = [Metric::Rouge1, Metric::Rouge2, Metric::RougeL];
        metrics.into_iter().zip(sums.iter().map(|sum| sum / rows)).collect()
    }

    fn max_new_tokens(&self) -> usize {
        128
    }
}
