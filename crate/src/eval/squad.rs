//! Exact match and token F1 of answers to questions, as SQuAD's evaluation script for versions 1.1 and 2.0 has them.

use super::text::{f1, grams, overlap, words};

/// How well one answer fits the best of its references.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answer {
    pub exact: bool,
    /// Over the words that are left of both; between 0 and 1.
    pub f1: f64,
}

/// The best over the references. Without a reference, or where all are empty, the question has no answer: then only an
/// empty one is right. "Empty" is what has no word left after [`normalize`]. Words stand between white space, so that
/// a Chinese answer is one word: there F1 is exact match.
pub fn score(references: &[impl AsRef<str>], prediction: &str) -> Answer {
    let predicted = normalize(prediction);
    let mut references: Vec<_> = references.iter().map(|text| normalize(text.as_ref())).collect();
    references.retain(|words| !words.is_empty());
    if references.is_empty() {
        let exact = predicted.is_empty();
        return Answer { exact, f1: if exact { 1.0 } else { 0.0 } };
    }
    Answer {
        exact: references.contains(&predicted),
        f1: references
            .iter()
            .map(|words| f1(overlap(words, &predicted, 1), grams(words, 1), grams(&predicted, 1)))
            .fold(0.0, f64::max),
    }
}

/// The words that count, at most 65,536: in lower case, without ASCII's punctuation, without `a`, `an` and `the`.
pub fn normalize(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    // An article ends where letters and digits do, also before a dash or a quotation mark beyond ASCII.
    // (Rust counts vowel signs and circled letters among the letters and Python does not: an article beside one stays.)
    let kept: String = letters
        .chunk_by(|a, b| a.is_alphanumeric() == b.is_alphanumeric())
        .flat_map(|run| match run {
            ['a'] | ['a', 'n'] | ['t', 'h', 'e'] => &[' '],
            run => run,
        })
        .collect();
    words(&kept).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_punctuation_articles_and_space_do_not_count() {
        assert_eq!(normalize("  The U.S.A.,\tan   “a” Analyst—the THE end "), ["usa", "“", "”", "analyst—", "end"]);
        let same = score(&["the Eiffel Tower"], "Eiffel  tower!");
        assert_eq!((same.exact, same.f1), (true, 1.0));
    }

    #[test]
    fn the_best_reference_counts() {
        let answer = score(&["1879", "in the year 1879"], "in 1879");
        // Of {in, year, 1879} two are answered: 2·2 / (3 + 2).
        assert!(!answer.exact && (answer.f1 - 0.8).abs() < 1e-12);
        assert_eq!(score(&["no", "yes"], "Yes.").f1, 1.0);
        assert_eq!(score(&["no", "yes"], "perhaps"), Answer::default());
        assert_eq!(score(&["no"], ""), Answer::default());
    }

    #[test]
    fn without_an_answer_only_silence_is_right() {
        let right = Answer { exact: true, f1: 1.0 };
        assert_eq!(score(&[] as &[&str], " "), right);
        assert_eq!(score(&["", "the"], "."), right);
        assert_eq!(score(&[""], "Paris"), Answer::default());
        // An empty reference beside a real one is none.
        assert_eq!(score(&["", "Paris"], ""), Answer::default());
    }
}
