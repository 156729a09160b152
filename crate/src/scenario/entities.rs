//! Named entities as JSON. A scenario beyond the four, small enough to begin one's own from.

use super::{Learns, Scenario};
use crate::{
    config::Config,
    data::{Exchange, Fields, Role, Shape},
    eval::{Metric, entities},
};

pub struct EntityTagging;

impl Scenario for EntityTagging {
    fn name(&self) -> &'static str {
        "Entity tagging"
    }

    fn about(&self) -> &'static str {
        "Finds names of people, places and other things in a text and writes them as JSON."
    }

    fn shapes(&self) -> &'static [Shape] {
        &[Shape::TextLabel]
    }

    fn learns(&self, _: Shape) -> Learns {
        Learns::Answers
    }

    fn ask(&self, _: Shape, row: &Fields<'_>) -> Result<Exchange, String> {
        let text = row.need(Role::Text)?.trim();
        Ok(Exchange::ask(format!("Find the entities in this text.\n\n{text}")).long(text))
    }

    /// `{"PER": ["Ada"]}` or `[{"type": "PER", "text": "Ada"}]`.
    fn answers(&self, _: Shape, row: &Fields<'_>) -> Result<Vec<String>, String> {
        let label = row.need(Role::Label)?.trim();
        entities::parse(label).ok_or("its entities are no JSON such as {\"PER\": [\"Ada\"]}")?;
        Ok(vec![label.to_owned()])
    }

    fn lead(&self) -> &'static str {
        "\n\nEntities:"
    }

    fn metrics(&self, _: &Config) -> &'static [Metric] {
        &[Metric::EntityF1, Metric::Parsed, Metric::Perplexity, Metric::Accuracy]
    }

    fn judge(&self, answer: &str, expected: &[String]) -> Vec<f64> {
        let expected = expected.first().and_then(|text| entities::parse(text)).unwrap_or_default();
        let counts = entities::EntityCounts::of(&expected, entities::parse(answer).as_ref());
        [counts.right, counts.expected, counts.predicted, counts.unparsable].map(|count| count as f64).to_vec()
    }

    fn judged(&self, sums: &[f64], rows: f64) -> Vec<(Metric, f64)> {
        let [right, expected, predicted, unparsable] = sums else { return Vec::new() };
        let f1 = 2.0 * right / f64::max(expected + predicted, 1.0);
        vec![(Metric::EntityF1, f1), (Metric::Parsed, 1.0 - unparsable / rows)]
    }

    fn max_new_tokens(&self) -> usize {
        96
    }
}
