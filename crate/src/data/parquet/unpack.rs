//! What a page's codec has packed. Each codec is first held to what its bytes can come to, as the crate's readers of gzip and
//! zstd go on for as long as there is something.

use std::{borrow::Cow, sync::Arc};

use ::parquet::{
    basic::{Compression, Encoding, Type as Stored, ZstdLevel},
    column::page::{Page, PageReader},
    errors::ParquetError,
    file::{metadata::ColumnChunkMetaData, serialized_reader::SerializedPageReader},
    schema::types::{ColumnDescriptor, ColumnPath, Type},
};

use super::{Fault, MOST_BYTES, Read, damaged, inflate, thrift::varint};

/// A copy of 64 bytes is three.
const SNAPPY: usize = 22;
/// A block of zstd says no more.
const ZSTD_BLOCK: usize = 128 << 10;
/// Its blocks are counted as full ones, and some writers make small ones.
const MOST_BLOCKS: usize = MOST_BYTES / ZSTD_BLOCK * 2;

/// `size` bytes; the codec as the format numbers it.
pub fn unpack(codec: i64, packed: &[u8], size: usize) -> Read<Cow<'_, [u8]>> {
    let unpacked = match codec {
        // A page without values has nothing that could be packed.
        _ if size == 0 => return Ok(Cow::Borrowed(&packed[..0])),
        0 => Cow::Borrowed(packed),
        1 => {
            // The crate's reader leaves zeros where there is less than it was told.
            if varint(&mut &*packed)? != size as u64 || size.div_ceil(SNAPPY) > packed.len() {
                return damaged("a page says that it unpacks to more than it can");
            }
            Cow::Owned(by_crate(codec, Compression::SNAPPY, packed, size)?)
        }
        2 => Cow::Owned(inflate::gunzip(packed, size)?),
        6 => {
            if zstd_blocks(packed)? > MOST_BLOCKS {
                return damaged("a page says that it unpacks to more than it can");
            }
            Cow::Owned(by_crate(codec, Compression::ZSTD(ZstdLevel::default()), packed, size)?)
        }
        _ => return Err(not_built(codec)),
    };
    if unpacked.len() == size { Ok(unpacked) } else { damaged("a page unpacks to another size than it says") }
}

fn not_built(codec: i64) -> Fault {
    let name = match codec {
        3 => "LZO",
        4 => "Brotli",
        5 | 7 => "LZ4",
        6 => "zstd",
        _ => "an unknown codec",
    };
    Fault::Refused {
        what: format!("this Parquet file is packed with {name}, which cannot be unpacked here"),
        advice: "Write it again with another codec: in Python `pandas.read_parquet(\"in.parquet\").to_parquet(\"out.parquet\", \
                 compression=\"snappy\")`."
            .to_owned(),
    }
}

/// The crate has its codecs behind its reader of pages: it gets one, with a head that is written here.
fn by_crate(codec: i64, compression: Compression, packed: &[u8], size: usize) -> Read<Vec<u8>> {
    let mut page = head(packed.len(), size);
    page.extend_from_slice(packed);
    let total = i64::try_from(page.len()).unwrap_or(i64::MAX);
    // The reader takes `bytes::Bytes`, a type that the crate does not hand on by name; a page's buffer is one.
    let bytes = Page::DictionaryPage { buf: page.into(), num_values: 0, encoding: Encoding::PLAIN, is_sorted: false };
    let bytes = Arc::new(bytes.buffer().clone());
    let chunk = chunk(compression, total).or_else(|error| damaged(error.to_string()))?;
    let mut pages = SerializedPageReader::new(bytes, &chunk, 0, None).map_err(|_| not_built(codec))?;
    match pages.get_next_page() {
        Ok(Some(Page::DictionaryPage { buf, .. })) => Ok(buf.into()),
        _ => damaged("a page cannot be unpacked"),
    }
}

fn chunk(compression: Compression, total: i64) -> Result<ColumnChunkMetaData, ParquetError> {
    let column = Type::primitive_type_builder("page", Stored::BYTE_ARRAY).build()?;
    let column = ColumnDescriptor::new(Arc::new(column), 0, 0, ColumnPath::new(Vec::new()));
    ColumnChunkMetaData::builder(Arc::new(column)).set_compression(compression).set_total_compressed_size(total).build()
}

/// A dictionary page's head in Thrift: its kind, both sizes, no values, plain.
fn head(packed: usize, size: usize) -> Vec<u8> {
    let mut head = vec![0x15, 0x04];
    for size in [size, packed] {
        head.push(0x15);
        let mut rest = (size as u64) << 1;
        while rest > 0x7F {
            head.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        head.push(rest as u8);
    }
    head.extend_from_slice(&[0x4C, 0x15, 0x00, 0x15, 0x00, 0x00, 0x00]);
    head
}

/// A little-endian number, of which 64 bits are kept.
fn take(rest: &mut &[u8], len: usize) -> Read<u64> {
    let Some((taken, more)) = rest.split_at_checked(len) else { return damaged("a page ends too early") };
    *rest = more;
    Ok(taken.iter().take(8).rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// Blocks in all frames (RFC 8878), without looking into them.
fn zstd_blocks(packed: &[u8]) -> Read<usize> {
    let mut rest = packed;
    let mut blocks = 0;
    while !rest.is_empty() {
        match take(&mut rest, 4)? {
            0xFD2F_B528 => {
                let head = take(&mut rest, 1)?;
                let single = (head >> 5) & 1 == 1;
                let content = match head >> 6 {
                    0 => usize::from(single),
                    size => 1 << size,
                };
                let dictionary = [0, 1, 2, 4][(head & 3) as usize];
                take(&mut rest, usize::from(!single) + dictionary + content)?;
                loop {
                    let block = take(&mut rest, 3)?;
                    let size = if (block >> 1) & 3 == 1 { 1 } else { (block >> 3) as usize };
                    take(&mut rest, size)?;
                    blocks += 1;
                    if block & 1 == 1 {
                        break;
                    }
                }
                take(&mut rest, if (head >> 2) & 1 == 1 { 4 } else { 0 })?;
            }
            // What a reader passes over.
            0x184D_2A50..=0x184D_2A5F => {
                let size = take(&mut rest, 4)?;
                take(&mut rest, usize::try_from(size).unwrap_or(usize::MAX))?;
            }
            _ => return damaged("a page is no zstd frame"),
        }
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_that_are_not_built_are_named() {
        for (codec, name) in [(3, "LZO"), (4, "Brotli"), (5, "LZ4"), (7, "LZ4"), (9, "unknown")] {
            let Err(Fault::Refused { what, advice }) = unpack(codec, b"abc", 3) else { panic!("{name}") };
            assert!(what.contains(name) && advice.contains("compression=\"snappy\""), "{what}");
        }
    }

    #[test]
    fn snappy_is_held_to_its_size() {
        // Its length, a literal of three bytes, and a copy of six from three back.
        let packed = [9, 0x08, b'a', b'b', b'c', 0x16, 0x03, 0x00];
        assert_eq!(&*unpack(1, &packed, 9).expect("a text"), b"abcabcabc");
        for (packed, size) in [(&packed[..], 8), (&packed[..], 10), (&packed[..7], 9), (&packed[..], 1 << 30)] {
            assert!(matches!(unpack(1, packed, size), Err(Fault::Damaged(_))));
        }
        assert!(unpack(0, b"abc", 4).is_err());
        assert_eq!(&*unpack(1, b"", 0).expect("nothing"), b"");
    }

    #[test]
    fn blocks_of_zstd_are_counted() {
        // One frame: a single segment of three bytes, a raw block; and one to be passed over.
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x20, 0x03, 0x19, 0x00, 0x00, b'a', b'b', b'c'];
        let skipped = [0x50, 0x2A, 0x4D, 0x18, 0x01, 0x00, 0x00, 0x00, 0xFF];
        assert_eq!(zstd_blocks(&[frame.as_slice(), &skipped, &frame].concat()).expect("frames"), 2);
        for end in 1..frame.len() {
            assert!(zstd_blocks(&frame[..end]).is_err());
        }
        // A block of one byte that stands for 128 KiB, as often as there is room.
        let bomb =
            [&frame[..6], [0x02, 0x00, 0x10, b'a'].repeat(MOST_BLOCKS + 1).as_slice(), &[0x01, 0x00, 0x00]].concat();
        assert!(matches!(unpack(6, &bomb, 1 << 20), Err(Fault::Damaged(_))));
        // Natively it is unpacked; in a tab there is no zstd.
        match unpack(6, &frame, 3) {
            Ok(text) => assert_eq!(&*text, b"abc"),
            Err(Fault::Refused { what, .. }) => assert!(what.contains("zstd")),
            Err(fault) => panic!("{fault:?}"),
        }
    }
}
