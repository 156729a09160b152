//! Products for a CPU that imitates a GPU four threads at a time. It reads memory for each of the four one number after
//! the other, which takes longer than all of the sums: so a quad shares its rows, each thread reads every fourth of
//! them, and hands them to the others. Two numbers along k, or four rows, come at one address, which is checked once. A turn
//! of the loop is short enough to stay in the CPU's first cache.

use super::ProductKernel;

/// Rows of the result that a quad computes, and columns of each of its threads.
pub const ROWS: usize = 16;
const EACH: usize = 4;
pub const COLUMNS: usize = 4 * EACH;

/// Quads of a workgroup.
pub const QUADS: usize = 4;

const LANE: [&str; 4] = ["x", "y", "z", "w"];

/// What a sum runs over: `A·B` or `low·high`.
struct Operands {
    a: &'static str,
    b: &'static str,
    /// Their numbers along k.
    along: &'static str,
    ta: bool,
    tb: bool,
    packed: bool,
}

pub fn source(kernel: &ProductKernel) -> String {
    let reader = kernel.reader();
    let a = if kernel.ta { "V0" } else { "vec2<T0>" };
    let (b, high) = if kernel.tb { ("vec2<T1>", "vec2<T3>") } else { ("V1", "V3") };
    let mut s = format!(
        "
@group(0) @binding(0) var<storage, read_write> A: array<{a}>;
@group(0) @binding(1) var<storage, read_write> B: array<{}>;
{}
{}
@compute @workgroup_size({}) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {{
  let M = size[0]; let N = size[1]; let K = size[2];
  let across = (N + {COLUMNS}u - 1u) / {COLUMNS}u;
  let tiles = across * ((M + {ROWS}u - 1u) / {ROWS}u);
  let own = (wg.y * wgs.x + wg.x) * {QUADS}u + local / 4u;
  // A quad without a tile computes the last one as well: all four threads have to take part.
  let tile = min(own, tiles - 1u);
  let lane = local % 4u;
  let row = tile / across * {ROWS}u;
  let col = tile % across * {COLUMNS}u + lane * {EACH}u;
  let batch = wg.z;
  let base = batch * size[6];
  {}",
        if reader.is_some() { "u32" } else { b },
        kernel.buffers(("vec2<T2>", high), if kernel.wide { "VC" } else { "TC" }),
        reader.unwrap_or_default(),
        QUADS * 4,
        kernel.scale(),
    );
    // Reads past the edge are moved to the last row, column or four: in bounds, and never stored.
    s += "let rows = min(row / 4u + lane, M / 4u - 1u);\n";
    for h in 0..ROWS / 4 {
        s += &format!("let r{h} = min(row + {}u + lane, M - 1u);\n", h * 4);
    }
    for j in 0..EACH {
        s += &format!("let n{j} = min(col + {j}u, N - 1u);\n");
    }
    s += "let four = min(col / 4u, N / 4u - 1u);\n";
    for i in 0..ROWS {
        s += &format!("var c{i} = vec4f();\n");
    }
    let packed = kernel.packed.is_some();
    s += &sum(&Operands { a: "A", b: "B", along: "K", ta: kernel.ta, tb: kernel.tb, packed });
    if kernel.plus {
        s += &sum(&Operands { a: "LOW", b: "HIGH", along: "size[3]", ta: false, tb: kernel.tb, packed: false });
    }
    s += "if (own < tiles) {\n";
    for i in 0..ROWS {
        super::shared::store(&mut s, kernel, &format!("row + {i}u"), "col", &format!("c{i}"));
    }
    s + "}\n}\n"
}

/// Adds up a product in `c0` and so on. Where they are changed twice a turn the imitation has less to write.
fn sum(of: &Operands) -> String {
    let Operands { a, b, along, ta, tb, packed } = *of;
    // A packed row is read in fours along k.
    let step = if packed && tb { 4 } else { 2 };
    let mut s = String::new();
    // Where the rows and columns of this thread begin.
    if ta {
        s += &format!("let rows_{a} = batch * (size[4] / 4u) + rows;\n");
    }
    for h in 0..if ta { 0 } else { ROWS / 4 } {
        s += &format!("let {a}{h} = (batch * size[4] + r{h} * {along}) / 2u;\n");
    }
    for j in 0..if packed || !tb { 0 } else { EACH } {
        s += &format!("let {b}{j} = (batch * size[5] + n{j} * {along}) / 2u;\n");
    }
    if !packed && !tb {
        s += &format!("let four_{b} = batch * (size[5] / 4u) + four;\n");
    }
    s += &format!("for (var k = 0u; k < {along}; k += {step}u) {{\n");
    if packed && tb {
        for j in 0..EACH {
            s += &format!("let w{j} = w4(n{j}, k);\n");
        }
    }
    for (q, of_four) in LANE.iter().enumerate().take(step) {
        let (pair, of_pair) = (q / 2, LANE[q % 2]);
        if q % 2 == 0 && !ta {
            for h in 0..ROWS / 4 {
                s += &format!("let a{pair}_{h} = vec2f({a}[{a}{h} + k / 2u + {pair}u]);\n");
            }
        }
        if q % 2 == 0 && tb && !packed {
            for j in 0..EACH {
                s += &format!("let w{j} = vec2f({b}[{b}{j} + k / 2u]);\n");
            }
        }
        let column = |j: usize| format!("w{j}.{}", if packed { of_four } else { of_pair });
        s += &match (packed, tb) {
            (_, true) => format!("let b{q} = vec4f({});\n", [0, 1, 2, 3].map(column).join(", ")),
            (true, false) => format!("let b{q} = w4(k + {q}u, four * 4u);\n"),
            (false, false) => format!("let b{q} = vec4f({b}[four_{b} + (k + {q}u) * (N / 4u)]);\n"),
        };
        if ta {
            s += &format!("let a{q} = vec4f({a}[rows_{a} + (k + {q}u) * (M / 4u)]);\n");
        }
        for i in 0..ROWS {
            let (four, one) = (i / 4, i % 4);
            // Of a transposed operand a thread has four rows that follow one another, of the other every fourth one.
            let number = match ta {
                true => format!("quadBroadcast(a{q}.{}, {four}u)", LANE[one]),
                false => format!("quadBroadcast(a{pair}_{four}.{of_pair}, {one}u)"),
            };
            let (from, to) = match q {
                0 => (format!("c{i}"), format!("let d0_{i}")),
                q if q == step - 1 => (format!("d{}_{i}", q - 1), format!("c{i}")),
                q => (format!("d{}_{i}", q - 1), format!("let d{q}_{i}")),
            };
            s += &format!("{to} = fma(vec4f({number}), b{q}, {from});\n");
        }
    }
    s + "}\n"
}
