//! How fast the CPU's own ways are beside Burn's stock operations.

use std::{hint::black_box, time::Instant};

use burn::{
    backend::{Flex, TensorMetadata},
    tensor::TensorData,
};

use super::{
    flex::tests::{Matrix, Numbers, ours, random, shapes, stocks, values},
    *,
};
use crate::weights::ggml::GgmlType;

/// Seconds a call, of so many.
fn seconds(times: usize, run: &dyn Fn() -> Numbers) -> f64 {
    let started = Instant::now();
    for _ in 0..times {
        black_box(run());
    }
    started.elapsed().as_secs_f64() / times as f64
}

/// A line of the table: the best of five turns each, one after the other. `amount` is of operations or bytes.
fn show(name: &str, unit: &str, amount: usize, ours: &dyn Fn() -> Numbers, stock: &dyn Fn() -> Numbers) {
    let mut times = 1;
    while times < 1 << 20 && seconds(times, ours).max(seconds(times, stock)) * (times as f64) < 0.04 {
        times *= 2;
    }
    let mut best = [f64::INFINITY; 2];
    for _ in 0..5 {
        best = [best[0].min(seconds(times, ours)), best[1].min(seconds(times, stock))];
    }
    let [ours, stock] = best.map(|seconds| amount as f64 / seconds / 1e9);
    println!("{name:<46} {ours:9.2} {stock:9.2} {unit:<7} {:6.2} x  {:9.1} µs", ours / stock, best[0] * 1e6);
}

fn show_product(name: &str, size: [usize; 4], layout: Layout) {
    let [batch, m, n, k] = size;
    let [a, b] = shapes(size, layout);
    let (a, b) = (random(&a, 1), random(&b, 2));
    let name = format!("{name} {layout:?} {batch}x[{m}, {k}]·[{k}, {n}]");
    show(&name, "GFLOP/s", 2 * batch * m * n * k, &|| ours(&a, &b, layout), &|| stocks(&a, &b, layout));
}

/// SmolLM2-135M's sizes: a step of 4 × 128 tokens with an adapter of rank 8, and one token of an answer.
#[test]
#[ignore = "shows rates for a person to compare; takes two minutes of a machine that does nothing else"]
fn cpu_rates() {
    println!("{} threads; ours, stock", rayon::current_num_threads());
    let (hidden, inner, kv, rank) = (576, 1536, 192, 8);
    for tokens in [512, 1] {
        for (name, from, to) in [("q, o", hidden, hidden), ("k, v", hidden, kv), ("gate, up", hidden, inner)] {
            show_product(name, [1, tokens, to, from], Layout::Nt);
            show_product(&format!("{name}: to x"), [1, tokens, from, to], Layout::Nn);
        }
        show_product("down", [1, tokens, hidden, inner], Layout::Nt);
        show_product("down: to x", [1, tokens, inner, hidden], Layout::Nn);
        show_product("A", [1, tokens, rank, inner], Layout::Nt);
        show_product("B", [1, tokens, inner, rank], Layout::Nt);
    }
    show_product("down: to W", [1, hidden, inner, 512], Layout::Tn);
    show_product("B: to h", [1, 512, rank, inner], Layout::Nn);
    show_product("B: to B", [1, inner, rank, 512], Layout::Tn);
    show_product("A: to x", [1, 512, inner, rank], Layout::Nn);
    show_product("A: to A", [1, rank, inner, 512], Layout::Tn);
    show_product("scores", [12, 384, 128, 64], Layout::Nt);
    show_product("scores · V", [12, 384, 64, 128], Layout::Nn);
    show_product("scores · V: to V", [12, 128, 64, 384], Layout::Tn);
    show_product("part of the head", [1, 512, 8192, hidden], Layout::Nt);
    show_product("part of the head: to x", [1, 512, hidden, 8192], Layout::Nn);
    for rows in 1..=4 {
        show_product("head", [1, rows, 49_152, hidden], Layout::Nt);
    }
    show_rows();
    show_packed();
}

fn show_rows() {
    let (x, w, g) = (random(&[512, 576], 1), random(&[1, 576], 2), random(&[512, 576], 3));
    let bytes = |tensors: &[&Numbers]| tensors.iter().map(|t| t.shape().num_elements() * 4).sum::<usize>();
    let norm = || Flex::rms_scale(x.clone(), w.clone(), 1e-5);
    show("norm", "GB/s", bytes(&[&x, &x]), &norm, &|| stock::rms_scale::<Flex>(x.clone(), w.clone(), 1e-5));
    let grad = || Flex::rms_norm_grad(x.clone(), w.clone(), g.clone(), 1e-5);
    let expected = || stock::rms_norm_grad::<Flex>(x.clone(), w.clone(), g.clone(), 1e-5);
    show("norm: to x", "GB/s", bytes(&[&x, &x, &g]), &grad, &expected);
    let (heads, cos, sin) = (random(&[36, 128, 64], 1), random(&[128, 32], 2), random(&[128, 32], 3));
    let turn = || Flex::rotate(heads.clone(), cos.clone(), sin.clone(), false);
    let expected = || stock::rotate::<Flex>(heads.clone(), cos.clone(), sin.clone(), false);
    show("rotation", "GB/s", bytes(&[&heads, &heads]), &turn, &expected);
    for [batch, rows, keys] in [[12, 384, 128], [3, 1536, 512], [3, 3, 512]] {
        let scores = random(&[batch, rows, keys], 1);
        let (device, queries) = (scores.device(), rows / 3);
        let softmax = || Flex::causal_softmax(scores.clone(), queries, 0.125, DType::F32);
        let expected = || stock::causal_softmax::<Flex>(scores.clone(), queries, 0.125, DType::F32, &device);
        let p = softmax();
        let name = format!("softmax {batch}x[{rows}, {keys}]");
        show(&name, "GB/s", bytes(&[&scores, &scores]), &softmax, &expected);
        let grad = || Flex::causal_softmax_grad(p.clone(), scores.clone(), 0.125, DType::F32);
        let expected = || stock::causal_softmax_grad::<Flex>(p.clone(), scores.clone(), 0.125, DType::F32);
        show(&format!("{name}: to scores"), "GB/s", bytes(&[&p, &p, &p]), &grad, &expected);
    }
    let (logits, each) = (random(&[512, 8192], 1), random(&[512, 1], 2));
    let sums = || Flex::exp_sums(logits.clone(), each.clone());
    let expected = || stock::exp_sums::<Flex>(logits.clone(), each.clone());
    show("sums of exp of logits", "GB/s", bytes(&[&logits]), &sums, &expected);
    let scaled = || Flex::exp_scaled(logits.clone(), each.clone(), each.clone());
    let expected = || stock::exp_scaled::<Flex>(logits.clone(), each.clone(), each.clone());
    show("scaled exp of logits", "GB/s", bytes(&[&logits, &logits]), &scaled, &expected);
    let (gate, up, g) = (random(&[512, 1536], 1), random(&[512, 1536], 2), random(&[512, 1536], 3));
    let gated = || Flex::swiglu(gate.clone(), up.clone());
    let expected = || stock::swiglu::<Flex>(gate.clone(), up.clone());
    show("swiglu", "GB/s", bytes(&[&gate, &up, &g]), &gated, &expected);
    let grad = || Flex::swiglu_grad(gate.clone(), up.clone(), g.clone());
    let expected = || stock::swiglu_grad::<Flex>(gate.clone(), up.clone(), g.clone());
    show("swiglu: to gate", "GB/s", bytes(&[&gate, &gate, &up, &g]), &grad, &expected);
}

/// Stock has the numbers at hand: what unpacking costs is the difference. Of rows it copies them.
fn show_packed() {
    for kind in [GgmlType::F16, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_K, GgmlType::Q6_K] {
        let [rows, columns] = [576, 1536];
        let matrix = Matrix::new(kind, [rows, columns]);
        for lines in [512, 4, 1] {
            for transposed in [true, false] {
                let x = random(&[lines, if transposed { columns } else { rows }], 1);
                let name = format!("{} {}, {lines} rows", kind.name(), if transposed { "x·Wᵀ" } else { "g·W" });
                let packed = || matrix.product(x.clone(), transposed);
                show(&name, "GFLOP/s", 2 * lines * rows * columns, &packed, &|| matrix.stock(x.clone(), transposed));
            }
        }
        let ids: Vec<i32> = (0..rows as i32).collect();
        let ids = IntTensor::<Flex>::from_data(TensorData::new(ids, [rows]));
        let unpack = || Flex::packed_rows(ids.clone(), matrix.words.clone(), kind.id(), columns);
        let copy = || {
            let numbers = values(matrix.dense.clone());
            Numbers::from_data(TensorData::new(numbers, [rows, columns]))
        };
        show(&format!("{} rows", kind.name()), "GB/s", rows * columns * 4, &unpack, &copy);
    }
}
