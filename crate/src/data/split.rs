//! Seeded draws that come out alike on every platform, in 32-bit wasm as on a 64-bit machine.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::examples::{Example, Target};
use crate::error::{Error, Result};

/// Random streams of one seed, so that no use of the seed repeats another's numbers.
const SPLIT: u64 = u64::MAX;
const SAMPLE: u64 = u64::MAX - 1;

fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

fn shuffle_with<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        // The high half of a 64 × 64 bit product is uniform over 0..=last but for 2⁻⁶⁴ or so.
        let at = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        items.swap(last, at as usize);
    }
}

/// Fisher–Yates with ChaCha8; `stream` tells shuffles of one seed apart (epochs).
pub fn shuffle<T>(items: &mut [T], seed: u64, stream: u64) {
    shuffle_with(items, &mut rng(seed, stream));
}

/// At most `most` of the rows, drawn with the seed, in their old order.
pub fn sample(mut rows: Vec<Example>, most: Option<usize>, seed: u64) -> Vec<Example> {
    let Some(most) = most.filter(|most| *most < rows.len()) else { return rows };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    shuffle(&mut order, seed, SAMPLE);
    let mut keep = vec![false; rows.len()];
    order.iter().take(most).for_each(|index| keep[*index] = true);
    let mut keep = keep.into_iter();
    rows.retain(|_| keep.next().unwrap_or_default());
    rows
}

/// Holds out the share `fraction` of the rows, of each class alike: `(training, validation)`, both in file order.
///
/// As many are held out as scikit-learn's `train_test_split` would (rounded up); classes get their shares rounded by
/// largest remainder; a class of one row stays in training.
///
/// # Errors
/// Fewer than two rows.
pub fn split(file: &str, rows: Vec<Example>, fraction: f64, seed: u64) -> Result<(Vec<Example>, Vec<Example>)> {
    if rows.len() < 2 {
        let message = format!("{} usable row; training and validation need one each", rows.len());
        return Err(Error::data(file, message, "Add rows, or set data.validation_file."));
    }
    let wanted = ((rows.len() as f64 * fraction).ceil() as usize).clamp(1, rows.len() - 1);
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let class = if let Target::Class(class) = row.target { class } else { 0 };
        classes.entry(class).or_default().push(index);
    }
    let mut rng = rng(seed, SPLIT);
    let mut held_out = vec![false; rows.len()];
    let mut taken = 0;
    // What rounding down leaves over goes to the largest remainders, ties to the lower class.
    let mut rest: Vec<(f64, usize, usize)> = Vec::new();
    for (class, indices) in &mut classes {
        shuffle_with(indices, &mut rng);
        let share = indices.len() as f64 * wanted as f64 / rows.len() as f64;
        let count = (share.floor() as usize).min(indices.len() - 1);
        indices[..count].iter().for_each(|index| held_out[*index] = true);
        taken += count;
        if count < indices.len() - 1 {
            rest.push((share - count as f64, *class, indices[count]));
        }
    }
    rest.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, _, index) in rest.iter().take(wanted.saturating_sub(taken)) {
        held_out[*index] = true;
        taken += 1;
    }
    if taken == 0 {
        let advice = "Add rows of each label, or set data.validation_file.";
        return Err(Error::data(file, "every label has one row only, so none can be held out", advice));
    }
    let mut training = Vec::with_capacity(rows.len() - taken);
    let mut validation = Vec::with_capacity(taken);
    for (row, held_out) in rows.into_iter().zip(held_out) {
        if held_out { validation.push(row) } else { training.push(row) }
    }
    Ok((training, validation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(classes: &[usize]) -> Vec<Example> {
        let example = |(row, class): (u64, &usize)| Example {
            row,
            text: String::new(),
            target: Target::Class(*class),
            exchange: None,
            fields: BTreeMap::new(),
        };
        (2..).zip(classes).map(example).collect()
    }

    fn numbers(rows: &[Example]) -> Vec<u64> {
        rows.iter().map(|row| row.row).collect()
    }

    #[test]
    fn a_shuffle_is_the_same_everywhere() {
        let mut items: Vec<u32> = (0..10).collect();
        shuffle(&mut items, 42, 0);
        // Written down once; a change of it would change every run.
        assert_eq!(items, [9, 7, 2, 5, 0, 1, 4, 3, 8, 6]);
        let mut other: Vec<u32> = (0..10).collect();
        shuffle(&mut other, 42, 1);
        assert_ne!(items, other);
    }

    #[test]
    fn each_class_is_held_out_alike() {
        let classes: Vec<usize> = (0..100).map(|row| usize::from(row % 5 == 0)).collect();
        let (training, validation) = split("a.csv", rows(&classes), 0.1, 42).expect("a split");
        assert_eq!((training.len(), validation.len()), (90, 10));
        assert_eq!(validation.iter().filter(|row| row.target == Target::Class(1)).count(), 2);
        let mut all = [numbers(&training), numbers(&validation)].concat();
        assert!(numbers(&training).is_sorted() && numbers(&validation).is_sorted());
        all.sort_unstable();
        assert_eq!(all, (2..102).collect::<Vec<_>>());

        let again = split("a.csv", rows(&classes), 0.1, 42).expect("a split");
        assert_eq!(numbers(&again.1), numbers(&validation));
        let other = split("a.csv", rows(&classes), 0.1, 43).expect("a split");
        assert_ne!(numbers(&other.1), numbers(&validation));
    }

    #[test]
    fn shares_are_rounded_by_largest_remainder() {
        // 7 and 3 rows, 2.5 → 3 held out: shares 2.1 and 0.9.
        let (_, validation) = split("a.csv", rows(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 1]), 0.25, 1).expect("a split");
        assert_eq!(validation.iter().filter(|row| row.target == Target::Class(1)).count(), 1);
        assert_eq!(validation.len(), 3);
    }

    #[test]
    fn both_parts_have_rows_or_it_fails() {
        for fraction in [0.001, 0.5, 0.999] {
            let (training, validation) = split("a.csv", rows(&[0, 0, 1, 1, 2]), fraction, 1).expect("a split");
            assert!(!training.is_empty() && !validation.is_empty());
            // Each class stays in training, also the one of a single row.
            for class in 0..3 {
                assert!(training.iter().any(|row| row.target == Target::Class(class)), "{fraction}");
            }
        }
        assert!(split("a.csv", rows(&[0]), 0.5, 1).is_err());
        assert!(split("a.csv", rows(&[0, 1]), 0.5, 1).is_err());
    }

    #[test]
    fn a_sample_keeps_the_order() {
        let all = rows(&[0; 50]);
        let some = sample(all.clone(), Some(10), 3);
        assert_eq!(some.len(), 10);
        assert!(numbers(&some).is_sorted());
        assert_ne!(numbers(&some), numbers(&sample(all.clone(), Some(10), 4)));
        assert_eq!(sample(all.clone(), Some(50), 3), all);
        assert_eq!(sample(all.clone(), None, 3), all);
    }
}
