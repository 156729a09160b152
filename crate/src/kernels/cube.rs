//! wgpu devices: the WGSL kernels of [`wgsl`](super::wgsl). Other CubeCL runtimes take Burn's stock operations.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use burn::{
    backend::{
        TensorMetadata,
        ops::FloatTensorOps,
        tensor::{FloatTensor, IntTensor},
        wgpu::{CubeBackend, CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous},
    },
    tensor::{DType, Shape, Slice},
};
use cubecl::{
    CubeCount, CubeDim,
    prelude::KernelId,
    server::{KernelArguments, MetadataBindingInfo},
};

use super::{
    AdamWRule, KernelOps, LANES, Stored, packed, product_shape, stock,
    wgsl::{self, Cores, Cut, ProductKernel, WORKGROUP},
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

/// A kernel and the types of the numbers it reads and writes: what its source depends on, by which [`KernelId`] tells two
/// of them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source {
    kernel: Kernel,
    /// See [`wgsl::typed`].
    half: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kernel {
    Product(ProductKernel),
    Rotate {
        inverse: bool,
    },
    RmsScale(Rows),
    RmsNormGrad(Rows),
    CausalSoftmax(Rows),
    SegmentSoftmax(Rows),
    CausalSoftmaxGrad(Rows),
    Swiglu,
    SwigluGrad,
    AddSquares,
    AdamW,
    /// Rows of a matrix in GGML's blocks of this number.
    PackedRows(u32),
}

/// Who goes along a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rows {
    Thread,
    Workgroup,
}

impl Rows {
    fn choose() -> Self {
        if matches!(cores(), Cores::Card(_)) { Self::Workgroup } else { Self::Thread }
    }

    /// Workgroups for that many rows.
    fn groups(self, rows: usize) -> usize {
        match self {
            Self::Thread => groups(rows),
            Self::Workgroup => rows,
        }
    }
}

/// Workgroups of so many threads.
fn groups(threads: usize) -> usize {
    threads.div_ceil(WORKGROUP as usize)
}

impl KernelSource for Source {
    fn source(&self) -> SourceTemplate {
        let source = match self.kernel {
            Kernel::Product(kernel) => kernel.source(),
            Kernel::Rotate { inverse } => wgsl::rotate(inverse),
            Kernel::RmsScale(Rows::Thread) => wgsl::RMS_SCALE.into(),
            Kernel::RmsScale(Rows::Workgroup) => wgsl::rows::rms_scale(),
            Kernel::RmsNormGrad(Rows::Thread) => wgsl::RMS_NORM_GRAD.into(),
            Kernel::RmsNormGrad(Rows::Workgroup) => wgsl::rows::rms_norm_grad(),
            Kernel::CausalSoftmax(Rows::Thread) => wgsl::CAUSAL_SOFTMAX.into(),
            Kernel::CausalSoftmax(Rows::Workgroup) => wgsl::rows::causal_softmax(),
            Kernel::SegmentSoftmax(Rows::Thread) => wgsl::SEGMENT_SOFTMAX.into(),
            Kernel::SegmentSoftmax(Rows::Workgroup) => wgsl::rows::segment_softmax(),
            Kernel::CausalSoftmaxGrad(Rows::Thread) => wgsl::CAUSAL_SOFTMAX_GRAD.into(),
            Kernel::CausalSoftmaxGrad(Rows::Workgroup) => wgsl::rows::causal_softmax_grad(),
            Kernel::Swiglu => wgsl::each::SWIGLU.into(),
            Kernel::SwigluGrad => wgsl::each::SWIGLU_GRAD.into(),
            Kernel::AddSquares => wgsl::rows::add_squares(),
            Kernel::AdamW => wgsl::each::ADAMW.into(),
            Kernel::PackedRows(id) => wgsl::packed::rows(packed::kind(id)),
        };
        let subgroups = matches!(self.kernel, Kernel::Product(ProductKernel { cut: Cut::Quads, .. }));
        // The first line is for people: in a driver's message, and in `cargo xtask bench profile`.
        SourceTemplate::new(format!("// {:?}\n{}", self.kernel, wgsl::typed(self.half, subgroups, &source)))
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
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

/// Runs `kernel` over `inputs` in so many workgroups a batch, into a new tensor of `shape` and `dtype`.
fn launch<const N: usize>(
    kernel: Kernel,
    inputs: &[CubeTensor],
    (shape, dtype): (Shape, DType),
    groups: usize,
    batch: usize,
    sizes: [u32; N],
) -> CubeTensor {
    let [output] = launch_into(kernel, inputs, [(shape, dtype)], groups, batch, &sizes);
    output
}

/// As [`launch`], into several tensors. `sizes` are even in number.
fn launch_into<const N: usize>(
    kernel: Kernel,
    inputs: &[CubeTensor],
    outputs: [(Shape, DType); N],
    groups: usize,
    batch: usize,
    sizes: &[u32],
) -> [CubeTensor; N] {
    let threads = match kernel {
        // What a workgroup has does not depend on how many there are.
        Kernel::Product(product) => product.workgroups(0, 0).1,
        _ => WORKGROUP,
    };
    let first = &inputs[0];
    let client = first.client.clone();
    let outputs = outputs.map(|(shape, dtype)| {
        let buffer = client.empty(shape.num_elements() * dtype.size());
        CubeTensor::new_contiguous(client.clone(), first.device.clone(), shape, buffer, dtype)
    });
    let types = inputs.iter().chain(&outputs).map(|t| t.dtype).enumerate();
    let half = types.fold(0u8, |half, (i, dtype)| half | u8::from(dtype == DType::F16) << i);
    let source = Source { kernel, half };
    let groups = groups as u32;
    // A dispatch is at most 65,535 workgroups wide.
    let wide = groups.clamp(1, 32_768);
    let buffers = inputs.iter().chain(&outputs).map(|t| t.handle.clone().binding()).collect();
    let words = sizes.chunks(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32).collect();
    client.launch(
        Box::new(SourceKernel::new(source, CubeDim::new_1d(threads))),
        CubeCount::Static(wide, groups.div_ceil(wide).max(1), batch as u32),
        KernelArguments::new().with_buffers(buffers).with_info(MetadataBindingInfo::custom(words)),
    );
    outputs
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
        let sizes = [batch, m, n, k];
        let kernel = ProductKernel::choose(sizes, ta, tb, cores());
        launch(
            Kernel::Product(kernel),
            &[into_contiguous(lhs), into_contiguous(rhs)],
            (shape, dtype),
            kernel.workgroups(m, n).0,
            batch,
            [m as u32, n as u32, k as u32, scale.to_bits()],
        )
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
            [m, n, k, rank].map(|size| size as u32),
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
        launch(
            Kernel::Rotate { inverse },
            &[into_contiguous(x), into_contiguous(cos), into_contiguous(sin)],
            (shape, dtype),
            groups(pairs),
            1,
            sizes,
        )
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
        launch(Kernel::RmsNormGrad(along), &inputs, (shape, dtype), along.groups(rows), 1, sizes)
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f32, dtype: DType) -> FloatTensor<Self> {
        let shape = scores.shape();
        if !applies(&scores) || shape.num_elements() == 0 {
            let device = scores.device.clone();
            return stock::causal_softmax::<Self>(scores, queries, scale, dtype, &device);
        }
        let (rows, along) = (shape[0] * shape[1], Rows::choose());
        let sizes = [rows as u32, shape[2] as u32, queries as u32, scale.to_bits()];
        launch(Kernel::CausalSoftmax(along), &[into_contiguous(scores)], (shape, dtype), along.groups(rows), 1, sizes)
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
        launch(Kernel::SegmentSoftmax(along), &inputs, (shape, dtype), along.groups(rows), 1, sizes)
    }

    fn causal_softmax_grad(p: FloatTensor<Self>, g: FloatTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        let shape = p.shape();
        if !applies(&p) || shape.num_elements() == 0 {
            return stock::causal_softmax_grad::<Self>(p, g, scale, dtype);
        }
        let (rows, along) = (shape[0] * shape[1], Rows::choose());
        let sizes = [rows as u32, shape[2] as u32, 0, scale.to_bits()];
        let inputs = [into_contiguous(p), into_contiguous(g)];
        launch(Kernel::CausalSoftmaxGrad(along), &inputs, (shape, dtype), along.groups(rows), 1, sizes)
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (shape, dtype) = (gate.shape(), gate.dtype);
        let all = shape.num_elements();
        if !applies(&gate) || all == 0 {
            return stock::swiglu::<Self>(gate, up);
        }
        let inputs = [into_contiguous(gate), into_contiguous(up)];
        launch(Kernel::Swiglu, &inputs, (shape, dtype), groups(all), 1, [all as u32, 0, 0, 0])
    }

    fn swiglu_grad(gate: FloatTensor<Self>, up: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        let (shape, dtype) = (gate.shape(), gate.dtype);
        let all = shape.num_elements();
        if !applies(&gate) || all == 0 {
            return stock::swiglu_grad::<Self>(gate, up, g);
        }
        let inputs = [into_contiguous(gate), into_contiguous(up), into_contiguous(g)];
        launch(Kernel::SwigluGrad, &inputs, (shape, dtype), groups(all), 1, [all as u32, 0, 0, 0])
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
            [m as u32, n as u32, k as u32, 1f32.to_bits()],
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
            [m, n, k, rank].map(|size| size as u32),
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
