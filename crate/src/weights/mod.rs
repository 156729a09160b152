//! Weights in and out: files of the field, one tensor at a time.

pub mod folder;
pub mod ggml;
pub mod gguf;
pub mod gguf_write;
mod packing;
pub mod safetensors;
mod shards;
mod source;

pub use packing::Packing;
pub use shards::Shards;
pub use source::{Source, Weights};

use burn::tensor::Tensor;

use crate::{
    device,
    error::{Error, Result},
};

/// Bytes of a tensor read at once: beside a tensor's numbers no more of its file is in memory.
const PART: usize = 8 << 20;

/// Whether a tensor of this many numbers can be in memory as f32 (in a tab, one of 2 GiB cannot).
fn fits(elements: u64) -> bool {
    elements.checked_mul(size_of::<f32>() as u64).is_some_and(|bytes| bytes <= isize::MAX as u64)
}

/// A tensor's values, read without blocking.
pub async fn read_f32<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let failed = |message: String| match message.to_lowercase().contains("memory") {
        true => Error::OutOfMemory { message },
        false => Error::device(message, "Start again; if it happens again, choose the CPU device."),
    };
    let data = device::unless_lost(tensor.into_data_async())
        .await?
        .map_err(|e| failed(format!("reading from the device failed: {e}")))?;
    data.try_into_vec::<f32>().map_err(|e| failed(format!("the device gave other numbers than asked for: {e:?}")))
}
