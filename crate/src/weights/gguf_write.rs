//! The GGUF container (version 3, little-endian), written: what stands before the numbers of a file.

/// What the numbers of a tensor are aligned to.
const ALIGNMENT: usize = 32;

/// A value of the file's metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Texts(Vec<String>),
}

/// A tensor's place in the directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    pub name: String,
    /// Rows first, as everywhere here; the file has it the other way round.
    pub shape: Vec<usize>,
    /// GGML's number of the type.
    pub kind: u32,
    pub bytes: u64,
}

/// Magic, metadata and directory, up to the first tensor's first byte. The tensors' bytes follow in this order, each
/// with [`padding`] after it.
pub fn header(meta: &[(String, Meta)], tensors: &[Info]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((meta.len() as u64).to_le_bytes());
    for (key, value) in meta {
        text(&mut out, key);
        value.write(&mut out);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            out.extend((*size as u64).to_le_bytes());
        }
        out.extend(tensor.kind.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += tensor.bytes + padding(tensor.bytes).len() as u64;
    }
    let pad = padding(out.len() as u64);
    out.extend(pad);
    out
}

/// What fills the place up to the next tensor.
pub fn padding(bytes: u64) -> Vec<u8> {
    vec![0; (bytes.next_multiple_of(ALIGNMENT as u64) - bytes) as usize]
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Meta {
    fn write(&self, out: &mut Vec<u8>) {
        const ARRAY: u32 = 9;
        let kind = match self {
            Self::U32(_) => 4u32,
            Self::I32s(_) => 5,
            Self::F32(_) | Self::F32s(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) | Self::Texts(_) => 8,
        };
        let length = match self {
            Self::I32s(list) => Some(list.len()),
            Self::F32s(list) => Some(list.len()),
            Self::Texts(list) => Some(list.len()),
            _ => None,
        };
        if let Some(length) = length {
            out.extend(ARRAY.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((length as u64).to_le_bytes());
        } else {
            out.extend(kind.to_le_bytes());
        }
        match self {
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push(u8::from(*value)),
            Self::Text(value) => text(out, value),
            Self::I32s(list) => list.iter().for_each(|value| out.extend(value.to_le_bytes())),
            Self::F32s(list) => list.iter().for_each(|value| out.extend(value.to_le_bytes())),
            Self::Texts(list) => list.iter().for_each(|value| text(out, value)),
        }
    }
}
