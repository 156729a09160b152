//! The operations on 16-bit numbers against the same ones on the same numbers in 32 bits.

#![allow(clippy::disallowed_methods)]

use burn::tensor::{DType, Gradients, Int, Tensor, TensorData};

use super::{
    tests::{SHAPES, assert_close, blocks, half_devices, operands, oracle, random, values},
    *,
};
use crate::weights::ggml::GgmlType;

const F16: DType = DType::F16;
const F32: DType = DType::F32;

/// Half a unit in the last place, of the largest number, and some.
fn tolerance(dtype: DType) -> f32 {
    if dtype == F16 { 1e-3 } else { 1e-5 }
}

/// Numbers that 16 bits hold, in 32.
pub(super) fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    // By way of the host: a card's compiler leaves out two casts in a row.
    let device = x.device();
    Tensor::from_data(x.cast(F16).into_data().convert::<f32>(), &device)
}

fn leaf<const D: usize>(x: &Tensor<D>, dtype: DType) -> Tensor<D> {
    x.clone().cast(dtype).autodiff().require_grad()
}

/// Gradients of `sum(y · weight)`; the weight's numbers are such that rounding the gradient changes none.
fn back<const D: usize>(y: Tensor<D>, weight: &Tensor<D>) -> Gradients {
    (y.cast(F32) * weight.clone()).sum().backward()
}

fn assert_grad<const D: usize>(
    case: &str,
    ours: (&Tensor<D>, &Gradients),
    expected: (&Tensor<D>, &Gradients),
    dtype: DType,
) {
    let got = ours.0.grad(ours.1).expect("gradient");
    assert_eq!(got.dtype(), dtype, "{case}");
    let expected = expected.0.grad(expected.1).expect("gradient");
    assert_close(case, got, expected, tolerance(dtype));
}

#[test]
fn products_take_and_give_either_type() {
    let types = [(F16, F16, F16), (F16, F16, F32), (F32, F16, F16), (F16, F32, F16), (F32, F32, F16)];
    for (name, device) in half_devices() {
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            for shape in SHAPES {
                for (of_a, of_b, of_c) in types {
                    let case = format!("{name} {layout:?} {shape:?} {of_a:?} {of_b:?} {of_c:?}");
                    let (a, b) = operands(shape, layout, &device);
                    let (a, b) = (rounded(a), rounded(b));
                    let weight = rounded(random([shape.0, shape.1, shape.2], 3, &device));
                    let (a16, b16) = (leaf(&a, of_a), leaf(&b, of_b));
                    let ours = product_as(of_c, a16.clone(), b16.clone(), layout);
                    assert_eq!(ours.dtype(), of_c);
                    let (a32, b32) = (leaf(&a, F32), leaf(&b, F32));
                    let expected = oracle(a32.clone(), b32.clone(), layout);
                    assert_close(&case, ours.clone().inner(), expected.clone().inner(), tolerance(of_c));
                    let (ours, expected) = (back(ours, &weight), back(expected, &weight));
                    assert_grad(&format!("{case} gradient of A"), (&a16, &ours), (&a32, &expected), of_a);
                    assert_grad(&format!("{case} gradient of B"), (&b16, &ours), (&b32, &expected), of_b);
                }
            }
        }
    }
}

#[test]
fn rotation_softmax_and_swiglu_in_16_bits() {
    for (name, device) in half_devices() {
        let x = rounded(random::<4>([2, 3, 5, 6], 5, &device));
        let weight = rounded(random::<4>([2, 3, 5, 6], 6, &device));
        let angles = random([5, 3], 4, &device);
        let turn = |x| rotate(x, angles.clone().cos(), angles.clone().sin());
        let (x16, x32) = (leaf(&x, F16), leaf(&x, F32));
        let (ours, expected) = (turn(x16.clone()), turn(x32.clone()));
        assert_close(name, ours.clone().inner(), expected.clone().inner(), tolerance(F16));
        let (ours, expected) = (back(ours, &weight), back(expected, &weight));
        assert_grad(name, (&x16, &ours), (&x32, &expected), F16);

        // From scores in 32 bits, as attention has them, and from 16.
        let scores = rounded(random::<3>([2, 6, 5], 7, &device));
        let weight = rounded(random::<3>([2, 6, 5], 8, &device));
        for dtype in [F32, F16] {
            let (x16, x32) = (leaf(&scores, dtype), leaf(&scores, F32));
            let (ours, expected) = (causal_softmax(x16.clone(), 3, 0.7, F16), causal_softmax(x32.clone(), 3, 0.7, F32));
            assert_eq!(ours.dtype(), F16);
            assert_close(name, ours.clone().inner(), expected.clone().inner(), tolerance(F16));
            let (ours, expected) = (back(ours, &weight), back(expected, &weight));
            let (ours, expected) = (x16.grad(&ours).expect("gradient"), x32.grad(&expected).expect("gradient"));
            assert_eq!(ours.dtype(), dtype);
            // Its own result, rounded, goes into the gradient.
            assert_close(name, ours, expected, tolerance(F16));

            let first = TensorData::new(vec![0i32, 0, 2, 0, 1, 1], [2, 3]);
            let first = Tensor::<2, Int>::from_data(first, (&device, DType::I32));
            let of = |scores: &Tensor<3>, dtype| segment_softmax(scores.clone(), first.clone(), 0.7, dtype);
            let (ours, expected) = (of(&x16, F16), of(&x32, F32));
            assert_eq!(ours.dtype(), F16);
            assert_close(name, ours.clone().inner(), expected.clone().inner(), tolerance(F16));
            let (ours, expected) = (back(ours, &weight), back(expected, &weight));
            let (ours, expected) = (x16.grad(&ours).expect("gradient"), x32.grad(&expected).expect("gradient"));
            assert_eq!(ours.dtype(), dtype);
            assert_close(name, ours, expected, tolerance(F16));
        }

        let (gate, up) = (rounded(random::<2>([3, 7], 9, &device)), rounded(random::<2>([3, 7], 10, &device)));
        let weight = rounded(random::<2>([3, 7], 11, &device));
        let (gate16, up16, gate32, up32) = (leaf(&gate, F16), leaf(&up, F16), leaf(&gate, F32), leaf(&up, F32));
        let (ours, expected) = (swiglu(gate16.clone(), up16.clone()), swiglu(gate32.clone(), up32.clone()));
        assert_close(name, ours.clone().inner(), expected.clone().inner(), tolerance(F16));
        let (ours, expected) = (back(ours, &weight), back(expected, &weight));
        assert_grad(name, (&gate16, &ours), (&gate32, &expected), F16);
        assert_grad(name, (&up16, &ours), (&up32, &expected), F16);
    }
}

#[test]
fn packed_matrices_take_16_bit_inputs() {
    for (name, device) in half_devices() {
        for kind in [GgmlType::F16, GgmlType::BF16, GgmlType::Q4_0, GgmlType::Q8_0, GgmlType::Q6_K] {
            for (m, rows) in [(1, 3), (9, 40), (7, 33)] {
                let case = format!("{name} {} {m}x{rows}", kind.name());
                let columns = kind.block().max(4) * 3;
                let packed = Packed::new(kind, [rows, columns], &blocks(kind, rows, columns), &device);
                let x = rounded(random::<2>([m, columns], 21, &device));
                let weight = rounded(random::<2>([m, rows], 22, &device));
                let (x16, x32) = (leaf(&x, F16), leaf(&x, F32));
                let (ours, expected) = (packed.linear(x16.clone()), packed.linear(x32.clone()));
                assert_eq!(ours.dtype(), F16);
                assert_close(&case, ours.clone().inner(), expected.clone().inner(), tolerance(F16));
                let (ours, expected) = (back(ours, &weight), back(expected, &weight));
                assert_grad(&format!("{case} gradient"), (&x16, &ours), (&x32, &expected), F16);
            }
        }
    }
}

/// Sums are in 32 bits: 16 end at 2048, where one more is lost. What does not fit is infinite, which the loss scale
/// is moved by.
#[test]
fn sums_are_in_32_bits_and_overflow_is_infinite() {
    for (name, device) in half_devices() {
        for k in [4001, 4000] {
            let ones = |shape| Tensor::<3>::ones(shape, &device).cast(F16);
            let sum = product(ones([1, 1, k]), ones([1, 1, k]), Layout::Nt);
            assert!((values(sum)[0] - k as f32).abs() <= 2.0, "{name} {k}");
        }
        let large = Tensor::<3>::full([1, 2, 4], 60_000.0, &device).cast(F16);
        let ours = product(large.clone(), large, Layout::Nt);
        assert!(values(ours).iter().all(|v| *v == f32::INFINITY), "{name}");
    }
}
