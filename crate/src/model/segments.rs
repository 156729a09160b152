//! What a batch's length does not tell of its tokens: rows that stand behind each other in one sequence (`training.packing`), each
//! counting its positions from 0 and seeing itself alone, and rows whose angles go by the longest of them.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{Llama, rope::Rotation};

/// Beside the ids of a batch, where its length is not enough.
#[derive(Debug, Clone)]
pub enum Places {
    /// Rows padded on the right and turned by the longest one's length: a line for each position, `[seq, head_dim / 2]`.
    Padded(Box<Rotation>),
    Packed(Box<Segments>),
}

/// Where the rows of a packed batch stand, on the device.
#[derive(Debug, Clone)]
pub struct Segments {
    /// A line for each token, `[batch · seq, head_dim / 2]`.
    pub(super) rope: Rotation,
    /// The first key that each query sees, `[batch, seq]`.
    pub(super) first: Tensor<2, Int>,
}

impl Llama {
    /// For rows of at most `longest` tokens that are padded to `seq`: none where padding turns no token otherwise. As in
    /// transformers with rows padded to the longest, a dynamic rotary embedding knows nothing of the padding.
    pub fn padded(&self, seq: usize, longest: usize, device: &Device) -> Option<Places> {
        let frequencies = self.config.frequencies(longest);
        let device = device.clone().without_autodiff();
        (frequencies != self.config.frequencies(seq))
            .then(|| Places::Padded(Box::new(Rotation::at(seq, &frequencies, &device))))
    }

    /// For a batch in which the row of each token begins at its `starts` and the token stands at its `positions`, both
    /// `[batch × seq]`. `longest` is the longest row's length, by which a dynamic rotary embedding goes.
    pub fn segments(
        &self,
        starts: Vec<i32>,
        positions: Vec<i32>,
        [batch, seq]: [usize; 2],
        longest: usize,
        device: &Device,
    ) -> Segments {
        let device = device.clone().without_autodiff();
        let frequencies = self.config.frequencies(longest);
        // The table of the whole sequence is there for every batch of its length.
        let table = if frequencies == self.config.frequencies(seq) {
            self.rotation(seq, &device)
        } else {
            Rotation::at(seq, &frequencies, &device)
        };
        let positions = Tensor::from_data(TensorData::new(positions, [batch * seq]), &device);
        let first = Tensor::from_data(TensorData::new(starts, [batch, seq]), (&device, DType::I32));
        Segments { rope: table.select(positions), first }
    }
}
