//! WGSL sources. Sizes come in a small buffer, so that a handful of pipelines serves every shape. Numbers are read and
//! written in the types of their buffers (`T0` of the first, and so on: [`typed`]) and computed with in f32.

pub mod each;
pub mod packed;
mod quads;
pub mod rows;
mod shared;

use std::fmt::Write;

pub use shared::SLICED;

use super::choice::{Class, Tile, chosen};
use crate::{platform::IN_TAB, weights::ggml::GgmlType};

/// Threads a workgroup; each computes one tile of a product, one pair of a rotation or one row of a softmax.
pub const WORKGROUP: u32 = 64;

/// Who computes what threads are to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// A CPU that imitates a GPU.
    Imitated,
    /// One that does so with four threads at a time, which can hand numbers to each other.
    Quads,
    /// Many of a card; bytes that a workgroup shares.
    Card(u32),
}

/// How a product is divided among threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Each thread computes that many rows and columns (4 or 8) by itself: for a CPU that imitates a GPU, and for sizes
    /// that are no multiples of four.
    Alone(usize, usize),
    /// Four threads compute 16 by 16, and read the rows for each other: for a CPU that imitates a GPU four by four.
    Quads,
    /// A workgroup computes `rows` by `columns` out of shared memory, each thread `each` by `each`.
    Shared { rows: usize, columns: usize, each: usize },
    /// A workgroup computes 16 by 16, each thread a slice of the sums: for small results of long sums.
    Sliced,
}

/// What a product's source depends on. `size` = m, n, k, the scale's bits (or the thin product's length), and the numbers
/// from one matrix to the next of A, B and the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProductKernel {
    pub ta: bool,
    pub tb: bool,
    pub cut: Cut,
    /// The result is stored in fours.
    pub wide: bool,
    /// Every run along memory is a multiple of four floats: loads of `vec4`.
    pub vec4: bool,
    /// A thin product of two more buffers is added: `low·high`, of as many columns and rows as `size[3]` says.
    pub plus: bool,
    /// The result is added to what stands in its buffer.
    pub onto: bool,
    /// B is a matrix in GGML's blocks of this number ([`GgmlType::id`]), read through `w4`.
    pub packed: Option<u32>,
}

/// A source with the types of its buffers' numbers, `T0`, `T1` and so on, and of four of them, `V0` and so on. `half` has
/// a bit for each buffer that holds f16; `subgroups`: it has a subgroup's functions.
pub fn typed(half: u8, subgroups: bool, source: &str) -> String {
    let mut s = String::from(if half == 0 { "" } else { "enable f16;\n" });
    // A browser wants it to be said, and naga refuses to hear it.
    if subgroups && IN_TAB {
        s.push_str("enable subgroups;\n");
    }
    for i in 0..7 {
        let number = if half >> i & 1 == 1 { "f16" } else { "f32" };
        s.push_str(&format!("alias T{i} = {number}; alias V{i} = vec4<{number}>;\n"));
    }
    s + source
}

/// A source whose result takes the place of operand `at`, of so many `operands` and of the same type: each thread, or each
/// workgroup behind a barrier, reads what it writes over before.
pub fn over(source: &str, at: usize, operands: usize) -> String {
    let name = |binding: usize| {
        let behind = source.split(&format!("@binding({binding}) var<storage, read_write> ")).nth(1);
        behind.and_then(|rest| rest.split(':').next()).unwrap_or_default()
    };
    let (from, to) = (name(operands), name(at));
    let result = format!("@group(0) @binding({operands}) var<storage, read_write> {from}: array<T{operands}>;\n");
    source
        .replace(&result, "")
        .replace(&format!("@binding({})", operands + 1), &format!("@binding({operands})"))
        .replace(&format!("{from}["), &format!("{to}["))
        .replace(&format!("T{operands}("), &format!("T{at}("))
}

const HEAD: &str = "
@group(0) @binding(0) var<storage, read_write> A: array<ELEM_A>;
@group(0) @binding(1) var<storage, read_write> B: array<ELEM_B>;
@group(0) @binding(2) var<storage, read_write> OUT: array<T2>;
alias TC = T2;
@group(0) @binding(3) var<storage, read> size: array<u32>;
READER@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let M = size[0]; let N = size[1]; let K = size[2];
  let across = (N + TILE_Nu - 1u) / TILE_Nu;
  let down = (M + TILE_Mu - 1u) / TILE_Mu;
  let tile = (wg.y * wgs.x + wg.x) * 64u + local;
  if (tile >= across * down) { return; }
  let row = (tile / across) * TILE_Mu;
  let col = (tile % across) * TILE_Nu;
  let batch = wg.z;
  let base = batch * size[6];
  let scale = bitcast<f32>(size[3]);
";

/// Takes this one for every product that it can do.
#[cfg(test)]
pub static FORCED: std::sync::Mutex<Option<Cut>> = std::sync::Mutex::new(None);

impl Cut {
    /// As was chosen for products of these sizes; `alone` is a thread's own tile of them.
    fn choose(sizes: [usize; 4], memory: u32, alone: Self) -> Self {
        #[cfg(test)]
        if let Some(cut) = *FORCED.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return cut;
        }
        let square = |size, each| Self::Shared { rows: size, columns: size, each };
        match chosen(Class::of(sizes)) {
            Tile::Registers => alone,
            Tile::Shared128 if shared::bytes(128, 128) <= memory as usize => square(128, 8),
            Tile::Shared128 | Tile::Shared64Wide => square(64, 8),
            Tile::Shared64 => square(64, 4),
            Tile::Shared32 => square(32, 4),
            Tile::Sliced => Self::Sliced,
        }
    }
}

impl ProductKernel {
    /// The kernel for so many products of these sizes.
    pub fn choose([batch, m, n, k]: [usize; 4], ta: bool, tb: bool, cores: Cores) -> Self {
        let along_a = if ta { m } else { k };
        let along_b = if tb { k } else { n };
        let vec4 = [k, along_a, along_b].iter().all(|n| n.is_multiple_of(4));
        // A tile wider than the result would only compute what is thrown away.
        let fit = |size: usize| if vec4 && size > 4 { 8 } else { 4 };
        let alone = Cut::Alone(fit(m), fit(n));
        let cut = match cores {
            Cores::Card(memory) if vec4 => Cut::choose([batch, m, n, k], memory, alone),
            Cores::Quads if vec4 && m >= quads::ROWS && n >= quads::COLUMNS => Cut::Quads,
            _ => alone,
        };
        let wide = n.is_multiple_of(4) && matches!(cut, Cut::Shared { .. } | Cut::Quads);
        Self { ta, tb, cut, wide, vec4, plus: false, onto: false, packed: None }
    }

    /// The kernel for a product of rows `m` with a packed matrix: `A·Bᵀ`, or `A·B` where `tb` is false.
    pub fn packed([m, n, k]: [usize; 3], tb: bool, kind: GgmlType, cores: Cores) -> Self {
        Self { packed: Some(kind.id()), ..Self::choose([1, m, n, k], false, tb, cores) }
    }

    /// Workgroups for a result of `m` by `n`, and the threads of each.
    pub fn workgroups(&self, m: usize, n: usize) -> (usize, u32) {
        let tiles = |rows: usize, columns: usize| m.div_ceil(rows) * n.div_ceil(columns);
        match self.cut {
            Cut::Alone(rows, columns) => (tiles(rows, columns).div_ceil(WORKGROUP as usize), WORKGROUP),
            Cut::Quads => (tiles(quads::ROWS, quads::COLUMNS).div_ceil(quads::QUADS), 4 * quads::QUADS as u32),
            Cut::Shared { rows, columns, each } => (tiles(rows, columns), shared::threads(rows, columns, each) as u32),
            Cut::Sliced => (tiles(shared::SLICED, shared::SLICED), 256),
        }
    }

    /// Adds `low·high` of a thin `low` with `rank` columns. None where no kernel does it at once.
    pub fn plus(self, rank: usize) -> Option<Self> {
        let able = !matches!(self.cut, Cut::Alone(..)) && rank.is_multiple_of(4);
        able.then_some(Self { plus: true, ..self })
    }

    /// The buffers after the operands: `LOW` and `HIGH` of these types, where there are any, the result `OUT` and the sizes.
    fn buffers(&self, (low, high): (&str, &str), result: &str) -> String {
        let storage = "var<storage, read_write>";
        let thin = format!(
            "@group(0) @binding(2) {storage} LOW: array<{low}>;\n@group(0) @binding(3) {storage} HIGH: array<{high}>;\n"
        );
        let (thin, at) = if self.plus { (thin, 4) } else { (String::new(), 2) };
        format!(
            "alias TC = T{at}; alias VC = V{at};
{thin}@group(0) @binding({at}) {storage} OUT: array<{result}>;
@group(0) @binding({}) var<storage, read> size: array<u32>;",
            at + 1
        )
    }

    /// What is written at `at`: `value`, in the result's type, or the sum with what is there.
    fn put(&self, dtype: &str, at: &str, value: &str) -> String {
        let wide = if dtype == "VC" { "vec4f" } else { "f32" };
        if self.onto { format!("{dtype}({wide}(OUT[{at}]) + {value})") } else { format!("{dtype}({value})") }
    }

    /// What every result is multiplied by.
    fn scale(&self) -> &'static str {
        if self.plus { "let scale = 1f;\n" } else { "let scale = bitcast<f32>(size[3]);\n" }
    }

    /// `w4` for the packed operand, where there is one.
    fn reader(&self) -> Option<String> {
        // A row of the packed matrix runs along k where it is read transposed, else along n.
        let inner = if self.tb { "size[2]" } else { "size[1]" };
        self.packed.and_then(GgmlType::from_id).map(|kind| packed::reader(kind, inner))
    }

    pub fn source(&self) -> String {
        match self.cut {
            Cut::Alone(rows, columns) => self.alone((rows, columns)),
            Cut::Quads => quads::source(self),
            Cut::Shared { rows, columns, each } => shared::tiled(self, rows, columns, each),
            Cut::Sliced => shared::sliced(self),
        }
    }

    fn alone(&self, tile: (usize, usize)) -> String {
        let reader = self.reader();
        let (a, b) = if self.vec4 { ("V0", "V1") } else { ("T0", "T1") };
        let head = HEAD
            .replace("ELEM_A", a)
            .replace("ELEM_B", if reader.is_some() { "u32" } else { b })
            .replace("READER", &reader.unwrap_or_default())
            .replace("TILE_M", &tile.0.to_string())
            .replace("TILE_N", &tile.1.to_string());
        let mut s = head;
        // Writing to a String cannot fail.
        let _ = if self.vec4 { self.vectors(&mut s, tile) } else { self.scalars(&mut s, tile) };
        s.push_str("}\n");
        s
    }

    /// Steps of four along k: rows of A as `vec4` over k, columns of B in groups of `vec4` over n.
    fn vectors(&self, s: &mut String, (tm, tn): (usize, usize)) -> std::fmt::Result {
        const LANE: [&str; 4] = ["x", "y", "z", "w"];
        let groups = tn / 4;
        for i in 0..tm {
            for j in 0..groups {
                writeln!(s, "var c{i}_{j} = vec4f(0);")?;
            }
        }
        writeln!(s, "let baseA = batch * (size[4] / 4u); let baseB = batch * (size[5] / 4u);")?;
        // Reads past the edge are moved to the last row or group: in bounds, and never stored.
        if self.ta {
            for h in 0..tm / 4 {
                writeln!(s, "let ga{h} = baseA + min(row / 4u + {h}u, M / 4u - 1u);")?;
            }
        } else {
            for i in 0..tm {
                writeln!(s, "let ra{i} = baseA + min(row + {i}u, M - 1u) * (K / 4u);")?;
            }
        }
        if self.tb {
            for j in 0..tn {
                match self.packed {
                    Some(_) => writeln!(s, "let rb{j} = min(col + {j}u, N - 1u);")?,
                    None => writeln!(s, "let rb{j} = baseB + min(col + {j}u, N - 1u) * (K / 4u);")?,
                }
            }
        } else {
            for j in 0..groups {
                writeln!(s, "let gb{j} = min(col / 4u + {j}u, N / 4u - 1u);")?;
            }
        }
        writeln!(s, "for (var k = 0u; k < K / 4u; k++) {{")?;
        if self.ta {
            for q in 0..4 {
                for h in 0..tm / 4 {
                    writeln!(s, "let t{q}_{h} = vec4f(A[ga{h} + (k * 4u + {q}u) * (M / 4u)]);")?;
                }
            }
            for i in 0..tm {
                let (h, l) = (i / 4, LANE[i % 4]);
                writeln!(s, "let a{i} = vec4f(t0_{h}.{l}, t1_{h}.{l}, t2_{h}.{l}, t3_{h}.{l});")?;
            }
        } else {
            for i in 0..tm {
                writeln!(s, "let a{i} = vec4f(A[ra{i} + k]);")?;
            }
        }
        if self.tb {
            for j in 0..tn {
                match self.packed {
                    Some(_) => writeln!(s, "let u{j} = w4(rb{j}, k * 4u);")?,
                    None => writeln!(s, "let u{j} = vec4f(B[rb{j} + k]);")?,
                }
            }
        }
        for (q, l) in LANE.iter().enumerate() {
            for j in 0..groups {
                if self.tb {
                    let u = |c: usize| format!("u{}.{l}", j * 4 + c);
                    writeln!(s, "let b{q}_{j} = vec4f({}, {}, {}, {});", u(0), u(1), u(2), u(3))?;
                } else if self.packed.is_some() {
                    writeln!(s, "let b{q}_{j} = w4(k * 4u + {q}u, gb{j} * 4u);")?;
                } else {
                    writeln!(s, "let b{q}_{j} = vec4f(B[baseB + gb{j} + (k * 4u + {q}u) * (N / 4u)]);")?;
                }
            }
            for i in 0..tm {
                for j in 0..groups {
                    writeln!(s, "c{i}_{j} = fma(vec4f(a{i}.{l}), b{q}_{j}, c{i}_{j});")?;
                }
            }
        }
        writeln!(s, "}}")?;
        for i in 0..tm {
            writeln!(s, "if (row + {i}u < M) {{ let at = base + (row + {i}u) * N + col;")?;
            for j in 0..tn {
                let (g, l) = (j / 4, LANE[j % 4]);
                let put = self.put("TC", &format!("at + {j}u"), &format!("c{i}_{g}.{l} * scale"));
                writeln!(s, "if (col + {j}u < N) {{ OUT[at + {j}u] = {put}; }}")?;
            }
            writeln!(s, "}}")?;
        }
        Ok(())
    }

    /// Any shape, one float at a time.
    fn scalars(&self, s: &mut String, (tm, tn): (usize, usize)) -> std::fmt::Result {
        for i in 0..tm {
            for j in 0..tn {
                writeln!(s, "var c{i}_{j} = 0f;")?;
            }
        }
        writeln!(s, "let baseA = batch * size[4]; let baseB = batch * size[5];")?;
        for i in 0..tm {
            writeln!(s, "let ra{i} = min(row + {i}u, M - 1u);")?;
        }
        for j in 0..tn {
            writeln!(s, "let rb{j} = min(col + {j}u, N - 1u);")?;
        }
        writeln!(s, "for (var k = 0u; k < K; k++) {{")?;
        for i in 0..tm {
            let at = if self.ta { format!("k * M + ra{i}") } else { format!("ra{i} * K + k") };
            writeln!(s, "let a{i} = f32(A[baseA + {at}]);")?;
        }
        for j in 0..tn {
            let (row, column) = if self.tb { (format!("rb{j}"), "k".into()) } else { ("k".into(), format!("rb{j}")) };
            match self.packed {
                Some(_) => writeln!(s, "let b{j} = w4({row}, {column} & ~3u)[{column} & 3u];")?,
                None => {
                    let run = if self.tb { "K" } else { "N" };
                    writeln!(s, "let b{j} = f32(B[baseB + {row} * {run} + {column}]);")?;
                }
            }
        }
        for i in 0..tm {
            for j in 0..tn {
                writeln!(s, "c{i}_{j} = fma(a{i}, b{j}, c{i}_{j});")?;
            }
        }
        writeln!(s, "}}")?;
        for i in 0..tm {
            writeln!(s, "if (row + {i}u < M) {{ let at = base + (row + {i}u) * N + col;")?;
            for j in 0..tn {
                let put = self.put("TC", &format!("at + {j}u"), &format!("c{i}_{j} * scale"));
                writeln!(s, "if (col + {j}u < N) {{ OUT[at + {j}u] = {put}; }}")?;
            }
            writeln!(s, "}}")?;
        }
        Ok(())
    }
}

/// `size` = pairs in all, sequence length, half the head's dimension.
pub fn rotate(inverse: bool) -> String {
    let sign = if inverse { "-" } else { "" };
    format!(
        "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> COS: array<T1>;
@group(0) @binding(2) var<storage, read_write> SIN: array<T2>;
@group(0) @binding(3) var<storage, read_write> Y: array<T3>;
@group(0) @binding(4) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {{
  let id = (wg.y * wgs.x + wg.x) * 64u + local;
  if (id >= size[0]) {{ return; }}
  let half = size[2];
  let i = id % half;
  let row = id / half;
  let t = (row % size[1]) * half + i;
  let at = row * half * 2u + i;
  let a = f32(X[at]); let b = f32(X[at + half]); let c = f32(COS[t]); let s = {sign}f32(SIN[t]);
  Y[at] = T3(a * c - b * s);
  Y[at + half] = T3(b * c + a * s);
}}
"
    )
}

/// `size` = rows, columns, rows of M (as many, or one for all), and epsilon's bits.
pub const RMS_SCALE: &str = "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> M: array<T1>;
@group(0) @binding(2) var<storage, read_write> Y: array<T2>;
@group(0) @binding(3) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * wgs.x + wg.x) * 64u + local;
  if (row >= size[0]) { return; }
  let dim = size[1]; let at = row * dim; let m = select(at, 0u, size[2] == 1u);
  var squares = 0f;
  for (var i = 0u; i < dim; i++) { let x = f32(X[at + i]); squares = fma(x, x, squares); }
  let r = inverseSqrt(squares / f32(dim) + bitcast<f32>(size[3]));
  for (var i = 0u; i < dim; i++) { Y[at + i] = T2(f32(X[at + i]) * r * f32(M[m + i])); }
}
";

/// `size` = rows, columns, unused, and epsilon's bits.
pub const RMS_NORM_GRAD: &str = "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> W: array<T1>;
@group(0) @binding(2) var<storage, read_write> G: array<T2>;
@group(0) @binding(3) var<storage, read_write> Y: array<T3>;
@group(0) @binding(4) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * wgs.x + wg.x) * 64u + local;
  if (row >= size[0]) { return; }
  let dim = size[1]; let at = row * dim;
  var squares = 0f; var dot = 0f;
  for (var i = 0u; i < dim; i++) {
    let x = f32(X[at + i]);
    squares = fma(x, x, squares); dot = fma(x, f32(G[at + i]) * f32(W[i]), dot);
  }
  let r = inverseSqrt(squares / f32(dim) + bitcast<f32>(size[3]));
  let back = r * r * r * dot / f32(dim);
  for (var i = 0u; i < dim; i++) { Y[at + i] = T3(r * f32(G[at + i]) * f32(W[i]) - back * f32(X[at + i])); }
}
";

/// `size` = rows in all, keys, queries, and the scale's bits.
pub const CAUSAL_SOFTMAX: &str = "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> Y: array<T1>;
@group(0) @binding(2) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * wgs.x + wg.x) * 64u + local;
  if (row >= size[0]) { return; }
  let keys = size[1]; let seen = keys - size[2] + row % size[2] + 1u;
  let scale = bitcast<f32>(size[3]);
  let at = row * keys;
  var top = f32(X[at]);
  for (var i = 1u; i < seen; i++) { top = max(top, f32(X[at + i])); }
  var sum = 0f;
  for (var i = 0u; i < seen; i++) { sum += exp((f32(X[at + i]) - top) * scale); }
  let inverse = 1f / sum;
  for (var i = 0u; i < seen; i++) { Y[at + i] = T1(exp((f32(X[at + i]) - top) * scale) * inverse); }
  for (var i = seen; i < keys; i++) { Y[at + i] = T1(0f); }
}
";

/// `size` = rows in all, keys, queries, the scale's bits, rows a matrix, and lines of FIRST.
pub const SEGMENT_SOFTMAX: &str = "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> FIRST: array<u32>;
@group(0) @binding(2) var<storage, read_write> Y: array<T2>;
@group(0) @binding(3) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * wgs.x + wg.x) * 64u + local;
  if (row >= size[0]) { return; }
  let keys = size[1]; let query = (row % size[4]) % size[2]; let own = keys - size[2] + query;
  let begin = min(FIRST[((row / size[4]) % size[5]) * size[2] + query], own);
  let scale = bitcast<f32>(size[3]);
  let at = row * keys;
  var top = f32(X[at + own]);
  for (var i = begin; i < own; i++) { top = max(top, f32(X[at + i])); }
  var sum = 0f;
  for (var i = begin; i <= own; i++) { sum += exp((f32(X[at + i]) - top) * scale); }
  let inverse = 1f / sum;
  for (var i = 0u; i < begin; i++) { Y[at + i] = T2(0f); }
  for (var i = begin; i <= own; i++) { Y[at + i] = T2(exp((f32(X[at + i]) - top) * scale) * inverse); }
  for (var i = own + 1u; i < keys; i++) { Y[at + i] = T2(0f); }
}
";

/// `size` = rows in all, keys, unused, and the scale's bits.
pub const CAUSAL_SOFTMAX_GRAD: &str = "
@group(0) @binding(0) var<storage, read_write> P: array<T0>;
@group(0) @binding(1) var<storage, read_write> G: array<T1>;
@group(0) @binding(2) var<storage, read_write> Y: array<T2>;
@group(0) @binding(3) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * wgs.x + wg.x) * 64u + local;
  if (row >= size[0]) { return; }
  let keys = size[1]; let scale = bitcast<f32>(size[3]);
  let at = row * keys;
  var sum = 0f;
  for (var i = 0u; i < keys; i++) { sum = fma(f32(P[at + i]), f32(G[at + i]), sum); }
  for (var i = 0u; i < keys; i++) { Y[at + i] = T2(scale * f32(P[at + i]) * (f32(G[at + i]) - sum)); }
}
";
