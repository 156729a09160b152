//! Token sequences to batches of host integers: padding to few lengths, label masks, a seeded order with a cursor that a
//! checkpoint can hold.

use serde::{Deserialize, Serialize};

use crate::config::TrainingConfig;
use crate::data::{Target, shuffle};
use crate::packing::best_fit;

/// Label of a position that has no target (Hugging Face's and PyTorch's).
pub const IGNORE_INDEX: i32 = -100;
/// Lengths are rounded up to multiples of it: each distinct shape costs a GPU newly compiled kernels.
pub const LENGTH_STEP: usize = 32;

/// Tokenized rows, in one array.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequences {
    ids: Vec<i32>,
    ends: Vec<usize>,
    targets: Vec<Target>,
    rows: Vec<u64>,
    /// Which tokens are learnt; empty where all are.
    learnt: Vec<bool>,
    /// Where packed rows begin among all tokens; empty where each sequence is a row.
    starts: Vec<usize>,
}

impl Sequences {
    /// Appends a row (`row`: its number in the file). False where it has no token: such a row cannot be used.
    pub fn push(&mut self, row: u64, ids: &[u32], target: Target) -> bool {
        if ids.is_empty() {
            return false;
        }
        self.ids.extend(ids.iter().map(|id| id.cast_signed()));
        self.ends.push(self.ids.len());
        self.targets.push(target);
        self.rows.push(row);
        true
    }

    /// Appends a row of which only some tokens are learnt. Either all rows of a set are such rows, or none.
    pub fn push_masked(&mut self, row: u64, ids: &[u32], learnt: &[bool]) -> bool {
        self.learnt.extend(learnt);
        self.learnt.resize(self.ids.len() + ids.len(), false);
        self.push(row, ids, Target::None)
    }

    /// The rows side by side in sequences of at most `most` tokens, as [`best_fit`] has them.
    #[must_use]
    pub fn packed(&self, most: usize) -> Self {
        let lengths: Vec<usize> = (0..self.len()).map(|row| self.ids(row).len()).collect();
        let mut packed = Self::default();
        for rows in best_fit(&lengths, most) {
            for row in &rows {
                packed.starts.push(packed.ids.len());
                packed.ids.extend_from_slice(self.ids(*row));
                packed.learnt.extend_from_slice(self.learnt(*row));
            }
            packed.ends.push(packed.ids.len());
            packed.targets.push(Target::None);
            packed.rows.push(rows.first().map(|row| self.row(*row)).unwrap_or_default());
        }
        packed
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Token ids of a sequence; empty beyond the last.
    pub fn ids(&self, index: usize) -> &[i32] {
        self.ids.get(self.range(index)).unwrap_or_default()
    }

    /// Which of its tokens are learnt; empty where all are.
    pub fn learnt(&self, index: usize) -> &[bool] {
        self.learnt.get(self.range(index)).unwrap_or_default()
    }

    /// The tokens before the last stretch that is learnt: what a model is given to answer.
    pub fn prompt(&self, index: usize) -> &[i32] {
        let learnt = self.learnt(index);
        let end = learnt.iter().rposition(|learnt| *learnt).unwrap_or_default();
        let begin = learnt[..end].iter().rposition(|learnt| !learnt).map_or(0, |before| before + 1);
        &self.ids(index)[..begin]
    }

    /// Where its rows begin, from its own first token; nothing where it is one row that was never packed.
    pub fn starts(&self, index: usize) -> impl Iterator<Item = usize> {
        let std::ops::Range { start: begin, end } = self.range(index);
        let from = self.starts.partition_point(|start| *start < begin);
        self.starts.iter().skip(from).take_while(move |start| **start < end).map(move |start| start - begin)
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let end = self.ends.get(index).copied().unwrap_or_default();
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before).copied()).unwrap_or_default();
        start..end
    }

    pub fn target(&self, index: usize) -> Target {
        self.targets.get(index).copied().unwrap_or(Target::None)
    }

    /// The row's number in its file (of a packed sequence, its first row's).
    pub fn row(&self, index: usize) -> u64 {
        self.rows.get(index).copied().unwrap_or_default()
    }

    /// Tokens of all sequences together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

/// What a batch is trained towards.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Class of each row, `[batch]`.
    Classes(Vec<i32>),
    /// Value of each row, `[batch]`.
    Values(Vec<f32>),
    /// The ids themselves with [`IGNORE_INDEX`] in the padding, `[batch × seq]`. Not shifted: position `t` of the
    /// model's output is compared to label `t + 1`, which is the loss's work, as in Hugging Face.
    Tokens(Vec<i32>),
}

/// Rows as one array of token ids, padded on the right.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `[batch × seq]`, row by row.
    pub ids: Vec<i32>,
    pub batch: usize,
    pub seq: usize,
    /// Index of each row's last token that is not padding, `[batch]`.
    pub last: Vec<i32>,
    pub targets: Targets,
    /// Tokens that are not padding.
    pub tokens: usize,
    /// Where the row that a position belongs to begins in its line, `[batch × seq]`, the padding being one more row; empty
    /// where each line is one row.
    pub starts: Vec<i32>,
    /// Tokens of the longest row.
    pub longest: usize,
    /// Indices into the [`Sequences`], `[batch]`.
    pub rows: Vec<usize>,
    /// Place among the micro-batches of its optimizer step, from 0.
    pub micro: usize,
    /// Micro-batches of its optimizer step: each one's mean loss is divided by it. Fewer than configured in an
    /// epoch's last step.
    pub micros: usize,
}

impl Batch {
    /// The sequences `rows` padded to the longest of them, rounded up to a multiple of [`LENGTH_STEP`] but not
    /// beyond `max_seq_length`. All rows have the same kind of target; it is the first one's.
    pub fn new(sequences: &Sequences, rows: &[usize], max_seq_length: usize, pad_id: u32) -> Self {
        let longest = rows.iter().map(|row| sequences.ids(*row).len()).max().unwrap_or(0).max(1);
        let seq = longest.next_multiple_of(LENGTH_STEP).min(max_seq_length.max(longest));
        let mut ids = vec![pad_id.cast_signed(); rows.len() * seq];
        let mut last = Vec::with_capacity(rows.len());
        let mut tokens = 0;
        for (line, row) in ids.chunks_mut(seq).zip(rows) {
            let sequence = sequences.ids(*row);
            line[..sequence.len()].copy_from_slice(sequence);
            last.push(i32::try_from(sequence.len().saturating_sub(1)).unwrap_or(i32::MAX));
            tokens += sequence.len();
        }
        let (starts, longest) = Self::starts(sequences, rows, seq).unwrap_or((Vec::new(), longest));
        let targets = rows.iter().map(|row| sequences.target(*row));
        let targets = match rows.first().map_or(Target::None, |row| sequences.target(*row)) {
            Target::Class(_) => Targets::Classes(
                targets.map(|t| if let Target::Class(class) = t { class as i32 } else { IGNORE_INDEX }).collect(),
            ),
            Target::Value(_) => {
                Targets::Values(targets.map(|t| if let Target::Value(value) = t { value } else { f32::NAN }).collect())
            }
            Target::None => {
                let mut labels = ids.clone();
                for ((line, last), row) in labels.chunks_mut(seq).zip(&last).zip(rows) {
                    line[*last as usize + 1..].fill(IGNORE_INDEX);
                    for (label, learnt) in line.iter_mut().zip(sequences.learnt(*row)) {
                        if !learnt {
                            *label = IGNORE_INDEX;
                        }
                    }
                    // A packed row's first token does not follow from the row before it.
                    sequences.starts(*row).for_each(|start| line[start] = IGNORE_INDEX);
                }
                Targets::Tokens(labels)
            }
        };
        let (batch, rows) = (rows.len(), rows.to_vec());
        Self { ids, batch, seq, last, targets, tokens, starts, longest, rows, micro: 0, micros: 1 }
    }

    /// Where each position's row begins in its line, and the longest row's length; none where nothing is packed.
    fn starts(sequences: &Sequences, rows: &[usize], seq: usize) -> Option<(Vec<i32>, usize)> {
        if sequences.starts.is_empty() {
            return None;
        }
        let (mut starts, mut longest) = (vec![0; rows.len() * seq], 1);
        for (line, row) in starts.chunks_mut(seq).zip(rows) {
            let mut begins: Vec<usize> = sequences.starts(*row).chain([sequences.ids(*row).len()]).collect();
            longest = begins.windows(2).map(|ends| ends[1] - ends[0]).fold(longest, usize::max);
            begins.push(seq);
            begins.windows(2).for_each(|ends| line[ends[0]..ends[1]].fill(ends[0] as i32));
        }
        Some((starts, longest))
    }

    /// Where each token stands in its row, from 0, `[batch × seq]`.
    pub fn positions(&self) -> Vec<i32> {
        let start = |at: usize| self.starts.get(at).copied().unwrap_or_default();
        (0..self.ids.len()).map(|at| (at % self.seq) as i32 - start(at)).collect()
    }

    /// True for the last micro-batch before an optimizer step.
    pub fn ends_step(&self) -> bool {
        self.micro + 1 == self.micros
    }
}

impl Batch {
    /// The rows in up to `parts` parts, each with its share: the sum of the parts' mean losses times their shares is this
    /// batch's mean loss, so that the gradient is the same and less is in memory at once.
    pub fn split(&self, parts: usize) -> Vec<(Self, f64)> {
        if parts <= 1 || self.batch <= 1 {
            return vec![(self.clone(), 1.0)];
        }
        let whole = self.targets.counted(self.seq);
        let rows: Vec<usize> = (0..self.batch).collect();
        let part = |rows: &[usize]| {
            let tokens =
                |values: &[i32]| rows.iter().flat_map(|row| values[row * self.seq..][..self.seq].to_vec()).collect();
            let last: Vec<i32> = rows.iter().map(|row| self.last[*row]).collect();
            let targets = match &self.targets {
                Targets::Classes(classes) => Targets::Classes(rows.iter().map(|row| classes[*row]).collect()),
                Targets::Values(values) => Targets::Values(rows.iter().map(|row| values[*row]).collect()),
                Targets::Tokens(labels) => Targets::Tokens(tokens(labels)),
            };
            let share = targets.counted(self.seq) as f64 / whole.max(1) as f64;
            let part = Self {
                ids: tokens(&self.ids),
                batch: rows.len(),
                seq: self.seq,
                tokens: last.iter().map(|last| *last as usize + 1).sum(),
                starts: if self.starts.is_empty() { Vec::new() } else { tokens(&self.starts) },
                longest: self.longest,
                last,
                targets,
                rows: rows.iter().map(|row| self.rows[*row]).collect(),
                micro: self.micro,
                micros: self.micros,
            };
            (part, share)
        };
        rows.chunks(self.batch.div_ceil(parts)).map(part).collect()
    }
}

/// Where training stands in the data: enough to go on exactly there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub epoch: u64,
    /// Rows of this epoch's order that were handed out.
    pub position: u64,
}

/// Hands out training batches, epoch after epoch, each in an order drawn from the seed.
#[derive(Debug, Clone)]
pub struct Batcher {
    rows: usize,
    batch_size: usize,
    accumulation: usize,
    max_seq_length: usize,
    pad_id: u32,
    seed: u64,
    cursor: Cursor,
    order: Vec<usize>,
}

impl Batcher {
    /// For `rows` sequences, from the first epoch's beginning.
    pub fn new(rows: usize, training: &TrainingConfig, max_seq_length: usize, pad_id: u32) -> Self {
        let mut batcher = Self {
            rows,
            batch_size: training.batch_size.max(1),
            accumulation: training.gradient_accumulation_steps.max(1),
            max_seq_length,
            pad_id,
            seed: training.seed,
            cursor: Cursor::default(),
            order: Vec::new(),
        };
        batcher.resume(Cursor::default());
        batcher
    }

    /// Goes on at `cursor`, as if all before it had been handed out.
    pub fn resume(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.order = (0..self.rows).collect();
        shuffle(&mut self.order, self.seed, cursor.epoch);
        if cursor.position >= self.rows as u64 && self.rows > 0 {
            self.resume(Cursor { epoch: cursor.epoch + 1, position: 0 });
        }
    }

    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Epochs done, as a fraction.
    pub fn epoch(&self) -> f64 {
        self.cursor.epoch as f64 + self.cursor.position as f64 / self.rows.max(1) as f64
    }

    /// The next micro-batch; the last of an epoch may have fewer rows. None only where there are no rows.
    pub fn next(&mut self, sequences: &Sequences) -> Option<Batch> {
        let start = self.cursor.position as usize;
        let end = (start + self.batch_size).min(self.rows);
        let rows = self.order.get(start..end).filter(|rows| !rows.is_empty())?;
        let mut batch = Batch::new(sequences, rows, self.max_seq_length, self.pad_id);
        let at = start / self.batch_size;
        batch.micro = at % self.accumulation;
        batch.micros = self.accumulation.min(self.micro_batches() - (at - batch.micro));
        self.cursor.position = end as u64;
        if end == self.rows {
            self.resume(Cursor { epoch: self.cursor.epoch + 1, position: 0 });
        }
        Some(batch)
    }

    fn micro_batches(&self) -> usize {
        self.rows.div_ceil(self.batch_size)
    }

    /// Optimizer steps of an epoch, as Hugging Face's Trainer counts them: the last one may accumulate less.
    pub fn steps_per_epoch(&self) -> u64 {
        self.micro_batches().div_ceil(self.accumulation).max(1) as u64
    }

    /// Optimizer steps of a run: `max_steps`, else `num_epochs` times an epoch's, rounded up.
    pub fn total_steps(&self, training: &TrainingConfig) -> u64 {
        training.max_steps.unwrap_or_else(|| {
            let steps = (self.steps_per_epoch() as f64 * training.num_epochs).ceil() as u64;
            steps.max(1)
        })
    }
}

/// The order for evaluation: rows of like length together, the longest first, so that little is padded and the
/// most memory is needed at once at the start. Results find their place by [`Batch::rows`].
pub fn evaluation_order(sequences: &Sequences, batch_size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|row| std::cmp::Reverse(sequences.ids(*row).len()));
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RawConfig};

    fn training(batch_size: usize, accumulation: usize) -> TrainingConfig {
        let mut training = Config::resolve(&RawConfig::default()).expect("defaults").training;
        training.batch_size = batch_size;
        training.gradient_accumulation_steps = accumulation;
        training
    }

    /// `lengths.len()` rows, row i filled with the id i + 1 and of class i % 3.
    fn sequences(lengths: &[usize]) -> Sequences {
        let mut sequences = Sequences::default();
        for (i, length) in lengths.iter().enumerate() {
            assert!(sequences.push(i as u64 + 2, &vec![i as u32 + 1; *length], Target::Class(i % 3)));
        }
        sequences
    }

    #[test]
    fn rows_are_padded_on_the_right() {
        let sequences = sequences(&[3, 1, 40]);
        let batch = Batch::new(&sequences, &[1, 0], 128, 9);
        assert_eq!((batch.batch, batch.seq, batch.tokens), (2, 32, 4));
        assert_eq!(batch.ids[..3], [2, 9, 9]);
        assert_eq!(batch.ids[32..36], [1, 1, 1, 9]);
        assert_eq!((batch.last.as_slice(), batch.rows.as_slice()), (&[0, 2][..], &[1, 0][..]));
        assert_eq!(batch.targets, Targets::Classes(vec![1, 0]));
        assert_eq!(Batch::new(&sequences, &[2], 128, 9).seq, 64);
        assert_eq!(Batch::new(&sequences, &[2], 50, 9).seq, 50);
        assert_eq!(Batch::new(&sequences, &[2], 40, 9).seq, 40);
        assert_eq!((sequences.row(2), sequences.tokens()), (4, 44));
        assert!(!Sequences::default().push(1, &[], Target::None));
    }

    #[test]
    fn parts_of_a_batch_have_its_rows_and_shares() {
        let mut texts = Sequences::default();
        for (row, length) in [(1, 5), (2, 1), (3, 3), (4, 2), (5, 4)] {
            texts.push(row, &vec![row as u32; length], Target::None);
        }
        let batch = Batch::new(&texts, &[0, 1, 2, 3, 4], 8, 9);
        for parts in [1, 2, 3, 4, 8] {
            let split = batch.split(parts);
            assert!(
                split.len() <= parts && split.iter().map(|(part, _)| part.batch).max() <= Some(5usize.div_ceil(parts))
            );
            let ids: Vec<i32> = split.iter().flat_map(|(part, _)| part.ids.clone()).collect();
            let rows: Vec<usize> = split.iter().flat_map(|(part, _)| part.rows.clone()).collect();
            assert_eq!((&ids, &rows), (&batch.ids, &batch.rows));
            assert_eq!(split.iter().map(|(part, _)| part.tokens).sum::<usize>(), batch.tokens);
            assert!((split.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-12);
        }
        // 4, 0 and 2 predicted tokens in the first part of two, 1 and 3 in the second.
        let shares: Vec<f64> = batch.split(2).into_iter().map(|(_, share)| share).collect();
        assert_eq!(shares, [0.6, 0.4]);
    }

    #[test]
    fn padding_has_no_label_and_values_stay() {
        let mut texts = Sequences::default();
        texts.push(1, &[5, 6, 7], Target::None);
        texts.push(2, &[8], Target::None);
        let batch = Batch::new(&texts, &[0, 1], 4, 5);
        assert_eq!(batch.seq, 4);
        assert_eq!(batch.targets, Targets::Tokens(vec![5, 6, 7, -100, 8, -100, -100, -100]));
        let mut values = Sequences::default();
        values.push(1, &[5], Target::Value(2.5));
        assert_eq!(Batch::new(&values, &[0], 4, 0).targets, Targets::Values(vec![2.5]));
    }

    #[test]
    fn an_epoch_hands_out_every_row_once_and_epochs_differ() {
        let sequences = sequences(&[2; 10]);
        let mut batcher = Batcher::new(10, &training(4, 2), 32, 0);
        assert_eq!(batcher.steps_per_epoch(), 2);
        let mut epochs = Vec::new();
        for epoch in 0..3 {
            let batches: Vec<Batch> = (0..3).filter_map(|_| batcher.next(&sequences)).collect();
            assert_eq!(batches.iter().map(|b| b.batch).collect::<Vec<_>>(), [4, 4, 2]);
            // Three micro-batches in steps of two: the last step accumulates one.
            assert_eq!(batches.iter().map(|b| (b.micro, b.micros)).collect::<Vec<_>>(), [(0, 2), (1, 2), (0, 1)]);
            assert_eq!(batches.iter().map(Batch::ends_step).collect::<Vec<_>>(), [false, true, true]);
            let order: Vec<usize> = batches.into_iter().flat_map(|batch| batch.rows).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
            assert_eq!(batcher.epoch(), f64::from(epoch + 1));
            epochs.push(order);
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[1], epochs[2]);
    }

    #[test]
    fn a_cursor_goes_on_where_it_was() {
        let sequences = sequences(&[2; 11]);
        let mut whole = Batcher::new(11, &training(3, 2), 32, 0);
        for _ in 0..5 {
            whole.next(&sequences);
        }
        let saved = serde_json::to_string(&whole.cursor()).expect("a cursor");
        let mut resumed = Batcher::new(11, &training(3, 2), 32, 0);
        resumed.resume(serde_json::from_str(&saved).expect("a cursor"));
        for _ in 0..9 {
            assert_eq!(whole.next(&sequences), resumed.next(&sequences));
        }
        let mut other = training(3, 2);
        other.seed = 1;
        let mut other = Batcher::new(11, &other, 32, 0);
        other.resume(serde_json::from_str(&saved).expect("a cursor"));
        assert_ne!(other.next(&sequences).map(|b| b.rows), resumed.next(&sequences).map(|b| b.rows));
    }

    #[test]
    fn steps_are_counted_as_hugging_face_does() {
        // 100 rows in batches of 8: 13 micro-batches, with accumulation 4 four steps an epoch.
        let mut settings = training(8, 4);
        let batcher = Batcher::new(100, &settings, 32, 0);
        assert_eq!((batcher.steps_per_epoch(), batcher.total_steps(&settings)), (4, 12));
        settings.num_epochs = 0.3;
        assert_eq!(batcher.total_steps(&settings), 2);
        settings.max_steps = Some(7);
        assert_eq!(batcher.total_steps(&settings), 7);
        assert_eq!(Batcher::new(3, &training(8, 4), 32, 0).steps_per_epoch(), 1);
        assert_eq!(Batcher::new(0, &training(8, 4), 32, 0).next(&Sequences::default()), None);
    }

    #[test]
    fn evaluation_goes_by_length() {
        let sequences = sequences(&[1, 5, 3, 4]);
        assert_eq!(evaluation_order(&sequences, 3), [vec![1, 3, 2], vec![0]]);
    }
}
