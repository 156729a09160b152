//! Weights in and out: files of the field, one tensor at a time.

pub mod folder;
pub mod gguf_write;
pub mod safetensors;

use burn::tensor::Tensor;

use crate::error::{Error, Result};

/// A tensor's values, read without blocking.
pub async fn read_f32<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let failed = |message: String| Error::device(message, "Start again; if it happens again, choose the CPU device.");
    let data = tensor.into_data_async().await.map_err(|e| failed(format!("reading from the device failed: {e}")))?;
    data.try_into_vec::<f32>().map_err(|e| failed(format!("the device gave other numbers than asked for: {e:?}")))
}
