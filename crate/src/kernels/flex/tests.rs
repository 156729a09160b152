//! The CPU's own ways against Burn's stock operations: sizes on either side of every choice, operands that others have or
//! nobody, any number of threads.

use burn::{
    backend::{Flex, TensorMetadata},
    tensor::TensorData,
};

use crate::{
    kernels::{tests::blocks, *},
    rng,
    weights::ggml::GgmlType,
};

pub(in crate::kernels) type Numbers = FloatTensor<Flex>;

pub(in crate::kernels) fn random(shape: &[usize], seed: u64) -> Numbers {
    let values = rng::normal(&mut rng::stream(seed, 7), shape.iter().product(), 1.0);
    Numbers::from_data(TensorData::new(values, shape.to_vec()))
}

pub(in crate::kernels) fn values(tensor: Numbers) -> Vec<f32> {
    tensor.to_contiguous().storage::<f32>().to_vec()
}

fn assert_close(case: &str, ours: Numbers, stock: Numbers, tolerance: f32) {
    assert_eq!(ours.shape().to_vec(), stock.shape().to_vec(), "{case}");
    let (ours, stock) = (values(ours), values(stock));
    let scale = stock.iter().fold(1f32, |most, x| most.max(x.abs()));
    for (at, (a, b)) in ours.iter().zip(&stock).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{case} [{at}]: {a} instead of {b}");
    }
}

const LAYOUTS: [Layout; 3] = [Layout::Nn, Layout::Nt, Layout::Tn];

/// Shapes of the operands of a product of these sizes.
pub(in crate::kernels) fn shapes([batch, m, n, k]: [usize; 4], layout: Layout) -> [[usize; 3]; 2] {
    let (ta, tb) = layout.flags();
    [if ta { [batch, k, m] } else { [batch, m, k] }, if tb { [batch, n, k] } else { [batch, k, n] }]
}

pub(in crate::kernels) fn ours(a: &Numbers, b: &Numbers, layout: Layout) -> Numbers {
    let (ta, tb) = layout.flags();
    <Flex as KernelOps>::product(a.clone(), b.clone(), ta, tb, 1.0, DType::F32)
}

pub(in crate::kernels) fn stocks(a: &Numbers, b: &Numbers, layout: Layout) -> Numbers {
    let (ta, tb) = layout.flags();
    stock::product::<Flex>(a.clone(), b.clone(), ta, tb, 1.0, DType::F32)
}

/// Batch, m, n, k: of a few rows and one more; with rests on every side; of one tile and of several, in both directions, evenly
/// or not.
fn sizes() -> Vec<[usize; 4]> {
    let mut sizes: Vec<[usize; 4]> = Vec::new();
    for m in 1..=5 {
        sizes.extend([[1, m, 1, 1], [1, m, 3, 7], [1, m, 4, 8], [1, m, 29, 33], [1, m, 700, 64], [1, m, 613, 577]]);
        sizes.push([2, m, 9, 20]);
    }
    sizes.extend([
        [1, 512, 8, 576],
        [1, 512, 1536, 8],
        [1, 8, 576, 512],
        [1, 1536, 8, 512],
        [1, 300, 16, 500],
        [1, 307, 16, 500],
        [1, 8, 509, 600],
        [1, 7, 640, 500],
        [1, 130, 135, 140],
        [4, 96, 128, 64],
        [3, 65, 33, 17],
        [1, 1100, 300, 40],
        [9, 257, 129, 16],
    ]);
    sizes
}

#[test]
fn products_of_all_sizes_are_the_stock_product() {
    for size in sizes() {
        for layout in LAYOUTS {
            let [a, b] = shapes(size, layout);
            let (a, b) = (random(&a, 1), random(&b, 2));
            let case = format!("{size:?} {layout:?}");
            assert_close(&case, ours(&a, &b, layout), stocks(&a, &b, layout), 1e-5);
        }
    }
}

/// Of the same numbers, a product is the same wherever they stand.
#[test]
fn products_take_views() {
    for size in [[1, 1, 40, 900], [1, 4, 40, 900], [1, 300, 16, 500], [1, 16, 300, 500], [3, 20, 30, 40]] {
        for layout in LAYOUTS {
            let [a, b] = shapes(size, layout);
            // In the midst of larger ones: whole rows, and parts of rows.
            for by in [[2, 0], [0, 3], [2, 3]] {
                let inside = |shape: [usize; 3], seed: u64| {
                    let large = random(&[shape[0], shape[1] + by[0], shape[2] + by[1]], seed);
                    large.narrow(1, by[0], shape[1]).narrow(2, by[1], shape[2])
                };
                let (a, b) = (inside(a, 1), inside(b, 2));
                let case = format!("{size:?} {layout:?} {by:?}");
                let (a_alone, b_alone) = (a.to_contiguous(), b.to_contiguous());
                assert_close(&case, ours(&a, &b, layout), stocks(&a_alone, &b_alone, layout), 1e-5);
            }
        }
    }
}

/// Few rows and many, below what wakes the threads and above, with rests.
const ROWS: [[usize; 2]; 5] = [[1, 1], [3, 5], [16, 48], [7, 5003], [333, 130]];

#[test]
fn row_operations_are_the_stock_ones() {
    for [rows, dim] in ROWS {
        let case = |name: &str| format!("{name} {rows}x{dim}");
        let (x, y, g) = (random(&[rows, dim], 1), random(&[rows, dim], 2), random(&[rows, dim], 3));
        let w = random(&[1, dim], 4);
        let normed = Flex::rms_scale(x.clone(), w.clone(), 1e-3);
        assert_close(&case("norm"), normed, stock::rms_scale::<Flex>(x.clone(), w.clone(), 1e-3), 1e-5);
        let scaled = Flex::rms_scale(x.clone(), y.clone(), 1e-3);
        assert_close(&case("scale"), scaled, stock::rms_scale::<Flex>(x.clone(), y.clone(), 1e-3), 1e-5);
        let grad = Flex::rms_norm_grad(x.clone(), w.clone(), g.clone(), 1e-3);
        let expected = stock::rms_norm_grad::<Flex>(x.clone(), w, g.clone(), 1e-3);
        assert_close(&case("gradient of the norm"), grad, expected, 1e-5);
        let (top, scale) = (random(&[rows, 1], 8), random(&[rows, 1], 9));
        let sums = Flex::exp_sums(x.clone(), top.clone());
        assert_close(&case("sums of exp"), sums, stock::exp_sums::<Flex>(x.clone(), top.clone()), 1e-5);
        let p = Flex::exp_scaled(x.clone(), top.clone(), scale.clone());
        assert_close(&case("scaled exp"), p, stock::exp_scaled::<Flex>(x.clone(), top, scale), 1e-6);
        let gated = Flex::swiglu(x.clone(), y.clone());
        assert_close(&case("swiglu"), gated, stock::swiglu::<Flex>(x.clone(), y.clone()), 1e-6);
        let grad = Flex::swiglu_grad(x.clone(), y.clone(), g.clone());
        let expected = stock::swiglu_grad::<Flex>(x.clone(), y, g.clone());
        assert_close(&case("gradient of swiglu"), grad, expected, 1e-6);

        // As heads of an even size, over the rows of a sequence.
        let half = dim.div_ceil(2);
        let heads = random(&[4, rows, 2 * half], 5);
        let (cos, sin) = (random(&[rows, half], 6), random(&[rows, half], 7));
        for inverse in [false, true] {
            let turned = Flex::rotate(heads.clone(), cos.clone(), sin.clone(), inverse);
            let expected = stock::rotate::<Flex>(heads.clone(), cos.clone(), sin.clone(), inverse);
            assert_close(&case("rotation"), turned, expected, 1e-6);
        }
    }
}

#[test]
fn softmax_of_all_sizes_is_the_stock_one() {
    // Batch, queries a group, groups, keys before the queries.
    for [batch, queries, groups, before] in
        [[1, 1, 1, 0], [2, 3, 2, 1], [1, 1, 3, 500], [3, 37, 2, 0], [4, 96, 3, 5], [1, 200, 1, 0]]
    {
        let (rows, keys) = (queries * groups, before + queries);
        let case = format!("{batch}x{rows}x{keys}");
        let scores = random(&[batch, rows, keys], 1);
        let device = scores.device();
        let p = Flex::causal_softmax(scores.clone(), queries, 0.7, DType::F32);
        let expected = stock::causal_softmax::<Flex>(scores, queries, 0.7, DType::F32, &device);
        for (row, p) in values(p.clone()).chunks(keys).enumerate() {
            let seen = before + row % queries + 1;
            assert!(p[seen..].iter().all(|p| *p == 0.0), "{case}: row {row} sees what comes later");
            assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{case}: row {row}");
        }
        assert_close(&case, p.clone(), expected, 1e-6);
        let g = random(&[batch, rows, keys], 2);
        let grad = Flex::causal_softmax_grad(p.clone(), g.clone(), 0.7, DType::F32);
        assert_close(&case, grad, stock::causal_softmax_grad::<Flex>(p, g, 0.7, DType::F32), 1e-5);
    }
}

#[test]
fn one_score_that_is_no_number_spoils_its_own_row_alone() {
    let mut scores = values(random(&[1, 40, 40], 1));
    scores[25 * 40 + 3] = f32::NAN;
    // Row 10 does not see it.
    scores[10 * 40 + 30] = f32::NAN;
    let scores = Numbers::from_data(TensorData::new(scores, [1, 40, 40]));
    let p = values(Flex::causal_softmax(scores, 40, 1.0, DType::F32));
    for (row, p) in p.chunks(40).enumerate() {
        assert_eq!(p.iter().any(|p| p.is_nan()), row == 25, "row {row}");
    }
}

/// An operation on rows, of sizes that wake the threads.
struct Operation {
    name: &'static str,
    shapes: [&'static [usize]; 3],
    /// Operands whose place the result takes: the first of them that nobody else has.
    over: &'static [usize],
    run: fn([Numbers; 3]) -> Numbers,
}

const NONE: &[usize] = &[1];

const OPERATIONS: [Operation; 8] = [
    Operation {
        name: "rotate",
        shapes: [&[3, 100, 128], &[100, 64], &[100, 64]],
        over: &[0],
        run: |[x, cos, sin]| Flex::rotate(x, cos, sin, false),
    },
    Operation {
        name: "rms_scale",
        shapes: [&[300, 130], &[1, 130], NONE],
        over: &[0],
        run: |[x, w, _]| Flex::rms_scale(x, w, 1e-3),
    },
    Operation {
        name: "rms_norm_grad",
        shapes: [&[300, 130], &[1, 130], &[300, 130]],
        over: &[0, 2],
        run: |[x, w, g]| Flex::rms_norm_grad(x, w, g, 1e-3),
    },
    Operation {
        name: "causal_softmax",
        shapes: [&[3, 200, 110], NONE, NONE],
        over: &[0],
        run: |[x, _, _]| Flex::causal_softmax(x, 100, 0.5, DType::F32),
    },
    Operation {
        name: "causal_softmax_grad",
        shapes: [&[3, 200, 110], &[3, 200, 110], NONE],
        over: &[0, 1],
        run: |[p, g, _]| Flex::causal_softmax_grad(p, g, 0.5, DType::F32),
    },
    Operation {
        name: "exp_scaled",
        shapes: [&[300, 130], &[300, 1], &[300, 1]],
        over: &[0],
        run: |[x, log_sum, scale]| Flex::exp_scaled(x, log_sum, scale),
    },
    Operation {
        name: "swiglu",
        shapes: [&[300, 130], &[300, 130], NONE],
        over: &[0, 1],
        run: |[gate, up, _]| Flex::swiglu(gate, up),
    },
    Operation {
        name: "swiglu_grad",
        shapes: [&[300, 130], &[300, 130], &[300, 130]],
        over: &[1, 2],
        run: |[gate, up, g]| Flex::swiglu_grad(gate, up, g),
    },
];

impl Operation {
    fn operands(&self) -> [Numbers; 3] {
        std::array::from_fn(|at| random(self.shapes[at], at as u64 + 1))
    }
}

fn bits(tensor: Numbers) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

#[test]
fn what_another_one_has_stays_as_it_is() {
    for one in &OPERATIONS {
        let operands = one.operands();
        let before = operands.clone().map(bits);
        (one.run)(operands.clone());
        assert!(operands.map(bits) == before, "{}", one.name);
    }
}

#[test]
fn what_nobody_else_has_is_written_over() {
    for one in &OPERATIONS {
        let expected = bits((one.run)(one.operands()));
        // Of the operands whose place may be taken, others have the first few.
        for (shared, place) in one.over.iter().enumerate() {
            let operands = one.operands();
            let stood = operands[*place].bytes().as_ptr();
            let held: Vec<Numbers> = one.over[..shared].iter().map(|at| operands[*at].clone()).collect();
            let before: Vec<_> = held.iter().cloned().map(bits).collect();
            let out = (one.run)(operands);
            assert_eq!(out.bytes().as_ptr(), stood, "{} over operand {place}", one.name);
            assert!(bits(out) == expected, "{} over operand {place}", one.name);
            assert!(held.into_iter().map(bits).collect::<Vec<_>>() == before, "{}: shared operands", one.name);
        }
        let operands = one.operands();
        assert!(bits((one.run)(operands.clone())) == expected, "{} of shared operands", one.name);
        drop(operands);
    }
}

/// A row of a larger tensor may have it to itself, but not the storage.
#[test]
fn a_view_is_not_written_over() {
    let large = random(&[600, 130], 1);
    let stood = large.bytes().as_ptr();
    let view = large.narrow(0, 100, 300);
    drop(large);
    let expected = bits(Flex::swiglu(view.to_contiguous(), random(&[300, 130], 2)));
    let shared = random(&[300, 130], 2);
    let out = Flex::swiglu(view, shared.clone());
    assert_ne!(out.bytes().as_ptr(), stood);
    assert_eq!(out.bytes().len(), 300 * 130 * 4);
    assert!(bits(out) == expected);
    drop(shared);
}

/// A packed matrix as the operations take it.
pub(in crate::kernels) struct Matrix {
    kind: GgmlType,
    size: [usize; 2],
    pub words: IntTensor<Flex>,
    pub dense: Numbers,
}

impl Matrix {
    pub fn new(kind: GgmlType, [rows, columns]: [usize; 2]) -> Self {
        let bytes = blocks(kind, rows, columns);
        let mut dense = vec![0.0; rows * columns];
        kind.dequantize(&bytes, &mut dense);
        let mut words: Vec<u32> =
            bytes.chunks(4).map(|part| part.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))).collect();
        words.push(0);
        let count = words.len();
        Self {
            kind,
            size: [rows, columns],
            words: IntTensor::<Flex>::from_data(TensorData::new(words, [count])),
            dense: Numbers::from_data(TensorData::new(dense, [1, rows, columns])),
        }
    }

    pub fn product(&self, x: Numbers, transposed: bool) -> Numbers {
        let [rows, columns] = self.size;
        Flex::packed_product(x, self.words.clone(), Stored { kind: self.kind.id(), rows, columns }, transposed)
    }

    /// The same with the numbers themselves.
    pub fn stock(&self, x: Numbers, transposed: bool) -> Numbers {
        let (lines, width) = (x.shape()[0], x.shape()[1]);
        let out = stock::product::<Flex>(
            x.reshape(Shape::from(vec![1, lines, width])),
            self.dense.clone(),
            false,
            transposed,
            1.0,
            DType::F32,
        );
        let width = out.shape()[2];
        out.reshape(Shape::from(vec![lines, width]))
    }
}

#[test]
fn packed_products_of_all_sizes_are_those_of_the_dense_matrix() {
    // Inside one tile, of several with a rest, and of rows wider than a tile.
    for (kind, size) in [
        (GgmlType::Q4_0, [5, 64]),
        (GgmlType::Q4_0, [523, 1056]),
        (GgmlType::Q8_0, [1001, 96]),
        (GgmlType::F16, [300, 1004]),
        (GgmlType::BF16, [37, 20]),
        (GgmlType::Q6_K, [260, 1280]),
        (GgmlType::Q4_K, [41, 16_640]),
    ] {
        let matrix = Matrix::new(kind, size);
        for lines in [1, 2, 3, 4, 5, 70] {
            let case = format!("{} {size:?} by {lines}", kind.name());
            let x = random(&[lines, size[1]], 1);
            assert_close(&case, matrix.product(x.clone(), true), matrix.stock(x, true), 1e-5);
            let g = random(&[lines, size[0]], 2);
            assert_close(&case, matrix.product(g.clone(), false), matrix.stock(g, false), 1e-5);
        }
        let ids: Vec<i32> = (0..size[0] as i32).rev().chain([0, 0]).collect();
        let count = ids.len();
        let rows = IntTensor::<Flex>::from_data(TensorData::new(ids.clone(), [count]));
        let rows = values(Flex::packed_rows(rows, matrix.words.clone(), kind.id(), size[1]));
        let dense = values(matrix.dense);
        for (id, row) in ids.into_iter().zip(rows.chunks(size[1])) {
            assert_eq!(row, &dense[id as usize * size[1]..][..size[1]], "{} row {id}", kind.name());
        }
    }
}

/// What a run computes, to the last bit, on so many threads.
fn on_threads(threads: usize) -> Vec<(String, Vec<u32>)> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let mut all: Vec<(String, Vec<u32>)> =
            OPERATIONS.iter().map(|one| (one.name.to_owned(), bits((one.run)(one.operands())))).collect();
        for size in sizes() {
            for layout in LAYOUTS {
                let [a, b] = shapes(size, layout);
                all.push((format!("{size:?} {layout:?}"), bits(ours(&random(&a, 1), &random(&b, 2), layout))));
            }
        }
        let matrix = Matrix::new(GgmlType::Q4_0, [523, 1056]);
        for lines in [1, 3, 70] {
            for transposed in [true, false] {
                let x = random(&[lines, if transposed { 1056 } else { 523 }], 1);
                all.push((format!("packed by {lines}, {transposed}"), bits(matrix.product(x, transposed))));
            }
        }
        all
    })
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let one = on_threads(1);
    for threads in [2, 5] {
        for ((name, expected), (_, got)) in one.iter().zip(on_threads(threads)) {
            assert!(*expected == got, "{name} on {threads} threads");
        }
    }
}

#[test]
fn the_stock_operations_hide_the_same_segments() {
    let (lines, group, queries, keys) = (2, 3, 4, 6);
    let scores = random(&[2 * lines, group * queries, keys], 8);
    let first = TensorData::new(vec![0i32, 0, 2, 2, 0, 3, 3, 5], [lines, queries]);
    let first = IntTensor::<Flex>::from_data(first);
    let ours = values(Flex::segment_softmax(scores.clone(), first.clone(), 0.7, DType::F32));
    let device = scores.device();
    let stock = values(stock::segment_softmax::<Flex>(scores, first, 0.7, DType::F32, &device));
    assert_eq!(ours.iter().filter(|p| **p == 0.0).count(), stock.iter().filter(|p| **p == 0.0).count());
    for (a, b) in ours.iter().zip(&stock) {
        assert!((a - b).abs() < 1e-6, "{ours:?}\n{stock:?}");
    }
}
