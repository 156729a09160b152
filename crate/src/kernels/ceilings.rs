//! What an adapter gives at most through WGSL: the rate of a matrix product, of copying, and the cost of a launch. The
//! kernels here are for measuring alone: several ways to the same product, of sizes that fit them all.

use burn::backend::wgpu::{AutoCompiler, KernelSource, SourceKernel, SourceTemplate, WgpuDevice, WgpuRuntime};
// The trait's only public name.
use cubecl::__private::Runtime;
use cubecl::{
    CubeCount, CubeDim,
    prelude::{Client, KernelId},
    server::{Handle, KernelArguments, MetadataBindingInfo},
};
use serde::Serialize;

use super::{
    cube,
    measure::{LONG, seconds_of},
    wgsl::{Cores, Cut, ProductKernel, typed},
};
use crate::{
    device::Opened,
    error::{Error, Result},
};

/// The best that was seen of each.
#[derive(Debug, Clone, Serialize)]
pub struct Ceilings {
    /// Floating-point operations a second of a matrix product.
    pub flops: f64,
    /// Bytes read and bytes written a second, together, by a copy.
    pub bytes: f64,
    /// Seconds from one launch to the next where a kernel has next to nothing to do.
    pub launch: f64,
    /// Everything that was tried.
    pub tried: Vec<Tried>,
}

/// A probe at a size, with its rate: operations or bytes a second.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    pub kernel: String,
    /// Rows and columns of the product, or bytes of the copy.
    pub size: usize,
    pub rate: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Probe {
    /// Each thread computes a tile of so many rows and columns, with operands straight from memory.
    Registers(usize, usize),
    /// 256 threads bring parts of both operands into shared memory; each computes a square tile of this edge.
    Shared(usize),
    /// [`Cut::Quads`], where threads can hand each other numbers.
    Quads,
    Copy,
}

const QUADS: ProductKernel = ProductKernel {
    ta: false,
    tb: false,
    cut: Cut::Quads,
    wide: true,
    vec4: true,
    plus: false,
    onto: false,
    packed: None,
};

const PRODUCTS: [Probe; 6] = [
    Probe::Registers(4, 4),
    Probe::Registers(4, 8),
    Probe::Registers(8, 4),
    Probe::Registers(8, 8),
    Probe::Shared(4),
    Probe::Shared(8),
];

/// Rows and columns of the products: multiples of every tile.
const SIZES: [usize; 3] = [512, 1024, 2048];
/// A product that takes longer than these seconds shows the rate; no larger one is tried.
const ENOUGH: f64 = 0.05;
/// Beyond the caches of most cards.
const COPIED: usize = 64 << 20;
const LITTLE: usize = 4 << 10;

/// Measures `opened`, in about half a minute.
///
/// # Errors
/// The CPU device, a kernel that does not run, or one that computes something else.
pub async fn ceilings(opened: &Opened) -> Result<Ceilings> {
    if !opened.is_gpu() {
        return Err(Error::device("Only a GPU runs WGSL.", "Measure with the device gpu."));
    }
    let bench = Bench { client: WgpuRuntime::<AutoCompiler>::client(&WgpuDevice::default()) };
    let mut found = Ceilings { flops: 0.0, bytes: 0.0, launch: 0.0, tried: Vec::new() };
    let quads = (cube::cores() == Cores::Quads).then_some(Probe::Quads);
    for probe in PRODUCTS.into_iter().chain(quads) {
        for n in SIZES {
            let seconds = bench.product(probe, n).await?;
            let rate = 2.0 * (n * n * n) as f64 / seconds;
            found.flops = found.flops.max(rate);
            found.tried.push(Tried { kernel: probe.name(), size: n, rate });
            if seconds > ENOUGH {
                break;
            }
        }
    }
    let most = usize::try_from(opened.binding() / 2).unwrap_or(COPIED).min(COPIED) / LITTLE * LITTLE;
    let seconds = bench.copy(most).await?;
    found.bytes = 2.0 * most as f64 / seconds;
    found.tried.push(Tried { kernel: Probe::Copy.name(), size: most, rate: found.bytes });
    found.launch = bench.copy(LITTLE).await?;
    Ok(found)
}

struct Bench {
    client: Client,
}

impl Bench {
    /// Seconds of the product of two matrices of ones.
    async fn product(&self, probe: Probe, n: usize) -> Result<f64> {
        let ones = 1f32.to_le_bytes().repeat(n * n);
        let [a, b] = [(), ()].map(|()| self.client.create_from_slice(&ones));
        let c = self.client.empty(ones.len());
        let (buffers, groups) = ([a, b, c.clone()], probe.groups(n * n));
        self.launch(probe, &buffers, groups, n);
        let bytes = self.read(&c).await?;
        // A sum of ones is exact, and a kernel that left a part out shows somewhere.
        let right = (n as f32).to_le_bytes();
        if bytes.len() != ones.len() || bytes.chunks(4).any(|number| number != right) {
            return Err(wrong(probe, n));
        }
        self.seconds(probe, &buffers, groups, n).await
    }

    /// Seconds of a copy of so many bytes, a multiple of 16.
    async fn copy(&self, bytes: usize) -> Result<f64> {
        let from = self.client.create_from_slice(&1f32.to_le_bytes().repeat(bytes / 4));
        let to = self.client.empty(bytes);
        let quads = bytes / 16;
        self.seconds(Probe::Copy, &[from, to], Probe::Copy.groups(quads), quads).await
    }

    async fn seconds(&self, probe: Probe, buffers: &[Handle], groups: usize, size: usize) -> Result<f64> {
        // Small, and read after all that was launched before.
        let mark = self.client.create_from_slice(&[0; 16]);
        seconds_of(LONG, async |times| {
            for _ in 0..times {
                self.launch(probe, buffers, groups, size);
            }
            self.read(&mark).await.map(drop)
        })
        .await
    }

    fn launch(&self, probe: Probe, buffers: &[Handle], groups: usize, size: usize) {
        // A dispatch is at most 65,535 workgroups wide.
        let wide = groups.clamp(1, 32_768);
        let count = CubeCount::Static(wide as u32, groups.div_ceil(wide) as u32, 1);
        let bindings = buffers.iter().map(|buffer| buffer.clone().binding()).collect();
        let words = match probe {
            // A single product: from one matrix to the next there is nothing.
            Probe::Quads => {
                vec![size as u64 | (size as u64) << 32, size as u64 | u64::from(1f32.to_bits()) << 32, 0, 0]
            }
            _ => vec![size as u64, 0],
        };
        let info = MetadataBindingInfo::custom(words);
        let arguments = KernelArguments::new().with_buffers(bindings).with_info(info);
        self.client.launch(Box::new(SourceKernel::new(probe, CubeDim::new_1d(probe.threads()))), count, arguments);
    }

    async fn read(&self, handle: &Handle) -> Result<Vec<u8>> {
        let read = self.client.read_async(vec![handle.clone()]).await;
        let failed =
            |message: String| Error::device(message, "Update the graphics driver, or measure another adapter.");
        let bytes = read.map_err(|error| failed(format!("a probe could not be run: {error}")))?;
        bytes.first().map(|bytes| bytes.to_vec()).ok_or_else(|| failed("the device gave nothing back".into()))
    }
}

fn wrong(probe: Probe, n: usize) -> Error {
    let message = format!("the probe {} of {n} rows computes something else on this adapter", probe.name());
    Error::device(message, "Update the graphics driver, or measure another adapter.")
}

impl Probe {
    fn name(self) -> String {
        match self {
            Self::Registers(rows, columns) => format!("product, {rows}×{columns} registers"),
            Self::Shared(edge) => format!("product, {edge}×{edge} registers, shared memory"),
            Self::Quads => "product, 16×16 a quad".into(),
            Self::Copy => "copy".into(),
        }
    }

    /// Threads a workgroup.
    fn threads(self) -> u32 {
        match self {
            Self::Shared(_) => 256,
            Self::Quads => QUADS.workgroups(0, 0).1,
            Self::Registers(..) | Self::Copy => 64,
        }
    }

    /// Workgroups for so many numbers of a result (of a copy, fours of them).
    fn groups(self, numbers: usize) -> usize {
        let each = match self {
            Self::Registers(rows, columns) => rows * columns,
            Self::Shared(edge) => edge * edge,
            Self::Quads => 16 * 16 / 4,
            Self::Copy => 1,
        };
        numbers.div_ceil(each * self.threads() as usize)
    }
}

impl KernelSource for Probe {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(match *self {
            Self::Registers(rows, columns) => registers(rows, columns),
            Self::Shared(edge) => shared(edge),
            Self::Quads => typed(0, true, &QUADS.source()),
            Self::Copy => COPY.to_owned(),
        })
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(*self)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// `size` = fours of numbers.
const COPY: &str = "
@group(0) @binding(0) var<storage, read_write> A: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> C: array<vec4f>;
@group(0) @binding(2) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * wgs.x + wg.x) * 64u + local;
  if (i < size[0]) { C[i] = A[i]; }
}
";

/// Of the products. `size` = rows and columns of all three matrices.
const OPERANDS: &str = "
@group(0) @binding(0) var<storage, read_write> A: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> B: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> C: array<vec4f>;
@group(0) @binding(3) var<storage, read> size: array<u32>;
";

const LANES: [&str; 4] = ["x", "y", "z", "w"];

fn registers(rows: usize, columns: usize) -> String {
    let across = columns / 4;
    let mut s = format!(
        "{OPERANDS}
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) local: u32) {{
  let n4 = size[0] / 4u; let tiles = size[0] / {columns}u;
  let tile = wg.x * 64u + local;
  let row = (tile / tiles) * {rows}u; let col = (tile % tiles) * {across}u;
"
    );
    let cells = || (0..rows).flat_map(move |i| (0..across).map(move |j| (i, j)));
    cells().for_each(|(i, j)| s += &format!("  var c{i}_{j} = vec4f(0);\n"));
    s += "  for (var k = 0u; k < n4; k++) {\n";
    (0..rows).for_each(|i| s += &format!("    let a{i} = A[(row + {i}u) * n4 + k];\n"));
    for (q, lane) in LANES.iter().enumerate() {
        (0..across).for_each(|j| s += &format!("    let b{q}_{j} = B[(k * 4u + {q}u) * n4 + col + {j}u];\n"));
        cells().for_each(|(i, j)| s += &format!("    c{i}_{j} = fma(vec4f(a{i}.{lane}), b{q}_{j}, c{i}_{j});\n"));
    }
    s += "  }\n";
    cells().for_each(|(i, j)| s += &format!("  C[(row + {i}u) * n4 + col + {j}u] = c{i}_{j};\n"));
    s + "}\n"
}

/// 16 by 16 threads compute a block of `16 · edge` rows and columns, sixteen numbers of the inner dimension at a time.
fn shared(edge: usize) -> String {
    let (block, across) = (16 * edge, edge / 4);
    // Fours of a block's row of B, and fours in all of each operand's part.
    let (wide, all) = (block / 4, block * 4);
    let mut s = format!(
        "{OPERANDS}
var<workgroup> left: array<vec4f, {all}>;
var<workgroup> right: array<vec4f, {all}>;
@compute @workgroup_size(256) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) local: u32) {{
  let n4 = size[0] / 4u; let blocks = size[0] / {block}u;
  let tx = local % 16u; let ty = local / 16u;
  let row = (wg.x / blocks) * {block}u; let col = (wg.x % blocks) * {wide}u;
"
    );
    let cells = || (0..edge).flat_map(move |i| (0..across).map(move |j| (i, j)));
    cells().for_each(|(i, j)| s += &format!("  var c{i}_{j} = vec4f(0);\n"));
    s += "  for (var k = 0u; k < n4; k += 4u) {\n";
    for part in 0..across {
        let at = part * 256;
        s += &format!(
            "    let l{part} = local + {at}u;
    left[l{part}] = A[(row + l{part} / 4u) * n4 + k + l{part} % 4u];
    right[l{part}] = B[(k * 4u + l{part} / {wide}u) * n4 + col + l{part} % {wide}u];\n"
        );
    }
    s += "    workgroupBarrier();\n    for (var h = 0u; h < 4u; h++) {\n";
    (0..edge).for_each(|i| s += &format!("      let a{i} = left[(ty * {edge}u + {i}u) * 4u + h];\n"));
    for (q, lane) in LANES.iter().enumerate() {
        for j in 0..across {
            s += &format!("      let b{q}_{j} = right[(h * 4u + {q}u) * {wide}u + tx + {}u];\n", j * 16);
        }
        cells().for_each(|(i, j)| s += &format!("      c{i}_{j} = fma(vec4f(a{i}.{lane}), b{q}_{j}, c{i}_{j});\n"));
    }
    s += "    }\n    workgroupBarrier();\n  }\n";
    for (i, j) in cells() {
        s += &format!("  C[(row + ty * {edge}u + {i}u) * n4 + col + tx + {}u] = c{i}_{j};\n", j * 16);
    }
    s + "}\n"
}
