//! Matrix products in a tab. The page's module is compiled without relaxed SIMD, as one with it would not load in every
//! browser, and another whole module would double build and download. So the loops of a product alone, a kilobyte, are made
//! as a module while the page runs ([`module`]): with multiply and add in one instruction where the browser has it, in two
//! where it has not. Natively, and where no module can be made, products stay with the `gemm` crate.
//!
//! Operands are packed into panels first, part by part as caches are large: so their strides are all one.

// The module takes addresses. They are made here: of buffers as large as the panels that it is told of, and of a result whose
// bounds the caller answers for.
#![allow(unsafe_code)]

mod module;
#[cfg(test)]
mod tests;

use std::{
    array::from_fn,
    cell::{OnceCell, RefCell},
    ops::Range,
    ptr,
};

use module::{ARGUMENT, Block, COLUMNS, FUNCTION, MEMORY, ROWS};

use crate::platform::Routine;

/// Steps of sums that are made at once: a panel of columns stays in the first cache, of 32 KiB.
const DEPTH: usize = 384;

/// Rows that are packed at once: with [`DEPTH`] for the second cache. Whole panels.
const HEIGHT: usize = 96;

/// Columns that are packed at once, for the third. Whole panels.
const WIDTH: usize = 1024;

/// With fewer rows or columns, packing the other operand takes longer than multiplying it. An adapter has as many, usually.
const THIN: usize = 8;

/// Multiplications that are worth a call.
const SMALL: usize = 1 << 15;

/// Lines of a matrix (rows of the first operand, columns of the second one), of as many numbers as a sum has steps.
#[derive(Clone, Copy)]
pub struct Lines<'a> {
    pub numbers: &'a [f32],
    pub start: usize,
    /// From a line to the next, and from a step to the next.
    pub strides: [isize; 2],
}

impl Lines<'_> {
    fn place(&self, line: usize, step: usize) -> usize {
        (self.start as isize + line as isize * self.strides[0] + step as isize * self.strides[1]) as usize
    }
}

/// `scale · a·b`, of `size` rows, columns and steps, put into `out` or added to what is there.
pub struct Product<'a> {
    pub a: Lines<'a>,
    pub b: Lines<'a>,
    pub size: [usize; 3],
    pub scale: f32,
    pub out: *mut f32,
    /// From a row of the result to the next.
    pub stride: usize,
    pub add: bool,
}

/// One step of a panel of columns.
#[repr(C, align(32))]
#[derive(Clone, Copy)]
struct Step([f32; COLUMNS]);

/// Packed rows and columns, and what comes out at the edges, where a panel is wider than the result.
#[derive(Default)]
struct Room {
    a: Vec<[f32; ROWS]>,
    b: Vec<Step>,
    edge: Vec<f32>,
}

struct Kernel {
    routine: Routine,
    fused: bool,
    room: RefCell<Room>,
}

thread_local! {
    static KERNEL: OnceCell<Option<Kernel>> = const { OnceCell::new() };
}

fn kernel<T>(work: impl FnOnce(Option<&Kernel>) -> T) -> T {
    KERNEL.with(|kernel| work(kernel.get_or_init(make).as_ref()))
}

fn make() -> Option<Kernel> {
    [true, false].into_iter().find_map(|fused| {
        let routine = Routine::new(&module::module(fused), MEMORY, FUNCTION)?;
        Some(Kernel { routine, fused, room: RefCell::default() })
    })
}

/// Whether products in a tab multiply and add in one instruction, see [`module`].
pub fn relaxed_simd() -> bool {
    kernel(|kernel| kernel.is_some_and(|kernel| kernel.fused))
}

/// Makes a product, or says that this is not the way for it.
///
/// # Safety
/// All rows of the result must be the caller's to write, and hold numbers where they are added to.
pub unsafe fn multiply(product: &Product<'_>) -> bool {
    if !worth(product.size) {
        return false;
    }
    kernel(|kernel| {
        let Some(Kernel { routine, room, .. }) = kernel else { return false };
        // SAFETY: `blocks` makes arguments of what there is, and the caller answers for the result. In a tab an address has
        // 32 bits, as the numbers that the module reads there.
        let call = |block: &Block| unsafe { routine.call(ptr::from_ref(block).expose_provenance()) };
        // SAFETY: the caller's word.
        unsafe { blocks(call, product, &mut room.borrow_mut()) };
        true
    })
}

fn worth([m, n, k]: [usize; 3]) -> bool {
    m >= THIN && n >= THIN && k > 0 && m.saturating_mul(n).saturating_mul(k) >= SMALL
}

/// Packs parts of the operands, one after the other, and has them multiplied by `call`. Parts go by the sizes alone.
///
/// # Safety
/// As for [`multiply`]; `call` must do what [`Block`] says and no more.
unsafe fn blocks(call: impl Fn(&Block), product: &Product<'_>, room: &mut Room) {
    let [m, n, k] = product.size;
    if product.size.contains(&0) {
        return;
    }
    // Parts of about one size: a short one would visit the result for little.
    let deep = k.div_ceil(k.div_ceil(DEPTH));
    for column in (0..n).step_by(WIDTH) {
        let columns = column..(column + WIDTH).min(n);
        for step in (0..k).step_by(deep) {
            let steps = step..(step + deep).min(k);
            let groups = columns.len().div_ceil(COLUMNS) * steps.len();
            if room.b.len() < groups {
                room.b.resize(groups, Step([0.0; COLUMNS]));
            }
            pack(&product.b, columns.clone(), steps.clone(), 1.0, room.b.iter_mut().map(|step| &mut step.0));
            for row in (0..m).step_by(HEIGHT) {
                let rows = row..(row + HEIGHT).min(m);
                let groups = rows.len().div_ceil(ROWS) * steps.len();
                if room.a.len() < groups {
                    room.a.resize(groups, [0.0; ROWS]);
                }
                pack(&product.a, rows.clone(), steps.clone(), product.scale, room.a.iter_mut());
                let part = Part {
                    size: [rows.len(), columns.len()],
                    depth: steps.len(),
                    // SAFETY: inside the result.
                    out: unsafe { product.out.add(row * product.stride + column) },
                    stride: product.stride,
                    add: product.add || step > 0,
                };
                // SAFETY: the operands are packed, for as many rows, columns and steps.
                unsafe { part.multiply(&call, room) };
            }
        }
    }
}

/// What is made of operands that are packed.
struct Part {
    size: [usize; 2],
    depth: usize,
    out: *mut f32,
    stride: usize,
    add: bool,
}

impl Part {
    /// # Safety
    /// `room` must hold its operands, and the result must be the caller's.
    unsafe fn multiply(&self, call: impl Fn(&Block), room: &mut Room) {
        let [height, width] = self.size;
        // Whole panels go where they belong, others into a room that is wide enough for them.
        let (down, across) = (height / ROWS, width / COLUMNS);
        let edge = (height.next_multiple_of(ROWS) * COLUMNS).max(ROWS * across * COLUMNS);
        if room.edge.len() < edge {
            room.edge.resize(edge, 0.0);
        }
        let (a, b) = (room.a.as_ptr().expose_provenance(), room.b.as_ptr().expose_provenance());
        let (to_a, to_b) = (self.depth * size_of::<[f32; ROWS]>(), self.depth * size_of::<Step>());
        let run = |[first_a, first_b]: [usize; 2], panels: [usize; 2], out: *mut f32, stride: usize, add: bool| {
            if panels.contains(&0) {
                return;
            }
            let mut block: Block = [0; 8];
            block[ARGUMENT.rows] = a + first_a * to_a;
            block[ARGUMENT.columns] = b + first_b * to_b;
            block[ARGUMENT.out] = out.expose_provenance();
            block[ARGUMENT.stride] = stride * size_of::<f32>();
            block[ARGUMENT.row_panels] = panels[0];
            block[ARGUMENT.column_panels] = panels[1];
            block[ARGUMENT.panel] = to_b;
            block[ARGUMENT.add] = usize::from(add);
            call(&block);
        };
        run([0, 0], [down, across], self.out, self.stride, self.add);
        if !width.is_multiple_of(COLUMNS) {
            run([0, across], [height.div_ceil(ROWS), 1], room.edge.as_mut_ptr(), COLUMNS, false);
            // SAFETY: columns of the result.
            unsafe { self.put(&room.edge, COLUMNS, [0..height, across * COLUMNS..width]) };
        }
        if !height.is_multiple_of(ROWS) && across > 0 {
            run([down, 0], [1, across], room.edge.as_mut_ptr(), across * COLUMNS, false);
            // SAFETY: rows of the result.
            unsafe { self.put(&room.edge, across * COLUMNS, [down * ROWS..height, 0..across * COLUMNS]) };
        }
    }

    /// Rows of `from`, `length` apart, into a part of the result.
    ///
    /// # Safety
    /// It must be inside the result, which is the caller's.
    unsafe fn put(&self, from: &[f32], length: usize, [rows, columns]: [Range<usize>; 2]) {
        for (row, from) in rows.zip(from.chunks(length)) {
            for (column, number) in columns.clone().zip(from) {
                // SAFETY: the caller's word.
                unsafe {
                    let to = self.out.add(row * self.stride + column);
                    to.write(if self.add { to.read() + number } else { *number });
                }
            }
        }
    }
}

/// Packs lines into panels of `W`, step after step, each number times `scale`. Where lines are missing stands 0.
fn pack<'o, const W: usize>(
    lines: &Lines<'_>,
    across: Range<usize>,
    steps: Range<usize>,
    scale: f32,
    mut out: impl Iterator<Item = &'o mut [f32; W]>,
) {
    let depth = steps.len();
    for first in across.clone().step_by(W) {
        let count = W.min(across.end - first);
        // In this order: a zip that ends by its first half takes nothing more of the other one.
        let groups = (0..depth).zip(out.by_ref());
        match lines.strides {
            // Each line in one piece.
            [_, 1] if count == W => {
                let parts: [&[f32]; W] = from_fn(|at| &lines.numbers[lines.place(first + at, steps.start)..][..depth]);
                groups.for_each(|(step, group)| *group = from_fn(|at| parts[at][step] * scale));
            }
            // The lines side by side.
            [1, _] if count == W => groups.for_each(|(step, group)| {
                let from = lines.place(first, steps.start + step);
                group.iter_mut().zip(&lines.numbers[from..from + W]).for_each(|(to, from)| *to = from * scale);
            }),
            _ => groups.for_each(|(step, group)| {
                let number = |at: usize| lines.numbers[lines.place(first + at, steps.start + step)] * scale;
                *group = from_fn(|at| if at < count { number(at) } else { 0.0 });
            }),
        }
    }
}
