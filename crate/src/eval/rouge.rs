//! ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) as PyPI's `rouge-score` 0.1.2 computes them, without stemming.

use super::text::{f1, grams, ids, overlap};

/// Tokens of either text that count, from its start: the longest common subsequence takes their product in steps.
pub const MAX_TOKENS: usize = 4096;

/// F-measures between 0 and 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rouge {
    pub rouge1: f64,
    pub rouge2: f64,
    pub rouge_l: f64,
}

/// Scores one answer against what was expected.
///
/// A token is a run of a–z and 0–9 after lower-casing, all else separates, as in `rouge-score`. A reference without any
/// such token (Chinese, say) would score 0 whatever the answer; there, and only there, the tokens of both texts are
/// Unicode's runs of letters and digits, with each Chinese character and each kana a token of its own.
pub fn score(reference: &str, prediction: &str) -> Rouge {
    let kind =
        if reference.chars().flat_map(char::to_lowercase).any(|c| c.is_ascii_alphanumeric()) { ascii } else { unicode };
    let (expected, predicted) = ids(&tokens(reference, kind), &tokens(prediction, kind));
    let n_grams = |n| f1(overlap(&expected, &predicted, n), grams(&expected, n), grams(&predicted, n));
    let common = longest_common(&expected, &predicted);
    Rouge { rouge1: n_grams(1), rouge2: n_grams(2), rouge_l: f1(common, grams(&expected, 1), grams(&predicted, 1)) }
}

enum Kind {
    /// Belongs to a token with its neighbours.
    Part,
    /// A token of its own.
    Whole,
    Between,
}

fn ascii(c: char) -> Kind {
    if c.is_ascii_alphanumeric() { Kind::Part } else { Kind::Between }
}

fn unicode(c: char) -> Kind {
    match c {
        _ if !c.is_alphanumeric() => Kind::Between,
        // Han with its extensions, compatibility forms and iteration marks; hiragana and katakana.
        '\u{3005}'..='\u{3007}'
        | '\u{3021}'..='\u{3029}'
        | '\u{3038}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9d}'
        | '\u{1b000}'..='\u{1b16f}'
        | '\u{20000}'..='\u{3ffff}' => Kind::Whole,
        _ => Kind::Part,
    }
}

fn tokens(text: &str, kind: fn(char) -> Kind) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        let kind = kind(c);
        if !matches!(kind, Kind::Part) && !word.is_empty() {
            tokens.push(std::mem::take(&mut word));
        }
        match kind {
            Kind::Part => word.push(c),
            Kind::Whole => tokens.push(c.into()),
            Kind::Between => {}
        }
        if tokens.len() >= MAX_TOKENS {
            break;
        }
    }
    if !word.is_empty() {
        tokens.push(word);
    }
    tokens.truncate(MAX_TOKENS);
    tokens
}

/// Length of the longest common subsequence: the table's current row only.
fn longest_common(a: &[u32], b: &[u32]) -> u64 {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let mut row = vec![0_u64; short.len() + 1];
    for x in long {
        let mut diagonal = 0;
        for (j, y) in short.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[short.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: Rouge, [rouge1, rouge2, rouge_l]: [f64; 3]) {
        let want = Rouge { rouge1, rouge2, rouge_l };
        let all = [(got.rouge1, rouge1), (got.rouge2, rouge2), (got.rouge_l, rouge_l)];
        assert!(all.iter().all(|(a, b)| (a - b).abs() < 1e-12), "{got:?} is not {want:?}");
    }

    #[test]
    fn by_hand() {
        // All 3 words are among the 4, none of 2 pairs among the 3; in order there is "the dog" only.
        close(score("The dog barks!", "barks, the big dog"), [6.0 / 7.0, 0.0, 4.0 / 7.0]);
        close(score("the dog barks", "the dog barks"), [1.0, 1.0, 1.0]);
        close(score("one", "one"), [1.0, 0.0, 1.0]);
    }

    #[test]
    fn nothing_scores_nothing() {
        for (reference, prediction) in
            [("", ""), ("", "word"), ("word", ""), ("?!", "…"), ("字", "word"), ("word", "字")]
        {
            close(score(reference, prediction), [0.0; 3]);
        }
    }

    #[test]
    fn without_ascii_a_token_is_a_word_or_a_chinese_character() {
        close(score("今天天气好。", "今天很好"), [2.0 * 3.0 / 9.0, 2.0 / 7.0, 2.0 * 3.0 / 9.0]);
        close(score("Добрый день", "добрый вечер!"), [0.5, 0.0, 0.5]);
        // One ASCII letter, and it is the package's tokenizer that counts.
        close(score("今天 a", "今天 b"), [0.0; 3]);
    }

    #[test]
    fn a_hostile_text_is_cut() {
        let (long, end) = ("a b ".repeat(100_000), " c".repeat(10));
        close(score(&(long.clone() + &end), &long), [1.0, 1.0, 1.0]);
        assert_eq!(tokens(&long, ascii).len(), MAX_TOKENS);
        assert_eq!(tokens(&"字".repeat(10_000), unicode).len(), MAX_TOKENS);
    }
}
