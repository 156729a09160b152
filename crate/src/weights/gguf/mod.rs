//! GGUF, llama.cpp's file of a model: typed metadata, tensor names and places, then the tensors' blocks.
//!
//! Every count, length and place is checked against the file's size before anything is made by it.

mod llama;
mod vocab;

pub(super) use llama::written_as;
pub use llama::{GgufModel, gguf_name, permuted_row};
pub use vocab::GgufVocab;

use std::collections::BTreeMap;

use super::{
    fits,
    ggml::{GgmlType, unread_name},
};
use crate::{
    error::{Error, Result},
    platform::{Blob, NamedFile},
};

/// A tensor's data begins at a multiple of this, where the file does not say otherwise.
const ALIGNMENT: u64 = 32;

/// No tensor of any model has more dimensions.
const MAX_DIMENSIONS: u32 = 4;

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any of the integer types.
    Int(i128),
    /// f32 or f64; an f32 with the fewest decimals that mean it: 1e-5, not 0.00000999…
    Float(f64),
    Bool(bool),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
}

/// A tensor of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    pub ggml_type: GgmlType,
    /// Rows first, as everywhere here; the file has the columns first.
    pub shape: Vec<usize>,
    /// From the file's first byte.
    pub offset: u64,
    pub len: usize,
}

/// A file's head.
#[derive(Debug, Clone)]
pub struct Gguf {
    /// Named in errors.
    file: String,
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    pub async fn read(file: &NamedFile) -> Result<Self> {
        let mut input = Input::new(&file.name, file.blob.as_ref());
        let bad = |expected: &str, got: String| Error::weights(&file.name, None, expected, got);
        let magic = input.take(4).await?;
        if magic != b"GGUF" {
            return Err(bad("a GGUF file", format!("one that begins with {magic:?}")));
        }
        let version = input.u32().await?;
        if !matches!(version, 2 | 3) {
            let got = if matches!(version.swap_bytes(), 2 | 3) {
                "one for big-endian machines".into()
            } else {
                version.to_string()
            };
            return Err(Error::format(
                &file.name,
                format!("GGUF version 2 or 3 is read, this is {got}"),
                "Convert the model again with a current llama.cpp (convert_hf_to_gguf.py).",
            ));
        }
        // An info takes at least a name's length, a dimension count, a type and a place; a value a name, a type, a byte.
        let tensors = input.count(24).await?;
        let values = input.count(13).await?;
        let mut gguf = Self { file: file.name.clone(), metadata: BTreeMap::new(), tensors: BTreeMap::new() };
        for _ in 0..values {
            let key = input.text("a metadata key").await?;
            let value = input.value(&key).await?;
            if gguf.metadata.insert(key.clone(), value).is_some() {
                return Err(bad("every metadata key once", format!("{key} twice")));
            }
        }
        let mut infos = Vec::new();
        for _ in 0..tensors {
            infos.push(input.info().await?);
        }
        let alignment = match gguf.metadata.get("general.alignment") {
            None => ALIGNMENT,
            Some(Value::Int(n)) if (1..=1 << 20).contains(n) && (*n as u64).is_power_of_two() => *n as u64,
            Some(other) => return Err(bad("general.alignment of a power of two", format!("{other:?}"))),
        };
        let start = input.at.next_multiple_of(alignment);
        for (name, ggml_type, shape, offset) in infos {
            let info = place(&file.name, &name, ggml_type, shape, start, offset, file.blob.size())?;
            if !offset.is_multiple_of(alignment) {
                let got = format!("offset {offset}: the file is damaged");
                return Err(Error::weights(&file.name, Some(&name), format!("a multiple of {alignment}"), got));
            }
            if gguf.tensors.insert(name.clone(), info).is_some() {
                return Err(Error::weights(&file.name, Some(&name), "every tensor once", "it twice"));
            }
        }
        Ok(gguf)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key)? {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A number of either kind.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            Value::Int(n) => Some(*n as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        }
    }

    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }
}

/// Checks where a tensor's data lies.
fn place(
    file: &str,
    name: &str,
    ggml_type: GgmlType,
    shape: Vec<u64>,
    start: u64,
    offset: u64,
    size: u64,
) -> Result<TensorInfo> {
    let bad = |expected: String, got: String| Error::weights(file, Some(name), expected, got);
    let elements = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
    if elements.is_some_and(|n| !fits(n)) {
        return Err(bad("a size that this machine can address".into(), format!("shape {shape:?}")));
    }
    let columns = shape.last().copied().unwrap_or(1);
    let len = elements
        .filter(|_| columns.is_multiple_of(ggml_type.block() as u64))
        .and_then(|n| ggml_type.bytes(n))
        .ok_or_else(|| {
            let expected = format!("rows of whole {} blocks of {}", ggml_type.name(), ggml_type.block());
            bad(expected, format!("shape {shape:?}"))
        })?;
    let end = start.checked_add(offset).and_then(|from| from.checked_add(len));
    let (Some(_), Ok(len)) = (end.filter(|end| *end <= size), usize::try_from(len)) else {
        let got = format!("{len} bytes at {start} + {offset}: the file is truncated or damaged");
        return Err(bad(format!("data inside the file's {size} bytes"), got));
    };
    // A tensor without numbers may claim any other dimension; one with numbers has none that is larger than the file.
    if len == 0 {
        return Err(bad("at least one number".into(), format!("shape {shape:?}")));
    }
    let shape = shape.into_iter().map(|n| n as usize).collect();
    Ok(TensorInfo { ggml_type, shape, offset: start + offset, len })
}

/// Bytes read ahead: the head of a file is read front to back.
const AHEAD: u64 = 1 << 20;

/// The head, front to back.
struct Input<'a> {
    file: &'a str,
    blob: &'a dyn Blob,
    /// Read but not yet used, and how much of it is used.
    buffer: Vec<u8>,
    used: usize,
    /// Of the next byte to use.
    at: u64,
}

/// The next bytes as a number of a type.
macro_rules! number {
    ($self:ident, $t:ty) => {
        <$t>::from_le_bytes($self.bytes().await?)
    };
}

impl<'a> Input<'a> {
    fn new(file: &'a str, blob: &'a dyn Blob) -> Self {
        Self { file, blob, buffer: Vec::new(), used: 0, at: 0 }
    }

    fn left(&self) -> u64 {
        self.blob.size().saturating_sub(self.at)
    }

    fn truncated(&self, wanted: u64) -> Error {
        let got = format!("{} bytes after byte {}: the file is truncated or damaged", self.left(), self.at);
        Error::weights(self.file, None, format!("{wanted} bytes more of the file's head"), got)
    }

    /// The next `len` bytes.
    async fn take(&mut self, len: usize) -> Result<&[u8]> {
        if len as u64 > self.left() {
            return Err(self.truncated(len as u64));
        }
        let unused = self.buffer.len() - self.used;
        if unused < len {
            let more = (len - unused).max(AHEAD.min(self.left() - unused as u64) as usize);
            let read = self.blob.read(self.at + unused as u64, more).await.map_err(|e| Error::io(self.file, e))?;
            if read.len() != more {
                return Err(self.truncated(len as u64));
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            self.buffer.extend_from_slice(&read);
        }
        let from = self.used;
        self.used += len;
        self.at += len as u64;
        Ok(&self.buffer[from..from + len])
    }

    async fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N).await?);
        Ok(out)
    }

    async fn u32(&mut self) -> Result<u32> {
        Ok(number!(self, u32))
    }

    async fn u64(&mut self) -> Result<u64> {
        Ok(number!(self, u64))
    }

    /// A count of things of at least `each` bytes, all of them in the rest of the file.
    async fn count(&mut self, each: u64) -> Result<usize> {
        let count = self.u64().await?;
        match count.checked_mul(each) {
            Some(bytes) if bytes <= self.left() => Ok(count as usize),
            _ => {
                let got = format!("{count} of them: the file is truncated or damaged");
                Err(Error::weights(self.file, None, format!("as many parts as fit {} bytes", self.left()), got))
            }
        }
    }

    async fn text(&mut self, what: &str) -> Result<String> {
        let len = self.count(1).await?;
        let file = self.file;
        let bytes = self.take(len).await?.to_vec();
        String::from_utf8(bytes).map_err(|e| {
            let got = format!("something else at its byte {}", e.utf8_error().valid_up_to());
            Error::weights(file, None, format!("{what} in UTF-8"), got)
        })
    }

    /// A tensor's name, type, shape (rows first) and place after the head.
    async fn info(&mut self) -> Result<(String, GgmlType, Vec<u64>, u64)> {
        let name = self.text("a tensor's name").await?;
        let dimensions = self.u32().await?;
        if dimensions > MAX_DIMENSIONS {
            let expected = format!("at most {MAX_DIMENSIONS} dimensions");
            return Err(Error::weights(self.file, Some(&name), expected, dimensions));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64().await?);
        }
        shape.reverse();
        let id = self.u32().await?;
        let offset = self.u64().await?;
        let ggml_type = GgmlType::from_id(id).ok_or_else(|| {
            let read: Vec<&str> = GgmlType::ALL.iter().map(|t| t.name()).collect();
            let message = format!("tensor {name} is stored as {}; read are {}", unread_name(id), read.join(", "));
            Error::format(self.file, message, "Download the model in another quantisation, for example Q4_K_M or Q8_0.")
        })?;
        Ok((name, ggml_type, shape, offset))
    }

    async fn value(&mut self, key: &str) -> Result<Value> {
        let kind = self.u32().await?;
        Ok(match kind {
            0 => Value::Int(number!(self, u8).into()),
            1 => Value::Int(number!(self, i8).into()),
            2 => Value::Int(number!(self, u16).into()),
            3 => Value::Int(number!(self, i16).into()),
            4 => Value::Int(number!(self, u32).into()),
            5 => Value::Int(number!(self, i32).into()),
            6 => Value::Float(shortest(number!(self, f32))),
            7 => Value::Bool(number!(self, u8) != 0),
            8 => Value::Text(self.text(key).await?),
            9 => return self.array(key).await,
            10 => Value::Int(number!(self, u64).into()),
            11 => Value::Int(number!(self, i64).into()),
            12 => Value::Float(number!(self, f64)),
            other => return Err(self.unknown_kind(key, other)),
        })
    }

    fn unknown_kind(&self, key: &str, kind: u32) -> Error {
        let got = format!("type {kind} under {key}: the file is damaged");
        Error::weights(self.file, None, "metadata of GGUF's types 0 to 12, without arrays in arrays", got)
    }

    async fn array(&mut self, key: &str) -> Result<Value> {
        let kind = self.u32().await?;
        let each = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            other => return Err(self.unknown_kind(key, other)),
        };
        let count = self.count(each).await?;
        macro_rules! all {
            ($variant:ident, $t:ty, $to:expr) => {{
                let mut out = Vec::with_capacity(count);
                for _ in 0..count {
                    out.push($to(number!(self, $t)));
                }
                Value::$variant(out)
            }};
        }
        Ok(match kind {
            0 => all!(Ints, u8, i64::from),
            1 => all!(Ints, i8, i64::from),
            2 => all!(Ints, u16, i64::from),
            3 => all!(Ints, i16, i64::from),
            4 => all!(Ints, u32, i64::from),
            5 => all!(Ints, i32, i64::from),
            6 => all!(Floats, f32, f32::from),
            7 => all!(Bools, u8, |b| b != 0),
            10 => all!(Ints, u64, |n| n as i64),
            11 => all!(Ints, i64, i64::from),
            12 => all!(Floats, f64, |x| x as f32),
            _ => {
                let mut out = Vec::with_capacity(count);
                for _ in 0..count {
                    out.push(self.text(key).await?);
                }
                Value::Texts(out)
            }
        })
    }
}

/// The f64 with the fewest decimals that is this f32: what the converter read from config.json.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}
