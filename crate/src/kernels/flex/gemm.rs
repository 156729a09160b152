//! The `gemm` crate's product, cut into tiles of the result that each go to one thread: a thread packs only what it
//! multiplies, where `gemm` itself packs one operand on the caller's thread while the others wait. Second products and factors
//! are added and multiplied on the way out. In a tab most tiles are those of [`super::relaxed`].

// `gemm` takes pointers. All of them are made here, from slices whose bounds `View::new` and `tiles` have checked.
#![allow(unsafe_code)]

use std::{marker::PhantomData, mem::MaybeUninit, slice};

use burn::tensor::DType;

use super::{
    Numbers,
    relaxed::{self, Lines, Product},
};
use crate::platform;

/// Columns of a tile: whole registers of AVX-512 for one thread's product.
const COLUMNS: usize = 128;

/// Rows of a tile where there are enough tiles: all of them find their columns packed.
const ROWS: usize = 512;

/// From so many tiles on, they are as high as [`ROWS`]; fewer would not come out even between threads.
const ENOUGH: usize = 8;

/// Multiplications that are worth waking a thread for.
const SHARED: usize = 1 << 18;

/// A batch of matrices where it stands. Invariant: every element lies inside `numbers`.
struct View<'a> {
    numbers: &'a [f32],
    start: usize,
    /// Batch, rows, columns.
    shape: [usize; 3],
    strides: [isize; 3],
}

impl<'a> View<'a> {
    /// None for a tensor that is no batch of matrices in 32 bits.
    fn new(tensor: &'a Numbers) -> Option<Self> {
        if tensor.dtype() != DType::F32 {
            return None;
        }
        let layout = tensor.layout();
        let shape: [usize; 3] = layout.shape().as_slice().try_into().ok()?;
        let strides: [isize; 3] = layout.strides().try_into().ok()?;
        let view = Self { numbers: tensor.storage(), start: layout.start_offset(), shape, strides };
        let (mut least, mut most) = (view.start as i128, view.start as i128);
        for (count, stride) in shape.into_iter().zip(strides) {
            let last = count.checked_sub(1)? as i128 * stride as i128;
            (least, most) = (least + last.min(0), most + last.max(0));
        }
        (least >= 0 && most < view.numbers.len() as i128).then_some(view)
    }

    /// The place of row `row` and column `column` of a matrix, which must be there.
    fn place(&self, [matrix, row, column]: [usize; 3]) -> usize {
        assert!(matrix < self.shape[0] && row < self.shape[1] && column < self.shape[2], "inside the matrix");
        let [b, r, c] = self.strides;
        (self.start as isize + matrix as isize * b + row as isize * r + column as isize * c) as usize
    }

    /// That element and what follows it.
    fn at(&self, place: [usize; 3]) -> *const f32 {
        // SAFETY: `new` has seen that all elements lie inside the slice.
        unsafe { self.numbers.as_ptr().add(self.place(place)) }
    }

    /// From that element on, in the two directions.
    fn lines(&self, place: [usize; 3], [line, step]: [usize; 2]) -> Lines<'a> {
        Lines { numbers: self.numbers, start: self.place(place), strides: [self.strides[line], self.strides[step]] }
    }
}

/// A result `[batch, rows, columns]`, row by row, which threads fill tile by tile.
struct Out<'a> {
    first: *mut f32,
    shape: [usize; 3],
    numbers: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: threads write to different tiles alone, see `tiles`.
unsafe impl Sync for Out<'_> {}

/// Where a tile begins, and its height and width.
#[derive(Clone, Copy)]
struct Tile {
    matrix: usize,
    from: [usize; 2],
    size: [usize; 2],
}

/// `scale · a·b`, of batches of as many matrices.
pub struct Term<'a> {
    a: View<'a>,
    b: View<'a>,
    scale: f32,
}

impl<'a> Term<'a> {
    /// None where the operands are no batches of matrices in 32 bits, have no numbers or do not fit together.
    pub fn new(a: &'a Numbers, b: &'a Numbers, scale: f32) -> Option<Self> {
        let term = Self { a: View::new(a)?, b: View::new(b)?, scale };
        let ([batch, _, k], [others, rows, _]) = (term.a.shape, term.b.shape);
        (batch == others && k == rows).then_some(term)
    }

    /// Of the product.
    pub fn shape(&self) -> [usize; 3] {
        [self.a.shape[0], self.a.shape[1], self.b.shape[2]]
    }

    fn multiplications(&self) -> usize {
        self.shape().into_iter().fold(self.a.shape[2], usize::saturating_mul)
    }
}

/// The sum of some products of one shape `[batch, rows, columns]`, row by row.
///
/// # Panics
/// Where they are of different shapes.
pub fn sum(terms: &[Term<'_>]) -> Vec<f32> {
    let Some(shape) = terms.first().map(Term::shape) else { return Vec::new() };
    let size = shape.iter().product();
    // Not zeros: that would be a visit of all of it by one thread.
    let mut out = Vec::with_capacity(size);
    tiles(out.spare_capacity_mut(), shape, 0, terms, false);
    // SAFETY: the tiles are all of the result, and the first term writes each of their elements.
    unsafe { out.set_len(size) };
    out
}

/// Puts a product into columns of `out` `[batch, rows, columns]`, from column `first` on, or adds it to what is there.
///
/// # Panics
/// Where it does not fit there.
pub fn put(out: &mut [f32], shape: [usize; 3], first: usize, term: Term<'_>, add: bool) {
    let size = out.len();
    // SAFETY: numbers may be looked at as room for numbers; tiles only ever write numbers there.
    let out = unsafe { slice::from_raw_parts_mut(out.as_mut_ptr().cast::<MaybeUninit<f32>>(), size) };
    tiles(out, shape, first, &[term], add);
}

/// Rows and columns of a tile: one thread has all of a result.
fn tile(batch: usize, m: usize, n: usize) -> [usize; 2] {
    if !platform::THREADS {
        return [m, n];
    }
    let columns = COLUMNS.min(n);
    let high = batch * n.div_ceil(columns) * m.div_ceil(ROWS) >= ENOUGH;
    [if high { ROWS } else { ROWS / 2 }.min(m), columns]
}

/// The sum of some products, on all threads, into columns of `out` or added to what is there, which must then be numbers.
fn tiles(out: &mut [MaybeUninit<f32>], shape: [usize; 3], first: usize, terms: &[Term<'_>], add: bool) {
    let Some([batch, m, n]) = terms.first().map(Term::shape) else { return };
    assert!(terms.iter().all(|term| term.shape() == [batch, m, n]), "terms of one shape");
    let size = shape.iter().product::<usize>();
    assert!([batch, m] == shape[..2] && first + n <= shape[2] && out.len() >= size, "room for them");
    let out = Out { first: out.as_mut_ptr().cast(), shape, numbers: PhantomData };
    let [rows, columns] = tile(batch, m, n);
    let (down, across) = (m.div_ceil(rows), n.div_ceil(columns));
    let work = |at: usize| {
        // Neighbours share their columns.
        let (matrix, at) = (at / (down * across), at % (down * across));
        let from = [at % down * rows, at / down * columns];
        let tile = Tile { matrix, from, size: [rows.min(m - from[0]), columns.min(n - from[1])] };
        for (at, term) in terms.iter().enumerate() {
            one(&out, first, tile, term, add || at > 0);
        }
    };
    let count = batch * down * across;
    if terms.iter().map(Term::multiplications).sum::<usize>() < SHARED {
        (0..count).for_each(work);
    } else {
        platform::in_turns(count, work);
    }
}

/// One tile of a product, put or added into the columns from `first` on.
fn one(out: &Out<'_>, first: usize, tile: Tile, Term { a, b, scale }: &Term<'_>, add: bool) {
    let ([batch, m, n], Tile { matrix, from: [row, column], size: [height, width] }) = (out.shape, tile);
    assert!(matrix < batch && row + height <= m && first + column + width <= n, "a tile inside the result");
    // SAFETY: the tile lies inside the result, and no other call has it. Its rows of `a` and columns of `b` are there, as the
    // product is of that shape, and so are all their elements, by `View`'s invariant.
    unsafe {
        let to = out.first.add((matrix * m + row) * n + first + column);
        let product = Product {
            a: a.lines([matrix, row, 0], [1, 2]),
            b: b.lines([matrix, 0, column], [2, 1]),
            size: [height, width, a.shape[2]],
            scale: *scale,
            out: to,
            stride: n,
            add,
        };
        if relaxed::multiply(&product) {
            return;
        }
        gemm::gemm(
            height,
            width,
            a.shape[2],
            to,
            1,
            n as isize,
            add,
            a.at([matrix, row, 0]),
            a.strides[2],
            a.strides[1],
            b.at([matrix, 0, column]),
            b.strides[2],
            b.strides[1],
            1.0,
            *scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
