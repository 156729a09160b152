//! Products on a card's matrix units, of two operands in f16 with sums in f32: native drivers only, as WGSL itself has no
//! words for them (naga's `wgpu_cooperative_matrix`). A workgroup is one subgroup of 32 threads.

use std::fmt::Write;

use super::ProductKernel;

/// What a source that uses them must begin with.
pub const ENABLE: &str = "enable wgpu_cooperative_matrix;\n";
/// Rows, columns and depth of what the units multiply at once.
pub const SIDE: usize = 16;

/// Whether sizes and runs along memory fit: whole blocks along k, and rows that begin on 16 bytes.
pub fn fits([m, n, k]: [usize; 3], ta: bool) -> bool {
    let starts = n.is_multiple_of(8) && (!ta || m.is_multiple_of(8));
    k.is_multiple_of(SIDE) && starts && m >= SIDE && n >= SIDE
}

const START: &str = "
@group(0) @binding(0) var<storage, read_write> LHS: array<f16>;
@group(0) @binding(1) var<storage, read_write> RHS: array<f16>;
BUFFERS
var<workgroup> block: array<f32, 256>;
@compute @workgroup_size(32) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let M = size[0]; let N = size[1]; let K = size[2];
  let across = (N + COLUMNSu - 1u) / COLUMNSu;
  let down = (M + ROWSu - 1u) / ROWSu;
  let tile = wg.y * wgs.x + wg.x;
  if (tile >= across * down) { return; }
  let row = (tile / across) * ROWSu;
  let col = (tile % across) * COLUMNSu;
  let baseA = wg.z * M * K; let baseB = wg.z * K * N; let baseC = wg.z * M * N;
";

/// A workgroup computes `rows` by `columns`; `half`: the result is stored in f16.
pub fn product(kernel: &ProductKernel, rows: usize, columns: usize, half: bool) -> String {
    let buffers = kernel.buffers(("T2", "T3"), "TC");
    let mut s =
        START.replace("BUFFERS", &buffers).replace("ROWS", &rows.to_string()).replace("COLUMNS", &columns.to_string());
    // Writing to a String cannot fail.
    let _ = body(&mut s, kernel, rows / SIDE, columns / SIDE, half);
    format!("{ENABLE}{s}}}\n")
}

fn body(s: &mut String, kernel: &ProductKernel, down: usize, across: usize, half: bool) -> std::fmt::Result {
    // Blocks past the edge are moved back to it: they compute once more what others compute as well.
    for i in 0..down {
        writeln!(s, "let r{i} = min(row + {}u, M - 16u);", i * SIDE)?;
    }
    for j in 0..across {
        writeln!(s, "let q{j} = min(col + {}u, N - 16u);", j * SIDE)?;
    }
    if !kernel.plus {
        writeln!(s, "for (var i = local; i < 256u; i += 32u) {{ block[i] = 0f; }}\nworkgroupBarrier();")?;
    }
    for i in 0..down {
        for j in 0..across {
            if kernel.plus {
                // The sums begin with those of the thin product.
                let high = if kernel.tb {
                    format!("(q{j} + i % 16u) * size[3] + k")
                } else {
                    format!("k * N + q{j} + i % 16u")
                };
                writeln!(
                    s,
                    "for (var i = local; i < 256u; i += 32u) {{
  var sum = 0f;
  for (var k = 0u; k < size[3]; k++) {{ sum = fma(f32(LOW[(r{i} + i / 16u) * size[3] + k]), f32(HIGH[{high}]), sum); }}
  block[i] = sum;
}}
workgroupBarrier();"
                )?;
            }
            writeln!(s, "var c{i}_{j} = coopLoadT<coop_mat16x16<f32, C>>(&block[0], 16u);")?;
            if kernel.plus {
                writeln!(s, "workgroupBarrier();")?;
            }
        }
    }
    writeln!(s, "for (var k = 0u; k < K; k += 16u) {{")?;
    for i in 0..down {
        let load = if kernel.ta {
            format!("coopLoad<coop_mat16x16<f16, A>>(&LHS[baseA + k * M + r{i}], M)")
        } else {
            format!("coopLoadT<coop_mat16x16<f16, A>>(&LHS[baseA + r{i} * K + k], K)")
        };
        writeln!(s, "let a{i} = {load};")?;
    }
    for j in 0..across {
        let load = if kernel.tb {
            format!("coopLoad<coop_mat16x16<f16, B>>(&RHS[baseB + q{j} * K + k], K)")
        } else {
            format!("coopLoadT<coop_mat16x16<f16, B>>(&RHS[baseB + k * N + q{j}], N)")
        };
        writeln!(s, "let b{j} = {load};")?;
    }
    for i in 0..down {
        for j in 0..across {
            writeln!(s, "c{i}_{j} = coopMultiplyAdd(a{i}, b{j}, c{i}_{j});")?;
        }
    }
    writeln!(s, "}}")?;
    for i in 0..down {
        for j in 0..across {
            if half {
                // The units store what they summed up in f32 only.
                writeln!(s, "workgroupBarrier(); coopStoreT(c{i}_{j}, &block[0], 16u); workgroupBarrier();")?;
                writeln!(
                    s,
                    "for (var i = local; i < 256u; i += 32u) {{ OUT[baseC + (r{i} + i / 16u) * N + q{j} + i % 16u] = TC(block[i]); }}"
                )?;
            } else {
                writeln!(s, "coopStoreT(c{i}_{j}, &OUT[baseC + r{i} * N + q{j}], N);")?;
            }
        }
    }
    Ok(())
}
