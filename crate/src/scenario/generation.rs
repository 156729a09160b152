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
            let mut turns = conversation(row.need(Role::Messages)?)?;
            let _ = turns.pop_if(|turn| turn.role == "assistant");
            return talk(turns, row);
        }
        let prompt = match (row.need(Role::Prompt)?, row.get(Role::Input)) {
            (prompt, Some(input)) => format!("{prompt}\n\n{input}"),
            (prompt, None) => prompt.to_owned(),
        };
        Ok(Exchange::ask(prompt).system(row.get(Role::System)))
    }

    fn answers(&self, shape: Shape, row: &Fields<'_>) -> Result<Vec<String>, String> {
        match shape {
            Shape::Messages => Ok(self.exchange(shape, row)?.answers),
            _ => Ok(vec![row.need(Role::Completion)?.to_owned()]),
        }
    }

    /// Of a conversation, up to the assistant's last turn: that one and those before it are learnt, as TRL does it.
    fn exchange(&self, shape: Shape, row: &Fields<'_>) -> Result<Exchange, String> {
        if shape != Shape::Messages {
            return Ok(Exchange { answers: self.answers(shape, row)?, ..self.ask(shape, row)? });
        }
        let mut turns = conversation(row.need(Role::Messages)?)?;
        let last = turns.iter().rposition(|turn| turn.role == "assistant").ok_or("no turn of the assistant")?;
        let trailing = last + 1 < turns.len();
        turns.truncate(last + 1);
        let answer = turns.pop().map(|turn| turn.content).filter(|answer| !answer.trim().is_empty());
        let answers = vec![answer.ok_or("the assistant's last turn is empty")?];
        Ok(Exchange { answers, trailing, ..talk(turns, row)? })
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

/// A conversation that the user's last turn ends, with the row's own system text where it has none.
fn talk(turns: Vec<Message>, row: &Fields<'_>) -> Result<Exchange, String> {
    if turns.last().is_none_or(|turn| turn.role != "user") {
        return Err("no turn of the user that is to be answered".into());
    }
    let system = row.get(Role::System).filter(|_| turns.first().is_none_or(|turn| turn.role != "system"));
    Ok(Exchange { turns, ..Exchange::default() }.system(system))
}
