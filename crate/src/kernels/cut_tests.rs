//! The kernels for a graphics card's many cores, each forced in turn, on whatever GPU `PADDOCK_TEST_GPU` gives.

#![allow(clippy::disallowed_methods)]

use burn::tensor::{Device, TensorData};

use super::{
    half_tests::rounded,
    measure::seconds_of,
    tests::{assert_close, blocks, check_adapted, gpu, operands, oracle, random, values},
    wgsl::{Cores, Cut, FORCED},
    *,
};
use crate::weights::ggml::GgmlType;

const CUTS: [Cut; 7] = [
    Cut::Shared { rows: 128, columns: 128, each: 8 },
    Cut::Shared { rows: 64, columns: 64, each: 8 },
    Cut::Shared { rows: 64, columns: 64, each: 4 },
    Cut::Shared { rows: 32, columns: 64, each: 4 },
    Cut::Shared { rows: 32, columns: 32, each: 4 },
    Cut::Sliced,
    Cut::Quads,
];

/// Sizes around those of the parts, in fours.
const SHAPES: [(usize, usize, usize, usize); 6] =
    [(1, 4, 4, 4), (2, 36, 68, 20), (1, 128, 132, 64), (3, 8, 200, 256), (1, 200, 8, 100), (1, 260, 196, 36)];

/// Every cut for every product of the test; the choice for the rows' kernels as well.
fn with_cuts(test: impl Fn(&str)) {
    let before = cube::cores();
    use_cores(Cores::Card(48 << 10));
    for cut in CUTS {
        *FORCED.lock().expect("no test failed here") = Some(cut);
        test(&format!("{cut:?}"));
    }
    *FORCED.lock().expect("no test failed here") = None;
    use_cores(before);
}

#[test]
fn every_cut_of_a_product_is_the_stock_product() {
    let Some(opened) = gpu() else { return };
    let half = opened.info.features.iter().any(|feature| feature == "shader-f16");
    with_cuts(|cut| {
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            for shape in SHAPES {
                let (a, b) = operands(shape, layout, &opened.device);
                let case = format!("{cut} {layout:?} {shape:?}");
                assert_close(&case, product(a.clone(), b.clone(), layout), oracle(a.clone(), b.clone(), layout), 1e-5);
                if half {
                    let a = rounded(a);
                    let stock = oracle(a.clone(), b.clone(), layout);
                    let ours = product_as(DType::F32, a.cast(DType::F16), b, layout);
                    assert_close(&format!("{case} f16"), ours, stock, 1e-5);
                }
            }
        }
        // Parts read some rows of each matrix, and add to some.
        for group in [1, 2] {
            let [q, k, v] = [(group, 5), (1, 6), (1, 7)]
                .map(|(group, seed)| random([3, group * 40, 8], seed, &opened.device).autodiff().require_grad());
            let all = |queries| {
                let [q, k, v] = [&q, &k, &v].map(|t| t.clone().into_dispatch());
                let y =
                    Tensor::<3>::from_dispatch(Dispatch::attend(q, k, v, 40, 0.3, Together { queries, room: 3000 }));
                (y.clone().inner(), (y.clone() * y).sum().backward())
            };
            let ((whole, expected), (cut_up, got)) = (all(40), all(16));
            assert_close(&format!("{cut} attention {group}"), cut_up, whole, 1e-5);
            for leaf in [&q, &k, &v] {
                let (got, expected) = (leaf.grad(&got).expect("gradient"), leaf.grad(&expected).expect("gradient"));
                assert_close(&format!("{cut} attention's gradients {group}"), got, expected, 1e-5);
            }
        }
        for sizes in [[40, 32, 64, 8], [150, 64, 36, 4], [4, 128, 140, 16]] {
            check_adapted(cut, &opened.device, sizes, DType::F32);
        }
        for kind in [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::F16] {
            for rows in [4, 40, 150] {
                let packed = Packed::new(kind, [96, 64], &blocks(kind, 96, 64), &opened.device);
                let dense = packed.select(packed.ids(0..96));
                let x = random([rows, 64], 12, &opened.device);
                let case = format!("{cut} {kind:?} {rows} rows");
                assert_close(&case, packed.linear(x.clone()), matmul(x, dense.clone(), Layout::Nt), 1e-5);
                let g = random([rows, 96], 13, &opened.device);
                assert_close(&format!("{case} back"), packed.back(g.clone()), matmul(g, dense, Layout::Nn), 1e-5);
            }
        }
    });
}

#[test]
fn rows_by_workgroups_are_rows_by_threads() {
    let Some(opened) = gpu() else { return };
    let device = &opened.device;
    let (x, g) = (random([37, 100], 1, device), random([37, 100], 2, device));
    let w = random([1, 100], 3, device);
    let scores = random([3, 20, 130], 4, device);
    // Ten queries after 120 keys, of three lines.
    let first: Vec<i32> = (0..30).map(|i| [0, 70, 119][i / 10] + (i % 10) as i32 / 4).collect();
    let first = Tensor::<2, Int>::from_data(TensorData::new(first, [3, 10]), (device, DType::I32));
    let all = || {
        let leaf = x.clone().autodiff().require_grad();
        let y = rms_norm(leaf.clone(), w.clone().autodiff(), 1e-5);
        let grads = (y.clone() * g.clone().autodiff()).sum().backward();
        let s = scores.clone().autodiff().require_grad();
        let p = causal_softmax(s.clone(), 10, 0.3, DType::F32);
        let soft = (p.clone() * scores.clone().autodiff()).sum().backward();
        let (dx, ds) = (leaf.grad(&grads).expect("gradient"), s.grad(&soft).expect("gradient"));
        let parts = segment_softmax(scores.clone(), first.clone(), 0.3, DType::F32);
        let sums = exp_sums(x.clone(), x.clone().max_dim(1));
        (y.inner(), dx, p.inner(), ds, parts, sums)
    };
    let before = cube::cores();
    use_cores(Cores::Imitated);
    let threads = all();
    // What is queued would take the other kernels.
    let seen =
        [values(threads.1.clone()), values(threads.3.clone()), values(threads.4.clone()), values(threads.5.clone())];
    assert_eq!(seen.map(|values| values.len()), [3700, 7800, 7800, 37]);
    use_cores(Cores::Card(48 << 10));
    let groups = all();
    assert_close("rms_norm", groups.0, threads.0, 1e-6);
    assert_close("rms_norm gradient", groups.1, threads.1, 1e-5);
    assert_close("softmax", groups.2, threads.2, 1e-6);
    assert_close("softmax gradient", groups.3, threads.3, 1e-5);
    assert_close("softmax of segments", groups.4, threads.4, 1e-6);
    assert_close("sums of exp", groups.5, threads.5, 1e-6);
    use_cores(before);
}

#[test]
fn more_products_than_a_dispatch_is_deep_are_several() {
    let Some(opened) = gpu() else { return };
    let (a, b) = operands((65_540, 2, 4, 4), Layout::Nt, &opened.device);
    assert_close("deep", product(a.clone(), b.clone(), Layout::Nt), oracle(a, b, Layout::Nt), 1e-5);
    let (a, b) = operands((2, 3, 4, 4), Layout::Nn, &opened.device);
    let [none, wide] = [a.clone().slice([0..2, 0..0]), b.clone().slice([0..2, 0..4, 0..0])];
    assert_eq!(product(none, b.clone(), Layout::Nn).dims(), [2, 0, 4]);
    assert_eq!(product(a.clone(), wide, Layout::Nn).dims(), [2, 3, 0]);
    let (a, b) = (a.slice([0..2, 0..3, 0..0]), b.slice([0..2, 0..0]));
    assert_eq!(values(product(a, b, Layout::Nn)), [0.0; 24]);
}

/// GFLOP/s.
fn rate([m, n, k]: [usize; 3], layout: Layout, dtype: DType, device: &Device) -> f64 {
    let (a, b) = operands((1, m, n, k), layout, device);
    let (a, b) = (a.cast(dtype), b.cast(dtype));
    let seconds = seconds_of(0.2, async |times| {
        let mut last = product(a.clone(), b.clone(), layout);
        for _ in 1..times {
            last = product(a.clone(), b.clone(), layout);
        }
        crate::weights::read_f32(last.slice([0..1, 0..1, 0..1]).cast(DType::F32)).await.map(drop)
    });
    2.0 * (m * n * k) as f64 / pollster::block_on(seconds).expect("a rate") / 1e9
}

/// For choosing: `PADDOCK_TEST_GPU=1 cargo test --release -p paddock --lib -- --ignored --nocapture rates_of_the_cuts`.
#[test]
#[ignore = "prints rates for a person to compare"]
fn rates_of_the_cuts() {
    let opened = gpu().expect("PADDOCK_TEST_GPU is set");
    let before = cube::cores();
    println!("{}, {before:?}", opened.info.name);
    let large = [
        ([4096, 4096, 4096], Layout::Nt),
        ([2048, 2048, 2048], Layout::Nt),
        ([2048, 2048, 2048], Layout::Nn),
        ([2048, 2048, 2048], Layout::Tn),
        ([512, 49152, 576], Layout::Nt),
    ];
    let shapes = [
        ([512, 576, 576], Layout::Nt),
        ([512, 1536, 576], Layout::Nt),
        ([512, 576, 1536], Layout::Nt),
        ([512, 576, 1536], Layout::Nn),
        ([512, 8, 576], Layout::Nt),
        ([512, 576, 8], Layout::Nt),
        ([8, 576, 512], Layout::Tn),
    ];
    // On a CPU they take minutes.
    let large = large.into_iter().filter(|_| !opened.info.software);
    for (shape, layout) in large.chain(shapes) {
        for dtype in [DType::F32, DType::F16] {
            let mut line = format!("{layout:?} {shape:?} {dtype:?} GFLOP/s:");
            for cut in std::iter::once(None).chain(CUTS.map(Some)) {
                *FORCED.lock().expect("no test failed here") = cut;
                use_cores(Cores::Card(48 << 10));
                let rate = rate(shape, layout, dtype, &opened.device);
                line += &match cut {
                    Some(Cut::Shared { rows, columns, each }) => format!("  {rows}x{columns}/{each} {rate:.0}"),
                    Some(cut) => format!("  {cut:?} {rate:.0}"),
                    None => format!("  chosen {rate:.0}"),
                };
            }
            *FORCED.lock().expect("no test failed here") = None;
            use_cores(Cores::Imitated);
            println!("{line}  alone {:.0}", rate(shape, layout, dtype, &opened.device));
        }
    }
    use_cores(before);
}

/// WebGPU promises 16 KiB, and Chrome refuses a pipeline that wants more than there is.
#[test]
fn no_more_memory_is_shared_than_there_is() {
    // Beside this one the tests on a GPU force their cuts.
    if std::env::var_os("PADDOCK_TEST_GPU").is_some() {
        return;
    }
    for size in [32, 64, 128] {
        let source = wgsl::ProductKernel::choose([1, 4096, 4096, 4096], false, true, Cores::Card(size << 10)).cut;
        let Cut::Shared { rows, columns, .. } = source else { panic!("{source:?}") };
        assert_eq!((rows, columns), (128, 128));
    }
    let small = wgsl::ProductKernel::choose([1, 4096, 4096, 4096], false, true, Cores::Card(16 << 10)).cut;
    assert_eq!(small, Cut::Shared { rows: 64, columns: 64, each: 8 });
}

#[test]
fn quads_take_products_that_fill_them() {
    let cut = |sizes, ta, tb| wgsl::ProductKernel::choose(sizes, ta, tb, Cores::Quads).cut;
    assert_eq!(cut([1, 512, 288, 288], false, true), Cut::Quads);
    assert_eq!(cut([24, 128, 48, 128], false, false), Cut::Quads);
    assert_eq!(cut([1, 288, 768, 512], true, false), Cut::Quads);
    // Thin ones of an adapter, and sizes that are no fours along memory.
    assert_eq!(cut([1, 512, 8, 288], false, true), Cut::Alone(8, 8));
    assert_eq!(cut([1, 8, 288, 512], true, false), Cut::Alone(8, 8));
    assert_eq!(cut([1, 512, 289, 288], false, false), Cut::Alone(4, 4));
}
