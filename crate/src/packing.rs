//! Several rows in one sequence: texts end to end in blocks, or whole rows side by side.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use crate::{batch::Sequences, data::Target};

/// Joins texts into blocks of one length for text generation, as Hugging Face's `run_clm` does, but keeps the last,
/// shorter block where it has something to predict.
#[derive(Debug)]
pub struct Packer {
    block: usize,
    eos: Option<u32>,
    pending: Vec<u32>,
    row: u64,
    packed: Sequences,
}

impl Packer {
    /// Blocks of `block` tokens; `eos` ends each text that does not end with it already.
    pub fn new(block: usize, eos: Option<u32>) -> Self {
        Self { block: block.max(2), eos, pending: Vec::new(), row: 0, packed: Sequences::default() }
    }

    pub fn push(&mut self, row: u64, ids: &[u32]) {
        if self.pending.is_empty() {
            self.row = row;
        }
        self.pending.extend_from_slice(ids);
        if let Some(eos) = self.eos.filter(|eos| !ids.is_empty() && ids.last() != Some(eos)) {
            self.pending.push(eos);
        }
        let whole = self.pending.len() - self.pending.len() % self.block;
        for block in self.pending[..whole].chunks(self.block) {
            self.packed.push(self.row, block, Target::None);
            self.row = row;
        }
        self.pending.drain(..whole);
    }

    pub fn finish(mut self) -> Sequences {
        if self.pending.len() > 1 {
            self.packed.push(self.row, &self.pending, Target::None);
        }
        self.packed
    }
}

/// Which rows of these lengths go into which sequence of at most `most` tokens, in the order in which sequences are begun:
/// the longest rows first, each where the least room is left that is enough for it, or into a new one. So does TRL's
/// `packing_strategy: bfd` (best fit, decreasing), but for its batches of a thousand rows. A row that is longer than `most`
/// is alone.
pub fn best_fit(lengths: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<(usize, usize)> = lengths.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, length)| Reverse(*length));
    let mut sequences: Vec<Vec<usize>> = Vec::new();
    // Sequences by the room that they have left; of several the one that has waited longest.
    let mut room: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for (row, length) in order {
        let fits = room
            .range_mut(length..)
            .next()
            .and_then(|(left, waiting)| Some((*left, waiting.pop_front()?, waiting.is_empty())));
        if let Some((left, _, true)) = fits {
            room.remove(&left);
        }
        let (left, sequence) = match fits {
            Some((left, sequence, _)) => (left, sequence),
            None => {
                sequences.push(Vec::new());
                (most.max(length), sequences.len() - 1)
            }
        };
        sequences[sequence].push(row);
        room.entry(left - length).or_default().push_back(sequence);
    }
    sequences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{Batch, IGNORE_INDEX, Targets},
        rng,
    };
    use rand::Rng;

    #[test]
    fn the_longest_rows_come_first_and_each_fills_the_least_room() {
        // Of TRL's documentation.
        assert_eq!(best_fit(&[5, 2, 3, 1], 4), [vec![0], vec![2, 3], vec![1]]);
        assert_eq!(best_fit(&[5, 2, 3, 1], 5), [vec![0], vec![2, 1], vec![3]]);
        assert_eq!(best_fit(&[4, 4, 3, 3], 10), [vec![0, 1], vec![2, 3]]);
        // Of two with the same room, the one that has waited longest.
        assert_eq!(best_fit(&[6, 6, 3, 3], 10), [vec![0, 2], vec![1, 3]]);
        assert_eq!(best_fit(&[7, 6, 4, 3, 2], 10), [vec![0, 3], vec![1, 2], vec![4]]);
        assert_eq!(best_fit(&[], 10), Vec::<Vec<usize>>::new());
        assert_eq!(best_fit(&[1; 5], 1).len(), 5);
    }

    #[test]
    fn every_row_is_in_one_sequence_and_none_is_too_long() {
        let mut rng = rng::stream(7, 7);
        for most in [1, 8, 100] {
            let lengths: Vec<usize> = (0..500).map(|_| rng.random_range(1..=most)).collect();
            let sequences = best_fit(&lengths, most);
            let length = |rows: &Vec<usize>| rows.iter().map(|row| lengths[*row]).sum::<usize>();
            assert!(sequences.iter().all(|rows| !rows.is_empty() && length(rows) <= most));
            let mut rows = sequences.concat();
            rows.sort_unstable();
            assert_eq!(rows, (0..500).collect::<Vec<_>>());
            // Any two sequences together hold more than one could.
            let mut short: Vec<usize> = sequences.iter().map(length).collect();
            short.sort_unstable();
            assert!(short.len() < 2 || short[0] + short[1] > most, "{most}: {short:?}");
        }
    }

    #[test]
    fn a_packed_batch_knows_where_its_rows_begin() {
        let mut rows = Sequences::default();
        for (row, length) in [(2, 3), (3, 5), (5, 2), (6, 2)] {
            let learnt: Vec<bool> = (0..length).map(|at| at > 0 && at + 2 >= length).collect();
            assert!(rows.push_masked(row, &vec![row as u32; length], &learnt));
        }
        let whole = rows.packed(8);
        assert_eq!((whole.len(), whole.tokens()), (2, 12));
        assert_eq!(whole.ids(0), [3, 3, 3, 3, 3, 2, 2, 2]);
        assert_eq!(whole.ids(1), [5, 5, 6, 6]);
        assert_eq!((whole.row(0), whole.row(1)), (3, 5));
        assert_eq!(whole.starts(0).chain(whole.starts(1)).collect::<Vec<_>>(), [0, 5, 0, 2]);
        assert_eq!(rows.starts(0).count(), 0);

        let batch = Batch::new(&whole, &[1, 0], 8, 9);
        assert_eq!((batch.seq, batch.tokens, batch.longest), (8, 12, 5));
        assert_eq!(batch.ids, [5, 5, 6, 6, 9, 9, 9, 9, 3, 3, 3, 3, 3, 2, 2, 2]);
        // Padding is a row of its own.
        assert_eq!(batch.starts, [0, 0, 2, 2, 4, 4, 4, 4, 0, 0, 0, 0, 0, 5, 5, 5]);
        assert_eq!(batch.positions(), [0, 1, 0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2]);
        const NO: i32 = IGNORE_INDEX;
        let labels = vec![NO, 5, NO, 6, NO, NO, NO, NO, NO, NO, NO, 3, 3, NO, 2, 2];
        assert_eq!(batch.targets, Targets::Tokens(labels));
        let [(one, _), (two, _)] = batch.split(2).try_into().expect("two parts");
        assert_eq!([one.starts, two.starts].concat(), batch.starts);
        assert_eq!((one.longest, two.longest), (5, 5));

        // Where every token is learnt, the first ones of the rows are no targets either.
        let mut rows = Sequences::default();
        rows.push(1, &[4, 5], Target::None);
        rows.push(2, &[6, 7, 8], Target::None);
        let packed = rows.packed(5);
        assert_eq!(Batch::new(&packed, &[0], 5, 0).targets, Targets::Tokens(vec![NO, 7, 8, NO, 5]));
        // A batch of rows that are not packed has nothing of it.
        let plain = Batch::new(&rows, &[0, 1], 4, 9);
        assert_eq!((plain.starts.len(), plain.longest), (0, 3));
        assert_eq!(plain.positions(), [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn texts_are_packed_end_to_end() {
        let mut packer = Packer::new(4, Some(0));
        packer.push(1, &[1, 2]);
        packer.push(2, &[3, 0]);
        packer.push(3, &[4, 5, 6, 7, 8]);
        let packed = packer.finish();
        let blocks: Vec<&[i32]> = (0..packed.len()).map(|block| packed.ids(block)).collect();
        assert_eq!(blocks, [&[1, 2, 0, 3][..], &[0, 4, 5, 6], &[7, 8, 0]]);
        assert_eq!((packed.row(0), packed.row(1), packed.row(2)), (1, 2, 3));
        // One token alone predicts nothing.
        let mut packer = Packer::new(4, None);
        packer.push(1, &[1, 2, 3, 4, 5]);
        assert_eq!(packer.finish().len(), 1);
    }
}
