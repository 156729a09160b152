//! The ways in which a page's levels and values are written.

use super::footer::Physical;
use super::thrift::{varint, zigzag};
use super::value::Raw;
use super::{Fault, Read, damaged};

/// As the format numbers them.
pub const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
pub const RLE: i64 = 3;
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
const RLE_DICTIONARY: i64 = 8;
const BYTE_STREAM_SPLIT: i64 = 9;

/// Numbers of one block that differ from the one before by as many bits.
const LARGEST_BLOCK: u64 = 1 << 20;

pub fn is_dictionary(encoding: i64) -> bool {
    matches!(encoding, PLAIN_DICTIONARY | RLE_DICTIONARY)
}

fn take<'a>(data: &mut &'a [u8], len: usize) -> Read<&'a [u8]> {
    let Some((taken, rest)) = data.split_at_checked(len) else { return damaged("a page ends too early") };
    *data = rest;
    Ok(taken)
}

/// A little-endian length and as many bytes.
pub fn prefixed<'a>(data: &mut &'a [u8]) -> Read<&'a [u8]> {
    let len = take(data, 4)?.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    take(data, usize::try_from(len).unwrap_or(usize::MAX))
}

/// `width` bits (64 at most) from bit `at` on, the lowest first; zeros beyond the end.
fn bits(data: &[u8], at: u64, width: u32) -> u64 {
    if width == 0 {
        return 0;
    }
    let first = usize::try_from(at / 8).unwrap_or(usize::MAX);
    let mut window = [0; 16];
    if let Some(there) = data.get(first..) {
        let there = &there[..there.len().min(9)];
        window[..there.len()].copy_from_slice(there);
    }
    let value = (u128::from_le_bytes(window) >> (at % 8)) as u64;
    value & (u64::MAX >> (64 - width))
}

/// `count` numbers of `width` bits (32 at most), in runs of one number and in stretches of several; `each` gets a number and
/// how often it comes.
pub fn hybrid(mut data: &[u8], width: u32, count: usize, mut each: impl FnMut(u32, usize) -> Read<()>) -> Read<()> {
    if width > 32 {
        return damaged(format!("numbers of {width} bits"));
    }
    if width == 0 {
        return each(0, count);
    }
    let mut left = count;
    while left > 0 {
        let head = varint(&mut data)?;
        let size = head >> 1;
        if head & 1 == 0 {
            let mut value = [0; 4];
            let bytes = width.div_ceil(8) as usize;
            value[..bytes].copy_from_slice(take(&mut data, bytes)?);
            let times = usize::try_from(size).unwrap_or(usize::MAX).min(left);
            each(u32::from_le_bytes(value), times)?;
            left -= times;
        } else {
            // In eights; some writers leave out what the last of them do not need.
            let bytes = usize::try_from(size.saturating_mul(u64::from(width))).unwrap_or(usize::MAX).min(data.len());
            let packed = take(&mut data, bytes)?;
            let there = packed.len() as u64 * 8 / u64::from(width);
            let values = usize::try_from(there).unwrap_or(usize::MAX).min(left);
            for i in 0..values {
                each(bits(packed, i as u64 * u64::from(width), width) as u32, 1)?;
            }
            left -= values;
        }
    }
    Ok(())
}

/// `count` values that stand one after the other, or by whatever encoding but a dictionary; `each` gets each of them.
pub fn values(
    encoding: i64,
    physical: Physical,
    length: usize,
    data: &[u8],
    count: usize,
    mut each: impl FnMut(Raw<'_>) -> Read<()>,
) -> Read<()> {
    match (encoding, physical) {
        (PLAIN, Physical::Bool) => {
            if data.len() < count.div_ceil(8) {
                return damaged("a page has fewer values than it says");
            }
            (0..count).try_for_each(|i| each(Raw::Bool((data[i / 8] >> (i % 8)) & 1 == 1)))
        }
        (RLE, Physical::Bool) => {
            let mut data = data;
            hybrid(prefixed(&mut data)?, 1, count, |value, times| {
                (0..times).try_for_each(|_| each(Raw::Bool(value == 1)))
            })
        }
        (PLAIN, _) => {
            let mut data = data;
            (0..count).try_for_each(|_| {
                let bytes = match physical {
                    Physical::Bytes => prefixed(&mut data)?,
                    _ => take(&mut data, width(physical, length)?)?,
                };
                each(raw(physical, bytes)?)
            })
        }
        (DELTA_BINARY_PACKED, Physical::I32 | Physical::I64) => {
            let (numbers, _) = deltas(data, count)?;
            enough(&numbers, count)?;
            numbers.into_iter().try_for_each(|number| match physical {
                // Differences are counted in 32 bits there.
                Physical::I32 => each(Raw::I32(number as i32)),
                _ => each(Raw::I64(number)),
            })
        }
        (DELTA_LENGTH_BYTE_ARRAY, Physical::Bytes) => {
            let (lengths, mut data) = deltas(data, count)?;
            enough(&lengths, count)?;
            lengths.into_iter().try_for_each(|length| each(Raw::Bytes(take(&mut data, positive(length)?)?)))
        }
        (DELTA_BYTE_ARRAY, Physical::Bytes | Physical::Fixed) => {
            let (shared, data) = deltas(data, count)?;
            let (lengths, mut data) = deltas(data, count)?;
            enough(&shared, count)?;
            enough(&lengths, count)?;
            let mut value: Vec<u8> = Vec::new();
            shared.into_iter().zip(lengths).try_for_each(|(shared, length)| {
                let shared = positive(shared)?;
                if shared > value.len() {
                    return damaged("a text begins as another one that is shorter");
                }
                value.truncate(shared);
                value.extend_from_slice(take(&mut data, positive(length)?)?);
                each(Raw::Bytes(&value))
            })
        }
        (BYTE_STREAM_SPLIT, _) if physical != Physical::Bool && physical != Physical::Bytes => {
            let width = width(physical, length)?;
            if count.checked_mul(width) != Some(data.len()) {
                return damaged("a page has another number of values than it says");
            }
            let mut value = vec![0; width];
            (0..count).try_for_each(|i| {
                value.iter_mut().enumerate().for_each(|(byte, value)| *value = data[byte * count + i]);
                each(raw(physical, &value)?)
            })
        }
        (other, _) => Err(Fault::Refused {
            what: format!("its values are in encoding {other}, which is not read for this type"),
            advice: "Write it again with the usual encodings: in Python `pandas.read_parquet(…).to_parquet(…)`.".into(),
        }),
    }
}

/// Bytes of one value.
fn width(physical: Physical, length: usize) -> Read<usize> {
    match physical {
        Physical::I32 | Physical::F32 => Ok(4),
        Physical::I64 | Physical::F64 => Ok(8),
        Physical::I96 => Ok(12),
        Physical::Fixed if length > 0 => Ok(length),
        _ => damaged("values without a length"),
    }
}

fn raw(physical: Physical, bytes: &[u8]) -> Read<Raw<'_>> {
    Raw::of(physical, bytes).map_or_else(|| damaged("a page ends too early"), Ok)
}

fn positive(length: i64) -> Read<usize> {
    usize::try_from(length).or_else(|_| damaged("a text has a length below zero"))
}

fn enough(numbers: &[i64], count: usize) -> Read<()> {
    if numbers.len() == count { Ok(()) } else { damaged("a page has fewer values than it says") }
}

/// Numbers as the first one and the differences, in blocks with the bits they take; and what stands behind them.
fn deltas(mut data: &[u8], most: usize) -> Read<(Vec<i64>, &[u8])> {
    let (block, parts) = (varint(&mut data)?, varint(&mut data)?);
    let total = usize::try_from(varint(&mut data)?).unwrap_or(usize::MAX);
    let mut last = zigzag(&mut data)?;
    let part = block.checked_div(parts).unwrap_or_default();
    if part == 0 || block > LARGEST_BLOCK || part * parts != block || !part.is_multiple_of(8) {
        return damaged(format!("blocks of {block} numbers in {parts} parts"));
    }
    if total > most {
        return damaged("a page has more values than it says");
    }
    let (parts, part) = (parts as usize, part as usize);
    let mut numbers = Vec::new();
    if total > 0 {
        numbers.push(last);
    }
    while numbers.len() < total {
        let least = zigzag(&mut data)?;
        for width in take(&mut data, parts)? {
            let wanted = part.min(total - numbers.len());
            if wanted == 0 {
                break;
            }
            if *width > 64 {
                return damaged(format!("numbers of {width} bits"));
            }
            let width = u32::from(*width);
            // Some writers leave out what the last numbers do not need.
            let bytes = (part / 8 * width as usize).min(data.len());
            let packed = take(&mut data, bytes)?;
            if (packed.len() as u64) * 8 < wanted as u64 * u64::from(width) {
                return damaged("a page ends too early");
            }
            for i in 0..wanted as u64 {
                let more = bits(packed, i * u64::from(width), width).cast_signed();
                last = last.wrapping_add(least).wrapping_add(more);
                numbers.push(last);
            }
        }
    }
    Ok((numbers, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(data: &[u8], width: u32, count: usize) -> Read<Vec<u32>> {
        let mut found = Vec::new();
        hybrid(data, width, count, |value, times| {
            found.extend(std::iter::repeat_n(value, times));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn runs_and_stretches() {
        // Five sevens, then 0 … 7 in three bits each: the example of the format's documentation.
        let data = [0x0A, 0x07, 0x03, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(all(&data, 3, 13).expect("numbers"), [7, 7, 7, 7, 7, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(all(&data, 3, 6).expect("numbers"), [7, 7, 7, 7, 7, 0]);
        assert!(all(&data, 3, 14).is_err());
        assert_eq!(all(&[], 0, 3).expect("zeros"), [0, 0, 0]);
        assert_eq!(all(&[0x04, 0xFF, 0x01], 9, 2).expect("numbers"), [511, 511]);
        assert!(all(&[0x04], 9, 2).is_err() && all(&data, 33, 1).is_err());
        // A last stretch without the bytes of the numbers that nobody needs.
        assert_eq!(all(&[0x03, 0b0001_0001], 2, 3).expect("numbers"), [1, 0, 1]);
        // A run of no length does not go on for ever.
        assert!(all(&[0x00, 0x01, 0x00, 0x01], 1, 1).is_err());
    }

    fn shown(encoding: i64, physical: Physical, length: usize, data: &[u8], count: usize) -> Read<Vec<String>> {
        let mut found = Vec::new();
        values(encoding, physical, length, data, count, |raw| {
            found.push(match raw {
                Raw::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Raw::I32(number) => number.to_string(),
                Raw::I64(number) => number.to_string(),
                other => format!("{other:?}"),
            });
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn plain_values() {
        let of = |physical, length, data: &[u8], count| shown(PLAIN, physical, length, data, count);
        assert_eq!(of(Physical::Bool, 0, &[0b101], 3).expect("values"), ["Bool(true)", "Bool(false)", "Bool(true)"]);
        assert_eq!(of(Physical::I32, 0, &[1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], 2).expect("values"), ["1", "-1"]);
        assert_eq!(of(Physical::Bytes, 0, &[2, 0, 0, 0, b'h', b'i', 0, 0, 0, 0], 2).expect("values"), ["hi", ""]);
        assert_eq!(of(Physical::Fixed, 2, b"abcd", 2).expect("values"), ["ab", "cd"]);
        for (physical, data) in [
            (Physical::Bool, &[][..]),
            (Physical::I64, &[0; 7]),
            (Physical::Bytes, &[9, 0, 0, 0, 1]),
            (Physical::Fixed, b"a"),
        ] {
            assert!(of(physical, 0, data, 1).is_err(), "{physical:?}");
        }
    }

    /// Blocks of 128 in four parts: 1, 2, 3, 4, 5 differ by one, in no bits.
    const FIVE: [u8; 10] = [0x80, 0x01, 0x04, 0x05, 0x02, 0x02, 0, 0, 0, 0];

    #[test]
    fn differences() {
        assert_eq!(shown(DELTA_BINARY_PACKED, Physical::I64, 0, &FIVE, 5).expect("values"), ["1", "2", "3", "4", "5"]);
        // 7, 5, 3, 1, 2, 3, 4, 5: the example of the format's documentation, -2 and two bits each.
        let eight = [0x80, 0x01, 0x04, 0x08, 0x0E, 0x03, 2, 0, 0, 0, 0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0];
        let expected = ["7", "5", "3", "1", "2", "3", "4", "5"];
        assert_eq!(shown(DELTA_BINARY_PACKED, Physical::I32, 0, &eight, 8).expect("values"), expected);
        for (data, count) in [(&eight[..], 7), (&eight[..], 9), (&eight[..11], 8), (&[0x80, 0x01, 0x00][..], 1)] {
            assert!(shown(DELTA_BINARY_PACKED, Physical::I32, 0, data, count).is_err(), "{data:?}");
        }
        assert!(shown(DELTA_BINARY_PACKED, Physical::I64, 0, &[0x80, 0x01, 0x04, 0x02, 0, 0, 65, 0, 0, 0], 2).is_err());
    }

    #[test]
    fn texts_by_their_lengths_and_beginnings() {
        // Lengths 1 … 5, then the letters.
        let texts = [FIVE.as_slice(), b"abbcccddddeeeee"].concat();
        let expected = ["a", "bb", "ccc", "dddd", "eeeee"];
        assert_eq!(shown(DELTA_LENGTH_BYTE_ARRAY, Physical::Bytes, 0, &texts, 5).expect("values"), expected);
        assert!(shown(DELTA_LENGTH_BYTE_ARRAY, Physical::Bytes, 0, &texts[..20], 5).is_err());
        // Two texts: none and three letters shared; four and one of their own.
        let two = |first: u8, second: u8| {
            let head = [0x80, 0x01, 0x04, 0x02, first * 2];
            // The difference alone, in no bits.
            let difference = (i16::from(second) - i16::from(first)) * 2;
            let difference = if difference < 0 { (-difference - 1) as u8 } else { difference as u8 };
            [head.as_slice(), &[difference, 0, 0, 0, 0]].concat()
        };
        let shared = [two(0, 3), two(4, 1), b"axisZ".to_vec()].concat();
        assert_eq!(shown(DELTA_BYTE_ARRAY, Physical::Bytes, 0, &shared, 2).expect("values"), ["axis", "axiZ"]);
        let beyond = [two(0, 5), two(4, 1), b"axisZ".to_vec()].concat();
        assert!(shown(DELTA_BYTE_ARRAY, Physical::Bytes, 0, &beyond, 2).is_err());
    }

    #[test]
    fn bytes_of_numbers_in_streams() {
        let data = [1, 2, 0, 1, 0, 0, 0, 0];
        assert_eq!(shown(BYTE_STREAM_SPLIT, Physical::I32, 0, &data, 2).expect("values"), ["1", "258"]);
        assert!(shown(BYTE_STREAM_SPLIT, Physical::I32, 0, &data, 1).is_err());
        assert!(matches!(shown(99, Physical::I32, 0, &data, 1), Err(Fault::Refused { .. })));
    }
}
