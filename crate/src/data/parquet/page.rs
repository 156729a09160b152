//! A page: its head, and its levels and values unpacked.

use super::encoding::{self, hybrid};
use super::thrift::{STRUCT, Thrift};
use super::unpack::unpack;
use super::{Read, damaged};

/// What stands before a page, and the page as it is in the file.
#[derive(Debug, Default)]
pub struct Page<'a> {
    pub kind: Kind,
    packed: &'a [u8],
    /// Bytes.
    pub unpacked: usize,
    /// Missing ones count.
    pub values: usize,
    pub encoding: i64,
    /// How levels are written in an older page, how many bytes they take in a newer one: definition, repetition.
    levels: [usize; 2],
    /// Whether a newer page's values are packed.
    is_packed: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Data,
    Data2,
    Dictionary,
    /// Of no use here.
    #[default]
    Other,
}

/// A page's unpacked parts; levels are empty where all values have the same.
pub struct Parts<'a> {
    pub rep: &'a [u8],
    pub def: &'a [u8],
    pub values: &'a [u8],
}

/// Appends `count` levels.
pub fn levels(data: &[u8], highest: u8, count: usize, out: &mut Vec<u8>) -> Read<()> {
    hybrid(data, u8::BITS - highest.leading_zeros(), count, |level, times| {
        let Some(level) = u8::try_from(level).ok().filter(|level| *level <= highest) else {
            return damaged("a page has a level that its column does not");
        };
        out.extend(std::iter::repeat_n(level, times));
        Ok(())
    })
}

impl<'a> Page<'a> {
    /// The next page, and what follows it.
    pub fn read(bytes: &'a [u8]) -> Read<(Self, &'a [u8])> {
        let mut page = Self { is_packed: true, ..Self::default() };
        let mut packed = 0;
        let mut thrift = Thrift::new(bytes);
        let size = |number: i64| usize::try_from(number).or_else(|_| damaged("a page has a size below zero"));
        thrift.fields(STRUCT, |thrift, id, kind| {
            match id {
                1 => {
                    page.kind = match thrift.number(kind)? {
                        0 => Kind::Data,
                        2 => Kind::Dictionary,
                        3 => Kind::Data2,
                        _ => Kind::Other,
                    }
                }
                2 => page.unpacked = size(thrift.number(kind)?)?,
                3 => packed = size(thrift.number(kind)?)?,
                5 | 7 | 8 => thrift.fields(kind, |thrift, inner, kind| {
                    match (id, inner) {
                        (_, 1) => page.values = size(thrift.number(kind)?)?,
                        (5 | 7, 2) | (8, 4) => page.encoding = thrift.number(kind)?,
                        (5, 3) | (8, 5) => page.levels[0] = size(thrift.number(kind)?)?,
                        (5, 4) | (8, 6) => page.levels[1] = size(thrift.number(kind)?)?,
                        (8, 7) => page.is_packed = thrift.boolean(kind)?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let Some((packed, rest)) = thrift.rest().split_at_checked(packed) else {
            return damaged("a page goes on beyond the end of the file");
        };
        page.packed = packed;
        Ok((page, rest))
    }

    /// Unpacks it; `rep` and `def` say whether its values have such levels.
    pub fn unpack<T>(&self, codec: i64, rep: bool, def: bool, read: impl FnOnce(Parts<'_>) -> Read<T>) -> Read<T> {
        let none = &self.packed[..0];
        match self.kind {
            Kind::Data2 => {
                // Its levels are never packed.
                let [def, rep] = self.levels;
                let size = def.checked_add(rep).and_then(|both| self.unpacked.checked_sub(both));
                let parts = self.packed.split_at_checked(rep);
                let parts = parts.and_then(|(rep, rest)| Some((rep, rest.split_at_checked(def)?)));
                let (Some(size), Some((rep, (def, packed)))) = (size, parts) else {
                    return damaged("a page has more levels than bytes");
                };
                let values = unpack(if self.is_packed { codec } else { 0 }, packed, size)?;
                read(Parts { rep, def, values: &values })
            }
            Kind::Data => {
                let [def_encoding, rep_encoding] = self.levels.map(|encoding| encoding as i64);
                if (rep && rep_encoding != encoding::RLE) || (def && def_encoding != encoding::RLE) {
                    return damaged("a page has levels in an encoding that was given up in 2013");
                }
                let unpacked = unpack(codec, self.packed, self.unpacked)?;
                let mut values = &*unpacked;
                let rep = if rep { encoding::prefixed(&mut values)? } else { none };
                let def = if def { encoding::prefixed(&mut values)? } else { none };
                read(Parts { rep, def, values })
            }
            Kind::Dictionary | Kind::Other => {
                let values = unpack(codec, self.packed, self.unpacked)?;
                read(Parts { rep: none, def: none, values: &values })
            }
        }
    }
}
