//! Every operation against its plain-Burn oracle and against finite differences, on the CPU and, where the machine has
//! an adapter and `PADDOCK_TEST_GPU` is set, on the GPU.

#![allow(clippy::disallowed_methods)]

use burn::tensor::{
    Device, Distribution, Int, Tensor, TensorData,
    activation::{silu, softmax},
};
use rand::Rng;

use super::*;
use crate::{device::Opened, weights::ggml::GgmlType};

pub(super) fn gpu() -> Option<&'static Opened> {
    // Once: tests run side by side.
    static GPU: std::sync::OnceLock<Opened> = std::sync::OnceLock::new();
    std::env::var_os("PADDOCK_TEST_GPU").map(|_| {
        GPU.get_or_init(|| {
            let opened = pollster::block_on(crate::device::open(crate::config::DeviceChoice::Gpu));
            opened.expect("PADDOCK_TEST_GPU is set").0
        })
    })
}

pub(super) fn devices() -> Vec<(&'static str, Device)> {
    let gpu = gpu().map(|opened| ("gpu", opened.device.clone()));
    std::iter::once(("cpu", Device::flex())).chain(gpu).collect()
}

/// Those that compute in 16 bits: the CPU does it to be a measure for the GPU.
pub(super) fn half_devices() -> Vec<(&'static str, Device)> {
    let half = gpu().is_some_and(|opened| opened.info.features.iter().any(|feature| feature == "shader-f16"));
    devices().into_iter().filter(|(name, _)| *name == "cpu" || half).collect()
}

pub(super) fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let values = crate::rng::normal(&mut crate::rng::stream(seed, 7), shape.iter().product(), 1.0);
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.cast(DType::F32).into_data().try_into_vec().expect("f32")
}

/// Every value that differs, not only the first.
pub(super) fn assert_close<const D: usize>(name: &str, got: Tensor<D>, expected: Tensor<D>, tolerance: f32) {
    assert_eq!(got.dims(), expected.dims(), "{name}: shape");
    let scale = values(expected.clone()).iter().fold(1f32, |a, b| a.max(b.abs()));
    let wrong: Vec<String> = values(got)
        .into_iter()
        .zip(values(expected))
        .enumerate()
        .filter(|(_, (a, b))| (a - b).abs() > tolerance * scale || a.is_nan() != b.is_nan())
        .map(|(i, (a, b))| format!("[{i}] {a} != {b}"))
        .collect();
    assert!(wrong.is_empty(), "{name}: {} differ: {}", wrong.len(), wrong[..wrong.len().min(8)].join(", "));
}

pub(super) const SHAPES: [(usize, usize, usize, usize); 9] = [
    (1, 1, 1, 1),
    (2, 3, 5, 7),
    (1, 8, 8, 8),
    (3, 12, 20, 4),
    (1, 64, 96, 32),
    (2, 33, 65, 17),
    (1, 4, 4, 100),
    (2, 100, 4, 12),
    (1, 7, 128, 64),
];

pub(super) fn operands(shape: (usize, usize, usize, usize), layout: Layout, device: &Device) -> (Tensor<3>, Tensor<3>) {
    let (batch, m, n, k) = shape;
    let a = if layout == Layout::Tn { [batch, k, m] } else { [batch, m, k] };
    let b = if layout == Layout::Nt { [batch, n, k] } else { [batch, k, n] };
    (random(a, 1, device), random(b, 2, device))
}

pub(super) fn oracle(a: Tensor<3>, b: Tensor<3>, layout: Layout) -> Tensor<3> {
    let a = if layout == Layout::Tn { a.swap_dims(1, 2) } else { a };
    let b = if layout == Layout::Nt { b.swap_dims(1, 2) } else { b };
    a.matmul(b)
}

#[test]
fn product_is_the_stock_product_forward_and_backward() {
    for (name, device) in devices() {
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            for shape in SHAPES {
                let case = format!("{name} {layout:?} {shape:?}");
                let (a, b) = operands(shape, layout, &device);
                let (a, b) = (a.autodiff().require_grad(), b.autodiff().require_grad());
                let weight = random([shape.0, shape.1, shape.2], 3, &device);
                let ours = product(a.clone(), b.clone(), layout);
                let stock = oracle(a.clone(), b.clone(), layout);
                assert_close(&case, ours.clone().inner(), stock.clone().inner(), 1e-5);
                let mut ours = (ours * weight.clone()).sum().backward();
                let mut stock = (stock * weight).sum().backward();
                for (operand, tensor) in [("A", &a), ("B", &b)] {
                    let (ours, stock) = (tensor.grad_remove(&mut ours), tensor.grad_remove(&mut stock));
                    let case = format!("{case} gradient of {operand}");
                    assert_close(&case, ours.expect("gradient"), stock.expect("gradient"), 1e-5);
                }
            }
        }
    }
}

#[test]
fn a_frozen_operand_gets_no_gradient() {
    let device = Device::flex();
    let (a, b) = operands((1, 4, 4, 4), Layout::Nt, &device);
    let a = a.autodiff().require_grad();
    let grads = product(a.clone(), b.clone(), Layout::Nt).sum().backward();
    assert!(a.grad(&grads).is_some());
    assert!(b.grad(&grads).is_none());
}

/// Central differences of `sum(f(x) · weight)` at each element of `x`, against backward.
pub(super) fn finite_differences(name: &str, x: Tensor<3>, f: impl Fn(Tensor<3>) -> Tensor<3>, device: &Device) {
    let dims = x.dims();
    let weight = random(f(x.clone()).dims(), 9, device);
    let total = |x: Tensor<3>| -> f64 { values(f(x) * weight.clone()).iter().map(|v| f64::from(*v)).sum() };
    let leaf = x.clone().autodiff().require_grad();
    let grads = (f(leaf.clone()) * weight.clone()).sum().backward();
    let analytic = values(leaf.grad(&grads).expect("gradient"));
    let base = values(x);
    let step = 1e-2f32;
    let mut table = String::new();
    for i in 0..base.len() {
        let shifted = |by: f32| {
            let mut moved = base.clone();
            moved[i] += by;
            total(Tensor::from_data(TensorData::new(moved, dims), device))
        };
        let numeric = (shifted(step) - shifted(-step)) / (2.0 * f64::from(step));
        let difference = (numeric - f64::from(analytic[i])).abs();
        if difference > 2e-3 * numeric.abs().max(1.0) || difference.is_nan() {
            table.push_str(&format!("\n[{i}] numeric {numeric} analytic {}", analytic[i]));
        }
    }
    assert!(table.is_empty(), "{name}:{table}");
}

#[test]
fn rotate_turns_back_and_matches_burn() {
    for (name, device) in devices() {
        let (seq, dim) = (5, 8);
        let angles = random([seq, dim / 2], 4, &device);
        let (cos, sin) = (angles.clone().cos(), angles.sin());
        let x = random::<4>([2, 3, seq, dim], 5, &device);
        let got = rotate(x.clone(), cos.clone(), sin.clone());
        let (c, s) = (cos.clone().unsqueeze::<4>(), sin.clone().unsqueeze::<4>());
        let a = x.clone().slice([0..2, 0..3, 0..seq, 0..dim / 2]);
        let b = x.clone().slice([0..2, 0..3, 0..seq, dim / 2..dim]);
        let expected = Tensor::cat(vec![a.clone() * c.clone() - b.clone() * s.clone(), b * c + a * s], 3);
        assert_close(name, got.clone(), expected, 1e-6);
        assert_close(name, rotate(got, cos.clone(), sin.clone().neg()), x, 1e-5);
        let f = |x: Tensor<3>| {
            let y: Tensor<4> = x.reshape([1, 2, seq, dim]);
            rotate(y, cos.clone(), sin.clone()).reshape([2, seq, dim])
        };
        finite_differences(name, random([2, seq, dim], 6, &device), f, &device);
    }
}

#[test]
fn causal_softmax_matches_burn_and_hides_the_future() {
    for (name, device) in devices() {
        for (groups, queries, keys) in [(2, 4, 4), (1, 1, 6), (3, 2, 5)] {
            let rows = groups * queries;
            let scores = random([2, rows, keys], 8, &device);
            let got = causal_softmax(scores.clone(), queries, 0.7, DType::F32);
            let mask: Vec<f32> = (0..rows * keys)
                .map(|i| if i % keys > keys - queries + (i / keys) % queries { f32::NEG_INFINITY } else { 0.0 })
                .collect();
            let mask = Tensor::<3>::from_data(TensorData::new(mask, [1, rows, keys]), &device);
            let expected = softmax(scores.mul_scalar(0.7) + mask, 2);
            assert_close(name, got, expected, 1e-6);
            let f = |x| causal_softmax(x, queries, 0.7, DType::F32);
            finite_differences(name, random([2, rows, keys], 10, &device), f, &device);
        }
    }
}

/// The first key of each query of a line whose segments are so long.
pub(super) fn firsts(segments: &[i32]) -> Vec<i32> {
    let begins = segments.iter().scan(0, |end, length| {
        *end += length;
        Some((*end - length, *length))
    });
    begins.flat_map(|(begin, length)| vec![begin; length as usize]).collect()
}

pub(super) fn int(lines: &[Vec<i32>], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(lines.concat(), [lines.len(), lines[0].len()]), (device, DType::I32))
}

#[test]
fn segment_softmax_matches_burn_and_hides_other_segments() {
    // Heads, queries a group, keys before the queries, and the segments of each line.
    let cases: [(usize, usize, usize, &[&[i32]]); 6] = [
        (2, 2, 0, &[&[4]]),
        (1, 3, 0, &[&[2, 3], &[1, 1, 2, 1]]),
        (2, 2, 0, &[&[1], &[1], &[1]]),
        (1, 1, 3, &[&[1, 1], &[2]]),
        (3, 2, 0, &[&[5, 2], &[7], &[1, 6], &[3, 1, 3]]),
        (2, 1, 0, &[&[70, 60, 3], &[1, 131, 1]]),
    ];
    for (name, device) in devices() {
        for (heads, group, before, segments) in cases {
            let lines: Vec<Vec<i32>> = segments.iter().map(|line| firsts(line)).collect();
            let queries = lines[0].len();
            let (rows, keys) = (group * queries, before + queries);
            let shape = [heads * lines.len(), rows, keys];
            let case = format!("{name} {shape:?} {segments:?}");
            let seen = |i: usize| {
                let (matrix, query) = (i / keys / rows, i / keys % rows % queries);
                (lines[matrix % lines.len()][query] as usize..=before + query).contains(&(i % keys))
            };
            let mask = (0..shape.iter().product::<usize>()).map(|i| if seen(i) { 0.0 } else { f32::NEG_INFINITY });
            let mask = Tensor::<3>::from_data(TensorData::new(mask.collect::<Vec<f32>>(), shape), &device);
            let scores = random(shape, 8, &device).autodiff().require_grad();
            let weight = random(shape, 9, &device);
            let ours = segment_softmax(scores.clone(), int(&lines, &device), 0.7, DType::F32);
            let stock = softmax(scores.clone().mul_scalar(0.7) + mask, 2);
            assert_close(&case, ours.clone().inner(), stock.clone().inner(), 1e-6);
            let (ours, stock) = ((ours * weight.clone()).sum().backward(), (stock * weight).sum().backward());
            let (ours, stock) = (scores.grad(&ours), scores.grad(&stock));
            let case = format!("{case} gradient");
            assert_close(&case, ours.expect("gradient"), stock.expect("gradient"), 1e-5);
        }
        let first = int(&[firsts(&[2, 3]), firsts(&[1, 4])], &device);
        let f = |x| segment_softmax(x, first.clone(), 0.7, DType::F32);
        finite_differences(name, random([2, 10, 5], 10, &device), f, &device);
    }
}

/// What another segment holds changes nothing, however large.
#[test]
fn a_hidden_score_is_as_if_it_were_not_there() {
    for (name, device) in devices() {
        let first = int(&[firsts(&[2, 3])], &device);
        let scores = values(random([2, 5, 5], 8, &device));
        let p = |far: f32| {
            let put = |(i, score): (usize, &f32)| if i / 5 % 5 >= 2 && i % 5 < 2 { far } else { *score };
            let scores = scores.iter().enumerate().map(put).collect::<Vec<f32>>();
            let scores = Tensor::<3>::from_data(TensorData::new(scores, [2, 5, 5]), &device);
            values(segment_softmax(scores, first.clone(), 1.0, DType::F32))
        };
        let expected = p(0.0);
        for far in [1e30, -1e30] {
            assert_eq!(p(far), expected, "{name}");
        }
        assert!(expected.chunks(5).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-6), "{name}");
    }
}

#[test]
fn exp_sums_and_scaled_exp_match_burn() {
    for (name, device) in devices() {
        for [rows, columns] in [[1, 1], [3, 17], [70, 501]] {
            let x = random::<2>([rows, columns], 1, &device);
            let each = |seed| random::<2>([rows, 1], seed, &device);
            let case = format!("{name} {rows}x{columns}");
            let sums = (x.clone() - each(2)).exp().sum_dim(1);
            assert_close(&case, exp_sums(x.clone(), each(2)), sums, 1e-5);
            let scaled = (x.clone() - each(2)).exp() * each(3);
            // Beside its operand, which is still of use, and over it.
            assert_close(&case, exp_scaled(x.clone(), each(2), each(3)), scaled.clone(), 1e-5);
            assert_close(&case, x.clone().exp().log(), x.clone(), 1e-5);
            assert_close(&case, exp_scaled(x, each(2), each(3)), scaled, 1e-5);
        }
    }
    // What is no number spoils its own row alone, which a GPU does not promise.
    let device = Device::flex();
    let x = Tensor::<2>::from_data([[0.0, f32::NAN], [1e30, -1e30], [0.0, 0.0]], &device);
    let top = Tensor::<2>::from_data([[0.0f32], [1e30], [0.0]], &device);
    let sums = values(exp_sums(x.clone(), top.clone()));
    assert!(sums[0].is_nan() && sums[1..] == [1.0, 2.0], "{sums:?}");
    let scaled = values(exp_scaled(x, top.clone(), top.ones_like()));
    assert!(scaled[1].is_nan() && scaled[2..] == [1.0, 0.0, 1.0, 1.0], "{scaled:?}");
}

#[test]
fn going_back_from_a_gradient_is_going_back_from_its_product() {
    for (name, device) in devices() {
        let x = random::<2>([5, 4], 1, &device).autodiff().require_grad();
        let w = random::<2>([4, 3], 2, &device).autodiff().require_grad();
        let g = random::<2>([5, 3], 3, &device);
        let out = || x.clone().matmul(w.clone()).tanh();
        let (ours, stock) = (backward_from(out(), g.clone()), (out() * g.clone()).sum().backward());
        for leaf in [&x, &w] {
            assert_close(name, leaf.grad(&ours).expect("ours"), leaf.grad(&stock).expect("Burn's"), 1e-6);
        }
    }
}

#[test]
fn a_large_score_does_not_overflow() {
    let device = Device::flex();
    let scores = Tensor::<3>::random([1, 4, 4], Distribution::Uniform(-1.0, 1.0), &device).mul_scalar(1e30);
    assert!(values(causal_softmax(scores, 4, 1.0, DType::F32)).iter().all(|v| v.is_finite()));
}

#[test]
fn rms_norm_matches_burn_forward_and_backward() {
    for (name, device) in devices() {
        let (rows, dim, eps) = (5, 6, 1e-3);
        let x = random::<2>([rows, dim], 11, &device).autodiff().require_grad();
        let w = random::<2>([1, dim], 12, &device).autodiff().require_grad();
        let g = random::<2>([rows, dim], 13, &device);
        let ours = rms_norm(x.clone(), w.clone(), eps);
        let mean = (x.clone() * x.clone()).mean_dim(1);
        let stock = x.clone() * mean.add_scalar(eps).sqrt().recip() * w.clone();
        assert_close(name, ours.clone().inner(), stock.clone().inner(), 1e-6);
        let mut ours = (ours * g.clone()).sum().backward();
        let mut stock = (stock * g).sum().backward();
        for tensor in [&x, &w] {
            let (ours, stock) = (tensor.grad_remove(&mut ours), tensor.grad_remove(&mut stock));
            assert_close(name, ours.expect("gradient"), stock.expect("gradient"), 1e-5);
        }
        let w = w.inner();
        let f = |x: Tensor<3>| {
            let y: Tensor<2> = x.reshape([rows, dim]);
            rms_norm(y, w.clone(), eps).reshape([1, rows, dim])
        };
        finite_differences(name, random([1, rows, dim], 14, &device), f, &device);
    }
}

#[test]
fn swiglu_matches_burn_forward_and_backward() {
    for (name, device) in devices() {
        let (rows, dim) = (5, 7);
        let gate = random::<2>([rows, dim], 31, &device).mul_scalar(4.0);
        let up = random::<2>([rows, dim], 32, &device);
        assert_close(name, swiglu(gate.clone(), up.clone()), silu(gate.clone()) * up.clone(), 1e-6);
        let flat = |x: Tensor<3>| -> Tensor<2> { x.reshape([rows, dim]) };
        let of_gate = |x| swiglu(flat(x), up.clone()).reshape([1, rows, dim]);
        finite_differences(name, gate.clone().reshape([1, rows, dim]), of_gate, &device);
        let of_up = |x| swiglu(gate.clone(), flat(x)).reshape([1, rows, dim]);
        finite_differences(name, up.clone().reshape([1, rows, dim]), of_up, &device);
        let far = Tensor::<2>::from_data([[-1e4, -200.0, 200.0, 1e4]], &device).autodiff().require_grad();
        let y = swiglu(far.clone(), Tensor::ones([1, 4], &device));
        assert_close(name, y.clone().inner(), Tensor::from_data([[0.0, 0.0, 200.0, 1e4]], &device), 1e-6);
        let slope = far.grad(&y.sum().backward()).expect("gradient");
        assert_close(name, slope, Tensor::from_data([[0.0, 0.0, 1.0, 1.0]], &device), 1e-6);
    }
}

/// Random blocks of a type: any bytes are some numbers, as long as the scales are finite.
pub(super) fn blocks(kind: GgmlType, rows: usize, columns: usize) -> Vec<u8> {
    let values = crate::rng::normal(&mut crate::rng::stream(3, 7), rows * columns, 0.5);
    if let Some(bytes) = kind.quantize(&values) {
        return bytes;
    }
    let mut rng = crate::rng::stream(5, u64::from(kind.id()));
    let mut bytes: Vec<u8> = (0..rows * columns / kind.block() * kind.block_bytes()).map(|_| rng.random()).collect();
    for block in bytes.chunks_exact_mut(kind.block_bytes()) {
        for at in match kind {
            GgmlType::Q5_0 => vec![0],
            GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => vec![0, 2],
            GgmlType::Q2_K => vec![80, 82],
            GgmlType::Q3_K => vec![108],
            _ => vec![208],
        } {
            block[at..at + 2].copy_from_slice(&half::f16::from_f32(0.01).to_le_bytes());
        }
    }
    bytes
}

#[test]
fn packed_matrices_give_what_their_dense_form_gives() {
    for (name, device) in devices() {
        for kind in GgmlType::ALL.into_iter().filter(|kind| *kind != GgmlType::F32) {
            for (m, rows) in [(1, 3), (9, 40), (16, 130)] {
                let columns = kind.block().max(8) * 2;
                assert!(Packed::fits(kind, columns));
                let bytes = blocks(kind, rows, columns);
                let mut dense = vec![0.0; rows * columns];
                kind.dequantize(&bytes, &mut dense);
                let dense = Tensor::<2>::from_data(TensorData::new(dense, [rows, columns]), &device);
                let packed = Packed::new(kind, [rows, columns], &bytes, &device);
                let case = format!("{name} {} {m}x{rows}", kind.name());

                let ids = Tensor::<1, Int>::from_data([(rows - 1) as i32, 0, 1], &device);
                assert_close(&case, packed.select(ids.clone()), dense.clone().select(0, ids), 1e-6);

                let (x, g) = (random::<2>([m, columns], 23, &device), random::<2>([m, rows - 2], 24, &device));
                let (part, whole) = (packed.slice(2..rows), dense.clone().slice([2..rows, 0..columns]));
                let case_of_part = format!("{case} from row 2");
                assert_close(&case_of_part, part.linear(x.clone()), x.matmul(whole.clone().transpose()), 1e-5);
                assert_close(&case_of_part, part.back(g.clone()), g.matmul(whole), 1e-5);

                let x = random::<2>([m, columns], 21, &device).autodiff().require_grad();
                let weight = random::<2>([m, rows], 22, &device);
                let ours = packed.linear(x.clone());
                let stock = x.clone().matmul(dense.clone().transpose());
                assert_close(&case, ours.clone().inner(), stock.clone().inner(), 1e-5);
                let mut ours = (ours * weight.clone()).sum().backward();
                let mut stock = (stock * weight).sum().backward();
                let (ours, stock) = (x.grad_remove(&mut ours), x.grad_remove(&mut stock));
                let case = format!("{case} gradient");
                assert_close(&case, ours.expect("gradient"), stock.expect("gradient"), 1e-5);
            }
        }
    }
}

/// Forward, and the gradients to input, A and B, of a linear layer with its adapter against its four products.
pub(super) fn check_adapted(name: &str, device: &Device, [rows, inputs, outputs, rank]: [usize; 4], dtype: DType) {
    let case = format!("{name} {rows}x{inputs}x{outputs} rank {rank} {dtype:?}");
    let tolerance = if dtype == DType::F16 { 4e-3 } else { 2e-5 };
    let packed = Packed::new(GgmlType::F16, [outputs, inputs], &blocks(GgmlType::F16, outputs, inputs), device);
    let w = packed.select(packed.ids(0..outputs));
    let rounded = |t: Tensor<2>| if dtype == DType::F16 { half_tests::rounded(t) } else { t };
    let x = rounded(random([rows, inputs], 41, device));
    let (a, b) = (random([rank, inputs], 42, device), random([outputs, rank], 43, device));
    let g = rounded(random([rows, outputs], 44, device));
    let leaves = |dtype: DType| {
        let leaf = |t: &Tensor<2>, dtype| t.clone().cast(dtype).autodiff().require_grad();
        [leaf(&x, dtype), leaf(&a, DType::F32), leaf(&b, DType::F32)]
    };
    let [x1, a1, b1] = leaves(DType::F32);
    let low = x1.clone().matmul(a1.clone().transpose());
    let stock = x1.clone().matmul(w.clone().transpose()) + low.matmul(b1.clone().transpose()).mul_scalar(0.5);
    let mut expected = (stock.clone() * g.clone()).sum().backward();
    let wanted = [&x1, &a1, &b1].map(|leaf| leaf.grad_remove(&mut expected).expect("gradient"));
    for base in ["dense", "packed"] {
        let [x, a, b] = leaves(dtype);
        let ours = match base {
            "dense" => adapted(x.clone(), w.clone().cast(dtype), a.clone(), b.clone(), 0.5),
            _ => packed.adapted(x.clone(), a.clone(), b.clone(), 0.5),
        };
        assert_eq!(ours.dtype(), dtype, "{case} {base}");
        assert_close(&format!("{case} {base}"), ours.clone().inner(), stock.clone().inner(), tolerance);
        let mut grads = (ours.cast(DType::F32) * g.clone()).sum().backward();
        for ((leaf, wanted), of) in [&x, &a, &b].into_iter().zip(&wanted).zip(["x", "A", "B"]) {
            let got = leaf.grad_remove(&mut grads).expect("gradient");
            assert_close(&format!("{case} {base} gradient to {of}"), got, wanted.clone(), tolerance);
        }
    }
}

#[test]
fn an_adapted_layer_is_its_four_products() {
    for (name, device) in devices() {
        for sizes in [[3, 8, 5, 2], [40, 32, 64, 8], [17, 64, 36, 4]] {
            check_adapted(name, &device, sizes, DType::F32);
        }
    }
    for (name, device) in half_devices() {
        check_adapted(name, &device, [40, 32, 64, 8], DType::F16);
    }
}

#[test]
fn squares_and_adamw_are_the_stock_ones() {
    for (name, device) in devices() {
        let sizes = [[1, 1], [3, 70], [33, 64], [200, 9], [2, 2], [65, 65], [1, 4]];
        let tensors: Vec<Tensor<2>> = (0u64..).zip(sizes).map(|(i, size)| random(size, 51 + i, &device)).collect();
        let all: f64 = tensors.iter().flat_map(|t| values(t.clone())).map(|x| f64::from(x) * f64::from(x)).sum();
        let got = f64::from(values(squares(&tensors).expect("a sum"))[0]);
        assert!((got - all).abs() < 1e-5 * all, "{name}: {got} for {all}");

        let (value, grad) = (random::<2>([33, 7], 61, &device), random::<2>([33, 7], 62, &device));
        let moments = random::<2>([66, 7], 63, &device).abs();
        let factor = Tensor::<2>::from_data([[0.3f32]], &device);
        let (beta1, beta2, epsilon) = (0.9f32, 0.99f32, 1e-6f32);
        let rule = AdamWRule {
            beta1,
            rest1: 1.0 - beta1,
            beta2,
            rest2: 1.0 - beta2,
            epsilon,
            correction: 0.5,
            step: 0.01,
            keep: 0.999,
        };
        let (ours, both) = adamw(value.clone(), grad.clone(), moments.clone(), factor, rule);
        let g = grad.mul_scalar(0.3);
        let first = moments.clone().narrow(0, 0, 33).mul_scalar(beta1) + g.clone().mul_scalar(1.0 - beta1);
        let second = moments.narrow(0, 33, 33).mul_scalar(beta2) + (g.clone() * g).mul_scalar(1.0 - beta2);
        let update = first.clone() / second.clone().sqrt().div_scalar(0.5).add_scalar(epsilon);
        assert_close(name, ours, value.mul_scalar(0.999) - update.mul_scalar(0.01), 1e-6);
        assert_close(name, both, Tensor::cat(vec![first, second], 0), 1e-6);
    }
}
