//! Products for a graphics card: a workgroup works on one part of the result, out of shared memory, or on slices of its
//! sums. All run in fours along memory; see [`super::ProductKernel::vec4`].

use std::fmt::Write;

use super::ProductKernel;

/// Numbers along k that are in shared memory at once.
const DEPTH: usize = 16;
/// Parts of a sum in a sliced product, each of which takes every so manyth four of k.
const SLICES: usize = 16;
/// Rows and columns of a sliced product's result that one workgroup computes.
pub const SLICED: usize = 16;

const HEAD: &str = "
@group(0) @binding(0) var<storage, read_write> A: array<V0>;
@group(0) @binding(1) var<storage, read_write> B: array<ELEM_B>;
BUFFERS
READER";

const START: &str = "
@compute @workgroup_size(THREADS) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let M = size[0]; let N = size[1]; let K = size[2];
  let across = (N + COLUMNSu - 1u) / COLUMNSu;
  let down = (M + ROWSu - 1u) / ROWSu;
  let tile = wg.y * wgs.x + wg.x;
  if (tile >= across * down) { return; }
  let row = (tile / across) * ROWSu;
  let col = (tile % across) * COLUMNSu;
  let batch = wg.z;
  let base = batch * size[6];
SCALE";

/// The next tile is read while this one is computed with.
const LOOP: &str = "
  let tiles = (K + DEPTHu - 1u) / DEPTHu;
$first
  for (var kt = 0u; kt < tiles; kt++) {
$put
    workgroupBarrier();
    if (kt + 1u < tiles) {
$next
    }
    for (var k = 0u; k < DEPTHu; k++) {
$compute
    }
    workgroupBarrier();
  }
";

/// The four rows `i` of an operand's four by four numbers at fours `outer` (of M or N) and `k` (of K).
fn row_of(kernel: &ProductKernel, operand: char, i: usize) -> String {
    let (name, count, stride, along_k) = match operand {
        'a' => ("A", "M", "size[4]", !kernel.ta),
        _ => ("B", "N", "size[5]", kernel.tb),
    };
    match (kernel.packed.is_some() && operand == 'b', along_k) {
        (true, true) => format!("w4(min(outer * 4u + {i}u, N - 1u), k * 4u)"),
        (true, false) => format!("w4(k * 4u + {i}u, min(outer, N / 4u - 1u) * 4u)"),
        // Reads past the edge are moved to the last row or four: in bounds, and never stored.
        (false, true) => {
            format!("vec4f({name}[batch * ({stride} / 4u) + min(outer * 4u + {i}u, {count} - 1u) * (K / 4u) + k])")
        }
        (false, false) => format!(
            "vec4f({name}[batch * ({stride} / 4u) + (k * 4u + {i}u) * ({count} / 4u) + min(outer, {count} / 4u - 1u)])"
        ),
    }
}

/// `fetch_a`, `put_a` (or `_b`): four by four numbers out of an operand and into shared memory, where k runs over rows.
fn staging(kernel: &ProductKernel, operand: char, fours: usize, stride: usize) -> String {
    let along_k = if operand == 'a' { !kernel.ta } else { kernel.tb };
    let quads = DEPTH / 4;
    // Neighbouring threads read along memory.
    let place = if along_k {
        format!("vec2u(b % {quads}u, b / {quads}u)")
    } else {
        format!("vec2u(b / {fours}u, b % {fours}u)")
    };
    let rows: Vec<String> = (0..4).map(|i| row_of(kernel, operand, i)).collect();
    let block = format!("mat4x4f({})", rows.join(", "));
    let block = if along_k { format!("transpose({block})") } else { block };
    let puts: Vec<String> = (0..4).map(|i| format!("s{operand}[at + {}u] = m[{i}];", i * stride)).collect();
    format!(
        "
var<workgroup> s{operand}: array<vec4f, {}>;
fn fetch_{operand}(b: u32, kt: u32, start: u32, batch: u32) -> mat4x4f {{
  let M = size[0]; let N = size[1]; let K = size[2];
  let place = {place};
  let k = kt * {quads}u + place.x; let outer = start / 4u + place.y;
  if (k >= K / 4u) {{ return mat4x4f(); }}
  return {block};
}}
fn put_{operand}(b: u32, m: mat4x4f) {{
  let place = {place};
  let at = place.x * {}u + place.y;
  {}
}}
",
        DEPTH * stride,
        4 * stride,
        puts.join(" ")
    )
}

/// A workgroup computes `rows` by `columns`, each thread `each` by `each` of it.
pub fn tiled(kernel: &ProductKernel, rows: usize, columns: usize, each: usize) -> String {
    const LANE: [&str; 4] = ["x", "y", "z", "w"];
    let threads = threads(rows, columns, each);
    let (fours_a, fours_b) = (rows / 4, columns / 4);
    // One more than needed spreads neighbouring rows over the memory's banks.
    let (stride_a, stride_b) = (fours_a + 1, fours_b + 1);
    let (blocks_a, blocks_b) = (fours_a * DEPTH / 4, fours_b * DEPTH / 4);
    let groups = each / 4;
    let mut s = staging(kernel, 'a', fours_a, stride_a) + &staging(kernel, 'b', fours_b, stride_b);
    s += START;
    let wide = columns / each;
    s += &format!("  let tx = local % {wide}u; let ty = local / {wide}u;\n");
    let slots = (blocks_a + blocks_b).div_ceil(threads);
    let (mut first, mut put, mut next, mut compute) = (String::new(), String::new(), String::new(), String::new());
    for slot in 0..slots {
        let b = format!("(local + {}u)", slot * threads);
        let fetch = |kt: &str| {
            format!(
                "if ({b} < {blocks_a}u) {{ m{slot} = fetch_a({b}, {kt}, row, batch); }} \
                 else if ({b} < {all}u) {{ m{slot} = fetch_b({b} - {blocks_a}u, {kt}, col, batch); }}\n",
                all = blocks_a + blocks_b
            )
        };
        first += &format!("  var m{slot}: mat4x4f; {}", fetch("0u"));
        next += &fetch("kt + 1u");
        put += &format!(
            "if ({b} < {blocks_a}u) {{ put_a({b}, m{slot}); }} \
             else if ({b} < {all}u) {{ put_b({b} - {blocks_a}u, m{slot}); }}\n",
            all = blocks_a + blocks_b
        );
    }
    for h in 0..groups {
        compute += &format!("let a{h} = sa[k * {stride_a}u + ty + {}u];\n", h * fours_a / 2);
        compute += &format!("let b{h} = sb[k * {stride_b}u + tx + {}u];\n", h * fours_b / 2);
    }
    for i in 0..each {
        for j in 0..groups {
            s += &format!("var c{i}_{j} = vec4f();\n");
            let a = format!("a{}.{}", i / 4, LANE[i % 4]);
            compute += &format!("c{i}_{j} = fma(vec4f({a}), b{j}, c{i}_{j});\n");
        }
    }
    s += &LOOP.replace("$first", &first).replace("$put", &put).replace("$next", &next).replace("$compute", &compute);
    let down = |i: usize| format!("row + ty * 4u + {}u", i / 4 * rows / 2 + i % 4);
    let along = |j: usize| format!("col + tx * 4u + {}u", j * columns / 2);
    if kernel.plus {
        s += "for (var k = 0u; k < size[3] / 4u; k++) {\n";
        for i in 0..each {
            s += &format!("let l{i} = vec4f(LOW[min({}, M - 1u) * (size[3] / 4u) + k]);\n", down(i));
        }
        for j in 0..groups {
            s += &format!("let h{j} = {};\n", high(kernel, &along(j)));
            for (k, lane) in LANE.iter().enumerate() {
                for i in 0..each {
                    s += &format!("c{i}_{j} = fma(vec4f(l{i}.{lane}), h{j}[{k}], c{i}_{j});\n");
                }
            }
        }
        s += "}\n";
    }
    for i in 0..each {
        for j in 0..groups {
            store(&mut s, kernel, &down(i), &along(j), &format!("c{i}_{j}"));
        }
    }
    finish(kernel, &s, rows, columns, threads)
}

/// Four by four numbers of the thin product's right side, of columns from `column` and fours `k`, where k runs over rows.
fn high(kernel: &ProductKernel, column: &str) -> String {
    let row = |i: usize| match kernel.tb {
        true => format!("vec4f(HIGH[min({column} + {i}u, N - 1u) * (size[3] / 4u) + k])"),
        false => format!("vec4f(HIGH[(k * 4u + {i}u) * (N / 4u) + min(({column}) / 4u, N / 4u - 1u)])"),
    };
    let block = format!("mat4x4f({})", (0..4).map(row).collect::<Vec<_>>().join(", "));
    if kernel.tb { format!("transpose({block})") } else { block }
}

/// Threads of a workgroup of [`tiled`].
pub fn threads(rows: usize, columns: usize, each: usize) -> usize {
    rows / each * (columns / each)
}

/// Bytes that a workgroup of [`tiled`] shares; a sliced product's have 16 KiB, which every WebGPU has.
pub fn bytes(rows: usize, columns: usize) -> usize {
    DEPTH * (rows / 4 + 1 + columns / 4 + 1) * 16
}

/// A workgroup computes [`SLICED`] rows and columns, four by four numbers a thread; the threads that share them take slices
/// of k, and the slices' sums are added up in shared memory.
pub fn sliced(kernel: &ProductKernel) -> String {
    const LANE: [&str; 4] = ["x", "y", "z", "w"];
    let rows = |operand| (0..4).map(|i| row_of(kernel, operand, i)).collect::<Vec<_>>().join(", ");
    // After this a row of `a` runs along the result's rows, one of `b` along its columns; k is the row's number.
    let a = if kernel.ta { format!("mat4x4f({})", rows('a')) } else { format!("transpose(mat4x4f({}))", rows('a')) };
    let b = if kernel.tb { format!("transpose(mat4x4f({}))", rows('b')) } else { format!("mat4x4f({})", rows('b')) };
    let block = |name: &str, block: &str| {
        format!(
            "fn block_{name}(outer: u32, k: u32, batch: u32) -> mat4x4f {{
  let M = size[0]; let N = size[1]; let K = size[2];
  return {block};
}}
"
        )
    };
    let mut s = format!("var<workgroup> part: array<vec4f, {}>;\n", SLICES * SLICED * SLICED / 4);
    s += &(block("a", &a) + &block("b", &b));
    s += START;
    // Neighbouring threads read along memory where that is along k for both.
    s += if kernel.tb && !kernel.ta {
        "let slice = local % 16u; let at = local / 16u;\n"
    } else {
        "let slice = local / 16u; let at = local % 16u;\n"
    };
    s += "let r = row / 4u + at / 4u; let c = col / 4u + at % 4u;\n";
    for i in 0..4 {
        s += &format!("var c{i} = vec4f();\n");
    }
    s += &format!("for (var k = slice; k < K / 4u; k += {SLICES}u) {{\n");
    s += "let a = block_a(r, k, batch); let b = block_b(c, k, batch);\n";
    for k in 0..4 {
        for (i, lane) in LANE.iter().enumerate() {
            s += &format!("c{i} = fma(vec4f(a[{k}].{lane}), b[{k}], c{i});\n");
        }
    }
    s += "}\n";
    if kernel.plus {
        let low = |i: usize| format!("vec4f(LOW[min(r * 4u + {i}u, M - 1u) * (size[3] / 4u) + k])");
        let low = (0..4).map(low).collect::<Vec<_>>().join(", ");
        s += &format!("for (var k = slice; k < size[3] / 4u; k += {SLICES}u) {{\n");
        s += &format!("let a = transpose(mat4x4f({low})); let b = {};\n", high(kernel, "c * 4u"));
        for k in 0..4 {
            for (i, lane) in LANE.iter().enumerate() {
                s += &format!("c{i} = fma(vec4f(a[{k}].{lane}), b[{k}], c{i});\n");
            }
        }
        s += "}\n";
    }
    for i in 0..4 {
        s += &format!("part[(slice * 16u + at) * 4u + {i}u] = c{i};\n");
    }
    s += "workgroupBarrier();
  // Of 256 numbers each thread adds up one.
  let owner = local / 16u; let i = local % 16u / 4u; let lane = local % 4u;
  var sum = 0f;
";
    s += &format!("for (var j = 0u; j < {SLICES}u; j++) {{ sum += part[(j * 16u + owner) * 4u + i][lane]; }}\n");
    s += "let y = row + owner / 4u * 4u + i; let x = col + owner % 4u * 4u + lane;
  if (y < M && x < N) { let at = base + y * N + x;
";
    s += &format!("OUT[at] = {}; }}\n", kernel.put("TC", "at", "sum * scale"));
    let kernel = ProductKernel { wide: false, ..*kernel };
    finish(&kernel, &s, SLICED, SLICED, SLICES * SLICED)
}

/// Four numbers of a row of the result, as far as they are within it.
pub(super) fn store(s: &mut String, kernel: &ProductKernel, row: &str, column: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = if kernel.wide {
        let put = kernel.put("VC", "at", &format!("{value} * scale"));
        writeln!(
            s,
            "if ({row} < M && {column} < N) {{ let at = (base + ({row}) * N + {column}) / 4u; OUT[at] = {put}; }}"
        )
    } else {
        (0..4).try_for_each(|i| {
            let put = kernel.put("TC", "at", &format!("{value}[{i}] * scale"));
            writeln!(
                s,
                "if ({row} < M && {column} + {i}u < N) {{ let at = base + ({row}) * N + {column} + {i}u; OUT[at] = {put}; }}"
            )
        })
    };
}

fn finish(kernel: &ProductKernel, body: &str, rows: usize, columns: usize, threads: usize) -> String {
    let reader = kernel.reader();
    let head = HEAD
        .replace("BUFFERS", &kernel.buffers(("V2", "V3"), if kernel.wide { "VC" } else { "TC" }))
        .replace("ELEM_B", if reader.is_some() { "u32" } else { "V1" })
        .replace("READER", &reader.unwrap_or_default());
    let body = body
        .replace("SCALE", kernel.scale())
        .replace("DEPTH", &DEPTH.to_string())
        .replace("THREADS", &threads.to_string())
        .replace("ROWS", &rows.to_string())
        .replace("COLUMNS", &columns.to_string());
    format!("{head}{body}}}\n")
}
