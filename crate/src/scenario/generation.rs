//! Text generation: plain text, prompts with completions, conversations.

use super::{Learns, Scenario};
use crate::{
    config::Config,
    data::{Exchange, Fields, Role, Shape, conversation},
    eval::{Metric, bleu, rouge},
    tokenizer::Message,
};

pub struct TextGeneration;

impl Scenario for TextGeneration {
    fn name(&self) -> &'static str {
        "Text generation"
    }

    fn about(&self) -> &'static str {
        "Writes on in the manner of a text, follows instructions, or talks."
    }

    fn shapes(&self) -> &'static [Shape] {
        &[Shape::Messages, Shape::PromptCompletion, Shape::Text]
    }

    fn learns(&self, shape: Shape) -> Learns {
        if shape == Shape::Text { Learns::Text } else { Learns::Answers }
    }

    fn ask(&self, shape: Shape, row: &Fields<'_>) -> Result<Exchange, String> {
        if shape == Shape::Messages {
            let (turns, _) = talk(row)?;
            let system = row.get(Role::System).filter(|_| turns[0].role != "system");
            return Ok(Exchange { turns, ..Exchange::default() }.system(system));
        }
        let prompt = match (row.need(Role::Prompt)?, row.get(Role::Input)) {
            (prompt, Some(input)) => format!("{prompt}\n\n{input}"),
            (prompt, None) => prompt.to_owned(),
        };
        Ok(Exchange::ask(prompt).system(row.get(Role::System)))
    }

    fn answers(&self, shape: Shape, row: &Fields<'_>) -> Result<Vec<String>, String> {
        match shape {
            Shape::Messages => match talk(row)?.1 {
                Some(answer) if !answer.trim().is_empty() => Ok(vec![answer]),
                Some(_) => Err("the assistant's last turn is empty".into()),
                None => Err("its last turn is not the assistant's".into()),
            },
            _ => Ok(vec![row.need(Role::Completion)?.to_owned()]),
        }
    }

    fn metrics(&self, _: &Config) -> &'static [Metric] {
        &[Metric::Perplexity, Metric::BitsPerByte, Metric::Accuracy, Metric::RougeL, Metric::Bleu]
    }

    fn judge(&self, answer: &str, expected: &[String]) -> Vec<f64> {
        let best = expected.iter().map(|text| rouge::score(text, answer).rouge_l).fold(0.0, f64::max);
        let reference = expected.first().map(String::as_str).unwrap_or_default();
        let bleu::Stats { matches, totals, hypothesis, reference } = bleu::Stats::of(reference, answer);
        let counts = matches.into_iter().chain(totals).chain([hypothesis, reference]);
        std::iter::once(best).chain(counts.map(|count| count as f64)).collect()
    }

    fn judged(&self, sums: &[f64], rows: f64) -> Vec<(Metric, f64)> {
        let [rouge, counts @ ..] = sums else { return Vec::new() };
        let count = |i: usize| counts.get(i).copied().unwrap_or_default() as u64;
        let stats = bleu::Stats {
            matches: std::array::from_fn(count),
            totals: std::array::from_fn(|i| count(4 + i)),
            hypothesis: count(8),
            reference: count(9),
        };
        vec![(Metric::RougeL, rouge / rows), (Metric::Bleu, stats.score())]
    }

    fn max_new_tokens(&self) -> usize {
        128
    }
}

/// A conversation and what the assistant says at its end, where it has the last word.
fn talk(row: &Fields<'_>) -> Result<(Vec<Message>, Option<String>), String> {
    let mut turns = conversation(row.need(Role::Messages)?)?;
    let answer = turns.pop_if(|turn| turn.role == "assistant").map(|turn| turn.content);
    if turns.last().is_none_or(|turn| turn.role != "user") {
        return Err("no turn of the user that is to be answered".into());
    }
    Ok((turns, answer))
}
