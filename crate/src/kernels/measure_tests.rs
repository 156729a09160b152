//! The benchmarks' measuring: every operation runs on the CPU, and an adapter's probes compute what they claim.

use std::collections::BTreeSet;

use burn::tensor::Device;
use pollster::block_on;

use super::{
    ceilings::ceilings,
    measure::{Rate, Shapes, product_error, rates, seconds_of},
};
use crate::{config::DeviceChoice, device};

fn shapes(r: Option<usize>) -> Shapes {
    Shapes {
        batch_size: 2,
        seq: 8,
        hidden_size: 32,
        intermediate_size: 64,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: 96,
        r,
    }
}

fn measured(r: Option<usize>, stock: bool) -> Vec<Rate> {
    // No time at all: each operation runs a few times.
    block_on(rates(&shapes(r), &Device::flex(), stock, 0.0)).expect("rates")
}

#[test]
fn every_operation_of_a_step_is_measured_once() {
    for (r, kernels) in [(None, 9), (Some(4), 10)] {
        let rates = measured(r, false);
        let places: BTreeSet<_> = rates.iter().map(|rate| (rate.kernel, &rate.part)).collect();
        assert_eq!(places.len(), rates.len(), "{rates:?}");
        let names: BTreeSet<_> = rates.iter().map(|rate| rate.kernel).collect();
        assert_eq!(names.len(), kernels, "{names:?}");
        for rate in &rates {
            assert!(rate.bytes > 0.0 && rate.flops >= 0.0 && rate.seconds.is_finite(), "{rate:?}");
            assert!(rate.beside > 0.0 && rate.beside.is_finite(), "{rate:?}");
        }
    }
    // Tokens 16, out 64, in 32.
    let rates = measured(None, false);
    let gate = rates.iter().find(|rate| rate.part == "gate, up: to the weight").expect("the gate's gradient");
    assert_eq!((gate.kernel, gate.shape.as_str()), ("product Aᵀ·B", "64 × 32 × 16"));
    assert_eq!((gate.flops, gate.bytes), (65_536.0, 4.0 * (64.0 * 32.0 + 64.0 * 16.0 + 32.0 * 16.0)));
}

#[test]
fn stock_has_no_packed_product() {
    let (ours, stock) = (measured(Some(4), false), measured(Some(4), true));
    assert_eq!(ours.iter().filter(|rate| rate.kernel == "packed product").count(), 2);
    assert_eq!(stock.len(), ours.len() - 2);
}

#[test]
fn products_are_held_against_the_true_ones() {
    for sizes in [[1, 1, 1, 1], [2, 5, 7, 3], [3, 40, 33, 50]] {
        let error = block_on(product_error(sizes, &Device::flex())).expect("a product");
        assert!(error < 1e-5, "{sizes:?}: {error}");
    }
    for sizes in [[1, 0, 4, 4], [1 << 10; 4], [usize::MAX; 4]] {
        let refused = block_on(product_error(sizes, &Device::flex())).expect_err("no such product");
        assert!(refused.to_string().contains("multiplications"), "{refused}");
    }
}

#[test]
fn sizes_that_no_model_has_are_refused_by_name() {
    for (name, shapes) in [
        ("seq", Shapes { seq: 0, ..shapes(None) }),
        ("vocab_size", Shapes { vocab_size: 1 << 30, ..shapes(None) }),
        ("hidden_size", Shapes { hidden_size: 30, ..shapes(None) }),
        ("heads", Shapes { num_key_value_heads: 3, ..shapes(None) }),
        ("r: expected", Shapes { r: Some(0), ..shapes(None) }),
    ] {
        let error = block_on(rates(&shapes, &Device::flex(), false, 0.0)).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn work_is_repeated_until_it_takes_long_enough() {
    let mut asked = Vec::new();
    let seconds = block_on(seconds_of(0.02, async |times| {
        asked.push(times);
        std::thread::sleep(std::time::Duration::from_millis(2 * times as u64));
        Ok(())
    }));
    let seconds = seconds.expect("a time");
    // The first time compiles; then up to twenty milliseconds, and three rounds of that.
    assert_eq!(asked[..2], [1, 1]);
    assert!(asked.ends_with(&[asked[asked.len() - 1]; 3]), "{asked:?}");
    assert!(seconds >= 0.002, "{seconds}");
}

#[test]
fn only_a_gpu_has_ceilings() {
    let (cpu, _) = block_on(device::open(DeviceChoice::Cpu)).expect("the CPU");
    assert!(block_on(ceilings(&cpu)).expect_err("no WGSL on the CPU").to_string().contains("GPU"));
}

/// Every probe checks its own result.
#[test]
#[ignore = "needs a GPU and half a minute"]
fn the_probes_of_an_adapter_compute_what_they_claim() {
    let (gpu, _) = block_on(device::open(DeviceChoice::Gpu)).expect("a GPU");
    let found = block_on(ceilings(&gpu)).expect("ceilings");
    assert!(found.flops > 0.0 && found.bytes > 0.0 && found.launch > 0.0, "{found:?}");
    assert!(found.tried.len() > 6, "{found:?}");
}
