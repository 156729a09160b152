//! One named weight, and the views of it that training needs.

use burn::tensor::{Gradients, Tensor};

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
    value: Tensor<2>,
    /// Inside autodiff, while a training step runs.
    leaf: Option<Tensor<2>>,
}

impl Param {
    pub fn new(name: impl Into<String>, value: Tensor<2>, vector: bool) -> Self {
        Self { name: name.into(), vector, trainable: false, value, leaf: None }
    }

    /// What a forward pass uses.
    pub fn tensor(&self) -> Tensor<2> {
        self.leaf.as_ref().unwrap_or(&self.value).clone()
    }

    /// The value outside autodiff.
    pub fn value(&self) -> Tensor<2> {
        self.value.clone()
    }

    pub fn set(&mut self, value: Tensor<2>) {
        self.value = value;
        self.leaf = None;
    }

    /// From here to [`Self::take_grad`], forward passes record what this weight's gradient needs.
    pub fn track(&mut self) {
        if self.trainable {
            self.leaf = Some(self.value.clone().autodiff().require_grad());
        }
    }

    /// Ends tracking; the gradient, where the loss depended on this weight.
    pub fn take_grad(&mut self, grads: &mut Gradients) -> Option<Tensor<2>> {
        self.leaf.take()?.grad_remove(grads)
    }

    /// Shape as in the file.
    pub fn shape(&self) -> Vec<usize> {
        let [rows, columns] = self.value.dims();
        if self.vector { vec![columns] } else { vec![rows, columns] }
    }

    pub fn elements(&self) -> u64 {
        self.shape().iter().map(|n| *n as u64).product()
    }
}
