//! How a kernel is started: its source, its buffers, and where its result goes.

use burn::{
    backend::TensorMetadata,
    backend::wgpu::{CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous},
    tensor::{DType, Shape},
};
use cubecl::{
    CubeCount, CubeDim,
    prelude::KernelId,
    server::{KernelArguments, MetadataBindingInfo},
};

use super::cores;
use crate::kernels::{
    packed,
    wgsl::{self, Cores, Cut, ProductKernel, WORKGROUP},
};

/// A kernel and the types of the numbers it reads and writes: what its source depends on, by which [`KernelId`] tells two
/// of them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source {
    kernel: Kernel,
    /// See [`wgsl::typed`].
    half: u8,
    /// Which of how many operands the result takes the place of, see [`wgsl::over`].
    over: Option<(usize, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kernel {
    Product(ProductKernel),
    Rotate {
        inverse: bool,
    },
    RmsScale(Rows),
    RmsNormGrad(Rows),
    CausalSoftmax(Rows),
    SegmentSoftmax(Rows),
    CausalSoftmaxGrad(Rows),
    ExpSums(Rows),
    ExpScaled,
    Swiglu,
    SwigluGrad,
    AddSquares,
    AdamW,
    /// Rows of a matrix in GGML's blocks of this number.
    PackedRows(u32),
}

/// Who goes along a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rows {
    Thread,
    Workgroup,
}

impl Rows {
    pub fn choose() -> Self {
        if matches!(cores(), Cores::Card(_)) { Self::Workgroup } else { Self::Thread }
    }

    /// Workgroups for that many rows.
    pub fn groups(self, rows: usize) -> usize {
        match self {
            Self::Thread => groups(rows),
            Self::Workgroup => rows,
        }
    }
}

/// Workgroups of so many threads.
pub(super) fn groups(threads: usize) -> usize {
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
            Kernel::ExpSums(Rows::Thread) => wgsl::each::EXP_SUMS.into(),
            Kernel::ExpSums(Rows::Workgroup) => wgsl::rows::exp_sums(),
            Kernel::ExpScaled => wgsl::each::EXP_SCALED.into(),
            Kernel::Swiglu => wgsl::each::SWIGLU.into(),
            Kernel::SwigluGrad => wgsl::each::SWIGLU_GRAD.into(),
            Kernel::AddSquares => wgsl::rows::add_squares(),
            Kernel::AdamW => wgsl::each::ADAMW.into(),
            Kernel::PackedRows(id) => wgsl::packed::rows(packed::kind(id)),
        };
        let source = match self.over {
            Some((at, operands)) => wgsl::over(&source, at, operands),
            None => source,
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

/// Runs `kernel` over `inputs` in so many workgroups a batch, into a new tensor of `shape` and `dtype`.
pub(super) fn launch<const N: usize>(
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

/// As [`launch`], into a tensor shaped as operand `at` and with as much room (`KernelOps::product_in_room`): over it,
/// where nobody needs it any more.
pub(super) fn alike<const I: usize, const N: usize>(
    kernel: Kernel,
    inputs: [CubeTensor; I],
    at: usize,
    dtype: DType,
    groups: usize,
    sizes: [u32; N],
) -> CubeTensor {
    let like = &inputs[at];
    if like.dtype == dtype && like.can_mut() {
        run(kernel, Some((at, I)), &inputs, groups, 1, &sizes);
        return inputs[at].clone();
    }
    let out = empty(like, like.shape(), dtype, like.handle.size() as usize / like.dtype.size());
    let all: Vec<CubeTensor> = inputs.into_iter().chain([out.clone()]).collect();
    run(kernel, None, &all, groups, 1, &sizes);
    out
}

/// As [`launch`], into several tensors. `sizes` are even in number.
pub(super) fn launch_into<const N: usize>(
    kernel: Kernel,
    inputs: &[CubeTensor],
    outputs: [(Shape, DType); N],
    groups: usize,
    batch: usize,
    sizes: &[u32],
) -> [CubeTensor; N] {
    let outputs = outputs.map(|(shape, dtype)| empty(&inputs[0], shape, dtype, 0));
    let all: Vec<CubeTensor> = inputs.iter().chain(&outputs).cloned().collect();
    run(kernel, None, &all, groups, batch, sizes);
    outputs
}

/// A tensor where `like` is, in a buffer that has room for so many numbers at least.
pub(super) fn empty(like: &CubeTensor, shape: Shape, dtype: DType, room: usize) -> CubeTensor {
    let buffer = like.client.empty(shape.num_elements().max(room) * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, buffer, dtype)
}

/// Runs `kernel` over tensors that it reads, and then those that it writes.
fn run(
    kernel: Kernel,
    over: Option<(usize, usize)>,
    tensors: &[CubeTensor],
    groups: usize,
    batch: usize,
    sizes: &[u32],
) {
    let threads = match kernel {
        // What a workgroup has does not depend on how many there are.
        Kernel::Product(product) => product.workgroups(0, 0).1,
        _ => WORKGROUP,
    };
    let types = tensors.iter().map(|t| t.dtype).enumerate();
    let half = types.fold(0u8, |half, (i, dtype)| half | u8::from(dtype == DType::F16) << i);
    let source = Source { kernel, half, over };
    let groups = groups as u32;
    // A dispatch is at most 65,535 workgroups wide.
    let wide = groups.clamp(1, 32_768);
    let buffers = tensors.iter().map(|t| t.handle.clone().binding()).collect();
    let words = sizes.chunks(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32).collect();
    tensors[0].client.launch(
        Box::new(SourceKernel::new(source, CubeDim::new_1d(threads))),
        CubeCount::Static(wide, groups.div_ceil(wide).max(1), batch as u32),
        KernelArguments::new().with_buffers(buffers).with_info(MetadataBindingInfo::custom(words)),
    );
}

/// Matrices whose rows follow one another, and the numbers from each matrix to the next: of a part of the rows those of
/// all. Others are copied.
fn by_matrix<const N: usize>(tensors: [CubeTensor; N]) -> ([CubeTensor; N], [usize; N]) {
    let tensors = tensors.map(|t| {
        let (shape, strides) = (t.meta.shape(), t.meta.strides());
        let plain = shape.num_dims() == 3 && strides[2] == 1 && strides[1] == shape[2];
        if plain { t } else { into_contiguous(t) }
    });
    let strides = tensors.each_ref().map(|t| if t.meta.shape().num_dims() == 3 { t.meta.strides()[0] } else { 0 });
    (tensors, strides)
}

/// Runs a product of so many matrices (batch, rows, columns, steps) into `out`, where the next matrix is `to` numbers on.
pub(super) fn multiply(
    kernel: ProductKernel,
    [batch, m, n, k]: [usize; 4],
    scale: f32,
    operands: [CubeTensor; 2],
    out: CubeTensor,
    to: usize,
) -> CubeTensor {
    let ([lhs, rhs], strides) = by_matrix(operands);
    let sizes = product_sizes([m, n, k], scale.to_bits(), strides, to);
    run(Kernel::Product(kernel), None, &[lhs, rhs, out.clone()], kernel.workgroups(m, n).0, batch, &sizes);
    out
}

/// What a [`ProductKernel`] reads in `size`.
pub(super) fn product_sizes([m, n, k]: [usize; 3], fourth: u32, [a, b]: [usize; 2], to: usize) -> [u32; 8] {
    [m as u32, n as u32, k as u32, fourth, a as u32, b as u32, to as u32, 0]
}
