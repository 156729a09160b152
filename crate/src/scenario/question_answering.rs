//! Question answering: from a text, or from what the model knows.

use super::{Learns, Scenario};
use crate::{
    config::Config,
    data::{Exchange, Fields, Role, Shape, answers},
    eval::{Metric, squad},
};

pub struct QuestionAnswering;

/// What is learnt, and counts as right, where the text does not answer.
const UNANSWERABLE: &str = "unanswerable";

impl Scenario for QuestionAnswering {
    fn name(&self) -> &'static str {
        "Question answering"
    }

    fn about(&self) -> &'static str {
        "Answers a question from the text that is given with it, or without one."
    }

    fn shapes(&self) -> &'static [Shape] {
        &[Shape::QuestionAnswer]
    }

    fn learns(&self, _: Shape) -> Learns {
        Learns::Answers
    }

    fn ask(&self, _: Shape, row: &Fields<'_>) -> Result<Exchange, String> {
        let question = row.need(Role::Question)?.trim();
        Ok(match row.get(Role::Context).map(str::trim) {
            Some(context) => Exchange::ask(format!("{context}\n\nQuestion: {question}")).long(context),
            None => Exchange::ask(format!("Question: {question}")),
        })
    }

    fn answers(&self, _: Shape, row: &Fields<'_>) -> Result<Vec<String>, String> {
        let mut accepted = answers(row.get(Role::Answer).unwrap_or_default());
        if accepted.is_empty() {
            // SQuAD 2 has questions without an answer, and only beside a text.
            row.get(Role::Context).ok_or("no answer")?;
            accepted.push(UNANSWERABLE.to_owned());
        }
        Ok(accepted)
    }

    fn lead(&self) -> &'static str {
        "\nAnswer:"
    }

    fn metrics(&self, _: &Config) -> &'static [Metric] {
        &[Metric::F1, Metric::ExactMatch, Metric::Perplexity, Metric::Accuracy]
    }

    fn judge(&self, answer: &str, expected: &[String]) -> Vec<f64> {
        let score = squad::score(expected, answer);
        vec![f64::from(u8::from(score.exact)), score.f1]
    }

    fn judged(&self, sums: &[f64], rows: f64) -> Vec<(Metric, f64)> {
        let [exact, f1] = sums else { return Vec::new() };
        vec![(Metric::ExactMatch, exact / rows), (Metric::F1, f1 / rows)]
    }

    fn max_new_tokens(&self) -> usize {
        32
    }
}
