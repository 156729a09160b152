//! wgpu devices: the WGSL kernels of [`wgsl`](super::wgsl). Other CubeCL runtimes take Burn's stock operations.

mod launch;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use burn::{
    backend::{
        TensorMetadata,
        ops::FloatTensorOps,
        tensor::{FloatTensor, IntTensor},
        wgpu::{CubeBackend, CubeTensor, into_contiguous},
    },
    tensor::{DType, Shape, Slice},
};

use self::launch::{Kernel, Rows, alike, empty, groups, launch, launch_into, multiply, product_sizes};
use super::{
    AdamWRule, KernelOps, LANES, Stored, attention, packed, product_shape, stock,
    wgsl::{Cores, ProductKernel},
};
use crate::{config::Kernels, platform::IN_TAB};

static STOCK: AtomicBool = AtomicBool::new(false);
/// [`IMITATED`], [`QUADS`] or the bytes of [`Cores::Card`].
static CORES: AtomicU32 = AtomicU32::new(IMITATED);
const IMITATED: u32 = 0;
const QUADS: u32 = 1;
/// The [`Kernels`] of the configuration.
static WANTED: AtomicU8 = AtomicU8::new(Kernels::Auto as u8);

/// Bytes that a workgroup shares at least for the kernels of a card, but for the largest one: what WebGPU promises.
pub const LEAST_SHARED: u32 = 16 << 10;

/// Products of one dispatch.
const DEEPEST: usize = 65_535;

/// Takes the kernels that a configuration names, from here on.
pub fn use_kernels(kernels: Kernels) {
    use_stock(kernels == Kernels::Stock);
    WANTED.store(kernels as u8, Ordering::Relaxed);
}

/// Takes Burn's stock operations instead, from here on (`kernels: stock`).
pub fn use_stock(stock: bool) {
    STOCK.store(stock, Ordering::Relaxed);
}

/// Whether the GPU is a card with many cores, or a CPU that imitates one: the kernels for the one are slow on the other.
/// Results differ in the order of sums.
pub fn use_cores(cores: Cores) {
    let word = match cores {
        Cores::Imitated => IMITATED,
        Cores::Quads => QUADS,
        Cores::Card(memory) => memory.max(LEAST_SHARED),
    };
    CORES.store(word, Ordering::Relaxed);
}

pub(super) fn cores() -> Cores {
    let there = CORES.load(Ordering::Relaxed);
    let wanted = WANTED.load(Ordering::Relaxed);
    if wanted == Kernels::Registers as u8 {
        return Cores::Imitated;
    }
    match if wanted == Kernels::Shared as u8 { there.max(LEAST_SHARED) } else { there } {
        IMITATED => Cores::Imitated,
        QUADS => Cores::Quads,
        memory => Cores::Card(memory),
    }
}

/// Only wgpu runs WGSL.
fn applies(tensor: &CubeTensor) -> bool {
    !STOCK.load(Ordering::Relaxed)
        && matches!(tensor.device, burn_cubecl::CubeDevice::Wgpu(_))
        && matches!(tensor.dtype, DType::F32 | DType::F16)
}

/// Packed matrices have no stock operation to fall back to: the loader makes them on wgpu and the CPU only.
fn wgpu_only(tensor: &CubeTensor) {
    assert!(matches!(tensor.device, burn_cubecl::CubeDevice::Wgpu(_)), "a packed weight on another runtime than wgpu");
}

impl KernelOps for CubeBackend {
    fn product(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        ta: bool,
        tb: bool,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let shape = product_shape(&lhs.shape(), &rhs.shape(), ta, tb);
        let rank = shape.num_dims();
        let k = lhs.shape()[if ta { rank - 2 } else { rank - 1 }];
        let (batch, m, n) = (if rank > 2 { shape[0] } else { 1 }, shape[rank - 2], shape[rank - 1]);
        // A browser's page is without Burn's products, which were a tenth of it: there is no other runtime than wgpu.
        if !IN_TAB && !applies(&lhs) {
            return stock::product::<Self>(lhs, rhs, ta, tb, scale, dtype);
        }
        if shape.num_elements() == 0 || k == 0 {
            return Self::float_zeros(shape, &lhs.device, dtype.into());
        }
        if batch > DEEPEST {
            let part = |x: &CubeTensor, from: usize, to: usize| Self::float_slice(x.clone(), &[Slice::from(from..to)]);
            let parts = (0..batch).step_by(DEEPEST).map(|from| {
                let to = batch.min(from + DEEPEST);
                Self::product(part(&lhs, from, to), part(&rhs, from, to), ta, tb, scale, dtype)
            });
            return Self::float_cat(parts.collect(), 0);
        }
        let out = empty(&lhs, shape, dtype, 0);
        let kernel = ProductKernel::choose([batch, m, n, k], ta, tb, cores());
        multiply(kernel, [batch, m, n, k], scale, [lhs, rhs], out, m * n)
    }

    fn product_in_room(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        ta: bool,
        tb: bool,
        dtype: DType,
        room: usize,
    ) -> FloatTensor<Self> {
        let (shape, k) = (product_shape(&lhs.shape(), &rhs.shape(), ta, tb), lhs.shape()[if ta { 1 } else { 2 }]);
        let [batch, m, n] = shape.dims();
        if !applies(&lhs) || shape.num_elements() == 0 || k == 0 || batch > DEEPEST {
            return Self::product(lhs, rhs, ta, tb, 1.0, dtype);
        }
        let out = empty(&lhs, shape, dtype, room);
        let kernel = ProductKernel::choose([batch, m, n, k], ta, tb, cores());
        multiply(kernel, [batch, m, n, k], 1.0, [lhs, rhs], out, m * n)
    }

    fn product_onto(sum: FloatTensor<Self>, lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let (of, wide) = (product_shape(&lhs.shape(), &rhs.shape(), true, false), sum.shape()[1]);
        let [batch, m, n] = of.dims();
        let k = lhs.shape()[1];
        if !applies(&sum) || of.num_elements() == 0 || k == 0 || batch > DEEPEST || !sum.can_mut() {
            return attention::add::<Self>(sum, lhs, rhs);
        }
        let kernel = ProductKernel { onto: true, ..ProductKernel::choose([batch, m, n, k], true, false, cores()) };
        multiply(kernel, [batch, m, n, k], 1.0, [lhs, rhs], into_contiguous(sum), wide * n)
    }

    fn product_plus(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        tb: bool,
    ) -> FloatTensor<Self> {
        let (shape, dtype) = (product_shape(&lhs.shape(), &rhs.shape(), false, tb), lhs.dtype);
        let (m, n, k, rank) = (shape[0], shape[1], lhs.shape()[1], low.shape()[1]);
        let kernel = ProductKernel::choose([1, m, n, k], false, tb, cores());
        let fits = applies(&lhs) && shape.num_elements() > 0 && k > 0;
        let Some(kernel) = kernel.plus(rank).filter(|_| fits) else {
            let base = Self::product(lhs, rhs, false, tb, 1.0, dtype);
            return Self::float_add(base, Self::product(low, high, false, tb, 1.0, dtype));
        };
        launch(
            Kernel::Product(kernel),
            &[lhs, rhs, low, high].map(into_contiguous),
            (shape, dtype),
            kernel.workgroups(m, n).0,
            1,
            product_sizes([m, n, k], rank as u32, [0; 2], 0),
        )
    }

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype);
        if !applies(&x) || shape.num_elements() == 0 {
            return stock::rotate::<Self>(x, cos, sin, inverse);
        }
        let pairs = shape.num_elements() / 2;
        let sizes = [pairs as u32, shape[1] as u32, (shape[2] / 2) as u32, 0];
        let inputs = [into_contiguous(x), into_contiguous(cos), into_contiguous(sin)];
        alike(Kernel::Rotate { inverse }, inputs, 0, dtype, groups(pairs), sizes)
    }

    fn rms_scale(x: FloatTensor<Self>, m: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype);
        if !applies(&x) || shape.num_elements() == 0 {
            return stock::rms_scale::<Self>(x, m, eps);
        }
        let sizes = [shape[0] as u32, shape[1] as u32, m.shape()[0] as u32, eps.to_bits()];
        let (rows, along) = (shape[0], Rows::choose());
        launch(
            Kernel::RmsScale(along),
            &[into_contiguous(x), into_contiguous(m)],
            (shape, dtype),
            along.groups(rows),
            1,
            sizes,
        )
    }

    fn rms_norm_grad(x: FloatTensor<Self>, w: FloatTensor<Self>, g: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        let (shape, dtype) = (x.shape(), x.dtype);
        if !applies(&x) || shape.num_elements() == 0 {
            return stock::rms_norm_grad::<Self>(x, w, g, eps);
        }
        let sizes = [shape[0] as u32, shape[1] as u32, 0, eps.to_bits()];
        let (rows, along) = (shape[0], Rows::choose());
        let inputs = [into_contiguous(x), into_contiguous(w), into_contiguous(g)];
        alike(Kernel::RmsNormGrad(along), inputs, 2, dtype, along.groups(rows), sizes)
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f32, dtype: DType) -> FloatTensor<Self> {
        let shape = scores.shape();
        if !applies(&scores) || shape.num_elements() == 0 {
            let device = scores.device.clone();
            return stock::causal_softmax::<Self>(scores, queries, scale, dtype, &device);
        }
        let (rows, along) = (shape[0] * shape[1], Rows::choose());
        let sizes = [rows as u32, shape[2] as u32, queries as u32, scale.to_bits()];
        alike(Kernel::CausalSoftmax(along), [into_contiguous(scores)], 0, dtype, along.groups(rows), sizes)
    }

    fn segment_softmax(
        scores: FloatTensor<Self>,
        first: IntTensor<Self>,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let (shape, of) = (scores.shape(), first.shape());
        // The kernel reads whole numbers of 32 bits.
        if !applies(&scores) || shape.num_elements() == 0 || first.dtype.size() != 4 {
            let device = scores.device.clone();
            return stock::segment_softmax::<Self>(scores, first, scale, dtype, &device);
        }
        let (rows, along) = (shape[0] * shape[1], Rows::choose());
        let (queries, lines) = (of[1] as u32, of[0] as u32);
        let sizes = [rows as u32, shape[2] as u32, queries, scale.to_bits(), shape[1] as u32, lines];
        let inputs = [into_contiguous(scores), into_contiguous(first)];
        alike(Kernel::SegmentSoftmax(along), inputs, 0, dtype, along.groups(rows), sizes)
    }

    fn causal_softmax_grad(p: FloatTensor<Self>, g: FloatTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        let shape = p.shape();
        if !applies(&p) || shape.num_elements() == 0 {
            return stock::causal_softmax_grad::<Self>(p, g, scale, dtype);
        }
        let (rows, along) = (shape[0] * shape[1], Rows::choose());
        let sizes = [rows as u32, shape[2] as u32, 0, scale.to_bits()];
        let inputs = [into_contiguous(p), into_contiguous(g)];
        alike(Kernel::CausalSoftmaxGrad(along), inputs, 1, dtype, along.groups(rows), sizes)
    }

    fn exp_sums(x: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.shape();
        if !applies(&x) || shape.num_elements() == 0 {
            return stock::exp_sums::<Self>(x, top);
        }
        let (rows, along) = (shape[0], Rows::choose());
        let inputs = [into_contiguous(x), into_contiguous(top)];
        let out = (Shape::from(vec![rows, 1]), DType::F32);
        launch(Kernel::ExpSums(along), &inputs, out, along.groups(rows), 1, [rows as u32, shape[1] as u32])
    }

    fn exp_scaled(x: FloatTensor<Self>, log_sum: FloatTensor<Self>, scale: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.shape();
        let all = shape.num_elements();
        if !applies(&x) || all == 0 {
            return stock::exp_scaled::<Self>(x, log_sum, scale);
        }
        let inputs = [x, log_sum, scale].map(into_contiguous);
        alike(Kernel::ExpScaled, inputs, 0, DType::F32, groups(all), [all as u32, shape[1] as u32])
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (shape, dtype) = (gate.shape(), gate.dtype);
        let all = shape.num_elements();
        if !applies(&gate) || all == 0 {
            return stock::swiglu::<Self>(gate, up);
        }
        let inputs = [into_contiguous(gate), into_contiguous(up)];
        alike(Kernel::Swiglu, inputs, 1, dtype, groups(all), [all as u32, 0])
    }

    fn swiglu_grad(gate: FloatTensor<Self>, up: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        let (shape, dtype) = (gate.shape(), gate.dtype);
        let all = shape.num_elements();
        if !applies(&gate) || all == 0 {
            return stock::swiglu_grad::<Self>(gate, up, g);
        }
        let inputs = [into_contiguous(gate), into_contiguous(up), into_contiguous(g)];
        alike(Kernel::SwigluGrad, inputs, 1, dtype, groups(all), [all as u32, 0])
    }

    fn packed_product(x: FloatTensor<Self>, words: IntTensor<Self>, of: Stored, transposed: bool) -> FloatTensor<Self> {
        wgpu_only(&x);
        let (n, k) = (of.outputs(transposed), of.inputs(transposed));
        let (m, dtype) = (x.shape()[0], x.dtype);
        let kernel = ProductKernel::packed([m, n, k], transposed, packed::kind(of.kind), cores());
        launch(
            Kernel::Product(kernel),
            &[into_contiguous(x), into_contiguous(words)],
            (Shape::from(vec![m, n]), dtype),
            kernel.workgroups(m, n).0,
            1,
            product_sizes([m, n, k], 1f32.to_bits(), [0; 2], 0),
        )
    }

    fn packed_product_plus(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        of: Stored,
        transposed: bool,
    ) -> FloatTensor<Self> {
        wgpu_only(&x);
        let (n, k) = (of.outputs(transposed), of.inputs(transposed));
        let (m, dtype, rank) = (x.shape()[0], x.dtype, low.shape()[1]);
        let kernel = ProductKernel::packed([m, n, k], transposed, packed::kind(of.kind), cores());
        let Some(kernel) = kernel.plus(rank) else {
            let base = Self::packed_product(x, words, of, transposed);
            return Self::float_add(base, Self::product(low, high, false, transposed, 1.0, dtype));
        };
        launch(
            Kernel::Product(kernel),
            &[into_contiguous(x), into_contiguous(words), into_contiguous(low), into_contiguous(high)],
            (Shape::from(vec![m, n]), dtype),
            kernel.workgroups(m, n).0,
            1,
            product_sizes([m, n, k], rank as u32, [0; 2], 0),
        )
    }

    fn add_squares(
        sums: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let tensors = [a, b, c, d, e];
        if !applies(&sums) {
            return stock::add_squares::<Self>(sums, tensors);
        }
        let sizes = tensors.each_ref().map(|t| t.shape().num_elements() as u32);
        let sizes = [sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], 0];
        let (shape, dtype) = (sums.shape(), sums.dtype);
        let [a, b, c, d, e] = tensors.map(into_contiguous);
        let inputs = [into_contiguous(sums), a, b, c, d, e];
        let [sums] = launch_into(Kernel::AddSquares, &inputs, [(shape, dtype)], LANES, 1, &sizes);
        sums
    }

    fn adamw(
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        rule: AdamWRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let all = value.shape().num_elements();
        if !applies(&value) || all == 0 {
            return stock::adamw::<Self>(value, grad, moments, factor, rule);
        }
        let AdamWRule { beta1, rest1, beta2, rest2, epsilon, correction, step, keep } = rule;
        let numbers = [beta1, rest1, beta2, rest2, epsilon, correction, step, keep].map(f32::to_bits);
        let sizes: Vec<u32> = [all as u32, 0].into_iter().chain(numbers).collect();
        let outputs = [(value.shape(), value.dtype), (moments.shape(), moments.dtype)];
        let inputs = [value, grad, moments, factor].map(into_contiguous);
        let [value, moments] = launch_into(Kernel::AdamW, &inputs, outputs, groups(all), 1, &sizes);
        (value, moments)
    }

    fn packed_rows(ids: IntTensor<Self>, words: IntTensor<Self>, kind: u32, columns: usize) -> FloatTensor<Self> {
        wgpu_only(&ids);
        let count = ids.shape()[0];
        let shape = Shape::from(vec![count, columns]);
        let sizes = [count as u32, columns as u32, 0, 0];
        launch(
            Kernel::PackedRows(kind),
            &[into_contiguous(ids), into_contiguous(words)],
            (shape, DType::F32),
            groups(count * columns / 4),
            1,
            sizes,
        )
    }
}
