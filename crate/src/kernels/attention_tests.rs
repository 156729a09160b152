//! Attention in parts against the softmax of all scores, on either side of a part's end.

#![allow(clippy::disallowed_methods)]

use burn::{
    backend::Flex,
    tensor::{DType, Device, Tensor, TensorData, activation::softmax},
};

use super::{
    attention::{Attention, LEAST_QUERIES},
    flex::tests as cpu,
    half_tests::rounded,
    tests::{assert_close, devices, finite_differences, firsts, half_devices, int, random, values},
    *,
};

const SCALE: f32 = 0.7;

#[derive(Debug, Clone, Copy)]
struct Case {
    /// Query heads of a group.
    group: usize,
    queries: usize,
    /// Keys before those of the queries.
    before: usize,
    dim: usize,
    /// Queries that go together.
    part: usize,
}

/// Every matrix belongs to one of two lines.
const MATRICES: usize = 4;

/// Parts that end before, with and behind the last query; one head or several; weights that are kept and that are not.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for queries in [1, 4, 5, 6, 13] {
        for (group, before) in [(1, 0), (3, 0), (2, 3)] {
            cases.extend([2, 20].map(|dim| Case { group, queries, before, dim, part: 5 }));
        }
    }
    let long = |queries| Case { group: 2, queries, before: 0, dim: 8, part: LEAST_QUERIES };
    cases.extend([LEAST_QUERIES - 1, LEAST_QUERIES, LEAST_QUERIES + 1, 2 * LEAST_QUERIES + 3].map(long));
    cases
}

impl Case {
    fn keys(self) -> usize {
        self.before + self.queries
    }

    /// Queries, keys and values.
    fn operands(self, device: &Device) -> [Tensor<3>; 3] {
        let keys = [MATRICES, self.keys(), self.dim];
        let q = random([MATRICES, self.group * self.queries, self.dim], 1, device);
        [q, random(keys, 2, device), random(keys, 3, device)]
    }

    /// The first key of each query: one segment in the first line, two in the other.
    fn lines(self) -> Vec<Vec<i32>> {
        let half = (self.queries / 2) as i32;
        let other = if half == 0 { firsts(&[1]) } else { firsts(&[half, self.queries as i32 - half]) };
        vec![firsts(&[self.queries as i32]), other]
    }

    fn mask(self, segments: bool, device: &Device) -> Tensor<3> {
        let shape = [MATRICES, self.group * self.queries, self.keys()];
        let lines = self.lines();
        let seen = |i: usize| {
            let (row, key) = (i / shape[2], i % shape[2]);
            let query = row % shape[1] % self.queries;
            let first = if segments { lines[row / shape[1] % lines.len()][query] as usize } else { 0 };
            (first..=self.before + query).contains(&key)
        };
        let mask = (0..shape.iter().product::<usize>()).map(|i| if seen(i) { 0.0 } else { f32::NEG_INFINITY });
        Tensor::from_data(TensorData::new(mask.collect::<Vec<f32>>(), shape), device)
    }

    /// Scores get more room than they need in cases with keys before the queries.
    fn together(self) -> Together {
        let scores = MATRICES * self.group * self.part.min(self.queries) * self.keys();
        Together { queries: self.part, room: if self.before > 0 { scores + scores / 2 } else { 0 } }
    }

    fn ours(self, [q, k, v]: [&Tensor<3>; 3], segments: bool) -> Tensor<3> {
        let device = q.device();
        let [q, k, v] = [q, k, v].map(|t| t.clone().into_dispatch());
        Tensor::from_dispatch(if segments {
            let first = int(&self.lines(), &device.without_autodiff()).into_dispatch();
            Dispatch::attend_segments(q, k, v, first, SCALE, self.together())
        } else {
            Dispatch::attend(q, k, v, self.queries, SCALE, self.together())
        })
    }

    fn stock(self, [q, k, v]: [&Tensor<3>; 3], segments: bool, device: &Device) -> Tensor<3> {
        let scores = q.clone().matmul(k.clone().swap_dims(1, 2)).mul_scalar(SCALE);
        softmax(scores + self.mask(segments, device), 2).matmul(v.clone())
    }
}

#[test]
fn attention_in_parts_is_the_softmax_of_all_scores() {
    for (name, device) in devices() {
        for case in cases() {
            for segments in [false, true] {
                let case_name = format!("{name} {case:?} segments {segments}");
                let leaves = case.operands(&device).map(|t| t.autodiff().require_grad());
                let weight = random([MATRICES, case.group * case.queries, case.dim], 4, &device);
                let ours = case.ours(leaves.each_ref(), segments);
                let stock = case.stock(leaves.each_ref(), segments, &device);
                assert_close(&case_name, ours.clone().inner(), stock.clone().inner(), 1e-5);
                let ours = (ours * weight.clone()).sum().backward();
                let stock = (stock * weight).sum().backward();
                for (leaf, of) in leaves.iter().zip(["queries", "keys", "values"]) {
                    let (ours, stock) = (leaf.grad(&ours).expect("gradient"), leaf.grad(&stock).expect("gradient"));
                    assert_close(&format!("{case_name} gradient of {of}"), ours, stock, 2e-5);
                }
            }
        }
    }
}

#[test]
fn attention_is_cut_by_its_shapes() {
    for (name, device) in devices() {
        let case = Case { group: 3, queries: 9, before: 2, dim: 4, part: 0 };
        let [q, k, v] = case.operands(&device);
        let stock = case.stock([&q, &k, &v], false, &device);
        assert_close(name, attention(q.clone(), k.clone(), v.clone(), 9, SCALE, 0), stock, 1e-5);
        let stock = case.stock([&q, &k, &v], true, &device);
        assert_close(name, segment_attention(q, k, v, int(&case.lines(), &device), SCALE, 0), stock, 1e-5);
    }
    for dim in [1, 48, 64, 80, 128, 256] {
        let part = queries_at_once(dim);
        assert!(part >= LEAST_QUERIES && part.is_multiple_of(32), "{dim}: {part}");
        assert!(part == LEAST_QUERIES || part <= 2 * dim, "{dim}: {part}");
        // What keeps its weights is not cut.
        assert!((1..1000).all(|keys| !keeps_weights(keys, dim) || keys < part + 32), "{dim}: {part}");
    }
}

#[test]
fn gradients_of_attention_are_its_slopes() {
    for (name, device) in devices() {
        for segments in [false, true] {
            let case = Case { group: 2, queries: 5, before: 1, dim: 3, part: 2 };
            let [q, k, v] = case.operands(&device);
            let of_q = |x: Tensor<3>| case.ours([&x, &k, &v], segments);
            finite_differences(&format!("{name} queries"), q.clone(), of_q, &device);
            let of_k = |x: Tensor<3>| case.ours([&q, &x, &v], segments);
            finite_differences(&format!("{name} keys"), k.clone(), of_k, &device);
            let of_v = |x: Tensor<3>| case.ours([&q, &k, &x], segments);
            finite_differences(&format!("{name} values"), v.clone(), of_v, &device);
        }
    }
}

#[test]
fn what_is_frozen_gets_no_gradient_and_changes_no_other() {
    let device = Device::flex();
    let case = Case { group: 2, queries: 7, before: 0, dim: 3, part: 3 };
    let all = case.operands(&device).map(|t| t.autodiff().require_grad());
    let expected = case.ours(all.each_ref(), false).sum().backward();
    for trained in 0..3 {
        let mut some = case.operands(&device);
        some[trained] = some[trained].clone().autodiff().require_grad();
        let grads = case.ours(some.each_ref(), false).sum().backward();
        for (at, (one, leaf)) in some.iter().zip(&all).enumerate() {
            let (got, expected) = (one.grad(&grads), leaf.grad(&expected).expect("gradient"));
            assert_eq!(got.is_some(), at == trained);
            if let Some(got) = got {
                assert_eq!(values(got), values(expected), "{at}");
            }
        }
    }
}

#[test]
fn weights_that_are_kept_and_that_are_not_give_the_same_gradients() {
    for part in [5, 20] {
        let operand = |rows, seed| cpu::random(&[4, rows, 6], seed);
        let (q, k, v) = (operand(26, 1), operand(15, 2), operand(15, 3));
        let of = Attention::<Flex> {
            q,
            k,
            v,
            first: None,
            queries: 13,
            scale: SCALE,
            together: Together { queries: part, room: 0 },
        };
        let ((out, kept), (again, none)) = (of.forward(true), of.forward(false));
        assert_eq!((kept.len(), none.len()), (13usize.div_ceil(part), 0));
        assert_eq!(cpu::values(out), cpu::values(again));
        let g = operand(26, 4);
        let grads = |kept| of.backward(kept, &g, [true; 3]).map(|grad| cpu::values(grad.expect("gradient")));
        assert_eq!(grads(kept), grads(Vec::new()));
    }
}

#[test]
fn attention_in_16_bits() {
    for (name, device) in half_devices() {
        for case in cases() {
            let case_name = format!("{name} {case:?}");
            let operands = case.operands(&device).map(rounded);
            let weight = rounded(random([MATRICES, case.group * case.queries, case.dim], 4, &device));
            let leaves = |dtype: DType| operands.clone().map(|t| t.cast(dtype).autodiff().require_grad());
            let (half, full) = (leaves(DType::F16), leaves(DType::F32));
            let (ours, stock) = (case.ours(half.each_ref(), true), case.stock(full.each_ref(), true, &device));
            assert_eq!(ours.dtype(), DType::F16, "{case_name}");
            assert_close(&case_name, ours.clone().inner(), stock.clone().inner(), 2e-3);
            let ours = (ours.cast(DType::F32) * weight.clone()).sum().backward();
            let stock = (stock * weight).sum().backward();
            for (half, full) in half.iter().zip(&full) {
                let (ours, stock) = (half.grad(&ours).expect("gradient"), full.grad(&stock).expect("gradient"));
                assert_eq!(ours.dtype(), DType::F16, "{case_name}");
                assert_close(&format!("{case_name} gradient"), ours, stock, 4e-3);
            }
        }
    }
}
