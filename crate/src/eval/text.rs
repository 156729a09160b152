//! What the measures of texts share: Python's white space, counting of n-grams, F1.

use std::cmp::Ordering;

/// Tokens of one text that are counted at most. No answer of a model is as long; a cell of a hostile file may be.
pub const MAX_TOKENS: usize = 1 << 16;

/// White space as Python's `str.split` has it: Unicode's and ASCII's four separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The text's parts between white space, at most [`MAX_TOKENS`] of them.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty()).take(MAX_TOKENS)
}

/// Numbers in the tokens' place, equal where the tokens are.
pub fn ids(a: &[impl AsRef<str>], b: &[impl AsRef<str>]) -> (Vec<u32>, Vec<u32>) {
    let mut known: Vec<&str> = a.iter().map(AsRef::as_ref).chain(b.iter().map(AsRef::as_ref)).collect();
    known.sort_unstable();
    known.dedup();
    let id = |token: &str| known.partition_point(|other| *other < token) as u32;
    (a.iter().map(|token| id(token.as_ref())).collect(), b.iter().map(|token| id(token.as_ref())).collect())
}

/// How many n-grams the tokens have.
pub fn grams<T>(tokens: &[T], n: usize) -> u64 {
    (tokens.len() + 1).saturating_sub(n) as u64
}

/// How many n-grams of `a` and `b` can be paired, each with an equal one of its own; `n` is at least 1.
pub fn overlap<T: Ord>(a: &[T], b: &[T], n: usize) -> u64 {
    let mut a: Vec<&[T]> = a.windows(n).collect();
    let mut b: Vec<&[T]> = b.windows(n).collect();
    a.sort_unstable();
    b.sort_unstable();
    let (mut i, mut j, mut pairs) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(b[j]) {
            Ordering::Less => i += 1,
            Ordering::Greater => j += 1,
            Ordering::Equal => (i, j, pairs) = (i + 1, j + 1, pairs + 1),
        }
    }
    pairs
}

/// 0 of nothing.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The harmonic mean of precision `right / predicted` and recall `right / expected`; 0 where nothing is right.
pub fn f1(right: u64, expected: u64, predicted: u64) -> f64 {
    share(2 * right, expected + predicted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_n_gram_is_paired_once() {
        let (a, b) = ids(&["the", "cat", "the", "cat"], &["the", "cat", "sat"]);
        assert_eq!((overlap(&a, &b, 1), overlap(&a, &b, 2), overlap(&a, &b, 3)), (2, 1, 0));
        assert_eq!((grams(&a, 1), grams(&a, 4), grams(&a, 5), grams(&a[..0], 1)), (4, 1, 0, 0));
        assert_eq!(overlap::<u32>(&[], &[], 1), 0);
    }

    #[test]
    fn space_is_pythons() {
        assert_eq!(words("\u{1c} a\u{a0}b\u{3000}\nc\u{200b}d ").collect::<Vec<_>>(), ["a", "b", "c\u{200b}d"]);
        assert_eq!(words(&"x ".repeat(MAX_TOKENS + 5)).count(), MAX_TOKENS);
    }
}
