//! Rates of the kernels at the shapes of a model, ours or Burn's: for the benchmarks. What they are held against is in
//! [`ceilings`](super::ceilings).

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Layout, Packed, product, use_stock, work::Op};
use crate::{
    error::{Error, Result},
    platform, rng,
    train::MOST_LOGITS,
    weights::{ggml::GgmlType, read_f32},
};

/// Seconds that a measurement takes at least: far beyond a browser's clock.
pub const LONG: f64 = 0.3;
/// Times that it is repeated; the fastest counts, since whatever else a machine does only slows it down.
const ROUNDS: usize = 3;
/// Work that waits for the device at once.
const MOST_TIMES: usize = 1 << 14;

/// A model's sizes under `config.json`'s names, and a micro-batch.
#[derive(Debug, Clone, Deserialize)]
pub struct Shapes {
    pub batch_size: usize,
    pub seq: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub vocab_size: usize,
    /// The rank of an adapter; all weights are trained where there is none.
    pub r: Option<usize>,
}

/// One kernel at one shape.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    pub kernel: &'static str,
    /// Where a training step has it: `gate, up: to the weight`.
    pub part: String,
    pub shape: String,
    /// Floating-point operations of one launch.
    pub flops: f64,
    /// Bytes that one launch reads and writes at least.
    pub bytes: f64,
    /// Of one launch: the median of several measurements.
    pub seconds: f64,
    /// Floating-point operations a second of a large product that is timed in turns with the kernel, so that the two times'
    /// ratio is the median of all pairs': a machine's pace changes from one second to the next.
    pub beside: f64,
}

/// Rows, columns and steps of the product of [`Rate::beside`].
const PACER: usize = 512;
/// How often a kernel and that product are timed, one after the other.
const PAIRS: usize = 9;

/// What a training step of such a model runs, measured on `device`; with `stock` Burn's operations. `long` is [`LONG`].
///
/// # Errors
/// Sizes that no model has, or a device that fails.
pub async fn rates(shapes: &Shapes, device: &Device, stock: bool, long: f64) -> Result<Vec<Rate>> {
    shapes.check()?;
    use_stock(stock);
    let rates = all(shapes, device, stock, long).await;
    use_stock(false);
    rates
}

async fn all(shapes: &Shapes, device: &Device, stock: bool, long: f64) -> Result<Vec<Rate>> {
    let mut rates = Vec::new();
    let pacer = Op::Product { batch: 1, m: PACER, n: PACER, k: PACER, layout: Layout::Nn };
    let run = pacer.prepare(device)?;
    let mut paced = Piece::new(long / 4.0, async |times| launches(&*run, times).await).await?;
    for (part, op) in shapes.ops() {
        // Burn has no product with GGML's blocks.
        if stock && matches!(op, Op::Packed { .. }) {
            continue;
        }
        let run = op.prepare(device)?;
        let mut own = Piece::new(long / 4.0, async |times| launches(&*run, times).await).await?;
        let (mut seconds, mut ratios) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let before = if pair % 2 == 0 { Some(paced.time().await?) } else { None };
            let taken = own.time().await?;
            let pace = match before {
                Some(pace) => pace,
                None => paced.time().await?,
            };
            seconds.push(taken);
            ratios.push(taken / pace);
        }
        let (seconds, (flops, bytes)) = (median(seconds), op.work());
        let beside = pacer.work().0 * median(ratios) / seconds;
        rates.push(Rate { kernel: op.kernel(), part, shape: op.shape(), flops, bytes, seconds, beside });
    }
    Ok(rates)
}

/// Starts an operation so often and waits for the last.
async fn launches(run: &dyn Fn() -> Tensor<3>, times: usize) -> Result<()> {
    let mut last = run();
    for _ in 1..times {
        last = run();
    }
    read_f32(last.slice([0..1, 0..1, 0..1])).await.map(drop)
}

/// The middle one of an odd number of times.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A piece of work that is done so often together that it takes long enough for the clock.
struct Piece<F> {
    work: F,
    times: usize,
    /// Of one time, when it was found how many take long enough.
    found: f64,
}

impl<F: AsyncFnMut(usize) -> Result<()>> Piece<F> {
    async fn new(long: f64, mut work: F) -> Result<Self> {
        // The first time compiles.
        work(1).await?;
        let mut piece = Self { work, times: 1, found: 0.0 };
        loop {
            piece.found = piece.time().await?;
            let seconds = piece.found * piece.times as f64;
            if seconds >= long || piece.times >= MOST_TIMES {
                return Ok(piece);
            }
            piece.times *= if seconds < long / 8.0 { 8 } else { 2 };
        }
    }

    /// Seconds of one time, now.
    async fn time(&mut self) -> Result<f64> {
        let started = platform::now();
        (self.work)(self.times).await?;
        Ok((platform::now() - started) / self.times as f64)
    }
}

/// Seconds of one piece of work, from so many together that they take `long`. `work` does it as often as it is told and
/// waits for the device.
///
/// # Errors
/// The work's.
pub async fn seconds_of(long: f64, work: impl AsyncFnMut(usize) -> Result<()>) -> Result<f64> {
    let mut piece = Piece::new(long, work).await?;
    let mut best = piece.found;
    // Slow work is steady.
    if best * piece.times as f64 <= 4.0 * LONG {
        for _ in 1..ROUNDS {
            best = best.min(piece.time().await?);
        }
    }
    Ok(best)
}

/// Multiplications that [`product_error`] does on the host at most, in numbers that are not fast.
const MOST_CHECKED: usize = 1 << 28;

/// How far the numbers of a product of these sizes (batch, rows, columns, steps) are at most from those that sums in 64 bits
/// give, in parts of the largest one; over all layouts.
///
/// # Errors
/// No or too many numbers, or a device that fails.
pub async fn product_error(sizes: [usize; 4], device: &Device) -> Result<f64> {
    let work = sizes.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    if !work.is_some_and(|work| (1..=MOST_CHECKED).contains(&work)) {
        let expected = format!("1 to {MOST_CHECKED} multiplications");
        return Err(Error::config("batch, rows, columns, steps", expected, format!("{sizes:?}")));
    }
    let [batch, m, n, k] = sizes;
    let mut random = rng::stream(1, rng::INIT);
    // Rows of the one and columns of the other operand.
    let (a, b) = (rng::normal(&mut random, batch * m * k, 1.0), rng::normal(&mut random, batch * n * k, 1.0));
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let mut wanted = Vec::with_capacity(batch * m * n);
    for (a, b) in a.chunks(m * k).zip(b.chunks(n * k)) {
        a.chunks(k).for_each(|row| wanted.extend(b.chunks(k).map(|column| dot(row, column))));
    }
    let largest = wanted.iter().fold(f64::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let mut worst = 0f64;
    for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
        let (ta, tb) = layout.flags();
        let tensor = |lines: &[f32], count: usize, along: bool| {
            let (numbers, shape) = match along {
                true => (lines.to_vec(), [batch, count, k]),
                false => (turned(lines, count, k), [batch, k, count]),
            };
            Tensor::<3>::from_data(TensorData::new(numbers, shape), device)
        };
        let got = read_f32(product(tensor(&a, m, !ta), tensor(&b, n, tb), layout)).await?;
        for (got, wanted) in got.iter().zip(&wanted) {
            let off = (f64::from(*got) - wanted).abs() / largest;
            worst = worst.max(if off.is_nan() { f64::INFINITY } else { off });
        }
    }
    Ok(worst)
}

/// Matrices of that many rows and columns, column by column.
fn turned(numbers: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(numbers.len());
    for matrix in numbers.chunks(rows * columns) {
        for column in 0..columns {
            out.extend(matrix.iter().skip(column).step_by(columns));
        }
    }
    out
}

impl Shapes {
    fn check(&self) -> Result<()> {
        const MOST: usize = 1 << 20;
        let sizes = [
            ("batch_size", self.batch_size),
            ("seq", self.seq),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("vocab_size", self.vocab_size),
            ("r", self.r.unwrap_or(1)),
        ];
        if let Some((name, got)) = sizes.into_iter().find(|(_, size)| *size == 0 || *size > MOST) {
            return Err(Error::config(name, format!("1 to {MOST}"), got));
        }
        let fits = |whole: usize, part: usize| whole.is_multiple_of(part);
        if !fits(self.hidden_size, 2 * self.num_attention_heads)
            || !fits(self.num_attention_heads, self.num_key_value_heads)
        {
            let got = format!("{}, {}, {}", self.hidden_size, self.num_attention_heads, self.num_key_value_heads);
            return Err(Error::config("hidden_size and the two numbers of heads", "multiples of each other", got));
        }
        Ok(())
    }

    /// Every distinct operation of a training step, with its place in it.
    fn ops(&self) -> Vec<(String, Op)> {
        let (d, f, seq) = (self.hidden_size, self.intermediate_size, self.seq);
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        let (tokens, dim) = (self.batch_size * seq, d / heads);
        let mut ops = Vec::new();
        let mut linear = |name: &str, out: usize, inputs: usize| {
            let product = |m, n, k, layout| Op::Product { batch: 1, m, n, k, layout };
            ops.push((name.to_owned(), product(tokens, out, inputs, Layout::Nt)));
            ops.push((format!("{name}: to the input"), product(tokens, inputs, out, Layout::Nn)));
            if self.r.is_none() {
                ops.push((format!("{name}: to the weight"), product(out, inputs, tokens, Layout::Tn)));
            }
        };
        if heads == kv_heads {
            linear("q, k, v, o", d, d);
        } else {
            linear("q, o", d, d);
            linear("k, v", kv_heads * dim, d);
        }
        linear("gate, up", f, d);
        linear("down", d, f);
        // The head's logits come in parts, see train/vocabulary.rs.
        linear("head", self.vocab_size.min((MOST_LOGITS / tokens).max(64) / 4 * 4), d);
        if let Some(r) = self.r {
            let product = |m, n, k, layout| Op::Product { batch: 1, m, n, k, layout };
            for (part, op) in [
                ("A", product(tokens, r, d, Layout::Nt)),
                ("A: to the input", product(tokens, d, r, Layout::Nn)),
                ("A: to the weight", product(r, d, tokens, Layout::Tn)),
                ("B", product(tokens, f, r, Layout::Nt)),
                ("B: to the input", product(tokens, r, f, Layout::Nn)),
                ("B: to the weight", product(f, r, tokens, Layout::Tn)),
            ] {
                ops.push((format!("adapter of gate, up: {part}"), op));
            }
            if Packed::fits(GgmlType::Q4_0, d) {
                for back in [false, true] {
                    let part = if back { "gate, up in Q4_0: to the input" } else { "gate, up in Q4_0" };
                    ops.push((part.to_owned(), Op::Packed { rows: tokens, out: f, inputs: d, back }));
                }
            }
        }
        let (batch, rows) = (self.batch_size * kv_heads, heads / kv_heads * seq);
        let product = |m, n, k, layout| Op::Product { batch, m, n, k, layout };
        for (part, op) in [
            ("attention: scores", product(rows, seq, dim, Layout::Nt)),
            ("attention: values", product(rows, dim, seq, Layout::Nn)),
            ("attention: to the keys or values", product(seq, dim, rows, Layout::Tn)),
        ] {
            ops.push((part.to_owned(), op));
        }
        ops.push(("queries".to_owned(), Op::Rotate { heads: self.batch_size * heads, seq, dim }));
        for back in [false, true] {
            let way = |name: &str| if back { format!("{name}: back") } else { name.to_owned() };
            ops.push((way("norm"), Op::RmsNorm { rows: tokens, dim: d, back }));
            ops.push((way("attention: softmax"), Op::CausalSoftmax { batch, rows, keys: seq, back }));
            ops.push((way("feed-forward"), Op::Swiglu { rows: tokens, dim: f, back }));
            if !back || self.r.is_none() {
                ops.push((way("embedding"), Op::Embedding { tokens, vocab: self.vocab_size, dim: d, back }));
            }
        }
        let (part, rows) = self.r.map_or(("gate, up", f), |r| ("adapter of gate, up: A", r));
        ops.push((part.to_owned(), Op::AdamW { rows, columns: d }));
        ops
    }
}
