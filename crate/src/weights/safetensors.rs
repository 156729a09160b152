//! The safetensors format: a header of names, types, shapes and places, then raw little-endian numbers.
//!
//! Read a tensor at a time from a [`Blob`], so that a model never stands in memory whole.

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value, json};

use super::{PART, fits};
use crate::{
    error::{Error, Result},
    platform::Blob,
};

/// As the reference implementation: longer headers are refused.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    F32,
    F16,
    Bf16,
}

impl DType {
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    fn parse(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// As `torch_dtype` in config.json spells it.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Where a tensor stands in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// From the file's first byte.
    offset: u64,
    len: usize,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header as it is written, each tensor read as what it must be: a tree of JSON values would take many times its
/// bytes.
#[derive(Default)]
struct RawHeader {
    tensors: BTreeMap<String, RawEntry>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(name) = map.next_key::<String>()? {
                    let named = |e: A::Error| A::Error::custom(format!("{name}: {e}"));
                    if name == "__metadata__" {
                        header.metadata = map.next_value::<Option<_>>().map_err(named)?.unwrap_or_default();
                    } else {
                        let entry = map.next_value().map_err(named)?;
                        if header.tensors.contains_key(&name) {
                            return Err(A::Error::custom(format!("{name} twice")));
                        }
                        header.tensors.insert(name, entry);
                    }
                }
                Ok(header)
            }
        }
        from.deserialize_map(Entries)
    }
}

/// A file's header.
#[derive(Debug, Clone)]
pub struct Header {
    /// Named in errors.
    file: String,
    pub entries: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads and checks the header: every place must lie inside the file and fit its shape.
    pub async fn read(file: &str, blob: &dyn Blob) -> Result<Self> {
        let bad = |expected: &str, got: String| Error::weights(file, None, expected, got);
        let size = blob.size();
        if size < 8 {
            return Err(bad("a safetensors file of at least 8 bytes", format!("{size} bytes")));
        }
        let prefix = blob.read(0, 8).await.map_err(|e| Error::io(file, e))?;
        let length = u64::from_le_bytes(prefix.try_into().unwrap_or([0xff; 8]));
        if length > MAX_HEADER || length > size - 8 {
            let got = format!("a header of {length} bytes in a file of {size}: truncated, or not a safetensors file");
            return Err(bad("a header inside the file", got));
        }
        let json = blob.read(8, length as usize).await.map_err(|e| Error::io(file, e))?;
        let raw: RawHeader = serde_json::from_slice(&json).map_err(|e| {
            bad("a JSON header of tensors with dtype, shape and data_offsets", format!("something else ({e})"))
        })?;
        drop(json);
        let start = 8 + length;
        let mut header = Self { file: file.into(), entries: BTreeMap::new(), metadata: raw.metadata };
        for (name, raw) in raw.tensors {
            let at = |expected: String, got: String| Error::weights(file, Some(&name), expected, got);
            let dtype = DType::parse(&raw.dtype)
                .ok_or_else(|| at("numbers stored as F32, F16 or BF16".into(), raw.dtype.clone()))?;
            let (from, to) = raw.data_offsets;
            let len = to
                .checked_sub(from)
                .filter(|_| start.checked_add(to).is_some_and(|end| end <= size))
                .ok_or_else(|| {
                    let got = format!("bytes {from}..{to}: the file is truncated or damaged");
                    at(format!("data inside the file's {size} bytes"), got)
                })?;
            let wanted = raw.shape.iter().try_fold(dtype.bytes() as u64, |product, n| product.checked_mul(*n));
            if wanted != Some(len) {
                return Err(at(format!("data for {:?} in {}", raw.shape, raw.dtype), format!("{len} bytes")));
            }
            if !fits(len / dtype.bytes() as u64) {
                return Err(at("a size that this machine can address".into(), len.to_string()));
            }
            let len = len as usize;
            let shape = raw.shape.iter().map(|n| *n as usize).collect();
            header.entries.insert(name, Entry { dtype, shape, offset: start + from, len });
        }
        Ok(header)
    }

    /// One tensor as f32, with its shape. Read a part at a time: beside the numbers, only a part's bytes are held.
    pub async fn tensor(&self, blob: &dyn Blob, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| Error::weights(&self.file, Some(name), "this tensor in the file", "none of that name"))?;
        let mut values = Vec::with_capacity(entry.len / entry.dtype.bytes());
        for from in (0..entry.len).step_by(PART) {
            let len = PART.min(entry.len - from);
            let bytes = blob.read(entry.offset + from as u64, len).await.map_err(|e| Error::io(&self.file, e))?;
            push_f32(&mut values, &bytes, entry.dtype);
        }
        if values.len() != entry.shape.iter().product::<usize>() {
            let got = format!("{} numbers: the file changed while it was read", values.len());
            return Err(Error::weights(&self.file, Some(name), format!("{:?}", entry.shape), got));
        }
        Ok((values, entry.shape.clone()))
    }
}

fn push_f32(out: &mut Vec<f32>, bytes: &[u8], dtype: DType) {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        DType::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))),
        DType::F16 => out.extend(pairs().map(|b| f16::from_le_bytes(*b).to_f32())),
        DType::Bf16 => out.extend(pairs().map(|b| bf16::from_le_bytes(*b).to_f32())),
    }
}

/// A tensor to write: name, shape, values.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// What stands before the numbers of a safetensors file that holds `tensors` in this order, stored as `dtype`.
pub fn header<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>, dtype: DType) -> Vec<u8> {
    header_with(tensors, dtype, [])
}

/// The same with more metadata beside PyTorch's name for the format.
pub fn header_with<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>,
    dtype: DType,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
) -> Vec<u8> {
    let mut header = Map::new();
    let mut known = json!({"format": "pt"});
    metadata.into_iter().for_each(|(key, value)| known[key] = value.into());
    header.insert("__metadata__".into(), known);
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().map(|n| *n as u64).product::<u64>() * dtype.bytes() as u64;
        header.insert(name.into(), json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [start, end]}));
    }
    let mut json = Value::Object(header).to_string().into_bytes();
    // The numbers start at a multiple of eight, as readers that map the file expect.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.append(&mut json);
    out
}

/// Numbers as they stand in the file.
fn to_bytes(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        DType::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}

/// A safetensors file of `tensors`, stored as `dtype`.
pub fn write(tensors: &[Named], dtype: DType) -> Vec<u8> {
    let mut out = header(tensors.iter().map(|(name, shape, _)| (name.as_str(), shape.as_slice())), dtype);
    tensors.iter().for_each(|(_, _, values)| out.append(&mut to_bytes(values, dtype)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Memory;

    fn read(bytes: Vec<u8>) -> Result<Header> {
        pollster::block_on(Header::read("model.safetensors", &Memory(bytes)))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let tensors = vec![
            ("b".to_string(), vec![2, 2], vec![1.0, -2.5, 0.0, 3.0]),
            ("a".to_string(), vec![3], vec![0.5, 0.25, 65504.0]),
        ];
        for dtype in [DType::F32, DType::F16, DType::Bf16] {
            let bytes = write(&tensors, dtype);
            let header = read(bytes.clone()).expect("own file");
            for (name, shape, values) in &tensors[..1] {
                let got = pollster::block_on(header.tensor(&Memory(bytes.clone()), name));
                assert_eq!(got.expect("tensor"), (values.clone(), shape.clone()));
            }
        }
    }

    #[test]
    fn damage_is_named() {
        let good = write(&[("w".into(), vec![2], vec![1.0, 2.0])], DType::F32);
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("empty", vec![], "0 bytes"),
            ("truncated", good[..good.len() - 1].to_vec(), "truncated"),
            (
                "header of 2^60 bytes",
                {
                    let mut b = good.clone();
                    b[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
                    b
                },
                "1152921504606846976",
            ),
            (
                "no JSON",
                {
                    let mut b = good.clone();
                    b[8] = b'x';
                    b
                },
                "JSON",
            ),
        ];
        for (name, bytes, word) in cases {
            let error = read(bytes).expect_err(name).to_string();
            assert!(error.contains(word), "{name}: {error}");
            assert!(error.contains("model.safetensors"), "{name}: {error}");
        }
        let huge = br#"{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#;
        let mut bytes = (huge.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(huge);
        assert!(read(bytes).is_err(), "a shape that overflows");
    }
}
