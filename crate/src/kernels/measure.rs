//! The rate of one matrix product, ours or Burn's: for the benchmarks.

use burn::tensor::{DType, Device, Distribution, Tensor};

use super::{Layout, product, use_stock};
use crate::{error::Result, platform, weights::read_f32};

/// Floating-point operations a second of the product `[m, k]·[k, n]` on `device`, after a warm-up; `half`: of numbers in 16 bits; `stock` takes Burn's
/// own product. Runs for about half a second.
pub async fn product_rate(
    device: &Device,
    [m, n, k]: [usize; 3],
    layout: Layout,
    half: bool,
    stock: bool,
) -> Result<f64> {
    let (ta, tb) = layout.flags();
    let dtype = if half { DType::F16 } else { DType::F32 };
    let random = |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Uniform(-1.0, 1.0), device).cast(dtype);
    let lhs = random(if ta { [1, k, m] } else { [1, m, k] });
    let rhs = random(if tb { [1, n, k] } else { [1, k, n] });
    use_stock(stock);
    let mut times = 1;
    let rate = loop {
        let started = platform::now();
        // Every result is looked at, so that none can be left out.
        let corners = (0..times)
            .map(|_| product(lhs.clone(), rhs.clone(), layout).slice([0..1, 0..1, 0..1]).cast(DType::F32))
            .collect();
        read_f32(Tensor::cat(corners, 0)).await?;
        let seconds = platform::now() - started;
        // The first one also compiles.
        if seconds > 0.5 && times > 1 {
            break 2.0 * (m * n * k * times) as f64 / seconds;
        }
        times *= if seconds < 0.1 { 4 } else { 2 };
    };
    use_stock(false);
    Ok(rate)
}
