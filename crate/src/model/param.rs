//! One named weight, and the views of it that training needs.

use std::ops::Range;

use burn::tensor::{Gradients, Int, Tensor};

use crate::kernels::{Layout, Packed, linear, matmul};

/// A weight by its Hugging Face name. Vectors are kept as `[1, n]`, so that all weights are of one type.
#[derive(Debug, Clone)]
pub struct Param {
    /// Hugging Face's (or PEFT's) name, as in the safetensors file.
    pub name: String,
    /// A vector in the file: a norm's weight, never decayed.
    pub vector: bool,
    /// Changed by training.
    pub trainable: bool,
    /// Outside autodiff; what evaluation and the optimizer see.
    value: Value,
    /// Inside autodiff, while a training step runs.
    leaf: Option<Tensor<2>>,
}

#[derive(Debug, Clone)]
enum Value {
    Dense(Tensor<2>),
    /// Frozen, in blocks.
    Packed(Packed),
}

impl Param {
    pub fn new(name: impl Into<String>, value: Tensor<2>, vector: bool) -> Self {
        Self { name: name.into(), vector, trainable: false, value: Value::Dense(value), leaf: None }
    }

    /// A weight that stays in blocks and is never trained.
    pub fn packed(name: impl Into<String>, value: Packed) -> Self {
        Self { name: name.into(), vector: false, trainable: false, value: Value::Packed(value), leaf: None }
    }

    /// What a forward pass uses of a vector or an adapter. Of a matrix it takes [`Self::linear`] or [`Self::select`],
    /// which leave a packed one in its blocks.
    pub fn tensor(&self) -> Tensor<2> {
        self.leaf.clone().unwrap_or_else(|| self.value())
    }

    /// The value outside autodiff, a packed one as numbers.
    pub fn value(&self) -> Tensor<2> {
        self.rows(0..self.dims()[0])
    }

    /// Some rows of the value outside autodiff.
    pub fn rows(&self, rows: Range<usize>) -> Tensor<2> {
        match &self.value {
            Value::Dense(value) if rows == (0..value.dims()[0]) => value.clone(),
            Value::Dense(value) => value.clone().slice([rows]),
            Value::Packed(packed) => packed.select(packed.ids(rows)),
        }
    }

    /// `x·Wᵀ`.
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.value {
            Value::Dense(_) => linear(x, self.tensor()),
            Value::Packed(packed) => packed.linear(x),
        }
    }

    /// `x·Wᵀ` for some rows of W, outside autodiff. The first row must be even.
    pub fn linear_rows(&self, rows: Range<usize>, x: Tensor<2>) -> Tensor<2> {
        match &self.value {
            Value::Dense(_) => linear(x, self.rows(rows)),
            Value::Packed(packed) if rows.len() == packed.dims()[0] => packed.linear(x),
            Value::Packed(packed) => packed.slice(rows).linear(x),
        }
    }

    /// `g·W` for some rows of W, outside autodiff. The first row must be even.
    pub fn back_rows(&self, rows: Range<usize>, g: Tensor<2>) -> Tensor<2> {
        match &self.value {
            Value::Dense(_) => matmul(g, self.rows(rows), Layout::Nn),
            Value::Packed(packed) if rows.len() == packed.dims()[0] => packed.back(g),
            Value::Packed(packed) => packed.slice(rows).back(g),
        }
    }

    /// The rows of these numbers.
    pub fn select(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        match &self.value {
            Value::Dense(_) => self.tensor().select(0, ids),
            Value::Packed(packed) => packed.select(ids),
        }
    }

    pub fn set(&mut self, value: Tensor<2>) {
        self.value = Value::Dense(value);
        self.leaf = None;
    }

    pub fn dims(&self) -> [usize; 2] {
        match &self.value {
            Value::Dense(value) => value.dims(),
            Value::Packed(packed) => packed.dims(),
        }
    }

    /// Bytes of the value on the device.
    pub fn bytes(&self) -> u64 {
        match &self.value {
            Value::Dense(_) => self.elements() * size_of::<f32>() as u64,
            Value::Packed(packed) => packed.bytes(),
        }
    }

    /// From here to [`Self::take_grad`], forward passes record what this weight's gradient needs.
    pub fn track(&mut self) {
        if let (true, Value::Dense(value)) = (self.trainable, &self.value) {
            self.leaf = Some(value.clone().autodiff().require_grad());
        }
    }

    /// Ends tracking; the gradient, where the loss depended on this weight.
    pub fn take_grad(&mut self, grads: &mut Gradients) -> Option<Tensor<2>> {
        self.leaf.take()?.grad_remove(grads)
    }

    /// Shape as in the file.
    pub fn shape(&self) -> Vec<usize> {
        let [rows, columns] = self.dims();
        if self.vector { vec![columns] } else { vec![rows, columns] }
    }

    pub fn elements(&self) -> u64 {
        self.shape().iter().map(|n| *n as u64).product()
    }
}
