//! Thrift's compact protocol, in which Parquet says what a file holds: the reading of it, every length held to the bytes that
//! are there.

use super::{Read, damaged};

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub const STRUCT: u8 = 12;

/// Parquet's structures are six deep.
const DEEPEST: usize = 32;

pub struct Thrift<'a>(&'a [u8]);

impl<'a> Thrift<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else { return damaged("a header ends too early") };
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn len(&mut self) -> Read<usize> {
        let len = varint(&mut self.0)?;
        usize::try_from(len).or_else(|_| damaged("a header has a length beyond its end"))
    }

    /// A whole number of any width.
    pub fn number(&mut self, kind: u8) -> Read<i64> {
        match kind {
            BYTE => Ok(i64::from(self.byte()?.cast_signed())),
            I16 | I32 | I64 => zigzag(&mut self.0),
            _ => damaged("a header has something else where a number belongs"),
        }
    }

    /// A field's; the type is the value.
    pub fn boolean(&mut self, kind: u8) -> Read<bool> {
        match kind {
            TRUE => Ok(true),
            FALSE => Ok(false),
            _ => damaged("a header has something else where a boolean belongs"),
        }
    }

    pub fn text(&mut self, kind: u8) -> Read<&'a str> {
        if kind != BINARY {
            return damaged("a header has something else where a text belongs");
        }
        let len = self.len()?;
        std::str::from_utf8(self.take(len)?).or_else(|_| damaged("a header has a text that is not UTF-8"))
    }

    /// Goes through a structure: `each` gets a field's number and type and says whether it has read it; others are passed over.
    pub fn fields(&mut self, kind: u8, mut each: impl FnMut(&mut Self, i64, u8) -> Read<bool>) -> Read<()> {
        if kind != STRUCT {
            return damaged("a header has something else where a structure belongs");
        }
        let mut id = 0_i64;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0F;
            if kind == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => zigzag(&mut self.0)?,
                delta => id.saturating_add(i64::from(delta)),
            };
            if !each(self, id, kind)? {
                self.skip(kind, 0)?;
            }
        }
    }

    /// Goes through a list; `each` gets an element's type and must read it.
    pub fn list(&mut self, kind: u8, mut each: impl FnMut(&mut Self, u8) -> Read<()>) -> Read<()> {
        if kind != LIST && kind != SET {
            return damaged("a header has something else where a list belongs");
        }
        let head = self.byte()?;
        let size = match head >> 4 {
            15 => self.len()?,
            few => usize::from(few),
        };
        // Every element takes a byte at least.
        if size > self.0.len() {
            return damaged("a header has a list beyond its end");
        }
        for _ in 0..size {
            each(self, head & 0x0F)?;
        }
        Ok(())
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Read<()> {
        if depth > DEEPEST {
            return damaged("a header is too deep");
        }
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.take(1).map(drop),
            I16 | I32 | I64 => varint(&mut self.0).map(drop),
            DOUBLE => self.take(8).map(drop),
            BINARY => {
                let len = self.len()?;
                self.take(len).map(drop)
            }
            LIST | SET => self.list(kind, |thrift, kind| match kind {
                // Of a list's booleans each is a byte.
                TRUE | FALSE => thrift.take(1).map(drop),
                kind => thrift.skip(kind, depth + 1),
            }),
            STRUCT => self.fields(kind, |thrift, _, kind| thrift.skip(kind, depth + 1).map(|()| true)),
            MAP => damaged("a header has a map, which Parquet does not use"),
            _ => damaged("a header has an unknown type"),
        }
    }
}

/// Seven bits a byte, the lowest first.
pub fn varint(bytes: &mut &[u8]) -> Read<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else { return damaged("a number ends too early") };
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    damaged("a number is too long")
}

/// The sign in the lowest bit.
pub fn zigzag(bytes: &mut &[u8]) -> Read<i64> {
    let value = varint(bytes)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (bytes, value) in
            [(&[0x00][..], 0), (&[0x01], -1), (&[0x02], 1), (&[0xFE, 0x01], 127), (&[0xFF, 0x01], -128)]
        {
            assert_eq!(zigzag(&mut &*bytes).expect("a number"), value);
        }
        let longest = [[0xFF_u8; 9].as_slice(), &[0x01]].concat();
        assert_eq!(varint(&mut longest.as_slice()).expect("a number"), u64::MAX);
        assert!(varint(&mut [0xFF_u8; 11].as_slice()).is_err());
        assert!(varint(&mut [0x80_u8].as_slice()).is_err());
    }

    #[test]
    fn fields_are_read_and_passed_over() {
        // 1: 5, 2: "ab", 3: true, 4: [1, 2] of i32, 5: {1: {}}, 20: a double.
        let bytes = [
            0x15, 0x0A, 0x18, 0x02, b'a', b'b', 0x11, 0x19, 0x25, 0x02, 0x04, 0x1C, 0x1C, 0x00, 0x00, 0xF7, 1, 2, 3, 4,
            5, 6, 7, 8, 0x00, 0x99,
        ];
        let mut thrift = Thrift::new(&bytes);
        let (mut number, mut text, mut seen) = (0, "", Vec::new());
        thrift
            .fields(STRUCT, |thrift, id, kind| {
                seen.push(id);
                match id {
                    1 => number = thrift.number(kind)?,
                    2 => text = thrift.text(kind)?,
                    _ => return Ok(false),
                }
                Ok(true)
            })
            .expect("a structure");
        assert_eq!((number, text, seen.as_slice(), thrift.rest()), (5, "ab", &[1, 2, 3, 4, 5, 20][..], &[0x99][..]));
    }

    #[test]
    fn what_is_beyond_the_end_is_damage() {
        let read = |bytes: &[u8]| Thrift::new(bytes).fields(STRUCT, |_, _, _| Ok(false));
        // A text and a list that are longer than all there is, an endless structure, a type that is none.
        for bytes in [&[0x18, 0xFF, 0xFF, 0x03][..], &[0x19, 0xF5, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F], &[0x15], &[0x1F]] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&[0x1C; 100_000]).is_err());
        assert!(read(&[0x19; 100_000]).is_err());
    }
}
