//! Kernels that go along rows, for a graphics card: a workgroup a row, its threads side by side along memory. A CPU that
//! imitates one is better off with a thread a row, as in [`super`].

/// Sum and largest of what a workgroup's threads have.
const TOGETHER: &str = "
var<workgroup> part: array<f32, 64>;
fn total(local: u32, mine: f32) -> f32 {
  part[local] = mine;
  workgroupBarrier();
  for (var step = 32u; step > 0u; step = step / 2u) {
    if (local < step) { part[local] += part[local + step]; }
    workgroupBarrier();
  }
  let all = part[0];
  workgroupBarrier();
  return all;
}
fn largest(local: u32, mine: f32) -> f32 {
  part[local] = mine;
  workgroupBarrier();
  for (var step = 32u; step > 0u; step = step / 2u) {
    if (local < step) { part[local] = max(part[local], part[local + step]); }
    workgroupBarrier();
  }
  let all = part[0];
  workgroupBarrier();
  return all;
}
";

/// A workgroup a row.
const ROW: &str = "
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = wg.y * wgs.x + wg.x;
  if (row >= size[0]) { return; }
";

fn kernel(buffers: &[&str], body: &str) -> String {
    let mut s = String::new();
    for (i, name) in buffers.iter().enumerate() {
        s += &format!("@group(0) @binding({i}) var<storage, read_write> {name}: array<T{i}>;\n");
    }
    s += &format!("@group(0) @binding({}) var<storage, read> size: array<u32>;\n", buffers.len());
    s + TOGETHER + ROW + body + "}\n"
}

/// As [`super::RMS_SCALE`].
pub fn rms_scale() -> String {
    kernel(
        &["X", "M", "Y"],
        "
  let dim = size[1]; let at = row * dim; let m = select(at, 0u, size[2] == 1u);
  var squares = 0f;
  for (var i = local; i < dim; i += 64u) { let x = f32(X[at + i]); squares = fma(x, x, squares); }
  let r = inverseSqrt(total(local, squares) / f32(dim) + bitcast<f32>(size[3]));
  for (var i = local; i < dim; i += 64u) { Y[at + i] = T2(f32(X[at + i]) * r * f32(M[m + i])); }
",
    )
}

/// As [`super::RMS_NORM_GRAD`].
pub fn rms_norm_grad() -> String {
    kernel(
        &["X", "W", "G", "Y"],
        "
  let dim = size[1]; let at = row * dim;
  var squares = 0f; var dot = 0f;
  for (var i = local; i < dim; i += 64u) {
    let x = f32(X[at + i]);
    squares = fma(x, x, squares); dot = fma(x, f32(G[at + i]) * f32(W[i]), dot);
  }
  let r = inverseSqrt(total(local, squares) / f32(dim) + bitcast<f32>(size[3]));
  let back = r * r * r * total(local, dot) / f32(dim);
  for (var i = local; i < dim; i += 64u) { Y[at + i] = T3(r * f32(G[at + i]) * f32(W[i]) - back * f32(X[at + i])); }
",
    )
}

/// As [`super::each::EXP_SUMS`].
pub fn exp_sums() -> String {
    kernel(
        &["X", "TOP", "Y"],
        "
  let columns = size[1]; let at = row * columns; let top = f32(TOP[row]);
  var mine = 0f;
  for (var i = local; i < columns; i += 64u) { mine += exp(f32(X[at + i]) - top); }
  let sum = total(local, mine);
  if (local == 0u) { Y[row] = T2(sum); }
",
    )
}

/// As [`super::CAUSAL_SOFTMAX`].
pub fn causal_softmax() -> String {
    kernel(
        &["X", "Y"],
        "
  let keys = size[1]; let seen = keys - size[2] + row % size[2] + 1u;
  let scale = bitcast<f32>(size[3]);
  let at = row * keys;
  var mine = f32(X[at]);
  for (var i = local; i < seen; i += 64u) { mine = max(mine, f32(X[at + i])); }
  let top = largest(local, mine);
  var sum = 0f;
  for (var i = local; i < seen; i += 64u) { sum += exp((f32(X[at + i]) - top) * scale); }
  let inverse = 1f / total(local, sum);
  for (var i = local; i < keys; i += 64u) {
    Y[at + i] = T1(select(0f, exp((f32(X[at + i]) - top) * scale) * inverse, i < seen));
  }
",
    )
}

/// As [`super::SEGMENT_SOFTMAX`].
pub fn segment_softmax() -> String {
    let source = kernel(
        &["X", "FIRST", "Y"],
        "
  let keys = size[1]; let query = (row % size[4]) % size[2]; let own = keys - size[2] + query;
  let begin = min(FIRST[((row / size[4]) % size[5]) * size[2] + query], own);
  let scale = bitcast<f32>(size[3]);
  let at = row * keys;
  var mine = f32(X[at + own]);
  for (var i = begin + local; i < own; i += 64u) { mine = max(mine, f32(X[at + i])); }
  let top = largest(local, mine);
  var sum = 0f;
  for (var i = begin + local; i <= own; i += 64u) { sum += exp((f32(X[at + i]) - top) * scale); }
  let inverse = 1f / total(local, sum);
  for (var i = local; i < keys; i += 64u) {
    Y[at + i] = T2(select(0f, exp((f32(X[at + i]) - top) * scale) * inverse, i >= begin && i <= own));
  }
",
    );
    // The only buffer of whole numbers.
    source.replace("FIRST: array<T1>", "FIRST: array<u32>")
}

/// As [`super::CAUSAL_SOFTMAX_GRAD`].
pub fn causal_softmax_grad() -> String {
    kernel(
        &["P", "G", "Y"],
        "
  let keys = size[1]; let scale = bitcast<f32>(size[3]);
  let at = row * keys;
  var mine = 0f;
  for (var i = local; i < keys; i += 64u) { mine = fma(f32(P[at + i]), f32(G[at + i]), mine); }
  let sum = total(local, mine);
  for (var i = local; i < keys; i += 64u) { Y[at + i] = T2(scale * f32(P[at + i]) * (f32(G[at + i]) - sum)); }
",
    )
}

/// Squares of five tensors' numbers, a workgroup a column of the sums. `size` = numbers of each.
pub fn add_squares() -> String {
    let mut s = String::new();
    for (i, name) in ["S", "A0", "A1", "A2", "A3", "A4", "Y"].iter().enumerate() {
        s += &format!("@group(0) @binding({i}) var<storage, read_write> {name}: array<T{i}>;\n");
    }
    s += "@group(0) @binding(7) var<storage, read> size: array<u32>;\n";
    s += TOGETHER;
    s += "
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = wg.x * 64u + local; let stride = wgs.x * 64u;
  var sum = 0f;
";
    for i in 0..5 {
        s += &format!(
            "  for (var i = first; i < size[{i}]; i += stride) {{ let x = f32(A{i}[i]); sum = fma(x, x, sum); }}\n"
        );
    }
    s + "  let all = total(local, sum);
  if (local == 0u) { Y[wg.x] = T6(f32(S[wg.x]) + all); }
}
"
}
