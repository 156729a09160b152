//! Packing and parts, with the module's work done by plain loops that read its argument. The module itself runs in
//! tests/browser/product.test.mjs.

use std::slice;

use super::*;
use crate::rng;

/// What the module does with its argument.
fn plainly(block: &Block) {
    let depth = block[ARGUMENT.panel] / size_of::<Step>();
    let (down, across) = (block[ARGUMENT.row_panels], block[ARGUMENT.column_panels]);
    assert!(depth > 0 && down > 0 && across > 0, "the module's loops are of one turn at least: {block:?}");
    assert!(block[ARGUMENT.columns].is_multiple_of(align_of::<Step>()), "aligned");
    let (stride, add) = (block[ARGUMENT.stride] / size_of::<f32>(), block[ARGUMENT.add] != 0);
    let out = ptr::with_exposed_provenance_mut::<f32>(block[ARGUMENT.out]);
    // SAFETY: addresses that `Part::multiply` has made.
    let (a, b) = unsafe {
        (
            slice::from_raw_parts(ptr::with_exposed_provenance::<f32>(block[ARGUMENT.rows]), down * depth * ROWS),
            slice::from_raw_parts(
                ptr::with_exposed_provenance::<f32>(block[ARGUMENT.columns]),
                across * depth * COLUMNS,
            ),
        )
    };
    for row in 0..down * ROWS {
        for column in 0..across * COLUMNS {
            let a = a[row / ROWS * depth * ROWS..].iter().skip(row % ROWS).step_by(ROWS);
            let b = b[column / COLUMNS * depth * COLUMNS..].iter().skip(column % COLUMNS).step_by(COLUMNS);
            let sum = a.zip(b).take(depth).map(|(a, b)| a * b).sum::<f32>();
            // SAFETY: inside the result, whose size the test knows.
            unsafe {
                let to = out.add(row * stride + column);
                to.write(if add { to.read() + sum } else { sum });
            }
        }
    }
}

/// A matrix of lines and steps in four ways: steps side by side, lines side by side, neither, and backwards.
fn stored(values: &[f32], lines: usize, steps: usize, way: usize) -> (Vec<f32>, usize, [isize; 2]) {
    let (start, strides) = match way {
        0 => (3, [steps as isize + 2, 1]),
        1 => (3, [1, lines as isize + 5]),
        2 => (0, [2, 2 * lines as isize + 1]),
        _ => (lines * steps - 1, [-(steps as isize), -1]),
    };
    let place =
        |line: usize, step: usize| (start as isize + line as isize * strides[0] + step as isize * strides[1]) as usize;
    let last = (0..lines).flat_map(|line| [place(line, 0), place(line, steps - 1)]).max().unwrap_or(0);
    let mut numbers = vec![f32::NAN; last + 1];
    for line in 0..lines {
        for step in 0..steps {
            numbers[place(line, step)] = values[line * steps + step];
        }
    }
    (numbers, start, strides)
}

fn check([m, n, k]: [usize; 3], ways: [usize; 2], scale: f32, add: bool, room: &mut Room) {
    let a = rng::normal(&mut rng::stream(1, 7), m * k, 1.0);
    let b = rng::normal(&mut rng::stream(2, 7), n * k, 1.0);
    let ((of_a, start_a, strides_a), (of_b, start_b, strides_b)) =
        (stored(&a, m, k, ways[0]), stored(&b, n, k, ways[1]));
    // The result stands in the midst of another matrix, of which nothing else may change.
    let (stride, first) = (n + 3, n + 4);
    let mut out = vec![7.0f32; (m + 2) * stride];
    let product = Product {
        a: Lines { numbers: &of_a, start: start_a, strides: strides_a },
        b: Lines { numbers: &of_b, start: start_b, strides: strides_b },
        size: [m, n, k],
        scale,
        out: out[first..].as_mut_ptr(),
        stride,
        add,
    };
    // SAFETY: `out` has all rows, and numbers in them.
    unsafe { blocks(plainly, &product, room) };
    for (at, got) in out.iter().enumerate() {
        let inside =
            at.checked_sub(first).map(|at| (at / stride, at % stride)).filter(|(row, column)| *row < m && *column < n);
        let Some((row, column)) = inside else {
            assert_eq!(*got, 7.0, "{m}×{n}×{k}: number {at} is not of the result");
            continue;
        };
        let sum: f64 = (0..k).map(|step| f64::from(a[row * k + step]) * f64::from(b[column * k + step])).sum();
        let wanted = f64::from(scale) * sum + if add { 7.0 } else { 0.0 };
        let bound = 1e-5 * (k as f64).sqrt() * f64::from(scale.abs().max(1.0)) + 1e-5;
        assert!(
            (f64::from(*got) - wanted).abs() < bound,
            "{m}×{n}×{k} {ways:?} [{row}, {column}]: {got}, not {wanted}"
        );
    }
}

/// Below and at whole panels and parts, and a little over them.
#[test]
fn products_are_right_at_every_edge() {
    let mut room = Room::default();
    let sizes = [
        [1, 1, 1],
        [ROWS, COLUMNS, 1],
        [ROWS - 1, COLUMNS - 1, 3],
        [ROWS + 1, COLUMNS + 1, 5],
        [HEIGHT, 2 * COLUMNS, DEPTH],
        [HEIGHT + 1, COLUMNS + 3, DEPTH + 1],
        [2 * HEIGHT + 6, 20, 2 * DEPTH + 7],
        [5, WIDTH, 9],
        [6, WIDTH + 2 * COLUMNS + 1, 10],
        [13, 3, 700],
        [2, 29, 31],
    ];
    for size in sizes {
        let cases = [
            ([0, 0], 1.0, false),
            ([0, 1], 0.5, true),
            ([1, 0], -3.0, false),
            ([1, 1], 1.0, true),
            ([2, 3], 1.0, false),
            ([3, 2], 2.0, true),
        ];
        for (ways, scale, add) in cases {
            check(size, ways, scale, add, &mut room);
        }
    }
}

/// A line that is told again and again, as of a tensor that was expanded.
#[test]
fn strides_of_nothing() {
    let (m, n, k) = (10, 9, 4);
    let numbers = [1.0, 2.0, 3.0, 4.0];
    let lines = Lines { numbers: &numbers, start: 0, strides: [0, 1] };
    let mut out = vec![0.0; m * n];
    let product =
        Product { a: lines, b: lines, size: [m, n, k], scale: 1.0, out: out.as_mut_ptr(), stride: n, add: false };
    // SAFETY: `out` has all rows.
    unsafe { blocks(plainly, &product, &mut Room::default()) };
    assert_eq!(out, vec![30.0; m * n]);
}

#[test]
fn small_and_thin_products_go_another_way() {
    assert!(worth([32, 32, 32]) && worth([512, 8, 512]) && worth([8, 512, 512]) && worth([usize::MAX, 9, 2]));
    assert!(!worth([31, 32, 32]) && !worth([7, 4096, 4096]) && !worth([4096, 7, 4096]) && !worth([4096, 4096, 0]));
}

/// Natively there is no module, and the `gemm` crate does it all.
#[test]
fn no_module_natively() {
    assert!(!relaxed_simd());
    let numbers = [0.0; 1];
    let lines = Lines { numbers: &numbers, start: 0, strides: [0, 0] };
    let size = [64, 64, 64];
    let mut out = vec![1.0; 64 * 64];
    let product = Product { a: lines, b: lines, size, scale: 1.0, out: out.as_mut_ptr(), stride: 64, add: false };
    // SAFETY: `out` has all rows.
    assert!(!unsafe { multiply(&product) });
    assert!(out.iter().all(|number| *number == 1.0));
}
