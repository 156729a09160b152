//! Corpus BLEU (Papineni et al. 2002) as sacrebleu computes it by default: tokenizer 13a, exponential smoothing, no
//! effective order, one reference a row. Signature: `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`.

use super::text::{grams, ids, is_space, overlap, words};

const ORDERS: usize = 4;

/// All that BLEU needs to know of a row; a corpus has the sum of its rows'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// N-grams of the answer that the reference has too, by order from 1.
    pub matches: [u64; ORDERS],
    /// N-grams of the answer.
    pub totals: [u64; ORDERS],
    /// Tokens.
    pub hypothesis: u64,
    pub reference: u64,
}

impl Stats {
    /// Counts one row, of each text at most 65,536 tokens.
    pub fn of(reference: &str, hypothesis: &str) -> Self {
        let (reference, hypothesis) = (tokenize(reference), tokenize(hypothesis));
        let reference: Vec<&str> = words(&reference).collect();
        let hypothesis: Vec<&str> = words(&hypothesis).collect();
        let (reference, hypothesis) = ids(&reference, &hypothesis);
        Self {
            matches: std::array::from_fn(|i| overlap(&reference, &hypothesis, i + 1)),
            totals: std::array::from_fn(|i| grams(&hypothesis, i + 1)),
            hypothesis: grams(&hypothesis, 1),
            reference: grams(&reference, 1),
        }
    }

    /// Adds a row that counts `times` times (its weight in a resample).
    pub fn add(&mut self, row: &Self, times: u32) {
        let times = u64::from(times);
        for i in 0..ORDERS {
            self.matches[i] += row.matches[i] * times;
            self.totals[i] += row.totals[i] * times;
        }
        self.hypothesis += row.hypothesis * times;
        self.reference += row.reference * times;
    }

    /// The rows of a resample, each counted as often as its weight says.
    pub fn resampled(rows: &[Self], weights: &[u32]) -> Self {
        let mut sum = Self::default();
        rows.iter().zip(weights).for_each(|(row, times)| sum.add(row, *times));
        sum
    }

    /// BLEU between 0 and 100; 0 where no answer has a right word or none has four words.
    pub fn score(&self) -> f64 {
        if self.matches == [0; ORDERS] || self.totals.contains(&0) {
            return 0.0;
        }
        let mut smooth = 1.0;
        let logs: f64 = (0..ORDERS)
            .map(|i| {
                let right = if self.matches[i] == 0 {
                    smooth *= 2.0;
                    1.0 / smooth
                } else {
                    self.matches[i] as f64
                };
                (100.0 * right / self.totals[i] as f64).ln()
            })
            .sum();
        let brevity = (1.0 - self.reference as f64 / self.hypothesis as f64).min(0.0);
        (brevity + logs / ORDERS as f64).exp()
    }
}

impl std::iter::Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(rows: I) -> Self {
        rows.fold(Self::default(), |mut sum, row| {
            sum.add(&row, 1);
            sum
        })
    }
}

/// mteval-v13a's tokens, with white space between them. Its rules are applied one after the other from left to right,
/// and none looks again at a character that it has taken: "1,2,3" stays whole, "a,,b" does not.
fn tokenize(text: &str) -> String {
    let mut line = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if line.contains('&') {
        // In this order, so that `&amp;lt;` becomes `<`.
        for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            line = line.replace(entity, character);
        }
    }
    let mut spaced = String::with_capacity(line.len() + 2);
    spaced.push(' ');
    for c in line.chars() {
        // ASCII's symbols but for ' , - and .
        if c.is_ascii_punctuation() && !matches!(c, '\'' | ',' | '-' | '.') {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let digit = |c: char| c.is_ascii_digit();
    let point = |c: char| matches!(c, '.' | ',');
    let spaced = split_pairs(&spaced, |a, b| !digit(a) && point(b), "", " ");
    let spaced = split_pairs(&spaced, |a, b| point(a) && !digit(b), " ", "");
    split_pairs(&spaced, |a, b| digit(a) && b == '-', "", " ")
}

/// Puts a space between two characters that fit, and what is given before and after them.
fn split_pairs(text: &str, fits: impl Fn(char, char) -> bool, before: &str, after: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        match chars.next_if(|second| fits(first, *second)) {
            Some(second) => {
                out.push_str(before);
                out.extend([first, ' ', second]);
                out.push_str(after);
            }
            None => out.push(first),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        words(&tokenize(text)).map(str::to_owned).collect()
    }

    #[test]
    fn rules_of_13a() {
        assert_eq!(
            tokens("It's 1,234.5 (or so), isn't it?"),
            ["It's", "1,234.5", "(", "or", "so", ")", ",", "isn't", "it", "?"]
        );
        assert_eq!(
            tokens("1990-95 well-known Mr. X..."),
            ["1990", "-", "95", "well-known", "Mr", ".", "X", ".", ".", "."]
        );
        assert_eq!(tokens("a&amp;lt;b <skipped>co-\noperate\n"), ["a", "<", "b", "cooperate"]);
        assert_eq!(tokens(""), [""; 0]);
    }

    #[test]
    fn a_right_corpus_is_100_and_a_short_one_is_punished() {
        let whole = Stats::of("the cat sat on the mat", "the cat sat on the mat");
        assert!((whole.score() - 100.0).abs() < 1e-9);
        // All precisions 1, four of six words: exp(1 - 6/4).
        let short = Stats::of("the cat sat on the mat", "the cat sat on");
        assert!((short.score() - 100.0 * (-0.5_f64).exp()).abs() < 1e-9);
    }

    #[test]
    fn nothing_right_or_nothing_said_is_zero() {
        for stats in [Stats::default(), Stats::of("a b c d", ""), Stats::of("a b c d", "e f g h"), Stats::of("a", "a")]
        {
            assert_eq!(stats.score(), 0.0);
        }
    }

    #[test]
    fn weights_count_rows_as_often() {
        let rows = [Stats::of("a b c d e", "a b c d"), Stats::of("x y", "x z")];
        let written: Stats = [rows[0], rows[1], rows[1]].into_iter().sum();
        assert_eq!(Stats::resampled(&rows, &[1, 2]), written);
        assert_eq!((written.matches, written.totals), ([6, 3, 2, 1], [8, 5, 2, 1]));
    }
}
